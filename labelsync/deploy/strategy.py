"""Which images are worth a labeler's time first: what a model is unsure of, or what looks like nothing else, or both.

Settles, "Active Learning Literature Survey" (2009), sections 3.1 (entropy, margin, least confidence) and 3.6 (what is
like all others tells more than an outlier); the disagreement of a model with itself on a mirrored image is that of
consistency-based selection (Gao et al., "Consistency-based Semi-supervised Active Learning", ECCV 2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.deploy.core_set import k_center
from labelsync.errors import OptionError
from labelsync.model.segmenter import Segmenter
from labelsync.model.uncertainty import of_image

UNCERTAINTIES = ("entropy", "margin", "low-confidence", "flip")
DIVERSE = "diverse"
STRATEGIES = (*UNCERTAINTIES, DIVERSE, *(f"{name}+{DIVERSE}" for name in UNCERTAINTIES))

SPREAD = 2000  # samples of a queue that are kept apart: of 50,000 that takes minutes, of all of them hours
DIGITS = 6  # of a score or priority: less than a model's numbers differ by from machine to machine


@dataclass(frozen=True)
class Strategy:
    """What makes an image come early.

    Attributes:
        uncertainty: one of `UNCERTAINTIES`, or "" for none.
        diverse: whether images that look alike to the encoder keep apart. Then an image's place depends on all others.
    """

    uncertainty: str
    diverse: bool

    @property
    def name(self) -> str:
        """As flags write it."""
        return "+".join(part for part in (self.uncertainty, DIVERSE if self.diverse else "") if part)


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a model says of one image.

    Attributes:
        bitmap: (H, W) disk ids.
        uncertainty: 0 = sure .. 1, by the strategy's measure; 0 without one.
        embedding: (D,) float32 of the encoder, empty unless the strategy is diverse.
    """

    bitmap: npt.NDArray[Any]
    uncertainty: float
    embedding: npt.NDArray[np.float32]


def read_strategy(name: str) -> Strategy:
    """The strategy that a flag names. Raises OptionError."""
    if name not in STRATEGIES:
        raise OptionError(f"no strategy is called {name!r}", hint=f"there are: {', '.join(STRATEGIES)}")
    parts = name.split("+")
    return Strategy("" if parts[0] == DIVERSE else parts[0], parts[-1] == DIVERSE)


def judge(segmenter: Segmenter, images: Sequence[npt.NDArray[np.uint8]], strategy: Strategy | None) -> list[Judgement]:
    """Class map, uncertainty and embedding of each (H, W, 3) uint8 RGB image; without a strategy the class map alone.

    Raises:
        ModelError: as `Segmenter`.
    """
    bitmaps, unsure = _unsure(segmenter, images, strategy.uncertainty if strategy else "")
    diverse = strategy is not None and strategy.diverse
    embeddings = segmenter.embed(images) if diverse else np.zeros((len(images), 0), np.float32)
    return [Judgement(*parts) for parts in zip(bitmaps, unsure, embeddings, strict=True)]


def require_strategy(segmenter: Segmenter, strategy: Strategy | None) -> None:
    """Ask the model once, on a black image, before anything is fetched or kept for it.

    Raises:
        OptionError, ModelError: it cannot say what the strategy goes by, as an exported graph that gives classes.
    """
    judge(segmenter, [np.zeros((*segmenter.loaded.size_hw, 3), np.uint8)], strategy)


def _unsure(
    segmenter: Segmenter, images: Sequence[npt.NDArray[np.uint8]], measure: str
) -> tuple[list[npt.NDArray[Any]], list[float]]:
    """Class maps, and 0..1 for each: the higher, the less sure the model is."""
    if measure in ("", "flip"):
        bitmaps = segmenter.segment_batch(images)
        if not measure:
            return bitmaps, [0.0] * len(bitmaps)
        mirrored = segmenter.segment_batch([image[:, ::-1] for image in images])
        return bitmaps, [disagreement(a, b[:, ::-1]) for a, b in zip(bitmaps, mirrored, strict=True)]
    answers = segmenter.segment_with_uncertainty(images)
    found = [of_image(maps) for _, maps in answers]
    values = {
        "entropy": [f.entropy for f in found],
        "margin": [1 - f.margin for f in found],
        "low-confidence": [f.low_confidence for f in found],
    }
    return [bitmap for bitmap, _ in answers], values[measure]


def disagreement(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Share of the pixels of two (H, W) class maps that are not of one class, 0..1."""
    return float((one != other).mean())


# -------------------------------------------------------------------- an order


def ranking(
    unsure: Sequence[float], embeddings: Sequence[npt.NDArray[np.float32]], strategy: Strategy, *, count: int
) -> list[int]:
    """Numbers of the `count` images that come first, the first first; of images alike the earlier one.

    Without diversity these are the least sure. With it, `k_center` of the embeddings, weighted by uncertainty if the
    strategy has one.

    Args:
        unsure: 0..1 for each image.
        embeddings: (D,) for each image, if the strategy is diverse.
    """
    rounded = np.round(np.asarray(unsure, np.float64), DIGITS)
    if strategy.diverse and len(embeddings):
        return k_center(np.stack(embeddings), count=count, weights=rounded if strategy.uncertainty else None)
    return [int(i) for i in np.argsort(-rounded, kind="stable")[:count]]


def priorities(
    unsure: Sequence[float], embeddings: Sequence[npt.NDArray[np.float32]], strategy: Strategy
) -> list[float]:
    """For each image its priority in a labeling queue, 0..1, the higher the earlier.

    Without diversity it is the uncertainty itself, which means the same in every run of one model. With it, it is 1 for
    the first of n images, 1 - 1/n for the second and so on: an order among these n. Only the first `SPREAD` are kept
    apart, since each takes a pass over all n; the others follow by uncertainty, of equal ones the earlier first.
    """
    if not strategy.diverse:
        return [round(float(u), DIGITS) for u in unsure]
    found = [0.0] * len(unsure)
    order = ranking(unsure, embeddings, strategy, count=SPREAD)
    if len(order) < len(unsure):
        first = set(order)
        order += [i for i in np.argsort(-np.round(unsure, DIGITS), kind="stable").tolist() if i not in first]
    for place, index in enumerate(order):
        found[index] = round(1 - place / len(unsure), DIGITS)
    return found
