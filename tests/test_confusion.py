import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labelsync.errors import BitmapError
from labelsync.evaluation.confusion import areas, confusion, zeros

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
