"""How unsure a model is of every pixel of an image, and of the image as a whole.

Confidence p1, margin p1 - p2 (Scheffer et al. 2001) and entropy (Shannon 1948) of the softmax over the upsampled
outputs, p1 and p2 being its two largest values; see Settles, "Active Learning Literature Survey" (2009), section 3.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from labelsync.model.winner import VANISHING, challenge, empty, upsampled

LOW_CONFIDENCE = 0.5  # below it, the other classes together are likelier than the one that is said


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How sure a model is of the pixels of one image: (H, W) float32 maps in 0..1.

    Attributes:
        confidence: softmax probability of the winning output.
        margin: that probability less the second largest.
        entropy: of the probabilities of all outputs, divided by log C: 0 = one output has it all, 1 = all are equally
            likely. So it means the same whatever the number of classes; times log C it is in nats.
    """

    confidence: npt.NDArray[np.float32]
    margin: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ImageUncertainty:
    """How sure a model is of an image: means over its pixels, and the share of them below `LOW_CONFIDENCE`."""

    entropy: float
    margin: float
    low_confidence: float


def of_image(found: Uncertainty) -> ImageUncertainty:
    """The maps of an image as three numbers in 0..1; the less sure, the higher `entropy` and the lower `margin`."""
    return ImageUncertainty(
        entropy=float(found.entropy.mean(dtype=np.float64)),
        margin=float(found.margin.mean(dtype=np.float64)),
        low_confidence=float((found.confidence < LOW_CONFIDENCE).mean()),
    )


def winner_and_uncertainty(
    logits: torch.Tensor, size_hw: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(C, h, w) float logits -> (H, W) winning output, and the maps of `Uncertainty` in their order.

    Memory is that of a few maps whatever C is: every output is upsampled once and added to running sums. With
    d = output - reference, T = sum of exp(d) and S = sum of d exp(d), the entropy is log T - S / T. The reference is
    the upsampled largest output, which no output exceeds; where all lie so far below it that T would vanish, the
    outputs are upsampled again and compared with the best of them.
    """
    reference = upsampled(logits.amax(0), size_hw)
    winner, best = empty(logits, size_hw)
    second, plane_sums = torch.full_like(best, -torch.inf), _Sums(best)
    for i in range(len(logits)):
        plane = upsampled(logits[i], size_hw)
        torch.maximum(second, torch.minimum(best, plane), out=second)
        challenge(winner, best, plane, i)
        plane_sums.add(plane.sub_(reference))
    if not bool(plane_sums.total.min() > VANISHING):
        reference, plane_sums = best, _Sums(best)
        for output in logits:
            plane_sums.add(upsampled(output, size_hw).sub_(reference))
    total = plane_sums.total
    entropy = total.log() - plane_sums.weighted / total
    confidence = (best - reference).exp_().div_(total).clamp_(max=1)
    margin = confidence - (second - reference).exp_().div_(total)
    return winner, confidence, margin.clamp_(min=0), entropy.div_(math.log(max(len(logits), 2))).clamp_(0, 1)


def winner_and_probabilities(logits: torch.Tensor, size_hw: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """`winner_and_uncertainty`, and (C, H, W) uint8: the probability of every output in 255ths, rounded."""
    winner, confidence, margin, entropy = winner_and_uncertainty(logits, size_hw)
    best = upsampled(logits[0], size_hw)
    for output in logits[1:]:
        torch.maximum(best, upsampled(output, size_hw), out=best)
    probabilities = torch.empty((len(logits), *winner.shape), dtype=torch.uint8, device=logits.device)
    for i, output in enumerate(logits):
        share = upsampled(output, size_hw).sub_(best).exp_().mul_(confidence)
        probabilities[i] = share.mul_(255).round_().to(torch.uint8)
    return winner, confidence, margin, entropy, probabilities


class _Sums:
    """Running sums over outputs: `total` of exp(d), `weighted` of d exp(d)."""

    def __init__(self, like: torch.Tensor) -> None:
        self.total, self.weighted = torch.zeros_like(like), torch.zeros_like(like)

    def add(self, difference: torch.Tensor) -> None:
        """One more output, less the reference; the tensor is used up."""
        power = difference.exp()
        self.total += power
        self.weighted += difference.mul_(power)
