"""Class numbers where several datasets or a labels file decide them, through rounds."""

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelsync.dataset.arrange import arrange, with_sources
from labelsync.dataset.recognise import Taxonomy
from labelsync.errors import LabelsyncError, OptionError, TaxonomyError
from labelsync.labels import BACKGROUND, LabelMap, from_categories
from labelsync.records.text import from_json, to_json
from labelsync.release.labels_file import LabelsFile, read_labels_file
from labelsync.taxonomy import Category, TaxonomyChanges

README = Path(__file__).parents[1] / "README.md"


def taxonomy(dataset: str, *names: str, ids: Sequence[int] = ()) -> Taxonomy:
    """Categories numbered from 1, or by `ids`."""
    numbers = ids or range(1, len(names) + 1)
    return Taxonomy(dataset, tuple(Category(i, n, (i % 256, 1, 2)) for i, n in zip(numbers, names, strict=True)))


def labels_file(text: str, folder: Path | None = None) -> LabelsFile:
    """`text` read as a file."""
    with tempfile.TemporaryDirectory() as temporary:
        path = (folder or Path(temporary)) / "labels.toml"
        path.write_text(text)
        return read_labels_file(path)


CITY = taxonomy("acme/city", "flat-road", "flat-sidewalk", "flat-curb", "human-person", "void-unclear")
FILE = """
drop = ["void-unclear"]
[classes]
walkable = ["flat-sidewalk", "flat-curb"]
road = "flat-road"
"""


def first(text: str = FILE, *taxonomies: Taxonomy, **options: object) -> LabelMap:
    return arrange(taxonomies or [CITY], file=labels_file(text), **options)[0]  # type: ignore[arg-type]


def later(
    known: LabelMap, *taxonomies: Taxonomy, text: str | None = FILE, allow: bool = False
) -> tuple[LabelMap, TaxonomyChanges]:
    file = None if text is None else labels_file(text)
    return arrange(taxonomies, file=file, known=known, unlabeled=known.unlabeled, allow_renumbering=allow)


# -------------------------------------------------------------------- several datasets


def test_equal_names_are_one_class_and_the_first_dataset_numbers_first():
    a, b = taxonomy("acme/a", "road", "curb", "sky"), taxonomy("acme/b", "sky", "pole", "road", ids=(3, 1, 2))
    labels, changes = arrange([a, b])
    assert labels.names == ("road", "curb", "sky", "pole")
    assert labels.category_table("acme/a") == {1: 1, 2: 2, 3: 3}
    assert labels.category_table("acme/b") == {1: 4, 2: 1, 3: 3}  # the same numbers mean other classes there
    assert not changes
    assert arrange([b, a])[0].names == ("pole", "road", "sky", "curb")
    with pytest.raises(TaxonomyError, match="no categories of dataset 'acme/c'"):
        labels.category_table("acme/c")


@pytest.mark.parametrize("spelled", ["Side walk", "side_walk", "SIDEWALK", "side-walk"])
def test_names_that_differ_in_spelling_alone_wait_for_a_word(spelled):
    a, b = taxonomy("acme/a", "road", "sidewalk"), taxonomy("acme/b", "road", spelled)
    with pytest.raises(TaxonomyError, match=f"{spelled!r} and .*'sidewalk'|'sidewalk' and .*{spelled!r}") as e:
        arrange([a, b])
    assert "--labels" in e.value.hint
    one = arrange([a, b], file=labels_file(f'classes.sidewalk = ["sidewalk", "{spelled}"]'))[0]
    assert one.names == ("sidewalk", "road")
    two = arrange([a, b], file=labels_file(f'[classes]\nsidewalk = "sidewalk"\n"{spelled}" = "{spelled}"'))[0]
    assert two.names == ("sidewalk", spelled, "road")
    again, changes = arrange([a, b], known=two)  # decided once
    assert (again, bool(changes)) == (two, False)


def test_one_dataset_may_spell_as_it_likes():
    assert arrange([taxonomy("acme/a", "car", "Car"), taxonomy("acme/b", "road")])[0].names == ("car", "Car", "road")


def test_a_name_can_mean_two_things_in_two_datasets():
    a, b = taxonomy("acme/a", "pole", "road"), taxonomy("acme/b", "pole", "road")
    labels = arrange([a, b], file=labels_file('[classes]\n"ski pole" = "acme/b:pole"\npole = "pole"'))[0]
    assert labels.names == ("ski pole", "pole", "road")
    assert labels.category_table("acme/a")[1] == 2
    assert labels.category_table("acme/b")[1] == 1


