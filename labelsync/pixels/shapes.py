"""Polygons, boxes and lines -> semantic bitmaps.

A shape covers the pixels whose centre lies inside it; pixel (row, column) has its centre at x = column + 0.5,
y = row + 0.5. A centre exactly on an edge belongs to the shape on its right or below. So shapes that share an edge
neither overlap nor leave a gap, and the box (0, 0), (width, height) covers a whole image.

Pillow's ImageDraw also fills every pixel that the outline touches: each object grows by half a pixel on all sides, and
neighbours take pixels from each other. What a polygon covers is therefore found here, by counting the edges to the left
of each centre (even-odd rule: a ring that runs back along itself leaves a hole).
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.errors import BitmapError
from labelsync.records.release import BOX, POLYGON, POLYLINE, Annotation

Points = npt.NDArray[np.float64]  # (n, 2), x and y
Covered = tuple[tuple[slice, slice], npt.NDArray[np.bool_]]  # rows and columns of a window, and which of its pixels

_FAR = 1e12  # beyond every image, and small enough for exact arithmetic on its pixels
_CROSSINGS = 1 << 20  # of edges and rows, held in memory at a time


def draw_shapes(
    shapes: Iterable[Annotation],
    categories: Mapping[int, int],
    size_hw: tuple[int, int],
    *,
    unlabeled: int = 0,
    dtype: type[np.uint8] | type[np.uint16] = np.uint8,
    line_width: float = 0.0,
) -> tuple[npt.NDArray[Any], dict[str, int]]:
    """Annotations with points -> (H, W) disk ids, and type -> how many annotations touch no pixel.

    Args:
        shapes: in the order they are drawn; a later one covers an earlier one. The corners of a "bbox" come in any
            order. Other types than polygons, boxes and polylines touch no pixel.
        categories: Segments.ai category id -> disk id.
        size_hw: height and width of the image as it is shown, EXIF orientation applied. What lies outside is cut off.
        unlabeled: disk id where nothing is drawn.
        dtype: of the result, `LabelMap.dtype`.
        line_width: of polylines, in pixels; 0 = they are not drawn. Ends are cut straight, corners are round.

    Raises:
        BitmapError: a category outside the taxonomy.
    """
    canvas: npt.NDArray[Any] = np.full(size_hw, unlabeled, dtype)
    untouched: Counter[str] = Counter()
    for shape in shapes:
        if shape.category_id not in categories:
            what = f"annotation {shape.id} has category {shape.category_id}"
            raise BitmapError(f"{what}, which the taxonomy does not have")
        is_drawn = False
        for window, inside in _covered(shape, size_hw, line_width):
            canvas[window][inside] = categories[shape.category_id]
            is_drawn = is_drawn or bool(inside.any())
        if not is_drawn:
            untouched[shape.type] += 1
    return canvas, dict(sorted(untouched.items()))


def _covered(shape: Annotation, size_hw: tuple[int, int], line_width: float) -> Iterator[Covered]:
    """The pixels of a shape, in one part or several."""
    points = np.array(shape.points, np.float64).reshape(-1, 2).clip(-_FAR, _FAR)
    if not len(points):
        return
    if shape.type == BOX:
        window = _window(points, size_hw)
        yield window, np.ones(tuple(s.stop - s.start for s in window), np.bool_)
    elif shape.type == POLYGON:
        yield _inside(points, size_hw)
    elif shape.type == POLYLINE and line_width > 0:
        for start, end in itertools.pairwise(points):
            length = math.dist(start, end)
            if length:
                across = np.array([start[1] - end[1], end[0] - start[0]]) * (line_width / 2 / length)
                yield _inside(np.array([start - across, end - across, end + across, start + across]), size_hw)
        for corner in points[1:-1]:
            yield _disc(corner, line_width / 2, size_hw)


def _pixel(coordinate: Points) -> npt.NDArray[np.int64]:
    """The first pixel, along an axis, whose centre does not lie before a coordinate."""
    return np.ceil(coordinate - 0.5).astype(np.int64)


def _window(points: Points, size_hw: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the image that can have pixels of a shape with these outermost points."""
    end = np.array(size_hw[::-1])
    left, top = _pixel(points.min(axis=0)).clip(0, end).tolist()
    right, bottom = _pixel(points.max(axis=0)).clip(0, end).tolist()
    return slice(top, bottom), slice(left, right)


def _inside(ring: Points, size_hw: tuple[int, int]) -> Covered:
    """The pixels inside a closed ring of points, by the even-odd rule."""
    rows, columns = window = _window(ring, size_hw)
    turns = np.zeros((rows.stop - rows.start, columns.stop - columns.start + 1), np.bool_)
    if turns.size and columns.stop > columns.start:
        x, y = ring.T
        edges = np.stack([x, y, np.roll(x, -1), np.roll(y, -1)])
        edges[:, edges[1] > edges[3]] = edges[[2, 3, 0, 1]][:, edges[1] > edges[3]]  # one edge of two rings is the same
        first, last = (_pixel(edges[i]).clip(rows.start, rows.stop) for i in (1, 3))
        parts = math.ceil(int((last - first).sum()) / _CROSSINGS) or 1
        for part in np.array_split(np.arange(len(ring)), min(parts, len(ring))):
            row, crossing = _crossings(edges[:, part], first[part], last[part])
            column = _pixel(crossing).clip(columns.start, columns.stop)
            np.logical_xor.at(turns, (row - rows.start, column - columns.start), True)
    return window, np.logical_xor.accumulate(turns, axis=1)[:, :-1]


def _crossings(
    edges: Points, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], Points]:
    """The rows whose line of centres each edge crosses, and where.

    Args:
        edges: (4, n): x and y of the upper end, x and y of the lower.
        first, last: (n,): rows from the first to before the last.
    """
    counts = last - first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = first[edge] + np.arange(len(edge)) - np.repeat(counts.cumsum() - counts, counts)
    x0, y0, x1, y1 = edges[:, edge]
    return row, x0 + (row + 0.5 - y0) / (y1 - y0) * (x1 - x0)


def _disc(centre: Points, radius: float, size_hw: tuple[int, int]) -> Covered:
    """The pixels whose centre is nearer than `radius`."""
    window = _window(np.stack([centre - radius, centre + radius]), size_hw)
    y, x = np.ogrid[window]
    # squares, not np.hypot: the same on every machine, also for a centre exactly on the rim
    return window, np.square(x + 0.5 - centre[0]) + np.square(y + 0.5 - centre[1]) < radius * radius
