from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelsync.errors import BitmapError, OptionError
from labelsync.evaluation.metric import MeanIoU
from tests import reference
from tests.test_confusion import SIZES

# The example that evaluate publishes with its metric, and the numbers it publishes for it.
PREDICTED = [
    np.array([[1, 2], [3, 4], [5, 255]]),
    np.array([[2, 7], [9, 2], [3, 6]]),
    np.array([[2, 2, 3], [8, 2, 4], [3, 255, 2]]),
]
ACTUAL = [
    np.array([[0, 3], [5, 4], [6, 255]]),
    np.array([[1, 7], [9, 2], [3, 6]]),
    np.array([[1, 2, 2], [8, 2, 1], [3, 255, 1]]),
]


@st.composite
def settings_and_maps(draw: st.DrawFn) -> tuple[dict[str, Any], list[np.ndarray], list[np.ndarray]]:
    """Settings, predictions and references; values also outside the classes, as void labels are in real files."""
    num_labels = draw(st.integers(1, 12))
    dtype = draw(st.sampled_from([np.uint8, np.int32, np.int64]))
    values = st.one_of(st.integers(0, num_labels + 1), st.sampled_from([0, 254, 255]))
    shapes = draw(st.lists(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), min_size=1, max_size=3))
    settings = {
        "num_labels": num_labels,
        "ignore_index": draw(st.sampled_from([255, 0, num_labels - 1, num_labels])),
        "reduce_labels": draw(st.booleans()),
        "label_map": draw(
            st.one_of(st.none(), st.dictionaries(st.integers(0, num_labels), st.integers(0, num_labels), max_size=3))
        ),
    }
    maps = [[draw(hnp.arrays(dtype, shape, elements=values)) for shape in shapes] for _ in range(2)]
    return settings, maps[0], maps[1]


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=0, equal_nan=True, err_msg=name)


def test_gives_the_numbers_that_evaluate_publishes_for_its_example() -> None:
    found = MeanIoU().compute(
        predictions=PREDICTED, references=ACTUAL, num_labels=10, ignore_index=255, reduce_labels=False
    )
    assert found["mean_iou"] == pytest.approx(0.4775, abs=1e-12)
    assert found["mean_accuracy"] == pytest.approx(0.5916666666666666, abs=1e-12)
    assert found["overall_accuracy"] == pytest.approx(0.5263157894736842, abs=1e-12)
    assert found["per_category_iou"].tolist() == [0, 0, 0.375, 0.4, 0.5, 0, 0.5, 1, 1, 1]