def test_two_datasets_may_colour_different_things_alike():
    a, b = taxonomy("acme/a", "road"), taxonomy("acme/b", "sky")
    labels = arrange([a, b])[0]
    assert len({c.color for c in labels.classes}) == 2
    again, _ = arrange([b], known=labels)
    assert [c.color for c in again.classes] == [c.color for c in labels.classes]
    shared = arrange([a, taxonomy("acme/b", "road", ids=(9,))])[0]
    assert shared.classes[0].color == (1, 1, 2)
    assert arrange([taxonomy("acme/b", "road", ids=(9,))], known=shared)[0].classes[0].color == (1, 1, 2)


def test_a_dataset_that_joins_later_keeps_the_numbers_of_the_first():
    plain = from_categories(taxonomy("", "road", "sky", ids=(5, 9)).categories)
    known = with_sources(plain, "acme/a")
    assert known.category_table() == plain.category_table()
    a, b = taxonomy("acme/a", "street", "sky", ids=(5, 9)), taxonomy("acme/b", "pole", "sky", ids=(5, 9))
    labels, changes = arrange([b, a], known=known)  # in any order, once there is an earlier round
    assert labels.names == ("street", "sky", "pole")
    assert labels.category_table("acme/b") == {5: 3, 9: 2}
    assert changes == TaxonomyChanges(added=("pole",), renamed=(("road", "street"),))


def test_a_dataset_that_is_not_given_in_a_round_stays_as_it_was():
    a, b = taxonomy("acme/a", "road", "sky"), taxonomy("acme/b", "pole", "sky")
    known = arrange([a, b])[0]
    without, changes = arrange([a], known=known)
    assert (without, bool(changes)) == (known, False)
    back, changes = arrange([a, taxonomy("acme/b", "post", "sky")], known=without)
    assert back.names == ("road", "sky", "post")
    assert changes.renamed == (("pole", "post"),)


def test_a_rename_that_one_dataset_made_leaves_the_shared_class_its_name():
    a, b = taxonomy("acme/a", "pavement", "sky"), taxonomy("acme/b", "pavement", "sky")
    known = arrange([a, b])[0]
    labels, changes = arrange([taxonomy("acme/a", "footpath", "sky"), b], known=known)
    assert labels.names == known.names and not changes
    assert labels.category_table("acme/a") == {1: 1, 2: 2}


def test_datasets_with_the_same_numbers_and_names_are_still_two():
    known = arrange([taxonomy("acme/a", "road", "sky"), taxonomy("acme/b", "road", "sky")])[0]
    now = [taxonomy("acme/a", "street", "sky"), taxonomy("acme/b", "road", "sky"), taxonomy("acme/c", "road")]
    labels, _ = arrange(now, known=known)
    assert [labels.category_table(f"acme/{d}")[1] for d in "abc"] == [1, 1, 1]


@pytest.mark.parametrize("order", ["abc", "cba"])
def test_a_rename_onto_a_name_that_is_new_elsewhere_is_refused(order):
    known = arrange([taxonomy(f"acme/{d}", "road") for d in "abc"])[0]
    now = {"a": taxonomy("acme/a", "road"), "b": taxonomy("acme/b", "road", "curb"), "c": taxonomy("acme/c", "curb")}
    with pytest.raises(TaxonomyError, match="'curb' is drawn as 'road' in the earlier round, and its new name"):
        arrange([now[d] for d in order], known=known)
    labels, _ = arrange([now[d] for d in order], known=known, allow_renumbering=True)
    assert [labels.category_table(f"acme/{d}") for d in "abc"] == [{1: 1}, {1: 1, 2: 2}, {1: 2}]


def test_a_rename_onto_another_datasets_class_is_refused():
    known = arrange([taxonomy("acme/a", "pavement", "sky"), taxonomy("acme/b", "sidewalk")])[0]
    now = [taxonomy("acme/a", "sidewalk", "sky"), taxonomy("acme/b", "sidewalk")]
    with pytest.raises(TaxonomyError, match="'sidewalk' is drawn as 'pavement' in the earlier round"):
        arrange(now, known=known)
    labels, changes = arrange(now, known=known, allow_renumbering=True)
    assert labels.category_table("acme/a") == {1: 3, 2: 2}
    assert changes == TaxonomyChanges(removed=("pavement",), moved=(("sidewalk", "pavement", "sidewalk"),))


