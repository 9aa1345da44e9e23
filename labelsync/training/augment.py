"""Augmentation of one image and its label: drawn from (seed, epoch, index) alone, applied to uint8 pixels.

The draw and its application are apart: `draw` is a pure function of its key, so a resumed run and any number of
loading processes vary a sample in the same way; `apply` has no randomness.
"""

import hashlib
import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import functional

from labelsync.model.preprocess import resize
from labelsync.training.knobs import Augment

RGB = tuple[int, int, int]

_COLOR = (
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
    functional.adjust_hue,
)


@dataclass(frozen=True)
class Draw:
    """What happens to one sample in one epoch.

    Attributes:
        flip: mirror left to right.
        scale, aspect: zoom, and the factor on the crop's width over its height.
        top, left: where in the free room the crop lies, 0..1.
        color: (index into brightness, contrast, saturation, hue; value), in the order of application.
    """

    flip: bool = False
    scale: float = 1.0
    aspect: float = 1.0
    top: float = 0.5
    left: float = 0.5
    color: tuple[tuple[int, float], ...] = ()


def draw(augment: Augment, *, seed: int, epoch: int, index: int) -> Draw:
    """The variation of sample `index` in `epoch`. Only `random.Random.random`, whose numbers Python guarantees."""
    key = hashlib.sha256(f"labelsync augment {seed} {epoch} {index}".encode()).digest()
    uniform = random.Random(int.from_bytes(key)).random  # noqa: S311 - not for secrets

    def between(low: float, high: float) -> float:
        return low + (high - low) * uniform()

    def factor(bounds: tuple[float, float]) -> float:  # as likely to halve as to double
        return math.exp(between(math.log(bounds[0]), math.log(bounds[1])))

    flip = uniform() < augment.flip
    scale, aspect, top, left = factor(augment.scale), factor(augment.aspect), uniform(), uniform()
    widths = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    changes = [(uniform(), i, between(-w, w)) for i, w in enumerate(widths)]
    color = tuple((i, v if i == 3 else 1 + v) for _, i, v in sorted(changes) if widths[i])
    return Draw(flip, scale, aspect, top, left, color)


def apply(
    image: npt.NDArray[np.uint8], label: npt.NDArray[Any], drawn: Draw, *, size_hw: tuple[int, int], fill: RGB
) -> tuple[torch.Tensor, npt.NDArray[Any]]:
    """One sample as the model is to see it.

    Args:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) disk ids; nearest pixel only, so no id appears that was not there.
        drawn: the variation; `Draw()` gives the evaluation's own resize.
        size_hw: (h, w) of the result.
        fill: colour of what lies outside the image; its label is 0.

    Returns:
        (3, h, w) uint8 pixels and (h, w) disk ids of the label's dtype.
    """
    ys, height = _axis(image.shape[0], size_hw[0], 1 / (drawn.scale * math.sqrt(drawn.aspect)), drawn.top)
    xs, width = _axis(image.shape[1], size_hw[1], math.sqrt(drawn.aspect) / drawn.scale, drawn.left)
    seen = resize(image[ys.source, xs.source], (height, width))
    for kind, value in drawn.color:
        seen = _COLOR[kind](seen, value)
    part = label[ys.source, xs.source]
    near = part[np.ix_(_nearest(part.shape[0], height), _nearest(part.shape[1], width))]
    if (height, width) != size_hw:
        pixels = torch.tensor(fill, dtype=torch.uint8).view(3, 1, 1).repeat(1, *size_hw)
        pixels[:, ys.target, xs.target] = seen
        ids = np.zeros(size_hw, label.dtype)
        ids[ys.target, xs.target] = near
    else:
        pixels, ids = seen, near
    if drawn.flip:
        return pixels.flip(-1), np.ascontiguousarray(ids[:, ::-1])
    return pixels, ids


@dataclass(frozen=True)
class _Span:
    """Which part of the image goes to which part of the result, along one axis."""

    source: slice
    target: slice


def _axis(length: int, size: int, share: float, at: float) -> tuple[_Span, int]:
    """A window of `share` times `length`, laid by `at` into the image or around it, onto `size` pixels."""
    window = max(1, round(length * share))
    if window <= length:
        start = round((length - window) * at)
        return _Span(slice(start, start + window), slice(0, size)), size
    seen = max(min(size, 2), round(size * length / window))  # torch 2.14 cannot resize uint8 pixels to 1 x 1
    start = round((size - seen) * at)
    return _Span(slice(0, length), slice(start, start + seen)), seen


def _nearest(length: int, size: int) -> npt.NDArray[np.int64]:
    """For each of `size` pixels the one of `length` pixels whose centre is nearest (torch's "nearest-exact")."""
    return ((np.arange(size) * 2 + 1) * length // (2 * size)).astype(np.int64)
