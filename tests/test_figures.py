"""Boundary IoU, Dice, frequency-weighted IoU, calibration, and the tally they are kept in: against the slow way."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelsync.errors import DatasetError
from labelsync.evaluation.boundary import band, band_pixels, boundary_areas
from labelsync.evaluation.calibration import calibration, calibration_error
from labelsync.evaluation.confusion import confusion
from labelsync.evaluation.figures import Figures
from labelsync.evaluation.measure import ImageCounts, together
from labelsync.evaluation.scores import scores
from labelsync.evaluation.tally import ImageFacts, Tally, label_digest, read_tally, sparse, write_tally
from labelsync.model.winner import winner_and_confidence, winning_output
from tests.test_confusion import SIZES, pairs

Map = npt.NDArray[np.uint8]


def blocks(rng: np.random.Generator, num_labels: int, size_hw: tuple[int, int] = (24, 31)) -> Map:
    """Drawn patches of 0..K, some of them larger than a band."""
    small = rng.integers(0, num_labels + 1, (-(-size_hw[0] // 6), -(-size_hw[1] // 6)))
    return np.kron(small, np.ones((6, 6), int))[: size_hw[0], : size_hw[1]].astype(np.uint16)


def worn(label: Map, rng: np.random.Generator, num_labels: int) -> Map:
    """A prediction: the label shifted, with some of it drawn anew."""
    prediction = np.roll(label, rng.integers(-2, 3, 2), (0, 1))
    spoilt = rng.random(label.shape) < 0.1
    prediction[spoilt] = rng.integers(0, num_labels + 1, int(spoilt.sum()))
    return prediction


def tally_of(pairs: list[tuple[Map, Map]], num_labels: int, *, groups: list[str] | None = None) -> Tally:
    """The tally of labels and predictions, every pixel as sure as 0.75; images are "0.png", "1.png" .."""
    images = [
        ImageCounts(
            ImageFacts(f"{i}.png", f"uuid-{i}", label_digest(label), groups[i] if groups else f"uuid-{i}"),
            sparse(confusion(label, prediction, num_labels)),
            boundary_areas(label, prediction, num_labels, width=0.05),
            calibration(label, prediction, np.full(label.shape, 0.75, np.float32)),
        )
        for i, (label, prediction) in enumerate(pairs)
    ]
    return together(images, num_labels)


def drawn_tally(number: int = 6, num_labels: int = 4, *, seed: int = 0, groups: list[str] | None = None) -> Tally:
    rng = np.random.default_rng(seed)
    labels = [blocks(rng, num_labels) for _ in range(number)]
    return tally_of([(label, worn(label, rng, num_labels)) for label in labels], num_labels, groups=groups)


def names(num_labels: int) -> list[str]:
    return [f"c{i}" for i in range(1, num_labels + 1)]


# -------------------------------------------------------------------- boundary IoU


def slow_band(inside: npt.NDArray[np.bool_], distance: int) -> npt.NDArray[np.bool_]:
    """Pixels of a class without its erosion by a square; the outside of the image is not of the class."""
    around = np.pad(inside, distance)
    found = np.zeros(inside.shape, bool)
    side = 2 * distance + 1
    for y, x in np.ndindex(*inside.shape):
        found[y, x] = inside[y, x] and not around[y : y + side, x : x + side].all()
    return found


@given(pairs(max_classes=3), st.integers(1, 5))
def test_the_band_is_what_an_erosion_of_each_class_takes_away(
    pair: tuple[int, np.ndarray, np.ndarray], distance: int
) -> None:
    num_labels, label, _ = pair
    fast = band(label, distance)
    for c in range(num_labels + 1):
        assert np.array_equal(fast & (label == c), slow_band(label == c, distance))


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.001, 0.05, 0.1, 0.3]))
def test_boundary_iou_is_that_of_the_paper(seed: int, width: float) -> None:
    rng = np.random.default_rng(seed)
    label = blocks(rng, 3)
    prediction = worn(label, rng, 3)
    distance = max(1, round(width * math.hypot(*label.shape)))
    assert band_pixels((24, 31), width) == distance
    counts = boundary_areas(label, prediction, 3, width=width)
    said = np.where(label == 0, 0, prediction)
    for c in (1, 2, 3):
        g, p = slow_band(label == c, distance), slow_band(said == c, distance)
        assert counts[:, c - 1].tolist() == [(g & p).sum(), p.sum(), g.sum()]


def test_a_thick_band_is_the_whole_class_and_boundary_iou_then_is_iou() -> None:
    rng = np.random.default_rng(1)
    label, prediction = (blocks(rng, 3) for _ in range(2))
    counts = confusion(label, prediction, 3)
    wide = boundary_areas(label, prediction, 3, width=1.0)
    assert wide[0].tolist() == np.diagonal(counts, offset=1).tolist()
    assert wide[1].tolist() == counts[:, 1:].sum(0).tolist()


# -------------------------------------------------------------------- Dice and frequency-weighted IoU


@given(pairs(max_classes=20))
def test_dice_and_frequency_weighted_iou_by_their_definitions(pair: tuple[int, np.ndarray, np.ndarray]) -> None:
    num_labels, label, prediction = pair
    found = scores(confusion(label, prediction, num_labels))
    counted = label > 0
    weighted = 0.0
    for c in range(1, num_labels + 1):
        g, p = (label == c) & counted, (prediction == c) & counted
        true, false, lost = (g & p).sum(), (p & ~g).sum(), (g & ~p).sum()
        f1 = 2 * true / (2 * true + false + lost) if true + false + lost else math.nan
        np.testing.assert_allclose(found.per_category_dice[c - 1], f1, rtol=1e-12, equal_nan=True)
        weighted += g.sum() / max(counted.sum(), 1) * (true / (g | p).sum() if (g | p).any() else 0)
    if counted.any():
        assert found.frequency_weighted_iou == pytest.approx(weighted, abs=1e-12)
    else:
        assert math.isnan(found.frequency_weighted_iou)


@pytest.mark.parametrize("num_labels", SIZES)
def test_a_perfect_prediction_scores_exactly_one_in_everything(num_labels: int) -> None:
    rng = np.random.default_rng(num_labels)
    labels = [blocks(rng, num_labels) for _ in range(3)]
    perfect = [(label, np.where(label == 0, rng.integers(0, num_labels + 1, label.shape), label)) for label in labels]
    figures = Figures(tally_of(perfect, num_labels), names(num_labels)).whole()
    assert figures.pop("expected_calibration_error") == 0.25  # it says 0.75 and is right always
    assert {value for value in figures.values() if value is not None} == {1.0}
    assert len(figures) == 6 + 4 * num_labels


# -------------------------------------------------------------------- calibration


@given(st.integers(0, 10_000))
def test_the_calibration_error_is_that_of_the_paper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, prediction = rng.integers(0, 3, (2, 9, 11))
    confidence = rng.random((9, 11)).astype(np.float32)
    if not (label > 0).any():
        return
    right, sure = (label == prediction)[label > 0], confidence[label > 0].astype(np.float64)
    expected = 0.0
    for m in range(15):
        inside = (sure > np.float32(m / 15)) & (sure <= np.float32((m + 1) / 15))
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert calibration_error(calibration(label, prediction, confidence)) == pytest.approx(expected, abs=1e-12)


def test_full_confidence_falls_into_the_last_bin_and_none_into_the_first() -> None:
    ones = np.ones((1, 2), int)
    bins = calibration(ones, ones, np.array([[0.0, 1.0]], np.float32))
    assert bins[:, 0].tolist() == [1, 1, 0]
    assert bins[:, -1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("scale", [1.0, 5.0, 300.0])
def test_the_confidence_is_the_softmax_of_the_upsampled_outputs(scale: float) -> None:
    """Also where outputs lie hundreds apart between neighbours, and their sum seen from above would vanish."""
    logits = torch.randn(7, 6, 9, generator=torch.Generator().manual_seed(0)) * scale
    whole = torch.nn.functional.interpolate(logits[None], size=(31, 47), mode="bilinear", align_corners=False)[0]
    winner, confidence = winner_and_confidence(logits, (31, 47))
    assert torch.equal(winner, winning_output(logits, (31, 47)))
    assert torch.allclose(confidence.double(), whole.double().softmax(0).amax(0), rtol=1e-4, atol=0)
    assert float(confidence.max()) <= 1.0


# -------------------------------------------------------------------- the tally


def test_pooled_figures_are_those_of_one_large_image() -> None:
    rng = np.random.default_rng(3)
    images = [(blocks(rng, 3), blocks(rng, 3)) for _ in range(4)]
    whole = scores(sum(confusion(label, prediction, 3) for label, prediction in images))
    figures = Figures(tally_of(images, 3), names(3)).whole()
    for name in ("mean_iou", "mean_accuracy", "overall_accuracy", "frequency_weighted_iou", "mean_dice"):
        assert figures[name] == pytest.approx(getattr(whole, name), abs=1e-12)
    assert [figures[f"iou.{n}"] for n in names(3)] == whole.per_category_iou.tolist()


def test_a_tally_comes_back_from_its_files_and_its_bytes_are_the_same(tmp_path: Path) -> None:
    tally = drawn_tally()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_tally(tmp_path / name, tally)
    back = read_tally(tmp_path / "a", 4)
    assert back.images == tally.images
    assert {n: a.tolist() for n, a in back.arrays.items()} == {n: a.tolist() for n, a in tally.arrays.items()}
    assert (tmp_path / "a/counts.npz").read_bytes() == (tmp_path / "b/counts.npz").read_bytes()
    (tmp_path / "a/counts.npz").write_bytes(b"PK")
    with pytest.raises(DatasetError, match="evaluate again"):
        read_tally(tmp_path / "a", 4)


def test_a_part_of_a_tally_is_the_tally_of_that_part() -> None:
    rng = np.random.default_rng(5)
    images = [(blocks(rng, 4), blocks(rng, 4)) for _ in range(3)]
    part = tally_of(images, 4).select([2, 0], [4, 2])
    table = np.array([0, 0, 2, 0, 1], np.uint16)
    again = tally_of([(table[images[i][0]], table[images[i][1]]) for i in (2, 0)], 2)
    assert [i.name for i in part.images] == ["2.png", "0.png"]
    assert part.confusion.tolist() == again.confusion.tolist()
    assert part.areas.tolist() == again.areas.tolist()


def test_equal_labels_have_one_digest_whatever_their_width() -> None:
    label = np.arange(6).reshape(2, 3)
    assert label_digest(label.astype(np.uint8)) == label_digest(label.astype(np.uint16))
    assert label_digest(label) != label_digest(label.reshape(3, 2))
    assert label_digest(label) != label_digest(label + 1)
