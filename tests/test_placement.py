"""Where the classes of a model are drawn: by name, by a pinned number after a rename, or refused in one line."""

from dataclasses import replace

import pytest

from labelsync.deploy.categories import place
from labelsync.errors import TaxonomyError
from labelsync.labels import LabelClass, LabelMap, from_categories
from labelsync.taxonomy import Category, PlacedCategory, Source
from tests.models import label_map

WALK = (Category(0, "road"), Category(7, "walk"), Category(300, "person", has_instances=True))
HERE = "acme/walk"


def test_numbers_are_those_of_the_dataset_from_0_with_gaps_and_above_255() -> None:
    found = place(from_categories(WALK), WALK, dataset=HERE)
    assert found.category_ids == {1: 0, 2: 7, 3: 300}
    assert (found.things, found.renamed, found.undrawn) == ({3}, (), ())


def test_a_model_without_pinned_numbers_goes_by_name() -> None:
    found = place(LabelMap((LabelClass("person"), LabelClass("road"))), WALK, dataset=HERE)
    assert found.category_ids == {1: 300, 2: 0}


def test_names_count_in_a_dataset_that_numbers_them_otherwise() -> None:
    there = (Category(1, "person", has_instances=True), Category(7, "road"), Category(9, "walk"), Category(10, "new"))
    found = place(from_categories(WALK), there, dataset="acme/harbour")
    assert found.category_ids == {1: 7, 2: 9, 3: 1}
    assert found.things == {3}


def test_whether_a_class_has_instances_is_what_the_dataset_says_now() -> None:
    there = (*(replace(c, has_instances=True) for c in WALK[:2]), replace(WALK[2], has_instances=False))
    assert place(from_categories(WALK), there, dataset=HERE).things == {1, 2}


def test_a_rename_is_followed_by_its_number() -> None:
    there = (WALK[0], Category(7, "pavement"), WALK[2])
    found = place(from_categories(WALK), there, dataset=HERE)
    assert found.category_ids == {1: 0, 2: 7, 3: 300}
    assert found.renamed == (("walk", "pavement"),)


def test_a_number_says_nothing_where_most_names_are_others() -> None:
    there = (WALK[0], Category(7, "tree"), Category(300, "sky"))
    with pytest.raises(TaxonomyError, match=r"acme/walk has no category for 2 of the model's classes \(walk, person\)"):
        place(from_categories(WALK), there, dataset=HERE)


def test_a_number_that_was_given_to_another_class_is_not_followed() -> None:
    there = (WALK[0], WALK[2], Category(7, "car"))
    known = from_categories((*WALK, Category(9, "car")))
    with pytest.raises(TaxonomyError, match=r"no category for 1 of the model's classes \(walk\)"):
        place(known, there, dataset=HERE)


def test_a_class_that_the_dataset_lacks_is_refused_and_one_it_has_more_is_not() -> None:
    place(from_categories(WALK), (*WALK, Category(9, "tree")), dataset=HERE)
    with pytest.raises(TaxonomyError, match=r"no category for 1 of the model's classes \(person\)"):
        place(from_categories(WALK), WALK[:2], dataset=HERE)
    with pytest.raises(TaxonomyError, match="classes \\(a, b, c, d, e and 2 more\\)"):
        place(label_map(*"abcdefg"), WALK, dataset=HERE)


def test_removed_classes_and_background_are_left_undrawn() -> None:
    labels = from_categories(WALK, unlabeled="class").extended(WALK[:2])[0]
    found = place(labels, WALK[:2], dataset=HERE)
    assert found.category_ids == {1: 0, 2: 7}
    assert found.undrawn == ("person", "background")
    assert found.drawn(labels.num_labels).tolist() == [False, True, True, False, False]


def test_a_removed_class_whose_category_came_back_is_drawn() -> None:
    labels = from_categories(WALK).extended(WALK[:2])[0]
    assert place(labels, WALK, dataset=HERE).category_ids == {1: 0, 2: 7, 3: 300}


def test_a_category_called_unlabeled_is_no_class() -> None:
    there = (Category(5, "Unlabeled"), *WALK)
    assert place(from_categories(there), there, dataset=HERE).category_ids == {1: 0, 2: 7, 3: 300}


# -------------------------------------------------------------------- a map of several datasets, or of a labels file


def test_a_map_of_several_datasets_is_inverted_for_each() -> None:
    classes = tuple(LabelClass(n) for n in ("road", "walk", "crane"))
    city = Source("acme/city", (PlacedCategory(4, "street", 1), PlacedCategory(5, "walk", 2)))
    port = Source("acme/port", (PlacedCategory(5, "road", 1), PlacedCategory(4, "crane", 3)))
    labels = LabelMap(classes, sources=(city, port))
    found = place(labels, (Category(4, "street"), Category(5, "walk")), dataset="acme/city")
    assert found.category_ids == {1: 4, 2: 5}
    assert (found.renamed, found.undrawn) == ((("road", "street"),), ("crane",))
    found = place(labels, (Category(4, "crane"), Category(5, "road")), dataset="acme/port")
    assert found.category_ids == {1: 5, 3: 4}
    with pytest.raises(TaxonomyError, match=r"\(walk, crane\)"):
        place(labels, (Category(4, "road"),), dataset="acme/elsewhere")


def test_merged_categories_have_no_way_back_unless_one_is_called_like_the_class() -> None:
    merged = Source(HERE, (PlacedCategory(1, "person", 1), PlacedCategory(2, "rider", 1), PlacedCategory(3, "road", 2)))
    labels = LabelMap((LabelClass("human"), LabelClass("road")), sources=(merged,))
    there = (Category(1, "person"), Category(2, "rider"), Category(3, "road"))
    with pytest.raises(TaxonomyError, match=r"several categories .* one class of the model: human \(person, rider\)"):
        place(labels, there, dataset=HERE)
    named = replace(labels, classes=(LabelClass("person"), LabelClass("road")))
    assert place(named, there, dataset=HERE).category_ids == {1: 1, 2: 3}


def test_two_classes_are_never_one_category() -> None:
    labels = LabelMap((LabelClass("a", (1,)), LabelClass("b", (1,)), LabelClass("c", (2,)), LabelClass("d", (3,))))
    there = (Category(1, "x"), Category(2, "c"), Category(3, "d"))
    with pytest.raises(TaxonomyError, match="category 'x' of acme/walk would be drawn for 'a' and 'b'"):
        place(labels, there, dataset=HERE)
