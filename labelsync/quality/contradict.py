"""What a model says against a label: the regions of it that look like another class. Arithmetic only."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.boundary import WIDTH, band, band_pixels
from labelsync.evaluation.components import Components, components
from labelsync.quality.usual import FLOOR, Floats, Ints

Bitmap = npt.NDArray[Any]
Map = npt.NDArray[np.float32]
Box = tuple[int, int, int, int]

SEAM = 0.1
"""Least share of a thing that a region has, or of its own pixels away from borders; one with less of both is a seam."""


@dataclass(frozen=True)
class Region:
    """Touching pixels of one thing in a label, none of which the model gives the label's class.

    Attributes:
        label, said: disk ids: of the label, and what the model says at most of the pixels.
        pixels: its size.
        share: of the labelled thing that it is a part of, a component of the label; 1 = the whole of it.
        log_likely: mean logarithm of the model's probability of `label` there.
        confidence: the model's mean probability of `said`, where it says that.
        box: left, top, width and height in pixels.
        at: x and y of the pixel where the model finds `label` least probable.
    """

    label: int
    said: int
    pixels: int
    share: float
    log_likely: float
    confidence: float
    box: Box
    at: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model says of one label.

    Attributes:
        regions: those that it contradicts, in no order.
        classes, pixels, log_likely: (m,) disk id and size of each thing of the label, and the mean logarithm of the
            model's probability of that class there; for what is usual.
    """

    regions: list[Region]
    classes: Ints
    pixels: Ints
    log_likely: Floats


def judge(
    label: Bitmap, said: Bitmap, confidence: Map, likely: Map, known: npt.NDArray[np.bool_], *, least: int
) -> Judged:
    """The things of a label, and the regions of them that a model contradicts.

    A seam along a border that model and annotator draw a little apart is left out. A thin thing, such as a pole, is
    near its border everywhere; a region that is much of it is none.

    Args:
        label, said: (H, W) disk ids of one shape: of the annotator, and of the model, 0 where it knows no class.
        confidence: (H, W), of the model in `said`, 0..1.
        likely: (H, W), the model's probability of `label`, 0..1.
        known: (K + 1,) which classes of the label the model knows; [0], unlabeled, is False.
        least: smaller things and regions are left out, in pixels.
    """
    log_likely = np.log(np.maximum(likely, FLOOR))
    things = components(label, known)
    large = np.flatnonzero(things.pixels >= least)
    judged = things.classes[large], things.pixels[large], (things.total(log_likely) / things.pixels)[large]
    wrong = known[label] & (said > 0) & (label != said)
    found = components(np.where(wrong, label, 0), known)
    kept = found.pixels >= least
    if not kept.any():
        return Judged([], *judged)
    share = found.pixels / things.pixels[things.at(found.first_pixels)]
    near = band(label, band_pixels((label.shape[0], label.shape[1]), WIDTH))
    inside = found.count(~near) / found.pixels
    kept &= np.maximum(share, inside) >= SEAM
    mean = found.total(log_likely) / found.pixels
    mostly, sure = _mostly(found, said, confidence, len(known))
    at, boxes = found.lowest(log_likely), found.boxes()
    regions = [
        Region(
            label=int(found.classes[i]),
            said=int(mostly[i]),
            pixels=int(found.pixels[i]),
            share=float(share[i]),
            log_likely=min(0.0, float(mean[i])),
            confidence=min(1.0, float(sure[i])),
            box=(int(boxes[i, 0]), int(boxes[i, 1]), int(boxes[i, 2]), int(boxes[i, 3])),
            at=(int(at[i]) % label.shape[1], int(at[i]) // label.shape[1]),
        )
        for i in np.flatnonzero(kept)
    ]
    return Judged(regions, *judged)


def _mostly(found: Components, said: Bitmap, confidence: Map, number: int) -> tuple[Ints, Floats]:
    """(m,) what is said at most of each component's pixels, the first of equals, and the mean confidence there."""
    of = found.numbers((said.shape[0], said.shape[1]))
    inside = of >= 0
    pairs, which = np.unique(of[inside] * number + said[inside], return_inverse=True)
    count = np.bincount(which)
    sums = np.bincount(which, weights=confidence[inside])
    order = np.lexsort((-pairs, count, pairs // number))  # the last of each component is what is said most
    last = order[np.flatnonzero(np.diff(pairs[order] // number, append=len(found.pixels)))]
    return (pairs[last] % number).astype(np.int64), sums[last] / count[last]
