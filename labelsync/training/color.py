"""Colour jitter in one pass over the pixels where torchvision makes four: a fifth of the time, and its own numbers.

Each change is torchvision's (transforms.v2.functional, adjust_*), and each is rounded down to whole levels before the
next as there. Of a single change no value differs by more than a level, and hardly one differs at all; the mean that
contrast turns around is not rounded pixel by pixel but taken to be half a level lower.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
Change = tuple[int, float]  # one of these four, and its factor; of hue, its shift as a share of the colour circle

_GREY = (0.2989, 0.587, 0.114)  # ITU-R BT.601, in torchvision's digits
_CHUNK = 1 << 17  # pixels at once: ten planes of numbers that stay in a cache
_TOP = 255.999 / 255  # how torchvision goes from 0..1 back to 0..255 before it rounds down


def vary_color(image: npt.NDArray[np.uint8], changes: Sequence[Change]) -> npt.NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB -> a new (3, h, w) uint8 with the changes, in their order.

    Args:
        image: of any strides.
        changes: brightness, contrast and saturation with a factor from 0 on, hue with a shift from -0.5 to 0.5.
    """
    planes = np.array(image.transpose(2, 0, 1), order="C")
    flat = planes.reshape(3, -1)
    run: list[Change] = []
    mean = 0.0
    for change in changes:
        if change[0] == CONTRAST:  # it needs the mean of all that is there by now
            _apply(flat, run, mean)
            mean, run = _mean_grey(flat), []
        run.append(change)
    _apply(flat, run, mean)
    return planes


def _mean_grey(planes: npt.NDArray[np.uint8]) -> float:
    """Mean of the grey levels rounded down, which takes half a level off on the average."""
    sums = planes.sum(1, dtype=np.uint64)
    return max(0.0, float(np.dot(_GREY, sums) / max(1, planes.shape[1])) - 0.5)


def _apply(planes: npt.NDArray[np.uint8], changes: Sequence[Change], mean: float) -> None:
    """Changes in place, at most one contrast among them, around `mean`."""
    if not changes:
        return
    pixels = planes.shape[1]
    space = torch.empty(10, min(_CHUNK, pixels))
    for start in range(0, pixels, _CHUNK):
        part = planes[:, start : start + _CHUNK]
        work = space[:, : part.shape[1]]
        rgb = work[:3]
        np.copyto(rgb.numpy(), part)
        for i, (kind, value) in enumerate(changes):
            if i:
                rgb.floor_()
            if kind == HUE:
                _turn(rgb, 6 * value, work[3:])
                continue
            if kind == BRIGHTNESS:
                rgb.mul_(value)
            elif kind == CONTRAST:
                torch.add(torch.tensor((1 - value) * mean), rgb, alpha=value, out=rgb)
            else:
                torch.lerp(_grey(rgb, work[3]), rgb, value, out=rgb)
            if value > 1:  # else it lies between what was there before and 0, the mean or grey
                rgb.clamp_(0, 255)
        np.copyto(part, rgb.numpy(), casting="unsafe")  # rounds down, for nothing is negative


def _grey(rgb: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    red, green, blue = rgb
    torch.mul(red, _GREY[0], out=out)
    return out.add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2]).floor_()


def _turn(rgb: torch.Tensor, shift: float, work: torch.Tensor) -> None:
    """Turn the hue of (3, n) levels in place by `shift` sixths of the colour circle.

    With the highest channel V, the lowest V - C and the hue H in sixths from red, the new channels are V - C plus C
    times |H' - 3| - 1 for red, 2 - |H' - 2| for green and 2 - |H' - 4| for blue, each kept within 0..1. That is the
    hexagon of HSV (Smith 1978, "Color gamut transform pairs") without its cases.
    """
    red, green, blue = rgb
    high, low, chroma, inverse, hue, other, chosen = work
    torch.maximum(red, green, out=high)
    torch.maximum(high, blue, out=high)
    torch.minimum(red, green, out=low)
    torch.minimum(low, blue, out=low)
    torch.sub(high, low, out=chroma)
    torch.add(chroma, 1e-9, out=inverse).reciprocal_()  # of grey any hue will do, but NaN
    torch.sub(red, green, out=hue).mul_(inverse).add_(4)
    torch.sub(blue, red, out=other).mul_(inverse).add_(2)
    hue.addcmul_(other.sub_(hue), torch.eq(green, high, out=chosen))  # 0 or 1: a choice without branches
    torch.sub(green, blue, out=other).mul_(inverse)
    hue.addcmul_(other.sub_(hue), torch.eq(red, high, out=chosen))
    hue.add_(shift)
    torch.mul(hue, 1 / 6, out=other).floor_()
    hue.sub_(other, alpha=6)
    low.mul_(_TOP)
    chroma.mul_(_TOP)
    centre = torch.tensor([[3.0], [2.0], [4.0]])
    torch.sub(hue, centre, out=rgb).abs_().clamp_(1, 2).mul_(chroma)
    red.add_(low.sub_(chroma))
    torch.sub(low.add_(chroma, alpha=3), rgb[1:], out=rgb[1:])
