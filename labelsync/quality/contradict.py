"""What a model says against a label: the regions of it that look like another class. Arithmetic only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.boundary import WIDTH, band, band_pixels
from labelsync.evaluation.components import components

Bitmap = npt.NDArray[Any]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Region:
    """Touching pixels of one class in the label, all of which the model gives one other class.

    Attributes:
        label, said: disk ids: of the label, and of the model.
        pixels: its size.
        share: of the labelled thing that it is a part of, a component of the label; 1 = the whole of it.
        inside: share of its pixels that are not near a border of the label.
        confidence: the model's mean probability of `said` there.
        box: left, top, width and height in pixels.
        at: x and y of one of its pixels.
    """

    label: int
    said: int
    pixels: int
    share: float
    inside: float
    confidence: float
    box: Box
    at: tuple[int, int] = (0, 0)

    @property
    def score(self) -> float:
        """0..1: how sure the model is, where a thing as a whole or the inside of one is meant.

        A seam along a border that model and annotator draw a little apart has neither a large `share` nor a large
        `inside`. A thin thing, such as a pole, is near its border everywhere; for that there is `share`.
        """
        return self.confidence * max(self.share, self.inside)


def contradictions(
    label: Bitmap, said: Bitmap, confidence: npt.NDArray[np.float32], judged: npt.NDArray[np.bool_], *, least: int
) -> list[Region]:
    """The regions that a model contradicts, in no order.

    Args:
        label, said: (H, W) disk ids of one shape: of the annotator, and of the model, 0 where it knows no class.
        confidence: (H, W), of the model in `said`, 0..1.
        judged: (K + 1,) which classes of the label the model knows; [0], unlabeled, is False.
        least: smaller regions are left out, in pixels.
    """
    number = len(judged)
    wrong = judged[label] & (said > 0) & (label != said)
    if not wrong.any():
        return []
    pairs = np.where(wrong, label.astype(np.int64) * number + said, 0)
    wanted = np.zeros(number * number, bool)
    wanted[1:] = True
    found = components(pairs, wanted)
    kept = np.flatnonzero(found.pixels >= least)
    if not len(kept):
        return []
    near = band(label, band_pixels((label.shape[0], label.shape[1]), WIDTH))
    inside = found.count(wrong & ~near)
    sure = found.total(np.where(wrong, confidence, 0))
    things = components(label, judged)
    first = found.first_pixels
    part_of = things.at(first)
    boxes = found.boxes()
    return [
        Region(
            label=int(found.classes[i]) // number,
            said=int(found.classes[i]) % number,
            pixels=int(found.pixels[i]),
            share=float(found.pixels[i] / things.pixels[part_of[i]]),
            inside=float(inside[i] / found.pixels[i]),
            confidence=min(1.0, float(sure[i] / found.pixels[i])),
            box=(int(boxes[i, 0]), int(boxes[i, 1]), int(boxes[i, 2]), int(boxes[i, 3])),
            at=(int(first[i]) % label.shape[1], int(first[i]) // label.shape[1]),
        )
        for i in kept
    ]
