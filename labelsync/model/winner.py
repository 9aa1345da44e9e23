"""Outputs of a model at their own, low resolution -> the class of every pixel, and how sure the model is of it.

Outputs are upsampled bilinearly (corners not aligned), as transformers' `post_process_semantic_segmentation` does, but
never all of them at once: 35 outputs of a 1080p image take 290 MB.
"""

from collections.abc import Sequence

import numpy as np
import torch

VANISHING = 1e-30  # a sum of exponentials this small has lost its digits
_BLOCK = 1 << 15  # places computed at once
_MANY = 0.2  # share of places between rows that differ, above which all pixels are computed


def winning_output(logits: torch.Tensor, size_hw: Sequence[int]) -> torch.Tensor:
    """(C, h, w) float logits -> (H, W) number of the largest output after bilinear upsampling (corners not aligned).

    Equal to `interpolate(...).argmax(0)`, the first of equals winning, except where outputs are so near to each other
    that it is rounding which decides. On a GPU one output is upsampled at a time; on a CPU most pixels are never
    computed, see `_between_rows`.

    (h, w) class ids, which an exported graph may give, are their own winners: the nearest one of each pixel.
    """
    if logits.ndim == 2:
        return _nearest(logits, size_hw)
    on_cpu = logits.device.type == "cpu" and size_hw[0] >= 2 * logits.shape[1]
    if on_cpu and (found := _between_rows(logits, size_hw)) is not None:
        return found
    winner, best = empty(logits, size_hw)
    for i in range(len(logits)):
        challenge(winner, best, upsampled(logits[i], size_hw), i)
    return winner


def winner_and_confidence(logits: torch.Tensor, size_hw: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """`winning_output`, and the (H, W) float32 softmax probability of that output, from upsampling each output once."""
    winner, confidence, _ = _judged(logits, size_hw, None)
    return winner, confidence


def winner_and_label_probability(
    logits: torch.Tensor, size_hw: Sequence[int], label: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`winner_and_confidence`, and the (H, W) float32 probability of the output that a label names at each pixel.

    Args:
        label: (H, W) integer number of an output; where there is none of that number, the probability is 0.
    """
    return _judged(logits, size_hw, label)


def _judged(
    logits: torch.Tensor, size_hw: Sequence[int], label: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `winner_and_label_probability` gives; its last is empty without a label.

    exp(output) / sum of exp(output) is taken relative to the upsampled largest output, which no output exceeds, so
    nothing overflows. Where all outputs lie so far below it that their sum would vanish, it is taken relative to the
    best output instead, for which the outputs are upsampled again.
    """
    reference = upsampled(logits.amax(0), size_hw)
    winner, best = empty(logits, size_hw)
    total = torch.zeros_like(best)
    meant = torch.full_like(best, -torch.inf) if label is not None else best.new_empty(0)
    for i in range(len(logits)):
        plane = upsampled(logits[i], size_hw)
        challenge(winner, best, plane, i)
        if label is not None:
            torch.where(label == i, plane, meant, out=meant)
        total += plane.sub_(reference).exp_()
    if not bool(total.min() > VANISHING):
        reference = best
        total.zero_()
        for output in logits:
            total += upsampled(output, size_hw).sub_(best).exp_()
    confidence = (best - reference).exp_().div_(total).clamp_(max=1)
    if label is not None:
        meant = meant.sub_(reference).exp_().div_(total).clamp_(max=1)
    return winner, confidence, meant


def upsampled(output: torch.Tensor, size_hw: Sequence[int]) -> torch.Tensor:
    """(h, w) float -> (H, W), bilinear, corners not aligned."""
    return _resized(output[None], size_hw)[0]


def _resized(outputs: torch.Tensor, size_hw: Sequence[int]) -> torch.Tensor:
    """(C, h, w) float -> (C, H, W), as `upsampled`."""
    size = [int(size_hw[0]), int(size_hw[1])]
    planes: torch.Tensor = torch.nn.functional.interpolate(outputs[None], size=size, mode="bilinear")[0]
    return planes


def _nearest(ids: torch.Tensor, size_hw: Sequence[int]) -> torch.Tensor:
    """(h, w) class ids -> (H, W), of the same type."""
    size = [int(size_hw[0]), int(size_hw[1])]
    plane: torch.Tensor = torch.nn.functional.interpolate(ids[None, None].float(), size=size, mode="nearest-exact")
    return plane[0, 0].to(ids.dtype)


def empty(logits: torch.Tensor, size_hw: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, W) winners and best outputs before the first."""
    size = [int(size_hw[0]), int(size_hw[1])]
    winner = torch.zeros(size, dtype=torch.uint8 if len(logits) <= 256 else torch.int32, device=logits.device)
    return winner, torch.full(size, -torch.inf, dtype=logits.dtype, device=logits.device)


def challenge(winner: torch.Tensor, best: torch.Tensor, plane: torch.Tensor, number: int) -> None:
    """Let output `number` win where it is larger than the best so far, in place."""
    if number:
        winner.masked_fill_(plane > best, number)
    torch.maximum(best, plane, out=best)


def _between_rows(logits: torch.Tensor, size_hw: Sequence[int]) -> torch.Tensor | None:
    """`winning_output` where the outputs have fewer rows than the image; None where it would not be faster.

    The outputs are upsampled to the image's width. A column's pixels between two rows of that are means of both, with
    equal weights for all outputs: where the same output wins in both rows, it wins in between, since rounding keeps
    the order. The others, some tenth of the pixels, are computed.
    """
    (height, width), rows = size_hw, logits.shape[1]
    together = logits[None].contiguous(memory_format=torch.channels_last)  # all outputs of a place side by side
    wide = torch.nn.functional.interpolate(together, size=[rows, width], mode="bilinear")[0].permute(1, 2, 0)
    winners = torch.from_numpy(wide.numpy().argmax(2).astype(np.uint8 if len(logits) <= 256 else np.int32))
    row, column = (winners[:-1] != winners[1:]).nonzero(as_tuple=True)
    if len(row) > _MANY * rows * width:
        return None
    at = ((torch.arange(height, dtype=logits.dtype) + 0.5) * (rows / height) - 0.5).clamp_(min=0)
    above = at.long().clamp_(max=rows - 1)  # the row above each pixel, and how far below it the pixel is
    share = at - above
    winner = winners[above]
    first = torch.searchsorted(above, torch.arange(rows + 1))  # the first pixel below each row
    steps = torch.arange(int((first[1:] - first[:-1]).max()))[:, None]
    places = wide.reshape(-1, len(logits))
    for start in range(0, len(row), _BLOCK):
        r, c = row[start : start + _BLOCK], column[start : start + _BLOCK]
        at_r = r * width + c
        y = first[r] + steps  # (steps, places)
        inside = y < first[r + 1]
        lower = share[y.clamp_(max=height - 1)]
        found = _means(places.index_select(0, at_r).T, places.index_select(0, at_r + width).T, lower)
        winner[y[inside], c.expand_as(y)[inside]] = found[inside]
    return winner


def _means(over: torch.Tensor, under: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """(C, places) above and below, (deep, places) share of what is below -> (deep, places) winning output."""
    winner, best = empty(over, share.shape)
    over, under, rest = over.contiguous(), under.contiguous(), 1 - share
    for i in range(len(over)):
        challenge(winner, best, over[i] * rest + under[i] * share, i)
    return winner
