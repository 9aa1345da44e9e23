"""`release2dataset` and `get_semantic_bitmap`: the old tutorial's flow, and every fault it had.

`FAULTS` says which test stands against which fault of the SDK; `python -m tests.test_dropin` prints it as a table.
"""

import io
import json
import pickle
import re
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given as given_a
from hypothesis import strategies as st
from PIL import Image
from segments import SegmentsClient
from segments.typing import Annotation, Release
from segments.utils import get_semantic_bitmap as sdk_bitmap

from labelsync import LabelsyncError, get_semantic_bitmap, release2dataset
from labelsync.dataset.carried import carried
from labelsync.errors import BitmapError, OptionError, ReleaseNotReady, SamplesFailed, ServiceError, TaxonomyError
from labelsync.hub.dropin import ReleaseDataset
from labelsync.pixels.instance import encode_instance_bitmap
from tests.loopback.hub import WRITE_TOKEN
from tests.loopback.segments import KEY, LoopbackSegments
from tests.releases import draw_release, edit_release, sample_uuid
from tests.test_docs import blocks

FAULTS = {  # fault -> (what the SDK did, the test that it does not happen here)
    "B2": ("ids over 65535 are clipped", "test_ids_to_2_24_come_through_exactly"),
    "B10": ("IndexError on [], TypeError on None", "test_a_label_without_annotations_is_all_unlabeled"),
    "B11": ("id beyond the annotations: IndexError, in a hole: 0", "test_a_drawn_id_without_annotation_is_refused"),
    "B12": ("category 0 merges with unlabeled", "test_category_0_is_refused_unless_it_is_incremented"),
    "B13": ("memory in proportion to an id", "test_memory_is_not_in_proportion_to_an_id"),
    "B14": ("duplicate annotation id: the last wins", "test_one_id_with_two_categories_is_refused"),
    "B15": ("category over 255: all-zero bitmaps", "test_categories_to_65535_come_through_exactly"),
    "R1": ("bitmaps stored as raw TIFF, 100 times their size", "test_bitmaps_are_stored_small"),
    "R2": ("semantic bitmaps are int64, then 32-bit TIFF", "test_the_flow_leaves_8_bit_png_labels"),
    "R3": ("map aborts on a sample without annotations", "test_the_flow_takes_skipped_and_unlabeled_samples"),
    "R4": ("a 403 or 404 becomes a black 1x1 label", "test_a_missing_asset_is_an_error_that_names_the_sample"),
    "R5": ("an unlabeled sample gets a 1x1 bitmap", "test_the_flow_takes_skipped_and_unlabeled_samples"),
    "R6": ("JPEGs are encoded anew", "test_images_keep_their_bytes"),
    "R7": ("EXIF dropped: image 40x20 beside label 20x40", "test_image_and_bitmap_agree_under_exif"),
    "R8": ("id2label[0] overwrites a class", "test_id2label_keeps_category_0"),
    "R9": ("id2label unsorted, with gaps: too few outputs", "test_id2label_has_as_many_names_as_a_model_needs_outputs"),
    "R10": ("id2label lost by map, shuffle, select, split", "test_id2label_is_kept_by"),
    "R11": ("the tutorial pushes without id2label.json", "test_the_tutorial_runs_with_its_imports_changed"),
    "R12": ("DatasetDict.push_to_hub forgets id2label.json", "test_splits_are_pushed_with_id2label"),
    "R13": ("parallel pushes share one temporary file", "test_parallel_pushes_keep_their_own_id2label"),
    "R14": ("README overwrites the card's dataset_info", "test_the_tutorial_runs_with_its_imports_changed"),
    "R15": ("only the labelset ground-truth", "test_another_labelset"),
    "R16": ("one image at a time, nothing resumed", "test_what_was_fetched_is_not_fetched_again"),
    "R17": ("extra keys of annotations", "test_extra_keys_of_a_label_are_no_columns"),
    "R18": ("importing it patches datasets.Dataset for all", "test_other_datasets_are_left_alone"),
}


def test_every_fault_has_its_test():
    assert {name for _, name in FAULTS.values()} <= {n for n, v in globals().items() if callable(v)}
    assert {f"B{i}" for i in range(10, 16)} <= set(FAULTS)


# ---------------------------------------------------------------- get_semantic_bitmap

IDS = np.array([[0, 1], [2, 3]], np.uint32)
ANNOTATIONS = [{"id": 1, "category_id": 5}, {"id": 2, "category_id": 7}, {"id": 3, "category_id": 5}]


def rgba(ids: np.ndarray) -> Image.Image:
    return Image.open(io.BytesIO(encode_instance_bitmap(ids)))


