"""A SegFormer's outputs in less than half the time: the same decode head, its sums in another order.

The head projects every stage of the encoder to D channels, upsamples all of them to the size of the first, and mixes
the stack of 4 D channels with a 1x1 convolution, at every one of 128x128 places: two thirds of a B0's time on a CPU.
Projection, mixing and the batch norm are linear and work on one place, and upsampling is a mean whose weights add up to
one, so they may change places: one matrix per stage is applied where the stage is small, and what comes out is
upsampled and added up. Measured at 512x512 on one core, B0 of 34 classes: 0.50 s -> 0.19 s; outputs differ by rounding,
1e-6 of them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import PreTrainedModel


def logits_of(model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) normalised -> (N, C, h, w) logits of any model in eval mode, as `model(pixels).logits`.

    Nothing is kept of the model's weights between calls, so it may be trained on.
    """
    head: Any = getattr(model, "decode_head", None)
    if type(head).__name__ != "SegformerDecodeHead" or not hasattr(head, "linear_projections"):
        logits: torch.Tensor = model(pixels).logits
        return logits
    encoder: Any = model.segformer
    states = encoder(pixels, output_hidden_states=True).hidden_states
    if any(state.ndim != 4 for state in states):  # reshape_last_stage=False
        given: torch.Tensor = head(states)
        return given
    return _mixed(head, states)


def _mixed(head: Any, states: Sequence[torch.Tensor]) -> torch.Tensor:
    """The head on the encoder's stages, the largest first."""
    norm, size = head.batch_norm, states[0].shape[2:]
    projections = [p.proj for p in head.linear_projections]
    with torch.autocast(states[0].device.type, enabled=False):
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        mixing = head.linear_fuse.weight[:, :, 0, 0] * scale[:, None]
        parts = mixing.chunk(len(projections), dim=1)[::-1]  # the head stacks the last stage first
        matrices = [(part @ p.weight)[..., None, None] for part, p in zip(parts, projections, strict=True)]
        bias = norm.bias - norm.running_mean * scale
        for part, p in zip(parts, projections, strict=True):
            bias = bias + part @ p.bias
    total = functional.conv2d(states[0], matrices[0], bias)
    for state, matrix in zip(states[1:], matrices[1:], strict=True):
        total += functional.interpolate(functional.conv2d(state, matrix), size=size, mode="bilinear")
    logits: torch.Tensor = head.classifier(total.relu_())
    return logits
