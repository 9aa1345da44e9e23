import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given

from labelsync.evaluation.confusion import confusion, zeros
from labelsync.evaluation.scores import scores
from tests import reference
from tests.test_confusion import SIZES, pairs


def test_by_hand() -> None:
    label = np.array([[1, 1, 1, 1], [2, 2, 0, 0]], np.uint8)
    prediction = np.array([[1, 1, 1, 2], [2, 0, 1, 2]], np.uint8)
    found = scores(confusion(label, prediction, 3))
    assert found.per_category_iou[:2].tolist() == [3 / 4, 1 / 3]
    assert found.per_category_accuracy[:2].tolist() == [3 / 4, 1 / 2]
    assert math.isnan(found.per_category_iou[2])  # class 3 is in neither
    assert math.isnan(found.per_category_accuracy[2])
    assert found.mean_iou == (3 / 4 + 1 / 3) / 2
    assert found.mean_accuracy == 5 / 8
    assert found.overall_accuracy == 4 / 6


@given(pairs(max_classes=20))
def test_equals_the_published_formula(pair: tuple[int, np.ndarray, np.ndarray]) -> None:
    num_labels, label, prediction = pair
    found = dataclasses.asdict(scores(confusion(label, prediction, num_labels)))
    # evaluate counts model ids: unlabeled is ignored, and a prediction of no class is no class there either
    expected = reference.mean_iou(
        [prediction.astype(np.int64) - 1],
        [label.astype(np.int64) - 1],
        num_labels=num_labels,
        ignore_index=-1,
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=0, equal_nan=True, err_msg=name)


def test_pooled_over_pixels_not_averaged_over_images() -> None:
    hit = confusion(np.array([[1]]), np.array([[1]]), 2)
    miss = confusion(np.full((9, 11), 1), np.full((9, 11), 2), 2)
    assert scores(hit + miss).per_category_iou[0] == 0.01


def test_a_class_said_and_never_meant_is_zero_in_iou_and_absent_in_accuracy() -> None:
    found = scores(confusion(np.array([[1, 1]]), np.array([[1, 2]]), 2))
    assert found.per_category_iou.tolist() == [0.5, 0.0]
    assert found.mean_iou == 0.25
    assert found.mean_accuracy == 0.5


@pytest.mark.parametrize("num_labels", SIZES)
@pytest.mark.parametrize("unlabeled", [False, True])
def test_a_perfect_prediction_scores_exactly_one(num_labels: int, unlabeled: bool) -> None:
    rng = np.random.default_rng(num_labels)
    total = zeros(num_labels)
    for _ in range(3):
        label = rng.integers(0 if unlabeled else 1, num_labels + 1, (17, 23)).astype(np.uint16)
        prediction = np.where(label == 0, rng.integers(0, num_labels + 1, label.shape), label)
        total += confusion(label, prediction, num_labels)
    found = scores(total)
    assert (found.mean_iou, found.mean_accuracy, found.overall_accuracy) == (1.0, 1.0, 1.0)


def test_nothing_labelled_is_nan_and_no_warning() -> None:
    found = scores(zeros(3))
    assert all(math.isnan(v) for v in (found.mean_iou, found.mean_accuracy, found.overall_accuracy))