# -------------------------------------------------------------------- a labels file


def test_a_labels_file_merges_orders_and_drops_and_the_rest_follows():
    labels = first()
    assert labels.names == ("walkable", "road", "human-person")
    assert labels.category_table() == {1: 2, 2: 1, 3: 1, 4: 3, 5: 0}
    assert [c.category_ids for c in labels.classes] == [(), (), ()]


@pytest.mark.parametrize(
    ("rest", "names", "person"), [("keep", ("walkable", "human-person"), 2), ("drop", ("walkable",), 0)]
)
def test_what_is_not_named_is_kept_or_dropped(rest, names, person):
    text = f'rest = "{rest}"\ndrop = ["void-unclear", "flat-road"]\nclasses.walkable = ["flat-sidewalk", "flat-curb"]'
    labels = first(text)
    assert (labels.names, labels.category_table()[4]) == (names, person)


def test_what_is_not_named_may_be_an_error():
    with pytest.raises(TaxonomyError, match="does not name category 'human-person'") as e:
        first('rest = "error"\n' + FILE)
    assert "rest =" in e.value.hint
    assert first('rest = "error"\n' + FILE + 'human = "human-person"').num_labels == 3


def test_an_unlabeled_category_is_unlabeled_whatever_the_rest_is():
    city = taxonomy("acme/city", "road", "Unlabeled")
    for rest in ("keep", "drop", "error"):
        labels = arrange([city], file=labels_file(f'rest = "{rest}"\nclasses.way = "road"'))[0]
        assert labels.names == ("way",) and labels.category_table() == {1: 1, 2: 0}
    assert first('[classes]\nvoid = "Unlabeled"', city).category_table() == {1: 2, 2: 1}


def test_dropped_is_ignored_and_unlabeled_is_background_where_that_is_a_class():
    city = taxonomy("acme/city", "road", "unlabeled", "sky")
    labels = first('drop = ["sky"]', city, unlabeled="class")
    assert labels.names == ("road", BACKGROUND)
    assert labels.category_table() == {1: 1, 2: 2, 3: 0}
    again, changes = later(labels, city, text=None)
    assert (again, bool(changes)) == (labels, False)


def test_the_file_may_give_colours():
    labels = first('[classes]\nroad = { categories = ["flat-road"], color = "#ff8000" }\nway = "flat-curb"')
    assert [c.color for c in labels.classes[:2]] == [(255, 128, 0), (3, 1, 2)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[classes]\nroad = "flat-rod"',
            "class 'road' names 'flat-rod', which is no category.*did you mean 'flat-road'",
        ),
        ('drop = ["sky"]', "drop names 'sky', which is no category of the release; there are: flat-curb, flat-road"),
        ('[classes]\nhuman-person = "flat-road"', "has a class 'human-person' without the category of that name"),
        ('rest = "drop"\ndrop = ["flat-road"]', "0 classes"),
        ('[classes]\nHuman_Person = "flat-road"', "'human-person' and class 'Human_Person' differ in spelling alone"),
    ],
)
def test_a_file_that_does_not_fit_the_release_is_refused(text, says):
    with pytest.raises(TaxonomyError, match=says):
        first(text)


def test_what_a_file_said_of_a_name_holds_for_a_dataset_that_joins_later():
    known = first('rest = "error"\n' + FILE + 'human = "human-person"')
    other = taxonomy("acme/other", "void-unclear", "flat-curb", "human-person")
    labels, changes = later(known, CITY, other, text=None)
    assert (labels.names, bool(changes)) == (known.names, False)
    assert labels.category_table("acme/other") == {1: 0, 2: 1, 3: 3}


# -------------------------------------------------------------------- a labels file through rounds


def test_the_same_file_gives_the_same_numbers_and_new_categories_come_last():
    known = first()
    again, changes = later(known, CITY)
    assert (again, bool(changes)) == (known, False)
    grown = taxonomy("acme/city", *(c.name for c in CITY.categories), "bike", ids=(1, 2, 3, 4, 5, 0))
    for text in (FILE, None):  # what the file said is pinned with the rest
        labels, changes = later(known, grown, text=text)
        assert labels.names == ("walkable", "road", "human-person", "bike")
        assert labels.category_table() == known.category_table() | {0: 4}
        assert changes == TaxonomyChanges(added=("bike",))


