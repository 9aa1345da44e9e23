"""The sidewalk taxonomy: its numbers are those of the published dataset."""

import itertools

import pytest

from labelsync.labels import from_categories
from labelsync.sidewalk.preset import CATEGORIES, GROUPS, categories

# id2label.json of segments/sidewalk-semantic, copied by hand.
PUBLISHED = [
    "unlabeled", "flat-road", "flat-sidewalk", "flat-crosswalk", "flat-cyclinglane", "flat-parkingdriveway",
    "flat-railtrack", "flat-curb", "human-person", "human-rider", "vehicle-car", "vehicle-truck", "vehicle-bus",
    "vehicle-tramtrain", "vehicle-motorcycle", "vehicle-bicycle", "vehicle-caravan", "vehicle-cartrailer",
    "construction-building", "construction-door", "construction-wall", "construction-fenceguardrail",
    "construction-bridge", "construction-tunnel", "construction-stairs", "object-pole", "object-trafficsign",
    "object-trafficlight", "nature-vegetation", "nature-terrain", "sky", "void-ground", "void-dynamic", "void-static",
    "void-unclear",
]  # fmt: skip


def test_classes_are_the_published_ones_in_order() -> None:
    assert [c.name for c in CATEGORIES] == PUBLISHED
    assert [c.id for c in CATEGORIES] == list(range(35))


def test_preset_as_a_taxonomy_keeps_its_numbers() -> None:
    labels = from_categories(CATEGORIES)
    assert labels.num_labels == 34
    assert labels.id2label == dict(enumerate(PUBLISHED))
    assert labels.category_table() == {i: i for i in range(35)}


def test_colors_are_apart() -> None:
    """The nearest two are Cityscapes' own bus and train, 20 apart."""
    for a, b in itertools.combinations(CATEGORIES, 2):
        assert a.color is not None
        assert b.color is not None
        distance = sum((x - y) ** 2 for x, y in zip(a.color, b.color, strict=True)) ** 0.5
        assert distance >= 20, f"{a.name} and {b.name} look alike"


def test_only_things_that_are_counted_have_instances() -> None:
    counted = {c.name for c in CATEGORIES if c.has_instances}
    assert {"human-person", "vehicle-car", "vehicle-bicycle", "object-pole"} <= counted
    assert not {n for n in counted if n.startswith(("flat-", "nature-", "sky"))}


def test_every_class_is_in_exactly_one_group() -> None:
    assert sorted(itertools.chain(*GROUPS.values())) == sorted(PUBLISHED[1:])
    assert set(GROUPS) == {"walkable", "road", "obstacle", "other"}


def test_groups_tell_what_a_robot_may_do() -> None:
    assert set(GROUPS["walkable"]) == {"flat-sidewalk", "flat-crosswalk"}
    assert {"human-person", "vehicle-bicycle", "object-pole", "construction-wall"} <= set(GROUPS["obstacle"])
    assert "flat-curb" in GROUPS["road"]


def test_categories_by_name_come_in_the_order_of_their_numbers() -> None:
    assert [c.id for c in categories("sky", "flat-road")] == [1, 30]
    with pytest.raises(KeyError):
        categories("flat-lava")
