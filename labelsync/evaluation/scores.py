"""Scores from pixel counts, pooled over all pixels they were counted on.

For every class c, over the labelled pixels, with I = pixels labelled and predicted c, L = labelled c, P = predicted c:

    IoU[c] = I / (P + L - I)        mean_iou      = mean of IoU over the classes that occur
    accuracy[c] = I / L             mean_accuracy = mean of accuracy over the classes that are labelled
    Dice[c] = 2 I / (P + L)         mean_dice     = mean of Dice over the classes that occur
                                    overall_accuracy = sum of I / sum of L
                                    frequency_weighted_iou = sum of L * IoU / sum of L

The first two rows and the overall accuracy are the formulas of Hugging Face evaluate's `mean_iou`
(huggingface/evaluate, metrics/mean_iou/mean_iou.py), which has them from MMSegmentation. Dice is the F1 score of the
pixels of a class. The frequency-weighted IoU is that of Long, Shelhamer, Darrell: "Fully Convolutional Networks for
Semantic Segmentation", CVPR 2015. A class that occurs in neither labels nor predictions is NaN and in no mean. Pooled
means that a large image weighs more than a small one; torchmetrics' MeanIoU averages over images and gives other
numbers.
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
        per_category_iou, per_category_accuracy, per_category_dice: (K,) float64; entry i is disk id i + 1.
    """

    mean_iou: float
    mean_accuracy: float
    overall_accuracy: float
    per_category_iou: Floats
    per_category_accuracy: Floats
    frequency_weighted_iou: float
    mean_dice: float
    per_category_dice: Floats


@dataclass(frozen=True, eq=False)
class ScoreArrays:
    """The scores of many counts at once: (R,) each, the per-category ones (R, K)."""

    mean_iou: Floats
    mean_accuracy: Floats
    overall_accuracy: Floats
    per_category_iou: Floats
    per_category_accuracy: Floats
    frequency_weighted_iou: Floats
    mean_dice: Floats
    per_category_dice: Floats


def scores(confusion: Counts) -> Scores:
    """Scores of (K, K + 1) confusion counts."""
    return scores_of_areas(areas(confusion))


def scores_of_areas(pixels: Counts) -> Scores:
    """Scores of (3, K) pixel counts per class: intersection, predicted, labelled."""
    found = score_arrays(pixels[None])
    return Scores(
        mean_iou=float(found.mean_iou[0]),
        mean_accuracy=float(found.mean_accuracy[0]),
        overall_accuracy=float(found.overall_accuracy[0]),
        per_category_iou=found.per_category_iou[0],
        per_category_accuracy=found.per_category_accuracy[0],
        frequency_weighted_iou=float(found.frequency_weighted_iou[0]),
        mean_dice=float(found.mean_dice[0]),
        per_category_dice=found.per_category_dice[0],
    )


def score_arrays(pixels: npt.NDArray[np.int64] | Floats) -> ScoreArrays:
    """Scores of (R, 3, K) pixel counts, each of the R as `scores_of_areas` has them."""
    intersection, predicted, labelled = np.moveaxis(pixels.astype(np.float64), 1, 0)
    iou = ratio(intersection, predicted + labelled - intersection)
    accuracy = ratio(intersection, labelled)
    dice = ratio(2 * intersection, predicted + labelled)
    total = labelled.sum(1)
    return ScoreArrays(
        mean_iou=mean_of_known(iou),
        mean_accuracy=mean_of_known(accuracy),
        overall_accuracy=ratio(intersection.sum(1), total),
        per_category_iou=iou,
        per_category_accuracy=accuracy,
        # a class without labelled pixels weighs nothing, whatever its IoU
        frequency_weighted_iou=ratio((labelled * np.nan_to_num(iou)).sum(1), total),
        mean_dice=mean_of_known(dice),
        per_category_dice=dice,
    )


def ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def mean_of_known(values: Floats) -> Floats:
    """(..., K) -> (...,) mean over what is not NaN; NaN, without numpy's warning, where nothing is left."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(-1), known.sum(-1).astype(np.float64))
