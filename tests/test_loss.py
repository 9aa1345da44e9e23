"""The parts of the loss: against numbers one can check by hand, against a second implementation, and in parts."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from labelsync.training.knobs import Loss
from labelsync.training.loss import Criterion, dice, ease, hardest, sum_of_hardest

IGNORED = 255

KINDS: dict[str, tuple[Loss, dict[str, Any]]] = {
    "cross entropy": (Loss(), {}),
    "smoothing": (Loss(), {"smoothing": 0.1}),
    "weights": (Loss(), {"weights": torch.tensor([0.01, 1.0, 7.0])}),
    "weights and smoothing": (Loss(), {"smoothing": 0.1, "weights": torch.tensor([0.2, 1.0, 3.0])}),
    "focal": (Loss(focal=2.0), {}),
    "ohem": (Loss(ohem=0.3), {}),
    "dice": (Loss(dice=0.5), {}),
    "all of it": (
        Loss(focal=1.5, ohem=0.5, dice=1.0),
        {"smoothing": 0.05, "weights": torch.tensor([0.5, 1.0, 2.0])},
    ),
}


def criterion(kind: str) -> Criterion:
    loss, rest = KINDS[kind]
    return Criterion(IGNORED, loss, **rest)


def batch(seed: int = 0, number: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels; the first image has no labelled pixel, the others have unlike numbers of them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, 3, 6, 8, generator=generator, requires_grad=True)
    labels = torch.randint(0, 3, (number, 6, 8), generator=generator).to(torch.uint8)
    labels[torch.rand(number, 6, 8, generator=generator) < 0.4] = IGNORED
    labels[0] = IGNORED
    labels[-1, 3:] = IGNORED
    return logits, labels


def reference(kind: str, logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The same in plain loops over float64 numbers."""
    loss, rest = KINDS[kind]
    smoothing, weights = rest.get("smoothing", 0.0), rest.get("weights", torch.ones(3)).double().numpy()
    z, y = logits.detach().double().numpy(), labels.numpy()
    numerator = denominator = shares = 0.0
    images = 0
    for image, label in zip(z, y, strict=True):
        losses, of_weight = [], 0.0
        p = np.exp(image) / np.exp(image).sum(0)
        for r, c in np.argwhere(label != IGNORED):
            target = label[r, c]
            value = -(1 - smoothing) * weights[target] * math.log(p[target, r, c])
            value -= sum(smoothing / 3 * weights[k] * math.log(p[k, r, c]) for k in range(3))
            losses.append(value * (1 - p[target, r, c]) ** loss.focal)
            of_weight += weights[target]
        if not losses:
            continue
        kept = math.ceil(len(losses) * loss.ohem)
        numerator += sum(sorted(losses)[-kept:])
        denominator += of_weight * kept / len(losses)
        images += 1
        there = label != IGNORED
        classes = [k for k in range(3) if (label == k).any()]
        scores = [2 * p[k][label == k].sum() / (p[k][there].sum() + (label == k).sum()) for k in classes]
        shares += 1 - float(np.mean(scores))
    return numerator / denominator + loss.dice * shares / images


