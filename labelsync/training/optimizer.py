"""What the optimiser does to which weights, and the schedule that transformers does not have."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def norm_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of norm layers, whatever a model calls them: MobileNet's are "normalization"."""
    return {
        f"{name}.{own}" if name else own
        for name, module in model.named_modules()
        if isinstance(module, _NORMS)
        for own, _ in module.named_parameters(recurse=False)
    }


def head_parameters(model: PreTrainedModel) -> set[str]:
    """Names of the parameters outside the backbone: the decoder, its neck and auxiliary heads."""
    backbone = tuple({f"{model.base_model_prefix or 'backbone'}.", "backbone."})  # UPerNet's has no prefix
    return {name for name, _ in model.named_parameters() if not name.startswith(backbone)}


def raise_head(optimizer: torch.optim.Optimizer, model: PreTrainedModel, *, factor: float) -> None:
    """Give the head `factor` times the learning rate; each group becomes two, the backbone's part first.

    Ten is what SegFormer's authors train with: `lr_mult=10` for 'head' in the `paramwise_cfg` of their configs.
    """
    if factor == 1:
        return
    named = dict(model.named_parameters())
    heads = {id(named[name]) for name in head_parameters(model)}
    split: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        parts = [[p for p in group["params"] if (id(p) in heads) is head] for head in (False, True)]
        rates = (group["lr"], group["lr"] * factor)
        split += [{**group, "params": part, "lr": rate} for part, rate in zip(parts, rates, strict=True) if part]
    optimizer.param_groups = split


def step_schedule(*, warmup: int, steps_per_epoch: int, step_epochs: float, gamma: float) -> Callable[[int], float]:
    """Step -> factor on the learning rate: `gamma` to the number of `step_epochs` gone by, after a linear warm-up.

    As Keras' LearningRateScheduler with a table of epochs, or torch's StepLR counted in epochs: it changes between two
    epochs where `step_epochs` is whole.
    """
    fall = max(1, math.ceil(step_epochs * steps_per_epoch - 1e-9))

    def factor(step: int) -> float:
        return min(1.0, step / max(1, warmup)) * gamma ** (step // fall) if warmup else gamma ** (step // fall)

    return factor
