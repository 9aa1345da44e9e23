"""Figures: every number of an evaluation under one name, for any weights of its images.

A figure is named as gates, intervals and comparisons know it: `mean_iou`, `iou.road`, `near.obstacle_as_walkable`. All
of them are made of sums of counts over images, so that slices (weights 0 and 1), resamples (how often an image was
drawn) and the whole (all 1) are the same computation.
"""

import copy
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.calibration import calibration_error
from labelsync.evaluation.scores import ratio, score_arrays
from labelsync.evaluation.tally import Tally

Floats = npt.NDArray[np.float64]

HEADLINES = (
    "mean_iou",
    "mean_accuracy",
    "overall_accuracy",
    "frequency_weighted_iou",
    "mean_dice",
    "mean_boundary_iou",
    "expected_calibration_error",
)

PER_CLASS = {"iou": "IoU", "accuracy": "accuracy", "dice": "Dice", "boundary_iou": "boundary IoU"}
"""Prefix of the figures of a class, as `iou.road` -> what it is."""


class Figures:
    """The figures of a tally.

    Args:
        tally: counts of N images.
        names: of its K classes.
        ratios: further figures, name -> (N, 2) float64: what is summed over images above and below the line.
        skipped: figures to leave out, by name or, of a class, by what stands before the name.
    """

    def __init__(
        self,
        tally: Tally,
        names: Sequence[str],
        ratios: Mapping[str, Floats] | None = None,
        *,
        skipped: Collection[str] = (),
    ) -> None:
        self.names = tuple(names)
        self.images = len(tally.images)
        self._skipped = frozenset(skipped)
        self._ratios = dict(ratios or {})
        parts = [tally.areas, tally.arrays["boundary"], tally.arrays["calibration"], *self._ratios.values()]
        self._ends = np.cumsum([np.prod(part.shape[1:], dtype=int) for part in parts])[:-1]
        self._columns = np.concatenate([part.reshape(self.images, -1).astype(np.float64) for part in parts], 1)

    def of(self, weights: Floats | None = None) -> dict[str, Floats]:
        """Every figure of images that count `weights` times, (R, N): name -> (R,), NaN where there is nothing.

        Without weights R is 1 and every image counts once. Counts are integers below 2^53, so their sums are exact.
        """
        sums = self._columns.sum(0)[None] if weights is None else weights @ self._columns
        areas, boundary, bins, *pairs = np.split(sums, self._ends, axis=1)
        shape = (len(sums), 3, -1)
        found = score_arrays(areas.reshape(shape))
        border = score_arrays(boundary.reshape(shape))
        figures = {name: getattr(found, name) for name in HEADLINES[:5]}
        figures["mean_boundary_iou"] = border.mean_iou
        figures["expected_calibration_error"] = calibration_error(bins.reshape(shape))
        figures |= {name: ratio(pair[:, 0], pair[:, 1]) for name, pair in zip(self._ratios, pairs, strict=True)}
        per_class = (
            found.per_category_iou,
            found.per_category_accuracy,
            found.per_category_dice,
            border.per_category_iou,
        )
        figures = {name: values for name, values in figures.items() if name not in self._skipped}
        for kind, values in zip(PER_CLASS, per_class, strict=True):
            if kind not in self._skipped:
                figures |= {f"{kind}.{name}": values[:, i] for i, name in enumerate(self.names)}
        return figures

    def whole(self) -> dict[str, float | None]:
        """Every figure of all images; None where there is nothing."""
        return {name: None if np.isnan(values[0]) else float(values[0]) for name, values in self.of().items()}

    def select(self, images: Sequence[int]) -> "Figures":
        """The figures of some of the images."""
        chosen = copy.copy(self)
        chosen.images = len(images)
        chosen._columns = self._columns[list(images)]
        return chosen