@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_is_what_plain_loops_find(kind: str) -> None:
    of = criterion(kind)
    for seed in range(3):
        logits, labels = batch(seed)
        value = of(logits, labels, totals=of.totals(labels))
        assert value.item() == pytest.approx(reference(kind, logits, labels), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_step_add_up_to_the_whole(kind: str) -> None:
    """What gradient accumulation and several processes rest on; it holds for Dice, since that is taken per image."""
    of = criterion(kind)
    logits, labels = batch()
    (whole,) = torch.autograd.grad(of(logits, labels, totals=of.totals(labels)), logits)
    cuts = [slice(0, 1), slice(1, 2), slice(2, 4)]
    totals = sum(of.totals(labels[cut]) for cut in cuts)
    parts = [of(logits[cut], labels[cut], totals=totals) for cut in cuts]
    (added,) = torch.autograd.grad(sum(parts), logits)
    assert torch.allclose(added, whole, atol=1e-7)
    assert whole[1:].abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_labelled_is_zero_and_moves_nothing(kind: str) -> None:
    of = criterion(kind)
    logits, labels = batch()
    nothing = torch.full_like(labels, IGNORED)
    value = of(logits, nothing, totals=of.totals(nothing))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None and logits.grad.abs().sum() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_certain_pixels_give_finite_gradients(kind: str) -> None:
    of = criterion(kind)
    _, labels = batch()
    target = labels.long().where(labels != IGNORED, 0)
    for sign in (1, -1):
        logits = (sign * 200.0 * functional.one_hot(target, 3).permute(0, 3, 1, 2)).requires_grad_()
        value = of(logits, labels, totals=of.totals(labels))
        value.backward()
        assert torch.isfinite(value) and logits.grad is not None and torch.isfinite(logits.grad).all()


# -------------------------------------------------------------------- by hand

HALVES = torch.tensor([0.75, 0.25]).log().view(1, 2, 1, 1)  # p = 3/4 and 1/4


def test_focal_by_hand() -> None:
    """One pixel of p = 3/4: (1/4)^2 * ln(4/3). A hard one of p = 1/4: (3/4)^2 * ln 4."""
    of = Criterion(IGNORED, Loss(focal=2.0))
    for label, expected in ((0, math.log(4 / 3) / 16), (1, math.log(4) * 9 / 16)):
        labels = torch.tensor([[[label]]])
        assert of(HALVES, labels, totals=of.totals(labels)).item() == pytest.approx(expected, rel=1e-6)
        assert ease(HALVES, labels, ignore_index=IGNORED).item() == pytest.approx(0.75 if label else 0.25)


def test_dice_by_hand() -> None:
    """Two pixels of p = (3/4, 1/4), one of either class: 2 * 3/4 / (3/2 + 1) = 3/5 and 2 * 1/4 / (1/2 + 1) = 1/3."""
    labels = torch.tensor([[[0, 1, IGNORED]]])
    value = dice(HALVES.expand(1, 2, 1, 3), labels, ignore_index=IGNORED)
    assert value.item() == pytest.approx(1 - (3 / 5 + 1 / 3) / 2, rel=1e-6)
    alone = dice(HALVES, torch.tensor([[[0]]]), ignore_index=IGNORED)  # the other class is not labelled: not counted
    assert alone.item() == pytest.approx(1 - 2 * 0.75 / 1.75, rel=1e-6)


def test_the_hardest_pixels_by_hand() -> None:
    each = torch.tensor([[[1.0, 5.0, 3.0, 0.0]], [[9.0, 0.0, 0.0, 0.0]]])
    labelled = torch.tensor([[[True, True, True, False]], [[True, False, False, False]]])
    assert hardest(torch.tensor([3, 1, 0]), 0.5).tolist() == [2, 1, 0]
    assert sum_of_hardest(each, labelled, 0.5).item() == 5 + 3 + 9


def test_a_weighted_mean_is_torchs_own() -> None:
    logits, labels = batch()
    weights = torch.tensor([0.01, 1.0, 7.0])
    of = Criterion(IGNORED, Loss(), smoothing=0.2, weights=weights)
    torchs = functional.cross_entropy(logits, labels.long(), weight=weights, ignore_index=IGNORED, label_smoothing=0.2)
    assert of(logits, labels, totals=of.totals(labels)).item() == pytest.approx(torchs.item(), rel=1e-6)


def test_totals_count_weight_and_images() -> None:
    labels = torch.tensor([[[0, 1, 2, IGNORED]], [[IGNORED] * 4]], dtype=torch.uint8)
    weights = torch.tensor([1.0, 2.0, 4.0])
    assert Criterion(IGNORED, Loss()).totals(labels).tolist() == [3, 1]
    assert Criterion(IGNORED, Loss(), weights=weights).totals(labels).tolist() == [7, 1]
    assert Criterion(IGNORED, Loss(ohem=0.5), weights=weights).totals(labels).tolist() == [pytest.approx(7 * 2 / 3), 1]
