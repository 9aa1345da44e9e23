"""Scores from pixel counts, pooled over all pixels they were counted on.

For every class c, over the labelled pixels, with I = pixels labelled and predicted c, L = labelled c, P = predicted c:

    IoU[c] = I / (P + L - I)        mean_iou      = mean of IoU over the classes that occur
    accuracy[c] = I / L             mean_accuracy = mean of accuracy over the classes that are labelled
                                    overall_accuracy = sum of I / sum of L

These are the formulas of Hugging Face evaluate's `mean_iou` (huggingface/evaluate, metrics/mean_iou/mean_iou.py), which
has them from MMSegmentation. A class that occurs in neither labels nor predictions is NaN and in no mean. Pooled means
that a large image weighs more than a small one; torchmetrics' MeanIoU averages over images and gives other numbers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.confusion import Counts, areas

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores between 0 and 1; NaN = there was nothing to score.

    Attributes:
        per_category_iou, per_category_accuracy: (K,) float64; entry i is disk id i + 1.
    """

    mean_iou: float
    mean_accuracy: float
    overall_accuracy: float
    per_category_iou: Floats
    per_category_accuracy: Floats


def scores(confusion: Counts) -> Scores:
    """Scores of (K, K + 1) confusion counts."""
    return scores_of_areas(areas(confusion))


def scores_of_areas(pixels: Counts) -> Scores:
    """Scores of (3, K) pixel counts per class: intersection, predicted, labelled."""
    intersection, predicted, labelled = pixels.astype(np.float64)
    iou = _ratio(intersection, predicted + labelled - intersection)
    accuracy = _ratio(intersection, labelled)
    total = float(labelled.sum())
    return Scores(
        mean_iou=_mean(iou),
        mean_accuracy=_mean(accuracy),
        overall_accuracy=float(intersection.sum()) / total if total else float("nan"),
        per_category_iou=iou,
        per_category_accuracy=accuracy,
    )


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean(values: Floats) -> float:
    """Mean over what is not NaN; NaN, without numpy's warning, where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