@given(settings_and_maps())
def test_equals_the_published_definition_under_every_setting(
    case: tuple[dict[str, Any], list[np.ndarray], list[np.ndarray]],
) -> None:
    settings, predictions, references = case
    expected = reference.mean_iou(predictions, references, **settings)
    assert_same(MeanIoU().compute(predictions=predictions, references=references, **settings), expected)
    streaming = MeanIoU(**settings)
    for prediction, label in zip(predictions, references, strict=True):
        streaming.add_batch(predictions=[prediction], references=[label])
    assert_same(streaming.compute(), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
@pytest.mark.parametrize("ignore_index", [255, 0, 7, -100, 300])
@pytest.mark.parametrize("reduce_labels", [False, True])
def test_large_maps_equal_the_published_definition(dtype: type, ignore_index: int, *, reduce_labels: bool) -> None:
    """Maps with long runs are counted by them: see `runs`."""
    rng = np.random.default_rng(0)
    values = np.array([*range(9), 254, 255, *([-100, 300, 256 + 3] if dtype == np.int64 else [])])
    maps = [np.kron(rng.choice(values, (6, 5)), np.ones((8, 60), int)).astype(dtype) for _ in range(4)]
    settings = {"num_labels": 8, "ignore_index": ignore_index, "reduce_labels": reduce_labels}
    found = MeanIoU().compute(predictions=maps[:2], references=maps[2:], **settings)
    assert_same(found, reference.mean_iou(maps[:2], maps[2:], **settings))


@pytest.mark.parametrize("num_labels", SIZES)
@pytest.mark.parametrize("reduce_labels", [False, True])
@pytest.mark.parametrize("void", [False, True])
def test_a_perfect_predictor_scores_exactly_one(num_labels: int, reduce_labels: bool, void: bool) -> None:
    """Also past 254 classes, where evaluate's reduction ignores a class of its own."""
    ignore_index = 255 if num_labels <= 254 else 65535
    model_ids = np.arange(num_labels).repeat(3).reshape(3, -1)
    references = model_ids + 1 if reduce_labels else model_ids.copy()
    if void:
        references[0, :] = 0 if reduce_labels else ignore_index
    metric = MeanIoU(num_labels, ignore_index=ignore_index, reduce_labels=reduce_labels)
    metric.add_batch(predictions=[model_ids], references=[references.astype(np.uint16)])
    found = metric.compute()
    assert (found["mean_iou"], found["mean_accuracy"], found["overall_accuracy"]) == (1.0, 1.0, 1.0)
    assert np.isnan(found["per_category_iou"]).sum() == (num_labels // 3 if void else 0)


def test_compute_starts_over() -> None:
    metric = MeanIoU(num_labels=2)
    metric.add(prediction=[[1]], reference=[[0]])
    assert metric.compute()["overall_accuracy"] == 0.0
    metric.add(prediction=[[0]], reference=[[0]])
    assert metric.compute()["overall_accuracy"] == 1.0


def test_nan_to_num_comes_after_the_means() -> None:
    found = MeanIoU(num_labels=3).compute(predictions=[[[0]]], references=[[[0]]], nan_to_num=-1)
    assert found["per_category_iou"].tolist() == [1, -1, -1]
    assert found["mean_iou"] == 1.0


def test_is_an_evaluate_metric_that_leaves_nothing_on_disk(tmp_path: Path) -> None:
    metric = MeanIoU(num_labels=2, cache_dir=str(tmp_path / "cache"))
    metric.add_batch(predictions=np.zeros((2, 4, 4), int), references=np.zeros((2, 4, 4), int))
    metric.compute()
    assert isinstance(metric, evaluate.Metric)
    assert not (tmp_path / "cache").exists()


def test_void_255_stays_void_when_labels_are_reduced() -> None:
    metric = MeanIoU(num_labels=3, reduce_labels=True)
    metric.add(prediction=[[0, 1, 2]], reference=[[255, 0, 3]])
    assert metric.compute()["per_category_iou"][2] == 1.0
    metric.add(prediction=[[0, 0]], reference=[[255, 1]])
    assert metric.compute()["per_category_iou"][0] == 1.0


def test_bytes_hold_maps_of_models_with_more_classes_than_bytes_have() -> None:
    metric = MeanIoU(num_labels=300, ignore_index=65535)
    metric.add(prediction=np.array([[255, 7]], np.uint8), reference=np.array([[255, 8]], np.uint8))
    assert metric.compute()["per_category_iou"][255] == 1.0


@pytest.mark.parametrize(
    ("predictions", "references", "said"),
    [
        ([[[0, 1]]], [[[0]]], "shape"),
        ([[[0]], [[0]]], [[[0]]], "pair up"),
        ([[[0.5]]], [[[0]]], "integers"),
    ],
)
def test_maps_that_do_not_belong_together_are_refused(predictions: Any, references: Any, said: str) -> None:
    with pytest.raises(BitmapError, match=said):
        MeanIoU(num_labels=2).add_batch(predictions=predictions, references=references)


def test_settings_cannot_change_between_counting_and_computing() -> None:
    metric = MeanIoU(num_labels=2)
    metric.add(prediction=[[0]], reference=[[0]])
    with pytest.raises(OptionError, match="ignore_index=255"):
        metric.compute(ignore_index=0)


def test_without_num_labels_nothing_can_be_counted() -> None:
    with pytest.raises(OptionError, match="num_labels"):
        MeanIoU().add(prediction=[[0]], reference=[[0]])
    with pytest.raises(OptionError, match="num_label"):
        MeanIoU().compute(predictions=[[[0]]], references=[[[0]]], num_label=3)
