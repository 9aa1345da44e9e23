"""Class maps to instance bitmaps: literals to check by eye, and properties of any map."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from labelsync.deploy.instances import instances, merge_specks
from labelsync.evaluation.components import components
from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from labelsync.pixels.semantic import to_semantic

EIGHT = np.ones((3, 3))

maps = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 3))


def a(*rows: str) -> npt.NDArray[np.uint8]:
    """ "112" "122" -> [[1, 1, 2], [1, 2, 2]]."""
    return np.array([[int(c) for c in row] for row in rows], np.uint8)


def flags(*wanted: int, top: int = 3) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(top + 1), wanted)


# -------------------------------------------------------------------- specks


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (a("1122", "1322", "1122"), a("1122", "1122", "1122")),  # three edges with 1, one with 2
        (a("1111", "1331", "1111"), a("1111", "1111", "1111")),
        (a("2222", "2332", "0000"), a("2222", "2222", "0000")),
        (a("2222", "0332", "0000"), a("2222", "0002", "0000")),  # three edges each: unlabeled is a class like any
        (a("1111", "1031", "1111"), a("1111", "1111", "1111")),  # holes are specks too, and two of them side by side
        (a("2211", "2311", "2211"), a("2211", "2211", "2211")),
    ],
)
def test_a_speck_gets_the_class_it_has_the_longest_border_with(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]
) -> None:
    assert merge_specks(before, min_size=3).tolist() == after.tolist()


def test_of_two_equal_borders_the_lower_class_wins() -> None:
    assert merge_specks(a("123", "123", "123"), min_size=3).tolist() == a("123", "123", "123").tolist()
    middle = a("11322", "11322")
    assert merge_specks(middle, min_size=3).tolist() == a("11122", "11122").tolist()
    assert merge_specks(middle[:, ::-1], min_size=3).tolist() == a("22111", "22111").tolist()


def test_a_thing_that_touches_at_a_corner_is_one_and_no_speck() -> None:
    cross = a("3111", "1311", "1131", "1113")
    assert merge_specks(cross, min_size=4).tolist() == cross.tolist()
    assert (merge_specks(cross, min_size=5) == 1).all()


def test_nested_specks_are_eaten_from_outside() -> None:
    nest = np.full((9, 9), 1, np.uint8)
    nest[3:6, 3:6] = 2
    nest[4, 4] = 3
    assert (merge_specks(nest, min_size=9) == 1).all()  # the ring of eight, and what is in it
    assert merge_specks(nest, min_size=8)[4, 4] == 2


def test_an_image_of_nothing_but_specks_stays() -> None:
    assert merge_specks(a("12", "30"), min_size=99).tolist() == a("12", "30").tolist()


@given(maps, st.integers(0, 12))
def test_no_speck_is_left_where_anything_is_large(bitmap: npt.NDArray[np.uint8], min_size: int) -> None:
    merged = merge_specks(bitmap, min_size=min_size)
    every = np.ones(4, bool)
    before, after = components(bitmap, every).pixels, components(merged, every).pixels
    if before.max() >= min_size:
        assert after.min() >= min_size
        large = merged[np.isin(components(bitmap, every).numbers(bitmap.shape), np.flatnonzero(before >= min_size))]
        kept = bitmap[np.isin(components(bitmap, every).numbers(bitmap.shape), np.flatnonzero(before >= min_size))]
        assert large.tolist() == kept.tolist()  # what is no speck is not touched
    else:
        assert merged.tolist() == bitmap.tolist()


# -------------------------------------------------------------------- instances


def test_things_are_numbered_one_by_one_and_stuff_as_a_whole() -> None:
    bitmap = a("1021", "2003", "1120")
    ids, classes = instances(bitmap, drawn=flags(1, 2, 3), things={1})
    assert classes == (1, 2, 1, 3, 1)
    assert ids.tolist() == [[1, 0, 2, 3], [2, 0, 0, 4], [5, 5, 2, 0]]
    assert ids.dtype == np.uint32


def test_a_class_that_is_not_drawn_is_unlabeled() -> None:
    ids, classes = instances(a("12", "33"), drawn=flags(2), things={2, 3})
    assert (ids.tolist(), classes) == ([[0, 1], [0, 0]], (2,))
    ids, classes = instances(a("00", "33"), drawn=flags(1, 2), things={2, 3})
    assert (ids.tolist(), classes) == ([[0, 0], [0, 0]], ())


@given(maps, st.sets(st.integers(1, 3)), st.sets(st.integers(1, 3)))
def test_instances_are_those_of_scipy_and_come_back_as_the_class_map(
    bitmap: npt.NDArray[np.uint8], drawn: set[int], things: set[int]
) -> None:
    ids, classes = instances(bitmap, drawn=flags(*drawn), things=things)
    expected = np.where(np.isin(bitmap, list(drawn)), bitmap, 0)
    ids = decode_instance_bitmap(encode_instance_bitmap(ids))
    assert to_semantic(ids, dict(enumerate(classes, 1))).tolist() == expected.tolist()
    assert sorted(set(ids.ravel().tolist()) - {0}) == list(range(1, len(classes) + 1))
    for c in drawn:
        parts, number = ndimage.label(bitmap == c, EIGHT)
        assert classes.count(c) == (number if c in things else min(number, 1))
        for part in range(1, number + 1):
            assert len(np.unique(ids[parts == part])) == 1  # never torn
