"""Shapes to pixels: small bitmaps one can check by eye, and what holds for all shapes."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from labelsync.errors import BitmapError
from labelsync.pixels.shapes import draw_shapes
from labelsync.records.release import Annotation
from tests.tasks import encloses, painted, random_shapes

CATEGORIES = {1: 1, 2: 2, 7: 0}


def shape(kind: str, *points: tuple[float, float], category: int = 1) -> Annotation:
    return Annotation(1, category, kind, points)


def drawn(size: tuple[int, int], *shapes: Annotation, **options: Any) -> np.ndarray:
    return draw_shapes(shapes, CATEGORIES, size, **options)[0]


def rows(bitmap: np.ndarray) -> list[str]:
    """A bitmap as text, one character per pixel."""
    return ["".join(".123456789"[v] for v in row) for row in bitmap.tolist()]


# -------------------------------------------------------------------- by eye


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 1), (3, 3)], ["....", ".11.", ".11.", "...."]),
        ([(3, 1), (1, 3)], ["....", ".11.", ".11.", "...."]),  # corners in any order
        ([(0, 0), (4, 4)], ["1111"] * 4),
        ([(0.6, 0), (2.4, 1)], [".1..", "....", "....", "...."]),  # centres at 0.5 and 2.5 lie outside
        ([(0.5, 0), (2.5, 1)], ["11..", "....", "....", "...."]),  # on an edge: inside left, outside right
        ([(-9, 2), (99, 3)], ["....", "....", "1111", "...."]),
    ],
)
def test_a_box_covers_the_pixels_whose_centre_is_inside(points, expected):
    assert rows(drawn((4, 4), shape("bbox", *points))) == expected


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0, 0), (4, 0), (0, 4)], ["111.", "11..", "1...", "...."]),
        ([(0, 4), (0, 0), (4, 0)], ["111.", "11..", "1...", "...."]),  # from any corner
        ([(0, 0), (0, 4), (4, 0)], ["111.", "11..", "1...", "...."]),  # in either direction
        ([(4, 0), (4, 4), (0, 4)], ["...1", "..11", ".111", "1111"]),  # the other half: no overlap, no gap
        (
            [(2, 0), (4, 2), (2, 4), (0, 2)],
            [".1..", "111.", "111.", ".1.."],
        ),  # every edge through centres: left ones in
        ([(-2, -2), (6, -2), (6, 6), (-2, 6)], ["1111"] * 4),
    ],
)
def test_a_polygon_covers_the_pixels_whose_centre_is_inside(points, expected):
    assert rows(drawn((4, 4), shape("polygon", *points))) == expected


def test_a_ring_that_runs_back_along_itself_leaves_a_hole():
    ring = [(0, 0), (6, 0), (6, 6), (0, 6), (0, 0), (2, 2), (2, 4), (4, 4), (4, 2), (2, 2)]
    hole = ["111111", "111111", "11..11", "11..11", "111111", "111111"]
    assert rows(drawn((6, 6), shape("polygon", *ring))) == hole


def test_a_later_shape_covers_an_earlier_one_and_the_rest_is_unlabeled():
    first, second = shape("bbox", (0, 0), (3, 2)), shape("bbox", (1, 1), (4, 4), category=2)
    assert rows(drawn((4, 4), first, second)) == ["111.", "1222", ".222", ".222"]
    assert rows(drawn((4, 4), second, first)) == ["111.", "1112", ".222", ".222"]
    assert rows(drawn((2, 2), shape("bbox", (0, 0), (1, 1)), unlabeled=3)) == ["13", "33"]


@pytest.mark.parametrize(
    ("points", "width", "expected"),
    [
        ([(1, 2), (5, 2)], 2, ["......", ".1111.", ".1111.", "......"]),  # ends are cut straight
        ([(5, 2), (1, 2)], 2, ["......", ".1111.", ".1111.", "......"]),
        ([(1, 2), (5, 2)], 1, ["......", ".1111.", "......", "......"]),  # never two rows, never none
        ([(0, 0), (4, 4)], 1, ["1.....", ".1....", "..1...", "...1.."]),
        ([(1, 1), (5, 1), (5, 4)], 2, [".11111", ".11111", "....11", "....11"]),
        ([(0, 2), (3, 2), (6, 2)], 2, ["......", "111111", "111111", "......"]),
        ([(3, 2), (3, 2)], 2, ["......"] * 4),  # no length, no pixels
    ],
)
def test_a_line_is_a_band_of_its_width(points, width, expected):
    bitmap = drawn((4, 6), shape("polyline", *points), line_width=width)
    assert rows(bitmap) == expected


def test_a_corner_of_a_wide_line_is_round():
    corner = drawn((8, 8), shape("polyline", (0, 4), (4, 4), (4, 8)), line_width=4)
    assert rows(corner) == [
        "........",
        "........",
        "11111...",
        "111111..",
        "111111..",
        "111111..",
        "..1111..",
        "..1111..",
    ]


def test_a_category_that_means_unlabeled_is_drawn_as_0():
    cut = shape("bbox", (1, 0), (2, 2), category=7)
    assert rows(drawn((2, 3), shape("bbox", (0, 0), (3, 2)), cut)) == ["1.1", "1.1"]


# -------------------------------------------------------------------- what cannot be drawn


def test_what_touches_no_pixel_is_counted_by_its_kind():
    shapes = [
        shape("bbox", (0, 0), (2, 2)),
        shape("bbox", (0, 0), (0.4, 9)),  # too thin
        shape("polygon", (1, 1), (3, 3)),  # no area
        shape("polygon"),
        shape("polygon", (10, 10), (20, 10), (15, 20)),  # outside
        shape("polyline", (0, 0), (4, 4)),
        shape("point", (1, 1)),
        shape("point", (2, 2)),
        Annotation(1, 1, "skeleton"),
    ]
    bitmap, untouched = draw_shapes(shapes, CATEGORIES, (4, 4))
    assert rows(bitmap) == ["11..", "11..", "....", "...."]
    assert untouched == {"bbox": 1, "point": 2, "polygon": 3, "polyline": 1, "skeleton": 1}
    assert list(untouched) == sorted(untouched)
    assert "polyline" not in draw_shapes(shapes, CATEGORIES, (4, 4), line_width=1)[1]


def test_a_shape_that_is_covered_later_was_drawn():
    twice = [shape("bbox", (0, 0), (2, 2)), shape("bbox", (0, 0), (2, 2), category=2)]
    assert draw_shapes(twice, CATEGORIES, (2, 2))[1] == {}


def test_a_category_outside_the_taxonomy_is_refused():
    with pytest.raises(BitmapError, match="annotation 1 has category 9, which the taxonomy does not have"):
        drawn((4, 4), shape("bbox", (0, 0), (2, 2), category=9))


# -------------------------------------------------------------------- for all shapes

near = st.floats(-6, 14).map(lambda v: round(v, 3))
halves = st.integers(-4, 20).map(lambda n: n / 2)
wild = st.floats(allow_nan=False, allow_infinity=False)
rings = st.lists(st.tuples(near, near), min_size=3, max_size=8)


@given(rings)
def test_a_polygon_equals_what_the_angles_around_each_centre_say(ring):
    expected = [[int(encloses(ring, x + 0.5, y + 0.5)) for x in range(8)] for y in range(7)]
    edges = list(zip(ring, ring[1:] + ring[:1], strict=True))
    found = drawn((7, 8), shape("polygon", *ring))
    clear = [[all(_away(a, b, x + 0.5, y + 0.5) for a, b in edges) for x in range(8)] for y in range(7)]
    assert (found == expected)[np.array(clear)].all()


def _away(a: Any, b: Any, x: float, y: float, *, by: float = 1e-6) -> bool:
    """Whether a point is farther from a piece of line than `by`; 1e-6 is rounding."""
    start, piece = np.array(a), np.subtract(b, a)
    length = piece @ piece
    at = start + piece * np.clip((np.array((x, y)) - start) @ piece / length, 0, 1) if length else start
    return bool(np.hypot(*(at - (x, y))) > by)


@given(rings, st.lists(st.tuples(near, near), min_size=2, max_size=2))
def test_two_polygons_that_share_edges_neither_overlap_nor_leave_a_gap(ring, cut):
    """A frame, cut in two by a line from edge to edge."""
    (_, a), (_, b) = cut
    a, b = min(max(a, 0), 7), min(max(b, 0), 7)
    bend = [(x, min(max(y, 0), 7)) for x, y in sorted(ring) if 0 < x < 8]
    upper = [(0, 0), (8, 0), (8, b), *reversed(bend), (0, a)]
    lower = [(0, a), *bend, (8, b), (8, 7), (0, 7)]
    total = sum(drawn((7, 8), shape("polygon", *half)).astype(int) for half in (upper, lower))
    assert (total == 1).all()


@given(st.lists(st.tuples(halves, halves), min_size=4, max_size=4))
def test_two_boxes_are_their_union_and_each_equals_its_polygon(corners):
    boxes = [shape("bbox", *corners[:2]), shape("bbox", *corners[2:])]
    one, other = (drawn((7, 8), box) > 0 for box in boxes)
    assert ((drawn((7, 8), *boxes) > 0) == (one | other)).all()
    (x0, y0), (x1, y1) = corners[:2]
    assert (drawn((7, 8), shape("polygon", (x0, y0), (x1, y0), (x1, y1), (x0, y1))) == one).all()


@given(st.sampled_from(["bbox", "polygon", "polyline", "point", "?"]), st.lists(st.tuples(wild, wild), max_size=5))
def test_no_shape_is_an_error(kind, points):
    bitmap = drawn((5, 4), shape(kind, *points), line_width=3)
    assert bitmap.shape == (5, 4)
    assert set(np.unique(bitmap)) <= {0, 1}


def test_a_box_far_beyond_the_image_covers_all_of_it():
    assert drawn((5, 4), shape("bbox", (-1e300, -1e300), (1e300, 1e300))).all()
    assert drawn((5, 4), shape("polygon", (-1e9, -1e9), (1e9, -1e9), (1e9, 1e9), (-1e9, 1e9))).all()


@given(st.integers(0, 2**32))
def test_the_area_is_that_of_a_fine_drawing_by_pillow(seed):
    """Pillow draws 16 pixels for one; an outline of length n may differ by a part of the pixels it passes."""
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    ring = (32 + 28 * np.stack([np.cos(angles), np.sin(angles)], 1) * rng.uniform(0.5, 1, (9, 1))).tolist()
    fine = Image.new("L", (64 * 16, 64 * 16))
    ImageDraw.Draw(fine).polygon([(x * 16, y * 16) for x, y in ring], fill=1)
    area = np.asarray(fine).sum() / 256
    length = sum(np.hypot(*np.subtract(a, b)) for a, b in zip(ring, ring[1:] + ring[:1], strict=True))
    found = drawn((64, 64), shape("polygon", *map(tuple, ring)))
    assert abs(found.sum() - area) < 0.25 * length
    edges = list(zip(ring, ring[1:] + ring[:1], strict=True))
    for row, column in np.argwhere(found != np.asarray(fine)[8::16, 8::16]):  # only where an edge passes close by
        assert not all(_away(a, b, column + 0.5, row + 0.5, by=2 / 16) for a, b in edges)


@pytest.mark.parametrize("seed", range(5))
def test_many_shapes_are_as_painted_one_pixel_at_a_time(seed):
    shapes = random_shapes(seed)
    annotations = [
        Annotation(s["id"], s["category_id"], s["type"], tuple(map(tuple, s["points"])))
        for s in shapes
        if s["type"] not in ("point", "polyline")
    ]
    bitmap, _ = draw_shapes(annotations, {1: 1, 2: 2, 3: 3}, (24, 32))
    np.testing.assert_array_equal(bitmap, painted(shapes, (24, 32)).clip(0))
    assert bitmap.any()


def test_a_ring_of_many_points_takes_no_more_memory_than_a_few_images():
    zigzag = [(x * 2000 / 6000, (x % 2) * 1000) for x in range(6000)]  # 6 million crossings: 400 MB at once
    tracemalloc.start()
    try:
        drawn((1000, 2000), shape("polygon", *zigzag))
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


def test_classes_past_255_need_16_bits():
    bitmap, _ = draw_shapes([shape("bbox", (0, 0), (1, 1))], {1: 300}, (1, 1), dtype=np.uint16)
    assert (bitmap.dtype, int(bitmap[0, 0])) == (np.uint16, 300)