@pytest.mark.parametrize("with_file", [True, False])
@pytest.mark.parametrize("rest", ["drop", "error"])
def test_the_rest_is_pinned_too(rest, with_file):
    text = f'rest = "{rest}"\n' + FILE + 'human = "human-person"\n'
    known = first(text)
    grown = taxonomy("acme/city", *(c.name for c in CITY.categories), "bike")
    if rest == "drop":
        assert later(known, grown, text=text if with_file else None)[0].category_table()[6] == 0
    else:
        with pytest.raises(TaxonomyError, match="does not name category 'bike'"):
            later(known, grown, text=text if with_file else None)


def test_the_order_of_a_later_file_moves_nothing():
    known = first()
    turned = 'drop = ["void-unclear"]\n[classes]\nroad = "flat-road"\nwalkable = ["flat-curb", "flat-sidewalk"]\n'
    assert later(known, CITY, text=turned)[0] == known


def test_a_category_renamed_on_segments_ai_stays_in_its_class_under_either_name():
    renamed = taxonomy("acme/city", "flat-road", "flat-sidewalk", "kerb", "human", "void")
    for text in (FILE, None, FILE.replace("flat-curb", "kerb").replace("void-unclear", "void")):
        labels, changes = later(first(), renamed, text=text)
        assert labels.category_table() == first().category_table()
        assert changes == TaxonomyChanges(renamed=(("human-person", "human"),))
        assert labels.names == ("walkable", "road", "human")
        third, nothing = later(labels, renamed, text=text and text.replace("flat-curb", "kerb").replace("-unclear", ""))
        assert (third, bool(nothing)) == (labels, False)


def test_a_class_renamed_in_the_file_keeps_its_number():
    labels, changes = later(first(), CITY, text=FILE.replace("walkable", "footway"))
    assert labels.names == ("footway", "road", "human-person")
    assert changes == TaxonomyChanges(renamed=(("walkable", "footway"),))


