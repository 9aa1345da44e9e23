"""Expected calibration error: how far a model's confidence is from how often it is right.

Guo, Pleiss, Sun, Weinberger: "On Calibration of Modern Neural Networks", ICML 2017, after Naeini et al. 2015. Labelled
pixels fall into 15 bins of equal width by their confidence, bin m holding ((m - 1) / 15, m / 15], and

    ECE = sum over bins of n[m] / N * |right[m] / n[m] - confidence[m] / n[m]|

with n pixels, of which `right` are predicted as labelled, and the sum of their confidences. 0 is a model that is right
as often as it says; it tells nothing about how good the model is otherwise.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.scores import Floats, ratio

BINS = 15


def calibration(label: npt.NDArray[Any], prediction: npt.NDArray[Any], confidence: npt.NDArray[np.float32]) -> Floats:
    """(3, 15) float64: pixels, right pixels and summed confidence per bin, of the labelled pixels.

    Args:
        label, prediction: (H, W) integer disk ids.
        confidence: (H, W) float32 in 0..1.
    """
    counted = label > 0
    sure = confidence[counted]
    right = label[counted] == prediction[counted]
    found = np.ceil(sure * np.float32(BINS)).astype(np.int8)
    found = np.clip(found - 1, 0, BINS - 1, out=found)
    return np.stack(
        [
            np.bincount(found, minlength=BINS).astype(np.float64),
            np.bincount(found[right], minlength=BINS).astype(np.float64),
            np.bincount(found, weights=sure, minlength=BINS),
        ]
    )


def calibration_error(bins: Floats) -> Floats:
    """(..., 3, 15) sums of `calibration` -> (...,) expected calibration error; NaN where nothing was counted."""
    pixels, right, confidence = np.moveaxis(bins, -2, 0)
    total = pixels.sum(-1)
    gap = np.abs(right - confidence).sum(-1)
    return ratio(gap, total)