@pytest.mark.parametrize(
    "bitmap",
    [
        *(IDS.astype(t) for t in (np.uint8, np.uint16, np.uint32, np.int32, np.int64)),
        Image.fromarray(IDS.astype(np.uint8)),
        Image.fromarray(IDS.astype(np.uint16)),
        Image.fromarray(IDS.astype(np.int32)),
        rgba(IDS),
        rgba(IDS).convert("RGB"),
        np.asarray(rgba(IDS)),
        IDS.tolist(),
    ],
    ids=lambda b: b.mode if isinstance(b, Image.Image) else f"{np.asarray(b).dtype}-{np.ndim(b)}d",
)
def test_every_form_of_a_bitmap_means_the_same(bitmap):
    made = get_semantic_bitmap(bitmap, ANNOTATIONS)
    assert made.tolist() == [[0, 5], [7, 5]]
    assert made.dtype == np.uint8
    assert get_semantic_bitmap(bitmap, ANNOTATIONS, id_increment=2).tolist() == [[0, 7], [9, 7]]


@given_a(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_it_equals_the_sdk_wherever_the_sdk_is_right(seed, id_increment):
    rng = np.random.default_rng(seed)
    numbers = rng.choice(np.arange(1, 70_000), 8, replace=False)
    annotations = [{"id": int(n), "category_id": int(rng.integers(1, 400))} for n in numbers]
    ids = rng.choice(np.append(numbers[:6], 0), (5, 7)).astype(np.uint32)
    theirs = sdk_bitmap(ids, annotations, id_increment)
    assert (get_semantic_bitmap(ids, annotations, id_increment) == theirs).all()


def test_annotations_may_be_objects_of_the_sdk():
    objects = [Annotation(**a) for a in ANNOTATIONS]
    assert get_semantic_bitmap(IDS, objects, 1).tolist() == [[0, 6], [8, 6]]
    assert get_semantic_bitmap(IDS[:1], iter([{"track_id": 1, "category_id": 4}])).tolist() == [[0, 4]]


def test_a_label_without_annotations_is_all_unlabeled():
    assert get_semantic_bitmap(np.zeros((2, 3), np.uint32), []).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert get_semantic_bitmap(None, []) is None
    assert get_semantic_bitmap(IDS, None) is None
    assert get_semantic_bitmap() is None


@pytest.mark.parametrize("drawn", [9, 4, 2], ids=["beyond", "just beyond", "hole"])
def test_a_drawn_id_without_annotation_is_refused(drawn):
    ids = np.array([[0, 1, drawn]], np.uint32)
    with pytest.raises(BitmapError, match=f"instance id {drawn} is drawn on 1 pixels and has no annotation"):
        get_semantic_bitmap(ids, [{"id": 1, "category_id": 5}, {"id": 3, "category_id": 5}])


def test_category_0_is_refused_unless_it_is_incremented():
    annotations = [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 1}]
    with pytest.raises(
        BitmapError, match=r"category 0 would become 0 .*pass id_increment=1 and number the id2label so"
    ):
        get_semantic_bitmap(IDS[:, :1], annotations, id_increment=0)
    assert get_semantic_bitmap(np.array([[0, 1, 2]]), annotations, id_increment=1).tolist() == [[0, 1, 2]]
    with pytest.raises(BitmapError, match="category 5 would become 0"):  # the same by another way
        get_semantic_bitmap(IDS, ANNOTATIONS, id_increment=-5)


def test_memory_is_not_in_proportion_to_an_id():
    ids = np.zeros((64, 64), np.uint32)
    ids[0, 0], ids[0, 1] = (1 << 24) - 1, 5
    annotations = [{"id": i, "category_id": 3} for i in (5, (1 << 24) - 1, 1 << 31, 1 << 62)]
    tracemalloc.start()
    try:
        made = get_semantic_bitmap(ids, annotations)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made[0, :3].tolist() == [3, 3, 0]
    assert peak < 1_000_000  # the SDK: 8 bytes per number up to the largest id


def test_one_id_with_two_categories_is_refused():
    with pytest.raises(BitmapError, match="annotation id 1 occurs twice with different categories"):
        get_semantic_bitmap(IDS, [*ANNOTATIONS, {"id": 1, "category_id": 6}])
    assert get_semantic_bitmap(IDS, [*ANNOTATIONS, ANNOTATIONS[0]]).tolist() == [[0, 5], [7, 5]]


@pytest.mark.parametrize(("category", "dtype"), [(254, np.uint8), (255, np.uint16), (65535, np.uint16)])
def test_categories_to_65535_come_through_exactly(category, dtype):
    made = get_semantic_bitmap(IDS[:1], [{"id": 1, "category_id": category}])
    assert made.tolist() == [[0, category]]
    assert made.dtype == dtype
    with pytest.raises(BitmapError, match="category 65536"):
        get_semantic_bitmap(IDS[:1], [{"id": 1, "category_id": 65536}])


