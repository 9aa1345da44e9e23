"""Ways of looking at an image: mirrored too, at several sizes, through windows; and the mean of what a model says.

Averages are those of MMSegmentation, so that scores can be read beside the published ones: outputs of windows are
averaged where windows overlap, all alike (`slide_inference`, mmseg/models/segmentors/encoder_decoder.py), and over
mirrored and resized views it is the softmax probabilities of every pixel (`SegTTAModel.merge_preds`, seg_tta.py).

Two things differ. Windows are spread evenly, where MMSegmentation pushes the last one back. And their outputs are
averaged as the model gives them (SegFormer: a fourth of its input's height and width), before anything is upsampled;
that is linear, so it is the same but along the borders of windows. So memory is that of the outputs of each view, not
of every class at the image's size: 290 MB for 35 classes at 1080p.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from labelsync.errors import OptionError
from labelsync.model.preprocess import resize
from labelsync.model.size import parse_sides

STRIDE = 2 / 3
"""Windows begin at most this share of their side apart."""

_DIVISOR = 32  # of scaled inputs: no architecture here halves its input more than five times
_VALUES = 1 << 20, 1 << 24  # outputs of a band of rows: what a CPU's core keeps near; enough for a GPU to be busy
_SMALLEST = 1e-37  # probability whose logarithm is still finite

Found = tuple[torch.Tensor, ...]  # (H, W) of one image, on the device: numbers of outputs, and maps beside them
Pick = Callable[..., torch.Tensor | Found]  # of (C, h, w) outputs, a size, and what there is beside the image


@dataclass(frozen=True)
class Ways:
    """How a model looks at an image.

    Attributes:
        flip: also mirrored, left to right.
        scales: sizes of the model's input, as multiples of its own.
        window: (height, width) in pixels of the image of what is put into the model at once; None = the whole image.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window: tuple[int, int] | None = None

    @property
    def plain(self) -> bool:
        """Whether the model sees the whole image once, at its own input size."""
        return self == Ways()

    @property
    def window_text(self) -> str | None:
        """The window as flags write it, "384x512"."""
        return None if self.window is None else f"{self.window[0]}x{self.window[1]}"


def read_ways(*, flip: bool = False, scales: Sequence[float] = (1.0,), window: str | None = None) -> Ways:
    """The ways that flags ask for; scales in rising order, each once.

    Args:
        window: "512", or "384x512" for height x width.

    Raises:
        OptionError: a scale that is none, or a window of another form.
    """
    if not scales or not all(0 < s < math.inf for s in scales):
        raise OptionError(f"--scales {','.join(f'{s:g}' for s in scales)}", hint="write 0.75,1.0,1.25")
    sides = parse_sides(window) if window is not None else None
    if window is not None and (sides is None or 0 in sides):
        raise OptionError(f"--window {window!r} is no size", hint="write 512, or 384x512 for height x width")
    return Ways(flip, tuple(sorted({float(s) for s in scales})), sides)


def scaled(size_hw: tuple[int, int], scale: float) -> tuple[int, int]:
    """The size of a model's input at a scale: multiples of 32, as every architecture here can take them."""
    if scale == 1:
        return size_hw
    height, width = (max(1, round(side * scale / _DIVISOR)) * _DIVISOR for side in size_hw)
    return height, width


# -------------------------------------------------------------------- windows


@dataclass(frozen=True)
class Grid:
    """A size of a model's input in pixels, and of its outputs for that in cells."""

    input_hw: tuple[int, int]
    cells_hw: tuple[int, int]


def window_starts(length: int, window: int | None, cells: int) -> tuple[int, list[int]]:
    """Cells of a whole side of an image, and those at which windows of `cells` cells begin, spread evenly.

    Args:
        length: of the side, in pixels.
        window: how many of them a window shows; None = all.
        cells: what a window has as outputs of the model along that side.
    """
    if window is None or length <= window:
        return cells, [0]
    total = max(cells, round(length / window * cells))
    steps = math.ceil((total - cells) / max(1, STRIDE * cells))
    return total, [round(i * (total - cells) / steps) for i in range(steps + 1)] if steps else [0]


