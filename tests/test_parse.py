"""Release files as they occur, and as they should not: what `parse_release` makes of them."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelsync.errors import OptionError, ReleaseFormatError
from labelsync.records.release import Annotation, Label, Release
from labelsync.release.folder import file_stem, release_digest
from labelsync.release.parse import default_name, parse_release, uncollected
from labelsync.taxonomy import Category, palette
from tests.releases import draw_release, edit_release, release_document, sample_entry

ANNOTATIONS: list[dict[str, Any]] = [{"id": 1, "category_id": 2, "attributes": {}}]


def document(*entries: Any) -> dict[str, Any]:
    return release_document(list(entries))


def parsed(doc: Any, **kwargs: Any) -> Release:
    return parse_release(json.dumps(doc).encode(), where="release.json", **kwargs)


def entry(**changes: Any) -> dict[str, Any]:
    return sample_entry(0, ANNOTATIONS) | changes


def entry_with_label(**changes: Any) -> dict[str, Any]:
    whole = entry()
    whole["labels"]["ground-truth"] |= changes
    return whole


# -------------------------------------------------------------------- what occurs in the wild


def test_a_release_of_today_is_read_whole(tmp_path: Path) -> None:
    path = draw_release(tmp_path, samples=3, classes=2, groups=2, unlabeled=(1,), skipped=(2,))
    release = parse_release(path.read_bytes(), where="x")
    assert (release.name, release.dataset, release.labelset) == ("v1.0", "acme/sidewalk", "ground-truth")
    assert [c.name for c in release.categories] == ["class-1", "class-2"]
    assert [c.color for c in release.categories] == [palette(1), palette(2)]
    first, second, third = release.samples
    assert first.image_url == "images/frame_0000.jpg"
    assert first.metadata == {"sequence": "seq-0"}
    assert first.label is not None
    assert first.label.bitmap_url == f"bitmaps/{first.uuid}.png"
    assert first.label.annotations[0].id == 1
    assert second.label is None
    assert third.label == Label("SKIPPED", (), f"bitmaps/{third.uuid}.png")
    assert not any(s.problem for s in release.samples)


def test_a_file_trimmed_to_categories_and_samples_is_read() -> None:
    whole = document(entry())
    kept = {k: whole["dataset"][k] for k in ("task_attributes", "samples")}
    release = parsed({"dataset": kept})
    assert (release.name, release.dataset, release.task_type) == ("", "", "segmentation-bitmap")
    assert release.samples[0].label is not None


def test_a_file_from_before_labelsets_is_read() -> None:
    doc = document(entry())
    del doc["dataset"]["labelsets"]
    assert parsed(doc).samples[0].label is not None


def test_a_byte_order_mark_and_escapes_are_json_too() -> None:
    doc = document(entry(name="gehsteig-ä.jpg"))
    assert parse_release(b"\xef\xbb\xbf" + json.dumps(doc).encode(), where="x").samples[0].name == "gehsteig-ä.jpg"


@pytest.mark.parametrize("labels", [None, {}, [], {"ground-truth": None}, "absent"])
def test_a_missing_or_null_label_is_unlabeled(labels: Any) -> None:
    sample = entry(labels=labels)
    if labels == "absent":
        del sample["labels"]
    (got,) = parsed(document(sample)).samples
    assert (got.label, got.problem) == (None, "")


@pytest.mark.parametrize("attributes", [None, [], {}, {"annotations": None}, {"segmentation_bitmap": None}])
def test_a_label_without_attributes_has_nothing_drawn(attributes: Any) -> None:
    (got,) = parsed(document(entry_with_label(attributes=attributes))).samples
    assert (got.label, got.problem) == (Label("LABELED"), "")


@pytest.mark.parametrize("attributes", [None, {}, {"image": None}, {"image": {"url": None}}, {"image": {"url": ""}}])
def test_a_sample_without_image_url_says_none(attributes: Any) -> None:
    assert parsed(document(entry(attributes=attributes))).samples[0].image_url is None


def test_categories_take_float_and_rgba_colours_no_colour_id_zero_and_extra_keys() -> None:
    doc = document(entry())
    doc["dataset"]["task_attributes"]["categories"] = [
        {"id": 0, "name": "a", "color": [1.4, 2.6, 255.0], "foo": "bar"},
        {"id": 300, "name": "b", "color": [1, 2, 3, 128], "has_instances": True, "attributes": None},
        {"id": 7, "name": "c"},
        {"id": 8, "name": "d", "color": "#ff0000"},
        {"id": 9, "name": "e", "color": [1, 2, 999]},
    ]
    assert parsed(doc).categories == (
        Category(0, "a", (1, 3, 255)),
        Category(300, "b", (1, 2, 3), has_instances=True),
        Category(7, "c"),
        Category(8, "d"),
        Category(9, "e"),
    )


def test_an_annotation_known_by_its_track_id_alone_is_taken() -> None:
    sample = entry_with_label(attributes={"annotations": [{"track_id": 5, "category_id": 1.0}]})
    label = parsed(document(sample)).samples[0].label
    assert label is not None
    assert label.annotations == (Annotation(5, 1),)


def test_the_owner_may_be_an_object_as_in_the_api() -> None:
    doc = document(entry())
    doc["dataset"]["owner"] = {"username": "jane", "created_at": "x"}
    assert parsed(doc).dataset == "jane/sidewalk"


def test_another_labelset_is_taken_when_asked_for_and_refused_when_unknown() -> None:
    sample = entry()
    sample["labels"]["image"] = sample["labels"].pop("ground-truth")
    doc = document(sample)
    assert parsed(doc, labelset="image").samples[0].label is not None
    assert parsed(doc).samples[0].label is None  # ground-truth is listed in labelsets
    with pytest.raises(OptionError, match="no labelset 'typo'; pass --labelset ground-truth or image"):
        parsed(doc, labelset="typo")


# -------------------------------------------------------------------- samples that cannot be used


@pytest.mark.parametrize(
    ("sample", "problem"),
    [
        (None, "the entry is not an object"),
        ("frame.jpg", "the entry is not an object"),
        (entry(uuid=None), "it has no uuid"),
        (entry(uuid=""), "it has no uuid"),
        (entry(labels={"ground-truth": ["x"]}), "its label is a list, not an object"),
        (entry_with_label(label_status=None), "its label has no label_status"),
        (entry_with_label(attributes={"annotations": {"1": 2}}), "its annotations are not a list"),
        (entry_with_label(attributes={"annotations": ["x"]}), "its annotation 1 is not an object"),
        (entry_with_label(attributes={"annotations": [{"category_id": 1}]}), "its annotation 1 has no id"),
        (
            entry_with_label(attributes={"annotations": [{"id": 4, "category_id": None}]}),
            "annotation 4 has no category",
        ),
        (entry_with_label(attributes={"annotations": [{"id": True, "category_id": 1}]}), "its annotation 1 has no id"),
    ],
)
def test_a_broken_sample_keeps_its_place_and_says_why(sample: Any, problem: str) -> None:
    good = sample_entry(1, ANNOTATIONS)
    release = parsed(document(sample, good))
    assert len(release.samples) == 2
    assert problem in release.samples[0].problem
    assert release.samples[1].problem == ""


def test_a_second_sample_under_one_uuid_is_a_problem_and_not_a_replacement() -> None:
    release = parsed(document(entry(name="a.jpg"), entry(name="b.jpg"), entry(name="c.jpg")))
    first, second, third = release.samples
    assert first.problem == ""
    assert "is that of sample 'a.jpg' too" in second.problem
    assert len({first.uuid, second.uuid, third.uuid}) == 3


def test_equal_names_are_no_problem() -> None:
    release = parsed(document(entry(), sample_entry(1, ANNOTATIONS) | {"name": entry()["name"]}))
    assert not any(s.problem for s in release.samples)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ("uuid", "name", "attributes", "metadata", "labels")


@given(entries=st.lists(st.one_of(_JSON, st.fixed_dictionaries({}, optional=dict.fromkeys(_KEYS, _JSON))), max_size=5))
def test_whatever_the_entries_are_every_one_is_a_sample_with_a_uuid_of_its_own(entries: list[Any]) -> None:
    release = parsed(document(*entries))
    assert len({s.uuid for s in release.samples}) == len(release.samples) == len(entries)
    assert all(s.name for s in release.samples)


@given(value=_JSON)
def test_whatever_a_label_is_it_is_read_or_a_problem(value: Any) -> None:
    (sample,) = parsed(document(entry(labels={"ground-truth": value}))).samples
    assert sample.label is None or sample.label.status
    assert value is None or sample.label is not None or sample.problem


# -------------------------------------------------------------------- files that are no release


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "release.json is not JSON"),
        (b"{", "release.json is not JSON"),
        (b"\xff\xfe\xff", "release.json is not JSON"),
        (b"[" * 100_000, "release.json is not JSON"),
        (b"<!DOCTYPE html><html>", "release.json is an HTML or XML page, not JSON"),
        (b"[]", "no release: it has no list dataset.samples"),
        (b'{"dataset": []}', "no release: it has no list dataset.samples"),
        (b'{"dataset": {"samples": {}}}', "no release: it has no list dataset.samples"),
        (b'{"dataset": {"samples": []}}', "has no categories"),
    ],
)
def test_what_is_no_release_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(ReleaseFormatError, match=message) as e:
        parse_release(data, where="release.json")
    assert e.value.hint
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "task_type", ["pointcloud-cuboid", "pointcloud-segmentation-sequence", "keypoints", "text", "something-new"]
)
def test_a_task_type_without_pixels_is_refused_and_the_supported_ones_named(task_type: str) -> None:
    doc = release_document([entry()], task_type=task_type)
    with pytest.raises(
        ReleaseFormatError, match=f"'{task_type}'; labelsync converts segmentation-bitmap, .*bboxes; point"
    ):
        parsed(doc)


@pytest.mark.parametrize("category", [{}, {"id": 1}, {"name": "a"}, {"id": None, "name": "a"}, {"id": 1, "name": 2}, 3])
def test_a_broken_taxonomy_is_refused(category: Any) -> None:
    doc = document(entry())
    doc["dataset"]["task_attributes"]["categories"] = [category]
    with pytest.raises(ReleaseFormatError, match="category 1 of 1 has no number or no name"):
        parsed(doc)


# -------------------------------------------------------------------- names on disk


@pytest.mark.parametrize(
    "uuid", ["../../evil", "/etc/passwd", "..", "", "a/b", "A" * 300, "con", "NUL", "x\x00y", "ä", "C:\\x", "~", "-rf"]
)
def test_a_file_stem_is_one_harmless_path_part(uuid: str) -> None:
    stem = file_stem(uuid)
    assert Path(stem).name == stem
    assert stem.isascii()
    assert stem.isprintable()
    assert not stem.startswith((".", "-", "~"))
    assert len(stem) < 80
    assert len(Path(stem + ".jpg").stem) > 4


def test_a_real_uuid_is_its_own_file_stem() -> None:
    assert file_stem("a04af80b-d0f4-4000-a35d-c43d8288e8d3") == "a04af80b-d0f4-4000-a35d-c43d8288e8d3"


_UUIDS = st.text(max_size=9) | st.sampled_from(["frame", "Frame", "FRAME", "frame/", "frame."])


@given(uuids=st.sets(_UUIDS, max_size=8))
def test_different_uuids_never_share_a_file_even_without_case(uuids: set[str]) -> None:
    every = uuids | {file_stem(u) for u in uuids}  # a stem made for one uuid can be another's uuid
    assert len({file_stem(u).lower() for u in every}) == len(every)


def _no_names(doc: dict[str, Any]) -> None:
    doc["name"], doc["dataset"]["name"], doc["dataset"]["owner"] = "", "", None


def _wild_names(doc: dict[str, Any]) -> None:
    doc["name"], doc["dataset"]["name"] = "../fix les labels", "a b/c"


@pytest.mark.parametrize(
    ("change", "expected"),
    [(lambda d: None, "sidewalk-v1.0"), (_no_names, "export"), (_wild_names, "c-..-fix-les-labels")],
)
def test_the_default_folder_is_named_after_the_release(change: Callable[[Any], None], expected: str) -> None:
    doc = document(entry())
    change(doc)
    assert default_name(parsed(doc), where="/data/export.json") == expected


# -------------------------------------------------------------------- the digest


def test_the_digest_ignores_layout_and_signatures_and_sees_everything_else(tmp_path: Path) -> None:
    def digest(change: Callable[[dict[str, Any]], None], **layout: Any) -> str:
        doc = document(entry())
        url = "https://bucket.example/a.jpg?X-Amz-Signature=11&v=1"
        doc["dataset"]["samples"][0]["attributes"]["image"]["url"] = url
        change(doc)
        return release_digest(json.loads(json.dumps(doc, **layout)), where="x")

    def image(url: str) -> Callable[[dict[str, Any]], None]:
        return lambda d: d["dataset"]["samples"][0]["attributes"]["image"].update(url=url)

    same = digest(lambda d: None)
    assert digest(lambda d: None, indent=3, sort_keys=True) == same
    assert digest(image("https://bucket.example/a.jpg?v=1&X-Amz-Signature=22&X-Amz-Date=3")) == same
    assert digest(image("https://bucket.example/a.jpg?X-Amz-Signature=11&v=2")) != same
    assert digest(image("https://bucket.example/b.jpg?X-Amz-Signature=11&v=1")) != same
    assert digest(lambda d: d["dataset"]["samples"][0].update(name="other")) != same
    assert digest(image("http://[")) != same


def test_lone_surrogates_do_not_end_in_a_traceback(tmp_path: Path) -> None:
    path = edit_release(
        draw_release(tmp_path, samples=1), lambda d: d["dataset"]["samples"][0].update(name="\ud800", uuid="\udfff")
    )
    release = parse_release(path.read_bytes(), where="x")
    (release.samples[0].name + release.samples[0].uuid).encode()
    assert release_digest(json.loads(path.read_bytes()), where="x")


def test_cycles_are_looked_for_again_after_a_release_was_read_or_could_not_be():
    assert gc.isenabled()
    with pytest.raises(ReleaseFormatError):
        parse_release(b"{}", where="x")
    assert gc.isenabled()
    gc.disable()
    try:
        with uncollected(), uncollected():
            pass
        assert not gc.isenabled()  # somebody else's choice
    finally:
        gc.enable()