@pytest.mark.parametrize(
    ("bitmap", "annotations", "why"),
    [
        (IDS.astype(float), ANNOTATIONS, "float64"),
        (IDS[0], ANNOTATIONS, r"\(2,\)"),
        (np.array([[-1, 1]]), ANNOTATIONS, "-1"),
        (Image.fromarray(np.array([[-1, 1]], np.int32)), ANNOTATIONS, "-1"),
        (IDS, [{"id": 1}], "annotation 1 has no integer"),
        (IDS, [*ANNOTATIONS, {"id": "2", "category_id": 1}], "annotation 4 has no integer"),
        (IDS, ["car"], "annotation 1 has no integer"),
    ],
)
def test_what_is_no_bitmap_or_no_annotation_is_refused(bitmap, annotations, why):
    with pytest.raises(BitmapError, match=why):
        get_semantic_bitmap(bitmap, annotations)


# ---------------------------------------------------------------- release2dataset


def given(server: LoopbackSegments, path: Path) -> Release:
    """The SDK's Release object of a release file."""
    dataset, _, release = server.add_round(path).partition("@")
    with SegmentsClient(KEY, server.url) as client:
        return client.get_release(dataset, release)


def semantic(dataset: Any, id_increment: int = 0, **options: Any) -> Any:
    """The tutorial's flow up to the push."""

    def convert(row: dict[str, Any]) -> dict[str, Any]:
        bitmap = get_semantic_bitmap(row["label.segmentation_bitmap"], row["label.annotations"], id_increment)
        return {"label.segmentation_bitmap": bitmap}

    made = dataset.map(convert, **options)
    made = made.rename_column("image", "pixel_values").rename_column("label.segmentation_bitmap", "label")
    return made.remove_columns(["name", "uuid", "status", "label.annotations"])


def stored(dataset: Any, column: str) -> list[bytes]:
    """The files of an image column as they are stored."""
    return [row["bytes"] for row in dataset.with_format("arrow")[:][column].to_pylist()]


def drawn(folder: Path, i: int, *, seed: int = 0) -> np.ndarray:
    """(H, W) ids of sample i of `draw_release`, read without labelsync."""
    pixels = np.asarray(Image.open(folder / f"bitmaps/{sample_uuid(i, seed=seed)}.png")).astype(np.int64)
    return pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]


def with_ids(path: Path, i: int, change: dict[int, int]) -> Path:
    """Give annotations of sample i other ids, in the file and in its bitmap."""
    ids = drawn(path.parent, i)
    new = ids.copy()
    for old, number in change.items():
        new[ids == old] = number
    (path.parent / f"bitmaps/{sample_uuid(i)}.png").write_bytes(encode_instance_bitmap(new))

    def edit(document: dict[str, Any]) -> None:
        for a in document["dataset"]["samples"][i]["labels"]["ground-truth"]["attributes"]["annotations"]:
            a["id"] = change.get(a["id"], a["id"])

    return edit_release(path, edit)


def test_the_columns_are_those_of_the_sdk(server, tmp_path):
    path = draw_release(tmp_path, samples=3, unlabeled=[1], reviewed=[2])
    release = given(server, path)
    rows = release2dataset(release)
    assert rows.column_names == ["name", "uuid", "status", "image", "label.annotations", "label.segmentation_bitmap"]
    assert rows["status"][:] == ["LABELED", "UNLABELED", "REVIEWED"]
    assert rows["uuid"][:] == [sample_uuid(i) for i in range(3)]
    document = json.loads(path.read_text())["dataset"]["samples"]
    listed = document[2]["labels"]["ground-truth"]["attributes"]["annotations"]
    assert rows[2]["label.annotations"] == [{"id": a["id"], "category_id": a["category_id"]} for a in listed]
    assert (np.asarray(rows[2]["label.segmentation_bitmap"]) == drawn(tmp_path, 2)).all()
    assert str(rows.split) == "train"
    assert rows.info.homepage == "https://segments.ai/acme/sidewalk"

    urls = release2dataset(release, False)
    assert urls.column_names == [
        *("name", "uuid", "image.url", "status", "label.annotations", "label.segmentation_bitmap.url")
    ]
    assert urls[2]["image.url"].endswith("/images/frame_0002.jpg")
    assert urls[1]["label.segmentation_bitmap.url"] is None
    assert urls.id2label == rows.id2label == {0: "unlabeled", 1: "class-1", 2: "class-2", 3: "class-3"}


