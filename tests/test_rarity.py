"""Rare classes: weights and repetitions from counted pixels, and epochs in which images come unequally often."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from labelsync.errors import DatasetError, OptionError
from labelsync.pixels.semantic import encode_semantic
from labelsync.records.release import Row
from labelsync.training.data import EpochSampler, TrainingData, order, whole_copies
from labelsync.training.rarity import class_weights, pixel_counts, repetitions, require_known_classes
from tests.models import label_map
from tests.training import LABELS, VARIED, drawn, rows

COUNTS = np.array([[60, 20, 0], [90, 10, 0], [0, 0, 20]])  # of 200 pixels: 150, 30, 20


def test_pixels_are_counted_without_the_unlabeled_ones() -> None:
    label = np.array([[0, 1, 1], [3, 3, 3]], np.uint8)
    row = Row("a.png", "u", rows(1)[0].image, encode_semantic(label))
    assert pixel_counts([row, row], LABELS).tolist() == [[2, 0, 3], [2, 0, 3]]


def test_a_label_that_cannot_be_counted_is_named() -> None:
    bad = Row("a.png", "u", rows(1)[0].image, encode_semantic(np.full((4, 4), 9, np.uint8)))
    with pytest.raises(DatasetError, match=r"^sample a\.png \(u\): its label holds the value 9"):
        pixel_counts([*rows(2), bad], LABELS)


def test_balanced_weights_by_hand() -> None:
    weights = class_weights("balanced", LABELS, COUNTS)
    assert weights is not None
    assert weights == pytest.approx([200 / (3 * 150), 200 / (3 * 30), 200 / (3 * 20)])
    assert (weights * COUNTS.sum(0)) == pytest.approx([200 / 3] * 3)  # every class has the same weight in all


def test_log_weights_by_hand() -> None:
    weights = class_weights("log", LABELS, COUNTS)
    assert weights is not None
    enet = 1 / np.log(1.02 + np.array([0.75, 0.15, 0.1]))
    assert weights / weights[0] == pytest.approx(enet / enet[0])
    assert (weights * COUNTS.sum(0)).sum() == pytest.approx(COUNTS.sum())  # the mean labelled pixel weighs 1


@pytest.mark.parametrize("kind", ["balanced", "log"])
def test_a_class_that_does_not_occur_weighs_one(kind: str) -> None:
    weights = class_weights(kind, LABELS, np.array([[60, 40, 0]]))  # type: ignore[arg-type]
    assert weights is not None and weights[2] == 1 and np.isfinite(weights).all()


def test_explicit_weights_go_by_name() -> None:
    weights = class_weights({"car": 4.0}, LABELS, None)
    assert weights is not None and weights.tolist() == [1, 1, 4]
    assert class_weights("none", LABELS, None) is None
    require_known_classes({"car": 4.0}, LABELS)
    with pytest.raises(OptionError, match="class_weights has 'cra', and the dataset has no such class") as caught:
        require_known_classes({"cra": 4.0}, label_map("road", "car"))
    assert caught.value.hint == "did you mean car?"


def test_repetitions_by_hand() -> None:
    """The third class is in a third of the images: at 0.75 its image comes sqrt(0.75 * 3) = 1.5 times as often."""
    assert repetitions(COUNTS, below=0.75).tolist() == [pytest.approx(np.sqrt(0.75 * 1.5))] * 2 + [1.5]
    assert repetitions(COUNTS, below=0.1).tolist() == [1, 1, 1]
    assert repetitions(np.array([[5, 0], [0, 0]]), below=0.9).tolist() == [pytest.approx(np.sqrt(1.8)), 1]


# -------------------------------------------------------------------- epochs


@given(
    factors=st.lists(st.floats(0.05, 20), min_size=1, max_size=40), epoch=st.integers(0, 99), offset=st.floats(0, 0.999)
)
def test_copies_are_within_one_of_the_share_and_add_up(factors: list[float], epoch: int, offset: float) -> None:
    indices = order(len(factors), seed=0, epoch=epoch)
    copies = whole_copies(factors, indices, offset)
    shares = np.array(factors) * len(factors) / sum(factors)
    assert sum(copies) == len(factors)
    assert (np.abs(copies - shares) < 1 + 1e-6).all()


def test_alike_factors_are_no_factors() -> None:
    for epoch in range(5):
        plain, alike = EpochSampler(9, seed=3), EpochSampler(9, seed=3, factors=[1.7] * 9)
        plain.epoch = alike.epoch = epoch
        assert list(alike) == list(plain)


def test_over_epochs_images_come_as_often_as_their_factors_say() -> None:
    sampler = EpochSampler(4, seed=0, factors=[1, 1, 1, 3])
    seen = np.zeros(4)
    for epoch in range(600):
        sampler.epoch = epoch
        keys = list(sampler)
        assert len(keys) == len(sampler) == 4 and len(set(keys)) == 4
        seen += np.bincount([index % 4 for _, index in keys], minlength=4)
    assert seen / 600 == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2], abs=0.06)


def test_copies_of_one_image_are_varied_each_in_its_own_way() -> None:
    of = TrainingData(rows(3), LABELS, size_hw=(24, 32), augment=VARIED, seed=1)
    (first, label), (second, _) = of[(0, 2)], of[(0, 2 + 3)]  # type: ignore[misc]
    assert not first.equal(second)
    plain = TrainingData(rows(3), LABELS, size_hw=(40, 56), augment=type(VARIED)(), seed=1)
    assert plain[(0, 2)][0].equal(plain[(0, 5)][0])  # type: ignore[index]
    assert drawn(2)[1].shape == (40, 56) and label.shape == (24, 32)
