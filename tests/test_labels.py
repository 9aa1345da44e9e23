"""The label contract: which number means which class, through rounds, files and models."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelsync.errors import OptionError, TaxonomyError
from labelsync.labels import BACKGROUND, LabelClass, LabelMap, from_categories, from_id2label
from labelsync.records.text import from_json, to_json
from labelsync.taxonomy import Category, TaxonomyChanges

ROAD, CURB, SKY = Category(1, "road"), Category(2, "curb"), Category(3, "sky")
FIRST = from_categories([ROAD, CURB, SKY])


def many(n: int) -> LabelMap:
    return LabelMap(tuple(LabelClass(f"class {i}") for i in range(n)))


# ---------------------------------------------------------------- a first release


@pytest.mark.parametrize(
    ("ids", "table"),
    [
        ((1, 2, 3), {1: 1, 2: 2, 3: 3}),  # already 1..K: the identity
        ((3, 1, 2), {1: 1, 2: 2, 3: 3}),  # whatever the order of the file
        ((0, 1, 2), {0: 1, 1: 2, 2: 3}),  # 0 is a class like any other
        ((7, 300, 70000), {7: 1, 300: 2, 70000: 3}),  # gaps, and past 8 and 16 bits
    ],
)
def test_category_ids_map_to_1_to_k_in_order(ids, table):
    assert from_categories([Category(i, f"c{i}") for i in ids]).category_table() == table


def test_a_category_0_is_not_unlabeled():
    labels = from_categories([Category(0, "hallway"), Category(1, "door")])
    assert labels.id2label == {0: "unlabeled", 1: "hallway", 2: "door"}


@pytest.mark.parametrize("name", ["unlabeled", "Unlabeled"])
def test_a_category_named_unlabeled_is_drawn_as_0(name):
    labels = from_categories([Category(0, name), Category(1, "road"), Category(2, "curb")])
    assert labels.category_table() == {0: 0, 1: 1, 2: 2}
    assert labels.names == ("road", "curb")


def test_unlabeled_pixels_as_a_class_get_background_after_the_others():
    labels = from_categories([Category(5, "unlabeled"), ROAD], unlabeled="class")
    assert labels.id2label == {0: "unlabeled", 1: "road", 2: BACKGROUND}
    assert labels.background_id == 2
    assert labels.category_table() == {1: 1, 5: 2}


def test_a_category_named_background_is_where_unlabeled_pixels_go():
    labels = from_categories([Category(1, BACKGROUND), Category(2, "road")], unlabeled="class")
    assert labels.names == (BACKGROUND, "road")
    assert labels.background_id == 1


@pytest.mark.parametrize(
    ("categories", "says"),
    [
        ([], "0 classes"),
        ([ROAD, Category(2, "road")], "two classes are named 'road'"),
        ([ROAD, Category(1, "curb")], "category id 1 occurs twice"),
        ([Category(0, "unlabeled")], "0 classes"),
    ],
)
def test_a_taxonomy_without_meaning_is_refused(categories, says):
    with pytest.raises(TaxonomyError, match=says) as e:
        from_categories(categories)
    assert e.value.hint


def test_unlabeled_is_ignore_or_class():
    with pytest.raises(OptionError, match="'zero'"):
        from_categories([ROAD], unlabeled="zero")  # type: ignore[arg-type]


def test_one_class_and_nothing_else_cannot_be_trained():
    with pytest.raises(TaxonomyError, match="--unlabeled class"):
        from_categories([ROAD]).require_trainable()
    from_categories([ROAD], unlabeled="class").require_trainable()


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("classes", "dtype", "ignore"), [(1, np.uint8, 255), (254, np.uint8, 255), (255, np.uint16, 65535)]
)
def test_the_width_of_a_bitmap_follows_the_number_of_classes(classes, dtype, ignore):
    labels = many(classes)
    assert (labels.dtype, labels.ignore_index) == (dtype, ignore)


def test_65534_classes_are_the_most():
    many(65534)
    with pytest.raises(TaxonomyError, match="65535 classes"):
        many(65535)


def test_disk_and_model_ids_differ_by_one_and_0_is_ignored():
    disk = np.array([[0, 1], [2, 3]], np.uint8)
    model = FIRST.to_model_ids(disk)
    assert (model.dtype, model.tolist()) == (np.int64, [[255, 0], [1, 2]])
    assert FIRST.to_disk_ids(model).tolist() == disk.tolist()
    assert FIRST.to_disk_ids(model).dtype == np.uint8


@given(st.sampled_from([2, 253, 254, 255, 256, 1000]), st.data())
def test_disk_ids_survive_the_way_to_model_ids_and_back(classes, data):
    labels = many(classes)
    ids = data.draw(st.lists(st.integers(0, classes), min_size=4, max_size=4))
    disk = np.array(ids, labels.dtype).reshape(2, 2)
    model = labels.to_model_ids(disk)
    assert set(model[disk == 0].tolist()) <= {labels.ignore_index}
    assert (model[disk > 0] < classes).all()
    back = labels.to_disk_ids(model)
    assert back.dtype == labels.dtype
    assert (back == disk).all()


def test_colours_are_by_disk_id_and_told_apart_where_the_taxonomy_has_none():
    labels = from_categories([Category(1, "road", color=(1, 2, 3)), Category(2, "curb"), Category(3, "sky")])
    assert labels.colors.shape == (4, 3)
    assert labels.colors[:2].tolist() == [[0, 0, 0], [1, 2, 3]]
    assert len({tuple(c) for c in labels.colors.tolist()}) == 4


# ---------------------------------------------------------------- models and foreign files


def test_outputs_of_a_model_are_matched_by_name_never_by_position():
    assert FIRST.align(["unlabeled", "sky", "tree", "road"]).tolist() == [0, 3, 0, 1]


def test_id2label_json_has_string_keys_and_names_0():
    assert json.loads(FIRST.id2label_json()) == {"0": "unlabeled", "1": "road", "2": "curb", "3": "sky"}


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(TaxonomyError, match="road, curb, sky"):
        FIRST.id_of("street")


@pytest.mark.parametrize(
    ("id2label", "keep_zero", "names"),
    [
        ({"0": "unlabeled", "1": "road", "2": "sky"}, False, ("road", "sky")),  # disk ids
        ({"0": "wall", "1": "building"}, False, ("wall", "building")),  # model ids, as ADE20K's file
        ({1: "road", 2: "sky"}, False, ("road", "sky")),  # disk ids that leave 0 out
        ({"0": "road", "1": "sky"}, True, ("road", "sky")),  # 0 declared a class
        ({"2": "sky", "0": "unlabeled", "1": "road"}, False, ("road", "sky")),  # in any order
        ({str(i): f"c{i}" for i in range(12)}, False, tuple(f"c{i}" for i in range(12))),  # by number, not by text
    ],
)
def test_somebodys_id2label_is_read_by_what_its_0_is(id2label, keep_zero, names):
    assert from_id2label(id2label, keep_zero=keep_zero).names == names


@pytest.mark.parametrize(
    "id2label",
    [{}, {"0": "a", "2": "b"}, {"2": "a", "3": "b"}, {"a": "b"}, {"-1": "a", "0": "b"}, {"0": "unlabeled"}, ["a"]],
)
def test_an_id2label_with_gaps_is_refused(id2label):
    with pytest.raises(TaxonomyError, match="id2label"):
        from_id2label(id2label)


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda n: n.lower() != "unlabeled")
colors = st.tuples(*[st.integers(0, 255)] * 3)
taxonomies = st.lists(
    st.builds(Category, st.integers(0, 100_000), names, st.none() | colors, st.booleans()),
    min_size=1,
    max_size=12,
    unique_by=(lambda c: c.id, lambda c: c.name),
)


@given(taxonomies, st.sampled_from(["ignore", "class"]))
def test_a_map_survives_json(categories, unlabeled):
    labels = from_categories(categories, unlabeled=unlabeled)
    assert from_json(LabelMap, to_json(labels)) == labels


@given(taxonomies)
def test_the_names_of_a_map_survive_id2label_json(categories):
    labels = from_categories(categories)
    assert from_id2label(json.loads(labels.id2label_json())).names == labels.names


# ---------------------------------------------------------------- rounds


def changes(labels: LabelMap, *categories: Category, **options: bool) -> tuple[dict[int, str], TaxonomyChanges]:
    after, what = labels.extended(categories, **options)
    return after.id2label, what


def test_the_same_taxonomy_changes_nothing():
    after, what = FIRST.extended([SKY, ROAD, CURB])
    assert after == FIRST
    assert not what


def test_a_new_category_goes_to_the_end_whatever_its_number():
    names, what = changes(FIRST, Category(0, "pole"), ROAD, CURB, SKY)
    assert names == {0: "unlabeled", 1: "road", 2: "curb", 3: "sky", 4: "pole"}
    assert what == TaxonomyChanges(added=("pole",))


def test_a_known_number_under_a_new_name_is_a_rename():
    names, what = changes(FIRST, ROAD, Category(2, "kerb"), SKY)
    assert names == {0: "unlabeled", 1: "road", 2: "kerb", 3: "sky"}
    assert what == TaxonomyChanges(renamed=(("curb", "kerb"),))


def test_every_name_may_change_in_one_step():
    names, what = changes(FIRST, Category(1, "a"), Category(2, "b"), Category(3, "c"))
    assert names == {0: "unlabeled", 1: "a", 2: "b", 3: "c"}
    assert len(what.renamed) == 3


def test_a_removed_category_keeps_its_slot():
    after, what = FIRST.extended([ROAD, SKY])
    assert after.names == FIRST.names
    assert what == TaxonomyChanges(removed=("curb",))
    assert after.category_table() == {1: 1, 3: 3}  # a label with category 2 is now an error, not a curb
    again, nothing = after.extended([ROAD, SKY])
    assert (again, bool(nothing)) == (after, False)


def test_a_removed_category_comes_back_to_its_slot():
    gone, _ = FIRST.extended([ROAD, SKY])
    back, _ = gone.extended([ROAD, CURB, SKY])
    assert back == FIRST


def test_a_number_that_a_removed_class_had_is_a_new_class():
    gone, _ = FIRST.extended([ROAD, SKY])
    names, what = changes(gone, ROAD, Category(2, "pole"), SKY)
    assert names == {0: "unlabeled", 1: "road", 2: "curb", 3: "sky", 4: "pole"}
    assert what == TaxonomyChanges(added=("pole",))


@pytest.mark.parametrize(
    "categories",
    [
        (Category(2, "road"), Category(1, "curb"), SKY),  # two names swapped
        (Category(9, "road"), CURB, SKY),  # one moved
        (Category(1, "kerb"), Category(9, "road"), CURB, SKY),  # renamed, and the old name taken by a new one
        (Category(0, "road"), Category(1, "curb"), Category(2, "sky")),  # all shifted by one
    ],
)
def test_a_known_name_on_another_number_is_refused(categories):
    with pytest.raises(TaxonomyError, match=r"'(road|curb)' was number . and is now .*--allow-renumbering") as e:
        FIRST.extended(categories)
    assert e.value.details


@pytest.mark.parametrize(
    ("categories", "names", "table"),
    [
        ((Category(2, "road"), Category(1, "curb"), SKY), "road curb sky", {2: 1, 1: 2, 3: 3}),
        ((Category(9, "road"), CURB, SKY), "road curb sky", {9: 1, 2: 2, 3: 3}),
        ((Category(1, "kerb"), Category(9, "road"), CURB, SKY), "road curb sky kerb", {9: 1, 2: 2, 3: 3, 1: 4}),
        ((Category(0, "road"), Category(1, "curb"), Category(2, "sky")), "road curb sky", {0: 1, 1: 2, 2: 3}),
    ],
)
def test_an_allowed_renumbering_follows_the_names(categories, names, table):
    after, what = FIRST.extended(categories, allow_renumbering=True)
    assert after.names == tuple(names.split())
    assert after.category_table() == table
    assert what.renumbered
    assert not what.removed
    assert not what.renamed


def test_a_later_round_with_one_name_twice_is_refused():
    with pytest.raises(TaxonomyError, match="two classes are named 'road'"):
        FIRST.extended([ROAD, Category(4, "road")], allow_renumbering=True)


def test_a_category_renamed_to_unlabeled_is_drawn_as_0():
    after, what = FIRST.extended([ROAD, Category(2, "unlabeled"), SKY])
    assert after.category_table() == {1: 1, 2: 0, 3: 3}
    assert what.removed == ("curb",)


def test_background_stays_whatever_the_taxonomy_does_with_that_name():
    objects = from_categories([ROAD], unlabeled="class")
    named, _ = objects.extended([ROAD, Category(2, BACKGROUND)])
    assert named.category_table() == {1: 1, 2: 2}
    dropped, what = named.extended([ROAD])
    assert dropped == objects
    assert not what
    renamed, what = named.extended([ROAD, Category(2, "void")])
    assert renamed.names == ("road", BACKGROUND, "void")
    assert what == TaxonomyChanges(added=("void",))


def test_the_255th_class_of_a_later_round_makes_the_bitmaps_16_bit():
    labels = from_categories([Category(i, f"c{i}") for i in range(1, 255)])
    after, _ = labels.extended([Category(i, f"c{i}") for i in range(1, 256)])
    assert (labels.dtype, after.dtype) == (np.uint8, np.uint16)


@given(taxonomies, taxonomies)
def test_no_round_moves_a_class(first, second):
    before = from_categories(first)
    after, what = before.extended(second, allow_renumbering=True)
    renamed = dict(what.renamed)
    assert after.names[: before.num_labels] == tuple(renamed.get(n, n) for n in before.names)
    table = after.category_table()
    assert set(table) == {c.id for c in second}
    assert {after.id2label[table[c.id]] for c in second} == {c.name for c in second}
    assert after.extended(second)[0] == after


def test_a_map_says_class_only_with_a_background():
    with pytest.raises(TaxonomyError, match="background"):
        replace(FIRST, unlabeled="class")