def test_any_source_of_pull_will_do(server, tmp_path, monkeypatch):
    path = draw_release(tmp_path, samples=2)
    name = server.add_round(path)
    for variable, value in server.env.items():
        monkeypatch.setenv(variable, value)
    url = f"{server.mount(tmp_path)}release.json"
    by_hand = SimpleNamespace(attributes=SimpleNamespace(url=url))  # as tests of old code make one
    digests = {tuple(stored(release2dataset(s), "image")) for s in (name, path, str(path), url, by_hand)}
    assert len(digests) == 1


def test_a_signed_url_goes_first(server, tmp_path):
    url = f"{server.mount(draw_release(tmp_path, samples=2).parent)}release.json"
    private = f"{server.storage_url}/private/release.json"
    signed = SimpleNamespace(attributes=SimpleNamespace(url=private, signed_url=f"{url}?X-Amz-Signature=secret"))
    assert len(release2dataset(signed)) == 2
    signed.attributes.signed_url = f"{private}?X-Amz-Signature=secret"
    with pytest.raises(ServiceError, match="403") as caught:
        release2dataset(signed)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", ["PENDING", "FAILED"])
def test_a_release_without_file_is_not_ready(server, tmp_path, status):
    server.add_round(draw_release(tmp_path, samples=1), polls=9, outcome=status)
    with SegmentsClient(KEY, server.url) as client:
        release = client.get_release("acme/sidewalk", "v1.0")
    with pytest.raises(ReleaseNotReady, match=r"release 'v1.0' has no file, its status is PENDING; get it again"):
        release2dataset(release)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "/etc/hostname", "acme/sidewalk@v1", 7])
def test_an_object_leads_to_the_web_only(url):
    with pytest.raises(OptionError, match="is no release"):
        release2dataset(SimpleNamespace(attributes=SimpleNamespace(url=url)))
    with pytest.raises(OptionError, match="dict is no release"):
        release2dataset({"name": "v1"})


def test_ids_to_2_24_come_through_exactly(server, tmp_path):
    path = draw_release(tmp_path, samples=3)
    with_ids(path, 0, {1: 65536, 2: 70000, 3: (1 << 24) - 1})
    with_ids(path, 1, {1: 300, 2: 65535})
    rows = release2dataset(given(server, path))
    for i, mode in enumerate(("I", "I;16", "L")):
        assert rows[i]["label.segmentation_bitmap"].mode == mode
        assert (np.asarray(rows[i]["label.segmentation_bitmap"]) == drawn(tmp_path, i)).all()
    made = semantic(rows)
    for i in range(3):
        category = {a["id"]: a["category_id"] for a in rows[i]["label.annotations"]} | {0: 0}
        assert (np.asarray(made[i]["label"]) == np.vectorize(category.get)(drawn(tmp_path, i))).all()
    assert max(map(len, stored(rows, "label.segmentation_bitmap"))) < 2_000  # the 32-bit one is packed too


def test_an_annotation_that_is_not_drawn_may_have_any_id(server, tmp_path):
    path = draw_release(tmp_path, samples=2)

    def extra(number: int) -> Any:
        def edit(document: dict[str, Any]) -> None:
            label = document["dataset"]["samples"][0]["labels"]["ground-truth"]["attributes"]
            label["annotations"].append({"id": number, "category_id": 1})

        return edit

    edit_release(path, extra(1 << 31))
    rows = release2dataset(given(server, path))
    assert rows[0]["label.annotations"][-1] == {"id": 1 << 31, "category_id": 1}
    edit_release(path, extra(1 << 63))
    with pytest.raises(SamplesFailed, match=r"frame_0000.*its annotations have the number 9223372036854775808"):
        release2dataset(path)


def test_bitmaps_are_stored_small(server, tmp_path):
    path = draw_release(tmp_path, samples=2, size=(300, 400))
    rows = release2dataset(given(server, path))
    sizes = [p.stat().st_size for p in (tmp_path / "bitmaps").iterdir()]  # packed by Pillow, with more effort
    assert all(data.startswith(b"\x89PNG") for data in stored(rows, "label.segmentation_bitmap"))
    assert sum(map(len, stored(rows, "label.segmentation_bitmap"))) < 1.5 * sum(sizes)


@pytest.mark.parametrize("options", [{}, {"num_proc": 2}], ids=["one process", "two processes"])
def test_the_flow_leaves_8_bit_png_labels(server, tmp_path, options):
    path = draw_release(tmp_path, samples=4)
    rows = release2dataset(given(server, path))
    made = semantic(rows, **options)  # warnings are errors: the SDK's flow warns of downcasting
    assert made.features == datasets.Features({"pixel_values": datasets.Image(), "label": datasets.Image()})
    assert {(row["label"].format, row["label"].mode) for row in made} == {("PNG", "L")}
    assert {np.asarray(row["label"]).max() <= 3 for row in made} == {True}
    assert made.id2label == rows.id2label


