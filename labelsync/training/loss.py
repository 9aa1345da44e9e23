"""The training loss: one for all architectures, where the models' own differ and some give NaN or refuse."""

import torch
from torch.nn import functional


def cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, *, ignore_index: int, count: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Cross entropy over labelled pixels at the labels' resolution, summed and divided by `count`.

    With `count` taken over all the batches of one optimiser step, the gradients of these batches add up to the
    gradient of one large batch, however the ignored pixels are spread over them. No labelled pixel gives 0, not NaN.

    Args:
        logits: (N, K, h, w), raised to the labels' size by bilinear interpolation.
        labels: (N, H, W) model ids of any integer dtype.
        ignore_index: the model id that counts nowhere.
        count: labelled pixels of the whole optimiser step.
        smoothing: share of each target spread over all classes.
    """
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = functional.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    total = functional.cross_entropy(
        logits.float(), labels.long(), ignore_index=ignore_index, reduction="sum", label_smoothing=smoothing
    )
    return total / count.clamp(min=1)
