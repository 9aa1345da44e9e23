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

from labelsync.model.preprocess import resize_interleaved
from labelsync.training.color import vary_color
from labelsync.training.knobs import Augment

RGB = tuple[int, int, int]

_TRIES = 10  # places of a crop
_COUNTED = 128  # rows and columns that a crop's classes are counted on


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
    image: npt.NDArray[np.uint8],
    label: npt.NDArray[Any],
    drawn: Draw,
    *,
    size_hw: tuple[int, int],
    fill: RGB,
    step: int = 1,
) -> tuple[torch.Tensor, npt.NDArray[Any]]:
    """One sample as the model is to see it.

    Args:
        image: (H, W, 3) uint8 RGB, or smaller by `step`, as `decode_reduced` gives it.
        label: (H, W) disk ids; nearest pixel only, so no id appears that was not there.
        drawn: the variation; `Draw()` gives the evaluation's own resize.
        size_hw: (h, w) of the result.
        fill: colour of what lies outside the image; its label is 0.
        step: pixels of the label to one of the image, along each axis. Where it is at most `largest_step`, image and
            label of the result lie within half a pixel of each other.

    Returns:
        (3, h, w) uint8 pixels and (h, w) disk ids of the label's dtype.
    """
    (ys, height), (xs, width) = _axes(label.shape, size_hw, drawn)
    crop = image[_reduced(ys.source, step, image.shape[0]), _reduced(xs.source, step, image.shape[1])]
    seen = torch.from_numpy(vary_color(resize_interleaved(crop, (height, width)).numpy(), drawn.color))
    part = label[ys.source, xs.source]
    near = part[_nearest(part.shape[0], height)].take(_nearest(part.shape[1], width), axis=1)
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


def largest_step(shape: tuple[int, ...], drawn: Draw, *, size_hw: tuple[int, int]) -> float:
    """How many times smaller an image may be decoded: its crop still has a pixel for every pixel of the result.

    Args:
        shape: (H, W) of the label.
    """
    (ys, height), (xs, width) = _axes(shape, size_hw, drawn)
    return min(ys.length / height, xs.length / width)


@dataclass(frozen=True)
class _Span:
    """Which part of the image goes to which part of the result, along one axis."""

    source: slice
    target: slice

    @property
    def length(self) -> int:
        """Pixels of the image."""
        return int(self.source.stop - self.source.start)


def _axes(shape: tuple[int, ...], size_hw: tuple[int, int], drawn: Draw) -> tuple[tuple[_Span, int], tuple[_Span, int]]:
    """The span along height and width, and how many pixels of the result it covers."""
    high, wide = _shares(drawn)
    return _axis(shape[0], size_hw[0], high, drawn.top), _axis(shape[1], size_hw[1], wide, drawn.left)


def _reduced(part: slice, step: int, length: int) -> slice:
    """The same part of an image that is smaller by `step` and has `length` pixels; at least one of them."""
    start = min(round(part.start / step), length - 1)
    return slice(start, max(start + 1, min(length, round(part.stop / step))))


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