@pytest.mark.parametrize("number", [300, 65535])
def test_the_flow_leaves_16_bit_pngs_where_classes_need_them(server, tmp_path, number):
    path = draw_release(tmp_path, samples=3, category_ids=(1, number))
    with pytest.warns(UserWarning, match=f"category ids go up to {number}"):
        rows = release2dataset(given(server, path))
    made = semantic(rows)
    assert {(row["label"].format, row["label"].mode) for row in made if number in np.asarray(row["label"])} == {
        ("PNG", "I;16")
    }
    assert rows.id2label[number] == f"class-{number}"


def test_batches_and_rows_changed_in_place_leave_pngs_too(server, tmp_path):
    rows = release2dataset(given(server, draw_release(tmp_path, samples=3)))
    column = "label.segmentation_bitmap"

    def in_place(row: Any) -> Any:
        row[column] = get_semantic_bitmap(row[column], row["label.annotations"])
        return row

    def batch(rows: Any) -> Any:
        return {column: [get_semantic_bitmap(*p) for p in zip(rows[column], rows["label.annotations"], strict=True)]}

    wanted = stored(semantic(rows), "label")
    assert stored(rows.map(in_place), column) == wanted
    assert stored(rows.map(batch, batched=True, batch_size=2), column) == wanted
    assert stored(rows.map(in_place), "image") == stored(rows, "image")


def test_the_flow_takes_skipped_and_unlabeled_samples(server, tmp_path):
    path = draw_release(tmp_path, samples=4, skipped=[0], unlabeled=[1], empty=[2])
    edit_release(
        path, lambda d: d["dataset"]["samples"][2]["labels"]["ground-truth"]["attributes"].pop("segmentation_bitmap")
    )
    rows = release2dataset(given(server, path))
    assert rows["status"][:] == ["SKIPPED", "UNLABELED", "LABELED", "LABELED"]
    made = semantic(rows)
    assert [row["label"] and np.asarray(row["label"]).any() for row in made] == [False, None, False, True]
    assert {row["pixel_values"].size for row in made} == {(64, 48)}
    assert {row["label"].size for row in made if row["label"]} == {(64, 48)}


@pytest.mark.parametrize(("code", "path"), [(403, "/images/frame_0001"), (404, "/bitmaps/")])
def test_a_missing_asset_is_an_error_that_names_the_sample(server, tmp_path, code, path):
    release = given(server, draw_release(tmp_path, samples=3))
    server.faults.status(code, path=path)
    with pytest.raises(SamplesFailed, match=rf"sample 'frame_000\d.jpg' .*: (image|bitmap) http\S+: {code} "):
        release2dataset(release)
    assert len(release2dataset(release)) == 3


def test_failed_samples_are_left_out_only_as_far_as_allowed(server, tmp_path):
    path = draw_release(tmp_path, samples=5, wrong_size=[0], unknown_instance=[2], unknown_category=[3])
    release = given(server, path)
    with pytest.raises(SamplesFailed, match=r"2 more of 5 samples failed; .* pass allow_failed=3") as caught:
        release2dataset(release, allow_failed=2)
    assert [re.sub(r" \(.*?\)", "", line) for line in caught.value.details] == [
        "'frame_0000.jpg': its bitmap is 46x64, its image 48x64 pixels high x wide",
        "'frame_0002.jpg': instance id 999 is drawn on 6 pixels and has no annotation",
        "'frame_0003.jpg': annotation 1 has category 60000, which the taxonomy does not have",
    ]
    with pytest.warns(UserWarning, match="3 of 5 samples are left out: 'frame_0000.jpg'"):
        rows = release2dataset(release, allow_failed=3)
    assert rows["name"][:] == ["frame_0001.jpg", "frame_0004.jpg"]


def test_images_keep_their_bytes(server, tmp_path):
    rows = release2dataset(given(server, draw_release(tmp_path, samples=3)))
    original = [p.read_bytes() for p in sorted((tmp_path / "images").iterdir())]
    assert stored(rows, "image") == original
    assert stored(semantic(rows), "pixel_values") == original


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_and_bitmap_agree_under_exif(server, tmp_path, orientation):
    path = draw_release(tmp_path, samples=1, size=(20, 40))  # drawn in the turned frame, as on Segments.ai
    upright = Image.open(tmp_path / "images/frame_0000.jpg")
    turned = upright.transpose(Image.Transpose.ROTATE_90) if orientation > 4 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned.save(tmp_path / "images/frame_0000.jpg", exif=exif)
    row = release2dataset(given(server, path))[0]
    assert row["image"].size == row["label.segmentation_bitmap"].size == (40, 20)


