"""Boundary IoU: intersection over union of the bands along the borders of label and prediction.

Cheng, Girshick, Dollar, Berg, Kirillov: "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR
2021. With G_d the pixels of class c in the label that lie within d pixels of its contour, and P_d those of the
prediction,

    boundary_iou[c] = |G_d and P_d| / |G_d or P_d|

pooled over images as pixel counts. As in the authors' code (bowenc0221/boundary-iou-api, boundary_utils.py) the band is
what an erosion by a square of 2 d + 1 pixels takes away, d is a share of the image's diagonal, rounded and at least 1,
and the image's own border is a contour. Unlabeled pixels belong to no class on either side, so their border is a
contour too, and a perfect predictor scores exactly 1.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.confusion import Counts

WIDTH = 0.005
"""Band width as a share of the image's diagonal: the authors' value for Cityscapes, 11 pixels at 1080p."""


def band_pixels(size_hw: tuple[int, int], width: float) -> int:
    """Width of the band in pixels for an image of that size."""
    return max(1, round(width * float(np.hypot(*size_hw))))


def boundary_areas(label: npt.NDArray[Any], prediction: npt.NDArray[Any], num_labels: int, *, width: float) -> Counts:
    """(3, K) int64 pixel counts of the bands: in both, of the prediction, of the label, as `confusion.areas` has them.

    Args:
        label, prediction: (H, W) integer disk ids of one shape, within 0..K.
        width: of the band, as a share of the diagonal.
    """
    distance = band_pixels((label.shape[0], label.shape[1]), width)
    said = np.where(label > 0, prediction, 0)
    meant_band, said_band = band(label, distance), band(said, distance)
    both = meant_band & said_band & (label == said)
    found = [np.bincount(v, minlength=num_labels + 1) for v in (label[both], said[said_band], label[meant_band])]
    return np.stack(found)[:, 1:].astype(np.int64)


def band(bitmap: npt.NDArray[Any], distance: int) -> npt.NDArray[np.bool_]:
    """(H, W) bool: pixels with another value, or the outside of the image, within `distance` (in a square around them).

    For each class that is its pixels without those left by an erosion. All classes come at once: the square around a
    pixel holds one value if no two neighbours in it differ. 5 ms for a 1080p image, whatever the number of classes.
    """
    height, width = bitmap.shape
    across = np.ones((height, width + 1), bool)  # [y, x]: pixel x differs from x - 1; the outside differs from all
    np.not_equal(bitmap[:, 1:], bitmap[:, :-1], out=across[:, 1:-1])
    mixed = _any_near(across.T, distance).T  # [y, x]: row y holds two values between x - distance and x + distance
    down = np.ones((height + 1, width), bool)
    np.not_equal(bitmap[1:], bitmap[:-1], out=down[1:-1])
    down[1:] |= mixed
    down[:-1] |= mixed
    return _any_near(down, distance)


def _any_near(flags: npt.NDArray[np.bool_], distance: int) -> npt.NDArray[np.bool_]:
    """(n + 1, m) flags between n rows and around them -> (n, m): one is set between row - distance and row + distance.

    By doubling: flags over 1, 2, 4, .. places, then two such runs that together are the window.
    """
    window, run = 2 * distance, 1
    found = np.pad(flags, ((distance - 1, distance - 1), (0, 0)))
    while 2 * run <= window:
        found = found[:-run] | found[run:]
        run *= 2
    return found[: len(found) - (window - run)] | found[window - run :]
