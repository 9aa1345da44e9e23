"""Augmentation of one image and its label: drawn from (seed, epoch, index) alone, applied to uint8 pixels.

The draw and its application are apart: `draw` is a pure function of its key, so a resumed run and any number of
loading processes vary a sample in the same way; `apply` has no randomness.
"""

import hashlib
import math
import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import functional

from labelsync.model.preprocess import resize
from labelsync.training.knobs import Augment

RGB = tuple[int, int, int]

_TRIES = 10  # places of a crop
_COUNTED = 128  # rows and columns that a crop's classes are counted on

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
        others: further places (top, left), should the first not do.
    """

    flip: bool = False
    scale: float = 1.0
    aspect: float = 1.0
    top: float = 0.5
    left: float = 0.5
    color: tuple[tuple[int, float], ...] = ()
    others: tuple[tuple[float, float], ...] = ()


def generator(key: str) -> random.Random:
    """Random numbers that depend on `key` alone."""
    return random.Random(int.from_bytes(hashlib.sha256(key.encode()).digest()))  # noqa: S311 - not for secrets


def draw(augment: Augment, *, seed: int, epoch: int, index: int) -> Draw:
    """The variation of sample `index` in `epoch`. Only `random.Random.random`, whose numbers Python guarantees."""
    uniform = generator(f"labelsync augment {seed} {epoch} {index}").random

    def between(low: float, high: float) -> float:
        return low + (high - low) * uniform()

    def factor(bounds: tuple[float, float]) -> float:  # as likely to halve as to double
        return math.exp(between(math.log(bounds[0]), math.log(bounds[1])))

    flip = uniform() < augment.flip
    scale, aspect, top, left = factor(augment.scale), factor(augment.aspect), uniform(), uniform()
    widths = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    changes = [(uniform(), i, between(-w, w)) for i, w in enumerate(widths)]
    color = tuple((i, v if i == 3 else 1 + v) for _, i, v in sorted(changes) if widths[i])
    tries = _TRIES - 1 if augment.max_class_share < 1 else 0
    others = tuple((uniform(), uniform()) for _ in range(tries))  # drawn last: the rest is the same without them
    return Draw(flip, scale, aspect, top, left, color, others)


def settled(drawn: Draw, label: npt.NDArray[Any], *, most: float) -> Draw:
    """The draw with its crop where no class has more than the share `most` of the labelled pixels in it.

    The first place that does is taken; where none of the ten does, the one in which the largest class is smallest.
    This is `cat_max_ratio` of mmsegmentation's RandomCrop, which takes the last place then.

    Args:
        label: (H, W) disk ids. Shares are those of every n-th row and column, some 128 of each.
    """
    if not drawn.others:
        return drawn
    best, lowest = drawn, math.inf
    for top, left in ((drawn.top, drawn.left), *drawn.others):
        placed = replace(drawn, top=top, left=left)
        ys, xs = _windows(placed, label.shape)
        if lowest < math.inf and (ys, xs) == _windows(best, label.shape):
            continue  # no room to move in
        share = _largest_share(label[ys, xs])
        if share <= most:
            return placed
        if share < lowest:
            best, lowest = placed, share
    return best


def _largest_share(part: npt.NDArray[Any]) -> float:
    """Share of the labelled pixels that the most frequent class has; 1 where none is labelled."""
    rows, columns = (max(1, side // _COUNTED) for side in part.shape)
    counts = np.bincount(part[::rows, ::columns].reshape(-1))[1:]
    return float(counts.max() / counts.sum()) if counts.any() else 1.0


def _windows(drawn: Draw, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the image that the crop shows."""
    high, wide = _shares(drawn)
    return _axis(shape[0], 1, high, drawn.top)[0].source, _axis(shape[1], 1, wide, drawn.left)[0].source


def _shares(drawn: Draw) -> tuple[float, float]:
    """Height and width of the crop as shares of the image's."""
    return 1 / (drawn.scale * math.sqrt(drawn.aspect)), math.sqrt(drawn.aspect) / drawn.scale


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
    high, wide = _shares(drawn)
    ys, height = _axis(image.shape[0], size_hw[0], high, drawn.top)
    xs, width = _axis(image.shape[1], size_hw[1], wide, drawn.left)
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
