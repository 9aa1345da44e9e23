"""Scores by their published definition, one class at a time: the slow way, to hold the fast one against."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Maps = Sequence[npt.NDArray[Any]]


def mean_iou(
    predictions: Maps,
    references: Maps,
    *,
    num_labels: int,
    ignore_index: int,
    label_map: Mapping[int, int] | None = None,
    reduce_labels: bool = False,
) -> dict[str, Any]:
    """What Hugging Face evaluate documents for its metric mean_iou (metrics/mean_iou, commit 210d2141).

    Label values are mapped, all by their original value, then reduced (0 becomes 255, others one less, 255 stays).
    Pixels whose label is then `ignore_index` are left out. Areas are summed over all maps before anything is divided.
    """
    hit, said, meant = np.zeros((3, num_labels))
    for prediction, reference in zip(predictions, references, strict=True):
        label = reference.astype(np.int64)
        if label_map:
            label = np.vectorize(lambda v: label_map.get(int(v), int(v)), otypes=[np.int64])(label)
        if reduce_labels:
            label = np.vectorize(lambda v: 255 if v in (0, 255) else v - 1, otypes=[np.int64])(label)
        counted = label != ignore_index
        for c in range(num_labels):
            hit[c] += ((prediction == c) & (label == c) & counted).sum()
            said[c] += ((prediction == c) & counted).sum()
            meant[c] += ((label == c) & counted).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, accuracy = hit / (said + meant - hit), hit / meant
        overall = hit.sum() / meant.sum()
    return {
        "mean_iou": _mean(iou),
        "mean_accuracy": _mean(accuracy),
        "overall_accuracy": overall,
        "per_category_iou": iou,
        "per_category_accuracy": accuracy,
    }


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if (~np.isnan(values)).any() else float("nan")