def test_id2label_keeps_category_0(server, tmp_path):
    path = draw_release(tmp_path, samples=4, category_ids=(0, 1, 2))
    rows = release2dataset(given(server, path))
    assert rows.id2label == {0: "unlabeled", 1: "class-0", 2: "class-1", 3: "class-2"}
    with pytest.raises(BitmapError, match="category 0 would become 0"):
        semantic(rows)
    made = semantic(rows, id_increment=1)
    for i, row in enumerate(made):
        assert ((np.asarray(row["label"]) > 0) == (drawn(tmp_path, i) > 0)).all()
        names = {f"class-{a['category_id']}" for a in rows[i]["label.annotations"]}
        assert {made.id2label[n] for n in np.unique(row["label"]).tolist()} - {"unlabeled"} == names


def test_a_category_called_unlabeled_is_unlabeled(server, tmp_path):
    path = draw_release(tmp_path, samples=4, category_ids=(0, 1, 2))
    edit_release(path, lambda d: d["dataset"]["task_attributes"]["categories"][0].update(name="Unlabeled"))
    rows = release2dataset(given(server, path))
    assert rows.id2label == {0: "unlabeled", 1: "class-1", 2: "class-2"}
    for i, row in enumerate(semantic(rows)):
        kept = [a["id"] for a in rows[i]["label.annotations"]]
        assert ((np.asarray(row["label"]) > 0) == np.isin(drawn(tmp_path, i), kept)).all()


@pytest.mark.parametrize(("ids", "missing"), [((5, 2), {1, 3, 4}), ((1, 2), set()), ((0, 3), {2, 3})])
def test_id2label_has_as_many_names_as_a_model_needs_outputs(server, tmp_path, ids, missing):
    rows = release2dataset(given(server, draw_release(tmp_path, samples=2, category_ids=ids)))
    increment = int(0 in ids)
    assert list(rows.id2label) == list(range(max(ids) + increment + 1))
    assert {k for k, v in rows.id2label.items() if v == f"unused-{k}"} == missing
    assert {c: rows.id2label[c + increment] for c in ids} == {c: f"class-{c}" for c in ids}


@pytest.mark.parametrize("ids", [(1, 65536), (-1, 2), (0, 65535)])
def test_a_category_that_no_bitmap_holds_is_refused(tmp_path, ids):
    path = draw_release(tmp_path, samples=1, category_ids=ids)
    with pytest.raises(TaxonomyError, match=r"fits into no bitmap; labelsync pull and convert"):
        release2dataset(path)


def test_another_labelset(server, tmp_path):
    path = draw_release(tmp_path, samples=2)

    def second(document: dict[str, Any]) -> None:
        document["dataset"]["labelsets"].append({"name": "second", "is_groundtruth": False})
        for s in document["dataset"]["samples"]:
            s["labels"] = {"second": s["labels"]["ground-truth"], "ground-truth": None}

    edit_release(path, second)
    assert set(release2dataset(path)["status"]) == {"UNLABELED"}
    assert set(release2dataset(path, labelset="second")["status"]) == {"LABELED"}
    with pytest.raises(OptionError, match="no labelset 'third'"):
        release2dataset(path, labelset="third")


def test_what_was_fetched_is_not_fetched_again(server, tmp_path):
    release = given(server, draw_release(tmp_path, samples=6))
    broken = server.faults.status(404, path="/images/frame_0004")
    with pytest.raises(SamplesFailed):
        release2dataset(release)
    assert broken.hits == 1
    assert len(server.log.find("GET", r"/(images|bitmaps)/")) == 12
    release2dataset(release)
    assert len(server.log.find("GET", r"/(images|bitmaps)/")) == 13


def test_extra_keys_of_a_label_are_no_columns(server, tmp_path):
    path = draw_release(tmp_path, samples=2)

    def extra(document: dict[str, Any]) -> None:
        label = document["dataset"]["samples"][1]["labels"]["ground-truth"]["attributes"]
        label |= {"image_attributes": {"weather": "sunny"}, "links": []}
        label["segmentation_bitmap"]["signed_url"] = "http://elsewhere"
        label["annotations"][0] |= {"track_id": 1, "attributes": {"color": "red"}}

    rows = release2dataset(given(server, edit_release(path, extra)))
    assert rows.features["label.annotations"].feature.keys() == {"id", "category_id"}
    assert len(rows.column_names) == 6


