"""Connected components of all classes of a bitmap at once: its things, as far as a semantic bitmap shows them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Components:
    """Components of pixels of one class that touch, also at corners, numbered in any order.

    Attributes:
        classes, pixels: (m,) disk id and size of each.
    """

    classes: Ints
    pixels: Ints
    _starts: Ints  # of every run of equal pixels in a row, in the flattened bitmap
    _kept: npt.NDArray[np.bool_]  # which of those runs are of a component
    _of: Ints  # component of each kept run
    _size_hw: tuple[int, int]

    def numbers(self, shape: tuple[int, int]) -> Ints:
        """(H, W) component of each pixel of the bitmap of that shape, -1 where the class was not wanted."""
        runs = np.full(len(self._starts), -1, np.int64)
        runs[self._kept] = self._of
        return np.repeat(runs, np.diff(self._starts, append=shape[0] * shape[1])).reshape(shape)

    def count(self, flags: npt.NDArray[np.bool_]) -> Ints:
        """(m,) number of pixels of each component at which (H, W) `flags` is set."""
        return self.total(flags, dtype=np.int64).astype(np.int64)

    def total(self, values: npt.NDArray[Any], *, dtype: Any = np.float64) -> npt.NDArray[np.float64]:
        """(m,) sum of (H, W) `values` over each component."""
        runs = np.add.reduceat(values.ravel(), self._starts, dtype=dtype)[self._kept]
        return np.bincount(self._of, weights=runs, minlength=len(self.classes)).astype(np.float64)

    @property
    def first_pixels(self) -> Ints:
        """(m,) a pixel of each component, as its number in the flattened bitmap."""
        pixels = np.empty(len(self.classes), np.int64)
        pixels[self._of[::-1]] = self._starts[self._kept][::-1]  # of those written twice, the last: the first run
        return pixels

    def lowest(self, values: npt.NDArray[Any]) -> Ints:
        """(m,) the pixel of each component at which (H, W) `values` is lowest, the first of equals, as its number."""
        runs = np.minimum.reduceat(values.ravel(), self._starts)[self._kept]
        least = np.full(len(self.classes), np.inf, runs.dtype)
        np.minimum.at(least, self._of, runs)
        of = self.numbers(self._size_hw).ravel()
        inside = np.flatnonzero(of >= 0)
        lowest = inside[values.ravel()[inside] == least[of[inside]]][::-1]
        pixels = np.empty(len(self.classes), np.int64)
        pixels[of[lowest]] = lowest  # of those written more than once, the last: the first pixel
        return pixels

    def at(self, pixels: Ints) -> Ints:
        """Numbers of the components that hold these pixels, given as numbers in the flattened bitmap."""
        run_of = np.cumsum(self._kept) - 1  # number of a run among the kept ones
        found: Ints = self._of[run_of[np.searchsorted(self._starts, pixels, side="right") - 1]]
        return found

    def boxes(self) -> Ints:
        """(m, 4) left, top, width and height of each component, in pixels."""
        width = self._size_hw[1]
        starts = self._starts[self._kept]
        lengths = np.diff(self._starts, append=width * self._size_hw[0])[self._kept]
        top, left = np.divmod(starts, width)
        ends = (left, top, left + lengths, top + 1)
        bounds = []
        for values, least in zip(ends, (True, True, False, False), strict=True):
            bound = np.full(len(self.classes), np.iinfo(np.int64).max if least else 0)
            (np.minimum if least else np.maximum).at(bound, self._of, values)
            bounds.append(bound)
        x0, y0, x1, y1 = bounds
        return np.stack([x0, y0, x1 - x0, y1 - y0], axis=1)


def components(bitmap: npt.NDArray[Any], wanted: npt.NDArray[np.bool_]) -> Components:
    """The components of the classes for which (K + 1,) `wanted` is set.

    Runs of equal pixels are joined with those they touch in the next row. A 1080p image takes 20 ms whatever the number
    of classes; labelling class by class took 350.
    """
    width = bitmap.shape[1]
    first = np.ones(bitmap.shape, bool)
    np.not_equal(bitmap[:, 1:], bitmap[:, :-1], out=first[:, 1:])
    starts = np.flatnonzero(first)
    lengths = np.diff(starts, append=bitmap.size)
    values = bitmap.ravel()[starts].astype(np.int64)
    kept = wanted[values]
    values, begin, length = values[kept], starts[kept], lengths[kept]
    upper, lower = _touching(begin // width, begin % width, length, width)
    same = values[upper] == values[lower]
    links = coo_array((np.ones(int(same.sum()), bool), (upper[same], lower[same])), shape=(len(values), len(values)))
    number, of = connected_components(links, directed=False)
    classes = np.zeros(number, np.int64)
    classes[of] = values
    pixels = np.bincount(of, weights=length, minlength=number).astype(np.int64)
    return Components(classes, pixels, starts, kept, of.astype(np.int64), (bitmap.shape[0], width))


def _touching(row: Ints, left: Ints, length: Ints, width: int) -> tuple[Ints, Ints]:
    """Pairs of runs of which the second lies below the first and touches it, also at a corner.

    Runs of a row are in order and do not overlap, so those below a run are neighbours in the list.
    """
    stride = width + 2
    begins, ends = row * stride + left, row * stride + left + length  # both rise
    low = np.searchsorted(ends, begins + stride, side="left")
    high = np.searchsorted(begins, ends + stride, side="right")
    number = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(len(row)), number)
    within = np.arange(len(upper)) - np.repeat(np.cumsum(number) - number, number)
    return upper, np.repeat(low, number) + within
