"""How sure a model is, beside a straight float64 computation over all outputs at full size."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from labelsync.errors import BitmapError
from labelsync.model.load import new_model
from labelsync.model.segmenter import Segmenter
from labelsync.model.uncertainty import (
    LOW_CONFIDENCE,
    Uncertainty,
    of_image,
    winner_and_probabilities,
    winner_and_uncertainty,
)
from labelsync.model.winner import winner_and_confidence, winner_and_label_probability, winning_output
from tests.models import label_map, loud, numbered, tiny_segformer
from tests.pictures import busy_picture


def everything(logits: torch.Tensor, size_hw: tuple[int, int]) -> torch.Tensor:
    """(C, H, W) float64 probabilities, all outputs upsampled at once."""
    whole = torch.nn.functional.interpolate(logits[None], size=size_hw, mode="bilinear", align_corners=False)[0]
    return whole.double().softmax(0)


@pytest.mark.parametrize("size_hw", [(31, 47), (6, 9), (4, 5), (200, 33)])
@pytest.mark.parametrize("scale", [0.0, 1.0, 5.0, 300.0])
def test_equals_the_softmax_of_everything(scale: float, size_hw: tuple[int, int]) -> None:
    """Also where outputs lie hundreds apart between neighbours, and their sum seen from above would vanish."""
    logits = torch.randn(7, 6, 9, generator=torch.Generator().manual_seed(0)) * scale
    p = everything(logits, size_hw)
    winner, confidence, margin, entropy = winner_and_uncertainty(logits, size_hw)
    assert torch.equal(winner.long(), winning_output(logits, size_hw).long())
    in_255ths = winner_and_probabilities(logits, size_hw)[4]
    assert float((in_255ths.double() / 255 - p).abs().max()) <= 0.5 / 255 + 3e-6
    first, second = p.sort(0, descending=True).values[:2]
    nats = torch.special.entr(p).sum(0)
    assert torch.allclose(confidence.double(), first, atol=2e-6)
    assert torch.allclose(margin.double(), first - second, atol=3e-6)
    assert torch.allclose(entropy.double(), nats / math.log(7), atol=1e-5)
    for found in (confidence, margin, entropy):
        assert found.dtype == torch.float32 and 0 <= float(found.min()) <= float(found.max()) <= 1


def test_outputs_that_lie_far_below_the_largest_of_their_neighbours() -> None:
    """Between a row where one output is 4000 and a row where all are near 0, nothing may be lost."""
    logits = torch.zeros(3, 2, 1)
    logits[:, 0, 0] = torch.tensor([4000.0, -4000.0, -4000.0])
    logits[:, 1, 0] = torch.tensor([-4000.0, 3999.0, 3999.5])
    p = everything(logits, (9, 1))
    _, confidence, margin, entropy = winner_and_uncertainty(logits, (9, 1))
    assert torch.allclose(confidence.double(), p.amax(0), atol=1e-4)
    assert torch.allclose(entropy.double() * math.log(3), torch.special.entr(p).sum(0), atol=1e-3)
    assert not any(bool(m.isnan().any()) for m in (confidence, margin, entropy))


def test_one_output_is_sure_and_equal_outputs_are_not() -> None:
    _, confidence, margin, entropy = winner_and_uncertainty(torch.randn(1, 3, 3), (6, 6))
    assert float(confidence.min()) == float(margin.min()) == 1.0 and float(entropy.max()) == 0.0
    _, confidence, margin, entropy = winner_and_uncertainty(torch.ones(4, 3, 3), (6, 6))
    assert float(entropy.min()) == pytest.approx(1.0, abs=1e-6)
    assert float(margin.max()) == 0.0 and float(confidence.max()) == pytest.approx(0.25)


@pytest.mark.parametrize("scale", [1.0, 300.0])  # hundreds apart, the sum seen from above vanishes
def test_the_probability_of_a_label_is_the_softmax_at_its_class(scale: float) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(5, 7, 9, generator=generator) * scale
    label = torch.randint(-1, 6, (20, 31), generator=generator)  # -1 and 5 name no output
    there = (label >= 0) & (label < 5)
    expected = everything(logits, (20, 31)).gather(0, label.clamp(0, 4)[None])[0].where(there, 0.0)
    winner, confidence, found = winner_and_label_probability(logits, (20, 31), label)
    again, sure = winner_and_confidence(logits, (20, 31))
    assert torch.equal(winner, again) and torch.equal(confidence, sure)
    assert float((found.double() - expected).abs().max()) < 1e-5


def test_labels_are_found_as_probable_as_all_probabilities_say(tmp_path: Path) -> None:
    config = tiny_segformer(tmp_path, 5)
    loaded = loud(new_model(config, numbered(5), image_size=(64, 96), seed=0))
    images = [busy_picture(50, 70), busy_picture(90, 40, seed=1), busy_picture(120, 130, seed=2)]
    rng = np.random.default_rng(0)
    for labels in (None, label_map("class 4", "no such", "class 1")):
        segmenter = Segmenter(loaded, batch_size=2, labels=labels)
        number = segmenter.labels.num_labels
        drawn = [rng.integers(0, number + 1, image.shape[:2]).astype(np.uint8) for image in images]
        whole = segmenter.segment_with_probabilities(images)
        for way in ({}, {"flip": True, "window": "32x48"}):
            ways = Segmenter(loaded, batch_size=2, labels=labels, **way)
            meant = ways.segment_with_probabilities(images) if way else whole
            for label, (said, sure, likely), (again, u, shares) in zip(
                drawn, ways.segment_with_labels(images, drawn), meant, strict=True
            ):
                by_id = np.concatenate([np.zeros((1, *label.shape)), shares / 255])
                assert np.array_equal(said, again) and np.allclose(sure, u.confidence, atol=1e-6)
                expected = np.take_along_axis(by_id, label[None].astype(int), 0)[0]
                assert likely.dtype == np.float32 and np.abs(likely - expected).max() <= 0.0021
        assert not (labels and likely[drawn[-1] == 2].any())  # the model knows no such class
    for wrong in (np.zeros((9, 9), np.uint8), np.full(images[0].shape[:2], number + 1, np.uint8)):
        with pytest.raises(BitmapError, match="does not fit"):
            segmenter.segment_with_labels(images[:1], [wrong])


def test_the_numbers_of_an_image() -> None:
    maps = (np.array([[0.4, 0.5], [0.9, 0.8]], np.float32), np.full((2, 2), 0.25, np.float32))
    found = of_image(Uncertainty(maps[0], maps[1], np.array([[0.0, 1.0], [0.5, 0.5]], np.float32)))
    assert LOW_CONFIDENCE == 0.5
    assert (found.entropy, found.margin, found.low_confidence) == (0.5, 0.25, 0.25)


def test_a_segmenter_gives_the_same_classes_with_and_without(tmp_path: Path) -> None:
    config = tiny_segformer(tmp_path, 5)
    loaded = loud(new_model(config, numbered(5), image_size=(64, 96), seed=0))
    images = [busy_picture(50, 70), busy_picture(90, 40, seed=1), busy_picture(120, 130, seed=2)]
    for labels in (None, label_map("class 4", "class 1")):  # a foreign winner is 0, and as sure as any
        segmenter = Segmenter(loaded, batch_size=2, labels=labels)
        plain = segmenter.segment_batch(images)
        sure = segmenter.segment_with_confidence(images)
        found = segmenter.segment_with_uncertainty(images)
        whole = segmenter.segment_with_probabilities(images)
        for classes, (_, confidence), (again, u), (same, _, shares) in zip(plain, sure, found, whole, strict=True):
            assert np.array_equal(classes, same)
            assert shares.shape == (segmenter.labels.num_labels, *classes.shape)
            said = np.take_along_axis(shares, classes[None].astype(int).clip(1) - 1, 0)[0]
            assert (np.abs(said / 255 - confidence) <= 0.0021)[classes > 0].all()
            assert np.array_equal(classes, again) and classes.dtype == again.dtype
            assert np.allclose(u.confidence, confidence, atol=1e-6)
            assert u.entropy.shape == u.margin.shape == classes.shape
            assert (u.margin <= u.confidence).all()