def test_rows_are_read_from_disk_a_few_at_a_time(tmp_path):
    path = draw_release(tmp_path, samples=40, size=(16, 16))
    rows = release2dataset(path)
    (file,) = {f["filename"] for f in rows.cache_files}
    assert Path(file).is_relative_to(datasets.config.HF_DATASETS_CACHE)
    assert [len(b) for b in rows.data.to_batches()] == [16, 16, 8]


def test_the_rows_go_with_the_process_that_made_them(tmp_path):
    path = draw_release(tmp_path, samples=2)
    program = f"""
import os, labelsync
rows = labelsync.release2dataset({str(path)!r})
child = os.fork()
if child == 0:
    raise SystemExit  # runs what a process does on its way out
os.waitpid(child, 0)
(file,) = rows.cache_files
assert os.path.exists(file["filename"])
print(file["filename"])
"""
    argv = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("rows.arrow")
    assert not Path(done.stdout.strip()).parent.parent.exists()


def test_a_release_without_samples_is_a_dataset_without_rows(tmp_path):
    rows = release2dataset(draw_release(tmp_path, samples=0))
    assert len(rows) == 0
    assert "image" in rows.column_names


# ---------------------------------------------------------------- id2label

NAMES = {0: "unlabeled", 1: "class-1", 2: "class-2", 3: "class-3"}
STEPS = {
    "map": lambda d: d.map(lambda row: {"length": len(row["name"])}),
    "filter": lambda d: d.filter(lambda row: row["name"] != "x"),
    "select": lambda d: d.select([1, 0]),
    "shuffle": lambda d: d.shuffle(seed=1),
    "shard": lambda d: d.shard(2, 0),
    "rename_column": lambda d: d.rename_column("image", "pixel_values"),
    "remove_columns": lambda d: d.remove_columns(["uuid"]),
    "select_columns": lambda d: d.select_columns(["name"]),
    "cast_column": lambda d: d.cast_column("name", datasets.Value("large_string")),
    "flatten_indices": lambda d: d.shuffle(seed=1).flatten_indices(),
    "with_format": lambda d: d.with_format("numpy"),
    "with_transform": lambda d: d.with_transform(lambda batch: batch),
    "train_test_split": lambda d: d.train_test_split(0.5, seed=1)["test"],
    "a map of splits": lambda d: d.train_test_split(0.5, seed=1).map(lambda row: {"n": 1}).shuffle(seed=2)["train"],
    "pickle": lambda d: pickle.loads(pickle.dumps(d)),  # noqa: S301 - our own
    "set_format": lambda d: d.set_format("numpy") or d,
    "put back after concatenate_datasets": lambda d: carried(
        datasets.concatenate_datasets([d, d]), id2label=d.id2label, like=ReleaseDataset
    ),
}


@pytest.mark.parametrize("step", STEPS)
def test_id2label_is_kept_by(step, tmp_path):
    rows = release2dataset(draw_release(tmp_path, samples=4))
    made = STEPS[step](rows)
    assert made.id2label == NAMES
    assert type(made) is ReleaseDataset
    made.id2label[1] = "another"
    assert made is rows or rows.id2label == NAMES


def test_every_method_of_datasets_that_makes_a_dataset_keeps_id2label():
    """A new version's new method is wrapped as well."""
    plain = {n for n, v in vars(datasets.Dataset).items() if callable(v) and not n.startswith("_")}
    kept = {n for n in plain if getattr(ReleaseDataset, n) is not getattr(datasets.Dataset, n)}
    assert {"map", "train_test_split", "repeat", "skip", "take", "cast", "add_column"} <= kept
    assert plain - kept <= {n for n in plain if n.startswith("from_")} | {"load_from_disk"}


def test_other_datasets_are_left_alone():
    assert datasets.Dataset.push_to_hub.__module__.startswith("datasets")
    plain = datasets.Dataset.from_dict({"a": [1, 2]}).map(lambda row: {"b": 1})
    assert type(plain) is datasets.Dataset
    assert type(plain.train_test_split(0.5)) is datasets.DatasetDict
    assert not hasattr(plain, "id2label")


# ---------------------------------------------------------------- the Hub


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)


def published(hub: Any, repo: str, revision: str = "main") -> dict[str, str]:
    return json.loads(hub.files(repo, revision)["id2label.json"])


def test_splits_are_pushed_with_id2label(hub, token, tmp_path):
    rows = semantic(release2dataset(draw_release(tmp_path, samples=4)))
    rows.shuffle(seed=1).train_test_split(test_size=0.5, seed=1).push_to_hub("acme/dropin-splits")
    assert published(hub, "acme/dropin-splits") == {str(k): v for k, v in NAMES.items()}
    back = datasets.load_dataset("acme/dropin-splits")
    assert {name: len(part) for name, part in back.items()} == {"train": 2, "test": 2}


