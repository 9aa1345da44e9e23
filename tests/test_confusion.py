import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelsync.errors import BitmapError
from labelsync.evaluation import confusion as confusion_module
from labelsync.evaluation.confusion import areas, confusion, runs, zeros
from labelsync.evaluation.on_device import confusion_on_device

SIZES = (2, 11, 254, 255, 300)


@st.composite
def pairs(draw: st.DrawFn, max_classes: int = 300) -> tuple[int, np.ndarray, np.ndarray]:
    """K and two maps of disk ids 0..K, in the narrowest and in wider types."""
    num_labels = draw(st.integers(1, max_classes))
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
    types = [t for t in (np.uint8, np.uint16, np.int32, np.int64) if np.iinfo(t).max >= num_labels]

    def ids() -> np.ndarray:
        return draw(hnp.arrays(draw(st.sampled_from(types)), shape, elements=st.integers(0, num_labels)))

    return num_labels, ids(), ids()


def test_rows_are_labels_columns_are_predictions_and_unlabeled_pixels_count_nowhere() -> None:
    label = np.array([[1, 1, 1, 0], [2, 2, 0, 0]], np.uint8)
    prediction = np.array([[1, 2, 0, 1], [2, 2, 2, 0]], np.uint8)
    assert confusion(label, prediction, 2).tolist() == [
        [1, 1, 1],  # label 1: one pixel without a class, one right, one taken for 2
        [0, 0, 2],
    ]


@given(pairs())
def test_equals_counting_pixel_by_pixel(pair: tuple[int, np.ndarray, np.ndarray]) -> None:
    num_labels, label, prediction = pair
    expected = zeros(num_labels)
    for meant, said in zip(label.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if meant:
            expected[meant - 1, said] += 1
    counts = confusion(label, prediction, num_labels)
    assert counts.dtype == np.int64
    assert np.array_equal(counts, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
@pytest.mark.parametrize("num_labels", [3, 200, 300])
@pytest.mark.parametrize("side", [1, 2, 7, 16])  # of the squares of one class
def test_runs_are_counted_as_their_pixels_in_blocks_of_any_length(
    dtype: type, num_labels: int, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(side)
    highest = min(num_labels, np.iinfo(dtype).max)
    label, prediction = (
        np.kron(rng.integers(0, highest + 1, (9, 9)), np.ones((side, side), int)).astype(dtype) for _ in range(2)
    )
    expected = np.zeros((num_labels + 1, num_labels + 1), np.int64)
    np.add.at(expected, (label.astype(int), prediction.astype(int)), 1)
    for block in (1, 131, 1000, 1 << 18):
        monkeypatch.setattr(confusion_module, "_BLOCK", block)
        assert np.array_equal(confusion(label, prediction, num_labels), expected[1:])


def test_long_runs_come_as_one_and_short_ones_as_they_are() -> None:
    label = np.repeat(np.array([1, 2, 3], np.int64), 40)
    ((values, others, pixels),) = runs(label, np.ones_like(label), bins=16)
    assert (values.tolist(), others.tolist(), pixels.tolist()) == ([1, 2, 3], [1, 1, 1], [40, 40, 40])
    assert values.dtype == np.uint8
    ((values, _, pixels),) = runs(label.reshape(3, 40).T, np.ones((40, 3), np.uint8), bins=16)
    assert pixels is None and len(values) == 120


@given(pairs())
def test_torch_counts_the_same_on_its_device(pair: tuple[int, np.ndarray, np.ndarray]) -> None:
    num_labels, label, prediction = pair
    for dtype in (torch.int32, torch.int64):
        there = torch.from_numpy(prediction.astype(np.int64)).to(dtype)
        counts = confusion_on_device(label, there, num_labels)
        assert counts.dtype == np.int64
        assert np.array_equal(counts, confusion(label, prediction, num_labels))


@given(pairs(), st.integers(0, 8))
def test_confusion_of_a_concatenation_is_the_sum(pair: tuple[int, np.ndarray, np.ndarray], cut: int) -> None:
    num_labels, label, prediction = pair
    parts = [confusion(label[s], prediction[s], num_labels) for s in (slice(cut), slice(cut, None))]
    assert np.array_equal(confusion(label, prediction, num_labels), sum(parts))


@given(pairs())
def test_areas_are_what_is_right_said_and_meant(pair: tuple[int, np.ndarray, np.ndarray]) -> None:
    num_labels, label, prediction = pair
    right, said, meant = areas(confusion(label, prediction, num_labels))
    for c in range(1, num_labels + 1):
        assert right[c - 1] == ((label == c) & (prediction == c)).sum()
        assert said[c - 1] == ((label > 0) & (prediction == c)).sum()
        assert meant[c - 1] == (label == c).sum()


@pytest.mark.parametrize("num_labels", SIZES)
def test_the_last_class_is_counted_whatever_the_width_of_the_code(num_labels: int) -> None:
    label = np.full((3, 5), num_labels, np.uint16)
    counts = confusion(label, label, num_labels)
    assert counts[-1, -1] == 15
    assert counts.sum() == 15


@pytest.mark.parametrize(
    ("label", "prediction", "said"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), "the label is 3x2 and the prediction 2x3"),
        (np.full((2, 2), 4, np.uint8), np.zeros((2, 2), np.uint8), "the label has class id 4"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), "the prediction has class id 255"),
        (np.full((2, 2), -1), np.zeros((2, 2), np.uint8), "the label has class id -1"),
        (np.zeros((2, 2)), np.zeros((2, 2), np.uint8), "float64"),
    ],
)
def test_what_cannot_be_counted_is_refused(label: np.ndarray, prediction: np.ndarray, said: str) -> None:
    with pytest.raises(BitmapError, match=said):
        confusion(label, prediction, 3)