class Canvas:
    """An image cut into windows, and the mean of what a model says of each, put together again.

    A window is resized to the model's input, so the whole image to as many inputs as it has windows of height and of
    width. A side that is no longer than the window is taken whole, as without windows.

    Args:
        image: (H, W, 3) uint8.
        grid: of the model at this scale.
        window: (height, width) in pixels of the image; None = all of it.
    """

    def __init__(self, image: npt.NDArray[np.uint8], grid: Grid, window: tuple[int, int] | None) -> None:
        sides = zip(image.shape[:2], window or (None, None), grid.cells_hw, strict=True)
        (height, rows), (width, columns) = (window_starts(*side) for side in sides)
        self._grid = grid
        self._cells_hw = height, width
        self.places = [(y, x) for y in rows for x in columns]
        self._pixels = resize(image, (self._pixel(height, 0), self._pixel(width, 1)))
        self._sum: torch.Tensor | None = None
        self._windows = torch.zeros(height, width)

    def pixels(self, place: tuple[int, int]) -> torch.Tensor:
        """(3, h, w) uint8: the window at a place, of the size of the model's input."""
        (y, x), (h, w) = (self._pixel(place[0], 0), self._pixel(place[1], 1)), self._grid.input_hw
        return self._pixels[:, y : y + h, x : x + w]

    def add(self, place: tuple[int, int], outputs: torch.Tensor) -> None:
        """Take the (C, h, w) outputs for the window at a place."""
        if len(self.places) == 1:
            self._sum = outputs
            return
        if self._sum is None:
            self._sum = outputs.new_zeros(len(outputs), *self._cells_hw)
            self._windows = outputs.new_zeros(self._cells_hw)
        (y, x), (h, w) = place, self._grid.cells_hw
        self._sum[:, y : y + h, x : x + w] += outputs
        self._windows[y : y + h, x : x + w] += 1

    def take(self) -> torch.Tensor:
        """(C, Hc, Wc): the outputs for the whole image, once all places were added. The canvas is empty after it."""
        found, self._sum = self._sum, None
        assert found is not None  # noqa: S101 - there is a window at least
        return found if len(self.places) == 1 else found.div_(self._windows)

    def _pixel(self, cell: int, axis: int) -> int:
        """The pixel of the model's input at which a cell begins: cells * pixels per cell, halves up."""
        return (2 * cell * self._grid.input_hw[axis] // self._grid.cells_hw[axis] + 1) // 2


# -------------------------------------------------------------------- the mean of views


def picked(
    views: Sequence[torch.Tensor], size_hw: Sequence[int], pick: Pick, beside: Sequence[torch.Tensor] = ()
) -> Found:
    """What is picked from an image's views; the arguments are those of `pick_of_mean`."""
    if len(views) > 1:
        return pick_of_mean(views, size_hw, pick, beside)
    found = pick(views[0], size_hw, *beside)
    return found if isinstance(found, tuple) else (found,)


def pick_of_mean(
    views: Sequence[torch.Tensor], size_hw: Sequence[int], pick: Pick, beside: Sequence[torch.Tensor] = ()
) -> Found:
    """What `pick` makes of the mean view.

    The outputs of each view are upsampled bilinearly (corners not aligned) and made probabilities by softmax, which are
    averaged. Their logarithms are outputs again, of which softmax makes these very means, so that whatever looks at
    outputs can look at them. A band of rows at a time: C maps of some rows are all there is at once.

    Args:
        views: (C, h, w) float outputs of each view, h and w may differ.
        size_hw: (H, W) of the image.
        pick: (C, h, w) outputs and a size -> maps of that size, pixel by pixel.
        beside: (H, W) maps that `pick` takes too, after the size.
    """
    height, width = int(size_hw[0]), int(size_hw[1])
    like = views[0]
    rows = max(1, _VALUES[like.device.type != "cpu"] // (len(like) * width))
    bands = []
    for start in range(0, height, rows):
        band = slice(start, min(start + rows, height))
        mean = torch.zeros(len(like), band.stop - band.start, width, device=like.device)
        for view in views:
            mean += upsampled_rows(view, band, (height, width)).softmax(0)
        outputs = mean.div_(len(views)).clamp_(min=_SMALLEST).log_()
        found = pick(outputs, outputs.shape[1:], *(whole[band] for whole in beside))
        bands.append(found if isinstance(found, tuple) else (found,))
    return tuple(torch.cat(maps, -2) for maps in zip(*bands, strict=True))


def upsampled_rows(outputs: torch.Tensor, band: slice, size_hw: tuple[int, int]) -> torch.Tensor:
    """(C, h, w) float -> (C, rows, W): rows `band` of the outputs upsampled to (H, W), as `upsampled` has them."""
    high = outputs.shape[1]
    at = torch.arange(band.start, band.stop, dtype=outputs.dtype, device=outputs.device)
    at = ((at + 0.5) * (high / size_hw[0]) - 0.5).clamp_(0, high - 1)
    above = at.long()
    below = (above + 1).clamp_(max=high - 1)
    rows = torch.lerp(outputs[:, above], outputs[:, below], (at - above)[:, None])
    found: torch.Tensor = torch.nn.functional.interpolate(
        rows[None], size=[band.stop - band.start, size_hw[1]], mode="bilinear", align_corners=False
    )[0]
    return found