def test_parallel_pushes_keep_their_own_id2label(hub, token, tmp_path):
    made = {}
    for n in (2, 3, 4):
        made[f"acme/dropin-parallel-{n}"] = release2dataset(draw_release(tmp_path / str(n), samples=2, classes=n))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda repo: made[repo].push_to_hub(repo), made))
    assert {repo: len(published(hub, repo)) for repo in made} == {repo: int(repo[-1]) + 1 for repo in made}


def test_id2label_follows_the_data_to_a_branch_and_a_pull_request(hub, token, tmp_path):
    rows = release2dataset(draw_release(tmp_path, samples=2))
    rows.push_to_hub("acme/dropin-branch", revision="next", token=WRITE_TOKEN)
    assert set(hub.files("acme/dropin-branch", "next")) >= {"id2label.json", "README.md"}
    assert "id2label.json" not in hub.files("acme/dropin-branch")
    made = rows.push_to_hub("acme/dropin-branch", create_pr=True)
    assert made.pr_revision or made.oid
    (pull,) = [r for r in hub.repo("acme/dropin-branch").refs if r.startswith("refs/pr/")]
    assert set(hub.files("acme/dropin-branch", pull)) >= {"id2label.json", "data/train-00000-of-00001.parquet"}


def test_a_changed_id2label_is_the_one_that_is_pushed(hub, token, tmp_path):
    rows = release2dataset(draw_release(tmp_path, samples=2))
    rows.id2label = {0: "unlabeled", 1: "ground"}
    rows.select([0]).push_to_hub("acme/dropin-changed")
    assert published(hub, "acme/dropin-changed") == {"0": "unlabeled", "1": "ground"}


def test_a_refused_id2label_is_an_error_of_ours(hub, token, tmp_path):
    rows = release2dataset(draw_release(tmp_path, samples=2))
    hub.faults.status(403, method="POST", path="/commit/", skip=1)
    with pytest.raises(LabelsyncError) as caught:
        rows.push_to_hub("acme/dropin-refused")
    assert WRITE_TOKEN not in str(caught.value)
    assert "id2label.json" not in hub.files("acme/dropin-refused")
    with pytest.raises(OptionError, match="not to a bucket"):
        rows.push_to_hub("buckets/acme/dropin")


# ---------------------------------------------------------------- the README

TUTORIAL = """
release = segments_client.get_release(dataset_identifier, release_name)
hf_dataset = release2dataset(release)
def convert_segmentation_bitmap(example):
    return {
        "label.segmentation_bitmap":
            get_semantic_bitmap(
                example["label.segmentation_bitmap"],
                example["label.annotations"],
                id_increment=0,
            )
    }
semantic_dataset = hf_dataset.map(
    convert_segmentation_bitmap,
)
semantic_dataset = semantic_dataset.rename_column('image', 'pixel_values')
semantic_dataset = semantic_dataset.rename_column('label.segmentation_bitmap', 'label')
semantic_dataset = semantic_dataset.remove_columns(['name', 'uuid', 'status', 'label.annotations'])
hf_dataset_identifier = f"{hf_username}/{dataset_name}"
semantic_dataset.push_to_hub(hf_dataset_identifier)
"""


def test_the_tutorial_runs_with_its_imports_changed(server, hub, token, tmp_path):
    (code,) = blocks("py")
    lines = [line for line in code.splitlines() if line.strip()]
    imports = [line for line in lines if "import" in line]
    assert [line for line in lines if line not in imports] == TUTORIAL.strip().splitlines()
    assert [line.partition(" import ")[0] for line in imports] == ["from labelsync"] * 2

    server.add_round(draw_release(tmp_path, samples=6, skipped=[2]))
    with SegmentsClient(KEY, server.url) as client:
        names = {
            "segments_client": client,
            "dataset_identifier": "acme/sidewalk",
            "release_name": "v1.0",
            "hf_username": "acme",
            "dataset_name": "tutorial",
        }
        exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - the README's own words

    rows = datasets.load_dataset("acme/tutorial", split="train")
    assert rows.column_names == ["pixel_values", "label"]
    for i, row in enumerate(rows):
        listed = names["hf_dataset"][i]["label.annotations"]
        category = {a["id"]: a["category_id"] for a in listed} | {0: 0}
        assert (np.asarray(row["label"]) == np.vectorize(category.get)(drawn(tmp_path, i))).all()
    assert published(hub, "acme/tutorial") == {str(k): v for k, v in NAMES.items()}
    assert "dataset_info:" in hub.files("acme/tutorial")["README.md"].decode()


if __name__ == "__main__":
    for fault, (what, test) in FAULTS.items():
        print(f"| {fault} | {what} | `{test}` |")
