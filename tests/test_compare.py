"""What differs between two releases, on arrays that one can check by eye and on entries made by hand."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labelsync.errors import BitmapError
from labelsync.records.changes import ClassChange
from labelsync.records.release import Annotation, Label, Release, Sample
from labelsync.release import compare
from labelsync.release.compare import class_map, compare_entries, join_categories, pixel_flow
from labelsync.release.side import Drawn, Side
from labelsync.taxonomy import Category

OLD = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 3, 3], [0, 0, 3, 3]], np.uint8)
NEW = np.array([[1, 1, 2, 2], [1, 3, 3, 2], [1, 0, 3, 3], [0, 0, 0, 3]], np.uint8)

# ---------------------------------------------------------------- pixels


def test_a_flow_counts_the_pixels_that_differ():
    assert pixel_flow(OLD, NEW) == {(1, 3): 1, (2, 3): 1, (0, 1): 1, (3, 0): 1}


def test_the_same_pixels_flow_nowhere():
    assert pixel_flow(OLD, OLD.copy()) == {}
    assert pixel_flow(None, None) == {}


def test_without_a_label_all_is_unlabeled():
    assert pixel_flow(None, NEW) == {(0, 1): 4, (0, 2): 3, (0, 3): 5}
    assert pixel_flow(OLD, None) == {(1, 0): 4, (2, 0): 4, (3, 0): 4}


def test_large_class_ids_take_no_memory():
    old, new = (np.full((4, 4), n, np.uint16) for n in (65534, 65533))
    assert pixel_flow(old, new) == {(65534, 65533): 16}


def test_two_sizes_are_not_compared_even_if_they_have_as_many_pixels():
    with pytest.raises(BitmapError, match="was 4x4 and is 2x8 pixels"):
        pixel_flow(OLD, NEW.reshape(2, 8))


@st.composite
def two_maps(draw: st.DrawFn) -> tuple[Any, Any, int]:
    top = draw(st.sampled_from([1, 3, 40, 2000]))
    shape = draw(st.tuples(st.integers(0, 5), st.integers(1, 5)))
    ids = st.integers(0, top)
    return draw(arrays(np.uint16, shape, elements=ids)), draw(arrays(np.uint16, shape, elements=ids)), top


@given(two_maps())
def test_a_flow_is_what_counting_one_by_one_gives(maps):
    old, new, _ = maps
    pairs = zip(old.ravel().tolist(), new.ravel().tolist(), strict=True)
    assert pixel_flow(old, new) == Counter(p for p in pairs if p[0] != p[1])
    assert pixel_flow(new, old) == {(b, a): n for (a, b), n in pixel_flow(old, new).items()}


@given(two_maps(), two_maps(), two_maps())
def test_what_classes_gain_and_lose_is_the_difference_of_their_sizes(changed, came, went):
    top = max(m[2] for m in (changed, came, went))
    labels = join_categories([Category(i, f"c{i}") for i in range(1, top + 1)], []).labels
    changes = compare.class_changes(
        pixel_flow(changed[0], changed[1]), pixel_flow(None, came[1]), pixel_flow(went[0], None), labels
    )
    before, after = (Counter(np.concatenate([m.ravel() for m in ms]).tolist()) for ms in
                     ((changed[0], went[0]), (changed[1], came[1])))  # fmt: skip
    net = {name: c.gained - c.lost + c.new - c.gone for name, c in changes.items() if name != "unlabeled"}
    want = {f"c{i}": after[i] - before[i] for i in range(1, top + 1)}
    assert {k: v for k, v in net.items() if v} == {k: v for k, v in want.items() if v}


def test_each_class_says_what_it_gained_and_lost():
    labels = join_categories([Category(i, n) for i, n in enumerate(("road", "curb", "car", "sky"), 1)], []).labels
    changes = compare.class_changes(pixel_flow(OLD, NEW), {(0, 2): 7}, {(2, 0): 5}, labels)
    assert changes == {
        "unlabeled": ClassChange(gained=1, lost=1, new=0, gone=0),
        "road": ClassChange(gained=1, lost=1, new=0, gone=0),
        "curb": ClassChange(gained=0, lost=1, new=7, gone=5),
        "car": ClassChange(gained=2, lost=1, new=0, gone=0),
    }
    assert compare.named(pixel_flow(OLD, NEW), labels) == {
        "unlabeled": {"road": 1}, "road": {"car": 1}, "curb": {"car": 1}, "car": {"unlabeled": 1},
    }  # fmt: skip


# ---------------------------------------------------------------- classes


def mapped(taxonomy: compare.Taxonomy) -> tuple[dict[int, str], dict[int, str]]:
    """Category id -> class name, in the old and in the new release."""
    names = taxonomy.labels.id2label
    return {c: names[d] for c, d in taxonomy.old.items()}, {c: names[d] for c, d in taxonomy.new.items()}


def test_a_rename_is_followed_by_number_and_is_one_class():
    found = join_categories(
        [Category(5, "pavement"), Category(0, "road")], [Category(5, "sidewalk"), Category(0, "road")]
    )
    assert mapped(found) == ({0: "road", 5: "sidewalk"}, {0: "road", 5: "sidewalk"})
    assert found.changes.renamed == (("pavement", "sidewalk"),)


def test_a_renumbering_is_followed_by_name_and_reported():
    found = join_categories([Category(1, "road"), Category(2, "car")], [Category(2, "road"), Category(1, "car")])
    assert mapped(found) == ({1: "road", 2: "car"}, {2: "road", 1: "car"})
    assert found.changes.renumbered == (("road", 1, 2), ("car", 2, 1))


def test_categories_that_came_and_went_have_classes_of_their_own():
    found = join_categories([Category(1, "road"), Category(2, "car")], [Category(1, "road"), Category(9, "bus")])
    assert mapped(found) == ({1: "road", 2: "car"}, {1: "road", 9: "bus"})
    assert (found.changes.added, found.changes.removed) == (("bus",), ("car",))


def test_a_class_map_is_by_category_not_by_instance():
    instances = np.array([[1, 1, 0, 2], [1, 1, 0, 2], [3, 3, 3, 3], [0, 0, 0, 0]], np.uint32)
    found = join_categories([Category(4, "road"), Category(7, "car")], [])
    pixels = class_map(instances, (Annotation(1, 7), Annotation(2, 4), Annotation(3, 7)), found.old, found.labels)
    assert pixels.tolist() == [[2, 2, 0, 1], [2, 2, 0, 1], [2, 2, 2, 2], [0, 0, 0, 0]]


# ---------------------------------------------------------------- entries

CATEGORIES = (Category(1, "road"), Category(2, "car"))
STATUS = ("LABELED", "REVIEWED")


def side(*samples: Sample, **drawn: str) -> Side:
    release = Release("v1", "acme/walk", "segmentation-bitmap", "ground-truth", CATEGORIES, samples)
    return Side("v1", release, lambda _, label: Drawn(label.annotations, key=label.bitmap_url or "", **drawn))


def labelled(uuid: str = "u", status: str = "LABELED", url: str = "a.png", *pairs: tuple[int, int]) -> Sample:
    annotations = tuple(Annotation(*p) for p in pairs or ((1, 1), (2, 2)))
    return Sample(uuid, uuid, "i.jpg", Label(status, annotations, url))


def changes(old: Side, new: Side) -> dict[str, tuple[str, bool]]:
    """uuid -> (change, whether pixels are needed)."""
    found = compare_entries(old, new, join_categories(CATEGORIES, CATEGORIES), status=STATUS)
    return {c.uuid: (c.change, c.is_open) for c in found}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (labelled(), labelled(), ("unchanged", False)),
        (labelled(), labelled("u", "LABELED", "a.png", (2, 2), (1, 1)), ("unchanged", False)),
        (labelled(), labelled(status="REVIEWED"), ("status", False)),
        (labelled(), labelled("u", "LABELED", "a.png", (1, 1), (2, 1)), ("relabelled", True)),
        (labelled(), labelled("u", "LABELED", "a.png", (1, 1)), ("relabelled", True)),
        (labelled(), labelled(url="b.png"), ("relabelled", True)),
        (labelled(), labelled("u", "LABELED", "a.png", (1, 1), (2, 77)), ("relabelled", True)),
        (labelled(), Sample("u", "u", "i.jpg"), ("unlabelled", True)),
        (labelled(), labelled(status="SKIPPED"), ("unlabelled", True)),
        (Sample("u", "u", "i.jpg"), labelled(), ("labelled", True)),
        (labelled(status="PRELABELED"), labelled(), ("labelled", True)),
        (Sample("u", "u", "i.jpg"), labelled(status="SKIPPED"), ("status", False)),
        (labelled(status="SKIPPED"), labelled(status="SKIPPED", url="b.png"), ("unchanged", False)),
        (Sample("u", "u", "i.jpg", problem="it is broken"), labelled(), ("failed", False)),
    ],
)
def test_a_sample_in_both(old, new, expected):
    assert changes(side(old), side(new)) == {"u": expected}


def test_samples_that_came_and_went_end_in_one_row_each():
    old = side(labelled("a"), labelled("b"), Sample("c", "c", None))
    new = side(Sample("e", "e", None), labelled("d"), labelled("b"))
    found = changes(old, new)
    assert found == {
        "e": ("added", False), "d": ("added", True), "b": ("unchanged", False), "a": ("removed", True),
        "c": ("removed", False),
    }  # fmt: skip
    assert list(found) == ["e", "d", "b", "a", "c"]


def test_the_digest_of_a_folder_tells_more_than_the_url():
    assert changes(side(labelled(), sha256="1"), side(labelled(), sha256="2"))["u"] == ("relabelled", True)
    assert changes(side(labelled(), sha256="1"), side(labelled(url="b.png"), sha256="1"))["u"] == ("unchanged", False)
    assert changes(side(labelled(), sha256="1"), side(labelled()))["u"] == ("unchanged", False)


def test_a_label_means_something_else_where_its_category_does():
    """The same annotations under swapped category names: every pixel has another class."""
    swapped = (Category(1, "car"), Category(2, "road"))
    found = compare_entries(side(labelled()), side(labelled()), join_categories(CATEGORIES, swapped), status=STATUS)
    assert [(c.change, c.is_open) for c in found] == [("relabelled", True)]