CHANGED = {
    "taken out": FILE.replace(', "flat-curb"', ""),
    "moved": FILE.replace(', "flat-curb"', "").replace('"flat-road"', '["flat-road", "flat-curb"]'),
    "merged": FILE.replace('"flat-road"', '["flat-road", "human-person"]'),
    "dropped": FILE.replace('["void-unclear"]', '["void-unclear", "human-person"]'),
    "taken back": FILE.replace('drop = ["void-unclear"]', ""),
    "split": FILE.replace('walkable = ["flat-sidewalk", "flat-curb"]', 'way = "flat-sidewalk"\nedge = "flat-curb"'),
    "all dropped": 'rest = "drop"\n' + FILE,
    "unmerged": 'drop = ["void-unclear"]',
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_file_that_puts_categories_elsewhere_is_refused_unless_told(change):
    with pytest.raises(TaxonomyError, match=r"is drawn as .* in the earlier round, and --labels .* makes it") as e:
        later(first(), CITY, text=CHANGED[change])
    assert "--allow-renumbering" in e.value.hint
    labels, changes = later(first(), CITY, text=CHANGED[change], allow=True)
    assert changes.moved
    fresh = first(CHANGED[change])
    same = {
        i: (labels.id2label[a], fresh.id2label[fresh.category_table()[i]]) for i, a in labels.category_table().items()
    }
    assert all(a == b for a, b in same.values())  # what the file says
    assert labels.num_labels >= 3 and labels.names[1] == "road"  # slots stay


def test_a_renumbering_is_refused_as_without_a_file():
    moved = taxonomy("acme/city", *(c.name for c in CITY.categories), ids=(2, 1, 3, 4, 5))
    with pytest.raises(TaxonomyError, match=r"'flat-sidewalk' was number 2 and is now 1 .*--allow-renumbering"):
        later(first(), moved)
    labels, changes = later(first(), moved, allow=True)
    assert labels.category_table() == {2: 2, 1: 1, 3: 1, 4: 3, 5: 0}
    assert len(changes.renumbered) == 2 and not changes.moved


def test_a_removed_category_keeps_its_place_and_its_line_in_the_file():
    fewer = Taxonomy("acme/city", CITY.categories[:3])
    labels, changes = later(first(), fewer)
    assert labels.names == first().names
    assert labels.category_table() == {1: 2, 2: 1, 3: 1}
    assert changes == TaxonomyChanges(removed=("human-person",))
    assert later(labels, CITY)[0] == first()
    other = taxonomy("acme/city", "flat-road", "flat-sidewalk", "flat-curb", "tram")
    assert later(labels, other)[0].names == (*first().names, "tram")  # the number of a removed category is free


# -------------------------------------------------------------------- properties

NAMES = st.sampled_from(["road", "curb", "sky", "pole", "car", "unlabeled", "background", "tree"])
DATASET = st.lists(st.tuples(st.integers(0, 9), NAMES), min_size=1, unique_by=(lambda c: c[0], lambda c: c[1]))
ROUND = st.dictionaries(st.sampled_from(["acme/a", "acme/b", "acme/c"]), DATASET, min_size=1)


def as_taxonomies(found: dict[str, list[tuple[int, str]]]) -> list[Taxonomy]:
    return [Taxonomy(d, tuple(Category(i, n) for i, n in categories)) for d, categories in found.items()]


@given(st.lists(ROUND, min_size=1, max_size=4), st.sampled_from(["ignore", "class"]))
def test_no_round_moves_a_class_and_every_category_has_its_own(rounds, unlabeled):
    labels = None
    for found in rounds:
        if all(name == "unlabeled" for categories in found.values() for _, name in categories) and labels is None:
            return
        before, known = labels, labels.names if labels else ()
        labels, changes = arrange(as_taxonomies(found), known=before, unlabeled=unlabeled, allow_renumbering=True)
        renamed = dict(changes.renamed)
        assert labels.names[: len(known)] == tuple(renamed.get(n, n) for n in known)
        for dataset, categories in found.items():
            table = labels.category_table(dataset)
            assert set(table) == {i for i, _ in categories}
            expected = {n: labels.background_id if n == "unlabeled" else table[i] for i, n in categories}
            assert {n: table[i] for i, n in categories} == expected
            classed = [d for n, d in expected.items() if n != "unlabeled"]
            if unlabeled == "ignore":
                assert len(set(classed)) == len(classed)  # two categories of one dataset are never one class
        assert from_json(LabelMap, to_json(labels)) == labels
        assert arrange(as_taxonomies(found), known=labels, unlabeled=unlabeled)[0] == labels


def test_a_class_of_the_file_is_not_handed_to_a_renamed_category():
    known = first('[classes]\nother = "sky"', taxonomy("acme/a", "road", "sky"))
    now = taxonomy("acme/a", "way", "sky", "street")
    with pytest.raises(TaxonomyError, match="'way' is drawn as 'road' in the earlier round"):
        later(known, now, text='[classes]\nother = "sky"\nroad = "street"')


PLACES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["X", "Y", "a", "drop"]), max_size=6)


@given(
    st.lists(st.tuples(st.sets(st.sampled_from("abcdef"), min_size=1), PLACES, st.booleans()), min_size=1, max_size=4)
)
def test_in_every_round_the_file_is_followed_and_no_number_changes_its_meaning(rounds):
    """With leave to move categories, every round draws them as a first round with that file would."""
    known = None
    for present, said, keeps in rounds:
        places = {c: where for c, where in said.items() if c in present}
        names = {where: [c for c in places if places[c] == where] for where in sorted({*places.values()})}
        drop = names.pop("drop", [])
        file = LabelsFile("f", {n: tuple(c) for n, c in names.items()}, tuple(drop), "keep" if keeps else "drop", {})
        now = Taxonomy("acme/a", tuple(Category(ord(c), c) for c in sorted(present)))
        try:
            fresh, _ = arrange([now], file=file)
        except TaxonomyError:  # no class at all, or "a" without "a"
            return
        labels, changes = arrange([now], file=file, known=known, allow_renumbering=True)
        drawn = {c: labels.id2label[slot] for c, slot in labels.category_table().items()}
        assert drawn == {c: fresh.id2label[slot] for c, slot in fresh.category_table().items()}
        if known is not None:
            renamed = dict(changes.renamed)
            assert labels.names[: known.num_labels] == tuple(renamed.get(n, n) for n in known.names)
            assert {n for n, c in zip(labels.names, labels.classes, strict=True) if not c.removed} == {
                *drawn.values()
            } - {"unlabeled"}
            try:
                again, nothing = arrange([now], file=file, known=labels)
            except TaxonomyError as e:  # a removed category has a place that the file no longer speaks of
                raise AssertionError(str(e)) from e
            assert again == labels and not nothing
        known = labels


def test_a_map_written_before_there_were_sources_still_loads():
    road = {"name": "road", "category_ids": [4], "color": [1, 2, 3], "has_instances": False, "removed": False}
    sky = {"name": "sky", "category_ids": [7], "color": [4, 5, 6], "has_instances": True, "removed": True}
    old = json.dumps({"classes": [road, sky], "unlabeled": "ignore", "unlabeled_ids": [0]})
    labels = from_json(LabelMap, old)
    assert labels.category_table() == {0: 0, 4: 1} == labels.category_table("acme/any")
    assert (labels.sources, labels.rest) == ((), "keep")
    assert with_sources(labels, "acme/a").category_table() == {0: 0, 4: 1}


def test_a_map_that_draws_a_category_as_no_class_is_refused():
    text = to_json(first()).replace('"class_id": 3', '"class_id": 9')
    with pytest.raises(LabelsyncError, match="not 0 to 3"):
        from_json(LabelMap, text)


# -------------------------------------------------------------------- the form of the file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no class and drops nothing"),
        ("[classes", "is not TOML"),
        ("[classes]\nmy class = 3", "is not TOML .* stand in quotes"),
        ('[classes]\na = "x"\na = "y"', "is not TOML .*one list"),
        ('drops = ["x"]', "there is no setting 'drops'.*did you mean 'drop'"),
        ('rest = "ignore"', "rest is 'ignore'; it is 'keep', 'drop', 'error'"),
        ("[classes]\na = []", "class 'a' is empty"),
        ("[classes]\na = 3", "class 'a' is not a list of category names"),
        ('[classes]\na = ["x", 3]', "class 'a' is not a list"),
        ('[classes]\nflat.road = "x"', "class 'flat' names no categories; .*quotes"),
        ('[classes]\na = { categories = ["x"], colour = "#000000" }', "has no 'colour' to set"),
        ('[classes]\na = { categories = ["x"], color = "red" }', "the color of class 'a' is 'red'; write"),
        ('[classes]\na = { categories = ["x"], color = [1, 2, 300] }', "the color of class 'a'"),
        ('[classes]\n"Unlabeled" = "x"', "what disk id 0 is called; list its categories under drop"),
        ('[classes]\n" " = "x"', "a class has no name"),
        ('[classes]\na = "x"\nb = ["y", "x"]', "category 'x' stands in class 'a' and in class 'b'"),
        ('drop = ["x"]\n[classes]\na = "x"', "category 'x' stands in class 'a' and in drop"),
        ('[classes]\na = ["x", "x"]', "category 'x' stands twice in class 'a'"),
        ('[classes]\na = "x"\ndrop = ["y"]', r"drop stands below \[classes\]; put it above"),
        ("classes = 3", "classes is no table"),
        ("drop = 3", "drop is not a list"),
    ],
)
def test_a_file_that_says_nothing_or_two_things_is_refused(text, says, tmp_path):
    with pytest.raises(OptionError, match=says) as e:
        labels_file(text, tmp_path)
    assert str(tmp_path / "labels.toml") in e.value.message
    assert e.value.hint


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(OptionError, match="No such file"):
        read_labels_file(tmp_path / "none.toml")
    (tmp_path / "labels.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="is not TOML"):
        read_labels_file(tmp_path / "labels.toml")


def test_the_file_in_the_readme_is_one():
    (text,) = re.findall(r"^```toml\n(# labels\.toml.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    city = taxonomy("acme/city", "flat-road", "flat-sidewalk", "human-person", "void-unclear", "object-pole", "sky")
    harbour = taxonomy("acme/harbour", "object-pole", "flat-crosswalk", "human-rider")
    labels = first(text, city, harbour)
    assert labels.names == ("walkable", "road", "human", "pole", "object-pole", "sky")
    assert labels.category_table("acme/harbour") == {1: 4, 2: 1, 3: 3}
    assert labels.colors[3].tolist() == [220, 20, 60]
