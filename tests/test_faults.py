"""Every fault of the Segments.ai SDK that is known, and the test that labelsync does not have it.

`python -m tests.test_faults` runs those tests and prints the table: fault, what the SDK does, test, whether it passes.
Where labelsync has no such thing at all, the test is of the promise nearest to it, and `FAULTS` says so.
"""

import importlib
import json
import re
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelsync.dataset.sample import File, LabelledSample, convert_sample
from labelsync.errors import BitmapError
from labelsync.labels import from_categories
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from labelsync.pixels.semantic import decode_semantic, to_semantic
from labelsync.records.release import Row
from labelsync.store.files import sha256
from labelsync.taxonomy import Category
from tests import test_dropin
from tests.commands import Commands
from tests.releases import edit_release, release_document, sample_entry, sample_uuid, write_release

HERE = "tests/test_faults.py::"
DROPIN = "tests/test_dropin.py::"

# fault -> (what the SDK does, the tests that labelsync does not)
FAULTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "B1": (
        "Pillow 13: writing any bitmap to the cache dies",
        (HERE + "test_bitmaps_pass_through_the_cache_unwritten",),
    ),
    "B2": ("ids over 65535 are clipped in the cache", (HERE + "test_large_ids_are_exact_cold_and_warm",)),
    "B3": ("names with one stem share one cache file", (HERE + "test_samples_of_one_stem_keep_their_own_pixels",)),
    "B4": ("the cache is never invalidated", (HERE + "test_a_redrawn_bitmap_under_the_same_release_name_is_seen",)),
    "B5": (
        "a new release fetches everything again",
        ("tests/pull/test_folder.py::test_a_second_round_fetches_only_what_is_new",),
    ),
    "B6": (
        "a sample's name writes outside the cache",
        (
            "tests/pull/test_samples.py::test_equal_names_wild_names_and_wild_uuids_lose_nothing_and_stay_inside",
            "tests/test_convert.py::test_hostile_and_equal_names_stay_apart_and_inside",
        ),
    ),
    "B7": (
        "a 403 or an HTML page ends everything unnamed; a 500 with an image in it is taken",
        (
            "tests/pull/test_samples.py::test_an_asset_that_cannot_be_had_fails_its_sample_by_name",
            HERE + "test_an_image_in_an_error_is_no_image",
        ),
    ),
    "B8": (
        "a cut or empty file stays in the cache for ever",
        (
            "tests/test_cache.py::test_a_damaged_asset_is_as_good_as_not_there",
            HERE + "test_an_empty_file_is_never_kept",
        ),
    ),
    "B9": ("images are encoded anew", (HERE + "test_images_keep_every_byte",)),
    "B10": (
        "no annotations: IndexError; null: TypeError",
        (
            HERE + "test_labels_without_annotations_are_rows_of_the_ledger",
            DROPIN + "test_a_label_without_annotations_is_all_unlabeled",
        ),
    ),
    "B11": (
        "an id past the annotations: IndexError; in a gap: silently 0",
        (
            HERE + "test_a_drawn_id_without_annotation_loses_its_sample_by_name",
            DROPIN + "test_a_drawn_id_without_annotation_is_refused",
        ),
    ),
    "B12": (
        "category 0 merges with unlabeled",
        (
            "tests/test_convert.py::test_every_pixel_is_its_annotations_class",
            DROPIN + "test_category_0_is_refused_unless_it_is_incremented",
        ),
    ),
    "B13": (
        "memory in proportion to the largest id",
        (
            HERE + "test_memory_is_not_in_proportion_to_an_id_or_a_category",
            DROPIN + "test_memory_is_not_in_proportion_to_an_id",
        ),
    ),
    "B14": (
        "of two annotations with one id the last wins",
        (
            HERE + "test_one_id_twice_is_one_category_or_refused",
            DROPIN + "test_one_id_with_two_categories_is_refused",
        ),
    ),
    "B15": (
        "categories over 255: all-zero bitmaps",
        (
            HERE + "test_categories_to_65535_are_classes",
            DROPIN + "test_categories_to_65535_come_through_exactly",
        ),
    ),
    # labelsync has no mode without a cache; its promise is that going through the rows asks nobody
    "B16": (
        "without a cache: other types, and 24 requests per pass",
        (HERE + "test_every_pass_reads_the_same_from_disk",),
    ),
    "B17": (
        "a missing labelset or metadata key, a null URL: KeyError and worse",
        (HERE + "test_what_is_missing_from_an_entry_is_said_of_that_entry",),
    ),
    "B18": (
        "RGBA under .jpg, or no extension: cannot be written",
        (HERE + "test_a_url_says_nothing_of_what_it_holds",),
    ),
    "B19": (
        "a/8.jpg and b/8.jpg are one exported file",
        (HERE + "test_equal_file_names_in_two_folders_are_two_files",),
    ),
    "B20": (
        "sequences and multisensor: ValueError",
        (
            "tests/test_tasks.py::test_every_frame_of_a_sequence_is_a_row",
            "tests/test_tasks.py::test_the_cameras_of_a_multisensor_release_are_rows_and_a_moment_is_one_group",
            "tests/test_parse.py::test_a_task_type_without_pixels_is_refused_and_the_supported_ones_named",
        ),
    ),
    "B21": (
        "load_images=False fetches every bitmap",
        (
            HERE + "test_nothing_is_fetched_that_is_not_needed",
            "tests/test_diff.py::test_only_bitmaps_of_labels_that_differ_are_fetched_and_once",
        ),
    ),
    # labelsync reads no issues and adds no samples yet; its promise is that no answer of a server is a traceback
    "B22": (
        "get_issues, add_samples, upload_asset: errors of the wrong kind",
        ("tests/pull/test_refusals.py::test_a_server_that_is_another_program_is_said_to_be",),
    ),
    "B23": (
        "server unreachable: AttributeError; 5xx: 'wrong API key'",
        (
            "tests/pull/test_refusals.py::test_a_server_that_is_not_there_is_named",
            "tests/pull/test_refusals.py::test_a_failing_server_is_said_to_fail",
        ),
    ),
} | {name: (what, (DROPIN + test,)) for name, (what, test) in test_dropin.FAULTS.items() if name.startswith("R")}


def test_every_fault_has_its_tests() -> None:
    assert {f"B{i}" for i in range(1, 24)} <= set(FAULTS)
    assert {f"R{i}" for i in range(1, 19)} <= set(FAULTS)
    for _, tests in FAULTS.values():
        for node in tests:
            file, _, name = node.partition("::")
            module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
            assert callable(getattr(module, name, None)), node


def small_release(
    folder: Path,
    *bitmaps: Any,
    names: tuple[str, ...] = (),
    categories: tuple[int, ...] = (1, 2, 3),
    of: Callable[[int], int] = lambda i: i,
) -> Path:
    """A release of one sample per bitmap, (H, W) ids that are all annotated; instance i is of category `of(i)`."""
    entries = []
    for sub in ("images", "bitmaps"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for i, bitmap in enumerate(bitmaps):
        ids = np.array(bitmap, np.uint32)
        annotations = [{"id": n, "category_id": of(n)} for n in np.unique(ids).tolist() if n]
        entry = sample_entry(i, annotations) | ({"name": names[i]} if names else {})
        color = np.full((*ids.shape, 3), 40 * i + 15, np.uint8)
        Image.fromarray(color).save(folder / entry["attributes"]["image"]["url"], quality=90)
        (folder / f"bitmaps/{entry['uuid']}.png").write_bytes(encode_instance_bitmap(ids))
        entries.append(entry)
    return write_release(folder, release_document(entries, category_ids=categories))


def label_of(sample: dict[str, Any]) -> dict[str, Any]:
    return sample["labels"]["ground-truth"]  # type: ignore[no-any-return]


ALL_TRAIN = ("--fractions", "100,0,0")


def labels_of(rows: dict[str, tuple[str, Row]]) -> list[Any]:
    """The bitmap of each row, in the order of the release."""
    found = {uuid: decode_semantic(row.label).tolist() for uuid, (_, row) in rows.items()}
    return [found[u] for u in sorted(found, key=[sample_uuid(i) for i in range(20)].index)]


# -------------------------------------------------------------------- the cache


def test_bitmaps_pass_through_the_cache_unwritten(commands: Commands, tmp_path: Path) -> None:
    path = small_release(tmp_path / "drawn", [[0, 1]], [[2, 2]], [[3, 0]])
    commands.pull(path)
    commands.pull(path, "again")
    for name in ("release", "again"):
        for bitmap in (tmp_path / name / "bitmaps").iterdir():
            assert bitmap.read_bytes() == (tmp_path / "drawn/bitmaps" / bitmap.name).read_bytes()
    commands.convert("data", *ALL_TRAIN, release="again")
    assert labels_of(commands.rows()) == [[[0, 1]], [[2, 2]], [[3, 0]]]


def test_large_ids_are_exact_cold_and_warm(commands: Commands, tmp_path: Path) -> None:
    large = {65535: 1, 65536: 2, 70000: 3, 16777215: 1}
    path = small_release(tmp_path / "drawn", [[0, *large]], [[65536, 0, 0, 0, 0]], of=large.__getitem__)
    for name in ("cold", "warm"):
        commands.pull(path, name)
        commands.convert(f"data-{name}", *ALL_TRAIN, release=name)
        assert labels_of(commands.rows(f"data-{name}")) == [[[0, 1, 2, 3, 1]], [[2, 0, 0, 0, 0]]]


@pytest.mark.parametrize(
    "names",
    [("same.jpg", "same.jpg"), ("x.jpg", "x.png"), ("frame.0001", "frame.0002"), ("X.jpg", "x.jpg"), ("a/x", "b/x")],
)
@pytest.mark.parametrize("form", ["parquet", "bitmaps"])
def test_samples_of_one_stem_keep_their_own_pixels(
    commands: Commands, tmp_path: Path, names: tuple[str, ...], form: str
) -> None:
    commands.pull(small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]], names=names))
    assert commands.convert("data", *ALL_TRAIN, "--format", form).outcomes["converted"] == 2
    if form == "parquet":
        assert labels_of(commands.rows()) == [[[1, 1]], [[2, 2]]]
    else:
        files = [p.read_bytes() for p in (tmp_path / "data/labels").rglob("*.png")]
        assert sorted(decode_semantic(data).tolist() for data in files) == [[[1, 1]], [[2, 2]]]


def test_a_redrawn_bitmap_under_the_same_release_name_is_seen(commands: Commands, tmp_path: Path) -> None:
    path = small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]])
    commands.pull(path)

    def redraw(document: dict[str, Any]) -> None:
        new = "bitmaps/redrawn.png"
        (tmp_path / "drawn" / new).write_bytes(encode_instance_bitmap(np.array([[0, 1]], np.uint32)))
        label_of(document["dataset"]["samples"][0])["attributes"]["segmentation_bitmap"]["url"] = new

    commands.pull(edit_release(path, redraw), "release", "--overwrite")
    commands.convert("data", *ALL_TRAIN)
    assert labels_of(commands.rows()) == [[[0, 1]], [[2, 2]]]


def test_an_image_in_an_error_is_no_image(commands: Commands, tmp_path: Path) -> None:
    picture = encode_png(np.full((1, 2, 3), 9, np.uint8))

    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500)
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(picture)))
            self.end_headers()
            self.wfile.write(picture)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Failing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.png"
    path = small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]])
    edit_release(path, lambda d: d["dataset"]["samples"][1]["attributes"]["image"].update(url=url))
    try:
        assert f"'frame_0001.jpg' failed: image {url}: 500 Internal Server Error" in commands.refused(path)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("kind", ["images", "bitmaps"])
def test_an_empty_file_is_never_kept(commands: Commands, tmp_path: Path, kind: str) -> None:
    path = small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]])
    file = next(p for p in (tmp_path / "drawn" / kind).iterdir() if p.stem in ("frame_0001", sample_uuid(1)))
    whole = file.read_bytes()
    file.write_bytes(b"")
    refused = commands.refused(path)
    assert "'frame_0001.jpg' failed: " in refused
    assert "the file is empty" in refused
    file.write_bytes(whole)
    commands.pull(path)
    commands.convert("data", *ALL_TRAIN)
    assert labels_of(commands.rows()) == [[[1, 1]], [[2, 2]]]


def test_images_keep_every_byte(commands: Commands, tmp_path: Path) -> None:
    path = small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]], [[3, 3]])
    exif = Image.Exif()
    exif[0x010F] = "camera"
    Image.new("RGB", (2, 1), (9, 8, 7)).save(tmp_path / "drawn/images/frame_0001.jpg", quality=30, exif=exif)
    commands.pull(path)
    commands.convert("data", *ALL_TRAIN)
    for _, row in commands.rows().values():
        assert row.image == (tmp_path / "drawn/images" / row.name).read_bytes()


# -------------------------------------------------------------------- labels


def test_labels_without_annotations_are_rows_of_the_ledger(commands: Commands, tmp_path: Path) -> None:
    path = small_release(tmp_path / "drawn", [[1, 1]], [[0, 0]], [[0, 0]], [[0, 0]], [[0, 0]])

    def change(document: dict[str, Any]) -> None:
        _, skipped, empty, null, nothing = document["dataset"]["samples"]
        label_of(skipped)["label_status"] = "SKIPPED"
        label_of(empty)["attributes"]["annotations"] = []
        label_of(null)["attributes"]["annotations"] = None
        label_of(nothing)["attributes"] = None

    commands.pull(edit_release(path, change))
    commands.convert("data", *ALL_TRAIN, "--status", "LABELED,SKIPPED")
    outcomes = [commands.ledger()[sample_uuid(i)].outcome for i in range(5)]
    assert outcomes == ["converted", "empty", "empty", "empty", "empty"]


@pytest.mark.parametrize("drawn", [2, 4, 70_000, (1 << 24) - 1])
def test_a_drawn_id_without_annotation_loses_its_sample_by_name(commands: Commands, tmp_path: Path, drawn: int) -> None:
    path = small_release(tmp_path / "drawn", [[1, 1, 3]], [[1, drawn, 3]], of=lambda i: min(i, 3))

    def forget(document: dict[str, Any]) -> None:
        attributes = label_of(document["dataset"]["samples"][1])["attributes"]
        attributes["annotations"] = [a for a in attributes["annotations"] if a["id"] in (1, 3)]

    commands.pull(edit_release(path, forget))
    done = commands.cli("convert", tmp_path / "release", "--out", tmp_path / "data", *ALL_TRAIN, code=1)
    assert f"'frame_0001.jpg' failed: instance id {drawn} is drawn on 1 pixels and has no annotation" in done.stderr


@pytest.mark.parametrize("id_and_category", [(1, 65535), ((1 << 24) - 1, 0), ((1 << 31), 65535), (1 << 62, 1)])
def test_memory_is_not_in_proportion_to_an_id_or_a_category(tmp_path: Path, id_and_category: tuple[int, int]) -> None:
    """A lookup over all 24-bit ids would take 16 MB, and 8 bytes for each number to 2^31 what killed the SDK."""
    number, category = id_and_category
    ids = np.zeros((40, 50), np.uint32)
    ids[0, :3] = 1, 5, number if number < 1 << 24 else 5
    files = []
    for name, data in (("i.png", encode_png(np.zeros((40, 50, 3), np.uint8))), ("b.png", encode_instance_bitmap(ids))):
        (tmp_path / name).write_bytes(data)
        files.append(File(str(tmp_path / name), sha256(data), len(data)))
    labels = from_categories([Category(0, "none"), Category(1, "a"), Category(65535, "b")])
    pairs = {1: 1, 5: 0} | {number: category}
    sample = LabelledSample("u", "n", "LABELED", "stem", *files, annotations=tuple(pairs.items()))
    convert_sample(sample, labels)  # what is imported and cached once is no part of it
    tracemalloc.start()
    try:
        row, made = convert_sample(sample, labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert row.outcome == "converted"
    assert made is not None
    disk = {0: 1, 1: 2, 65535: 3}
    assert decode_semantic(made.label)[0, :4].tolist() == [
        *(disk[pairs[int(i)]] for i in ids[0, :3]),
        0,
    ]
    assert peak < 2_000_000


@pytest.mark.parametrize("top", [100, 65_535, 65_536, (1 << 24) - 1])
def test_the_lookup_costs_by_pixels_not_by_ids(top: int) -> None:
    """300 x 400 pixels are 0.5 MB of ids; a lookup over all ids to 2^24 would be 16 MB at least."""
    ids = np.zeros((300, 400), np.uint32)
    ids[:2] = 7
    ids[-1] = top
    tracemalloc.start()
    try:
        made = to_semantic(ids, {7: 1, top: 2})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.bincount(made.ravel()).tolist() == [297 * 400, 800, 400]
    assert peak < 6_000_000


def test_one_id_twice_is_one_category_or_refused(commands: Commands, tmp_path: Path) -> None:
    path = small_release(tmp_path / "drawn", [[1, 2]], [[1, 2]])

    def double(document: dict[str, Any]) -> None:
        for sample, category in zip(document["dataset"]["samples"], (1, 3), strict=True):
            label_of(sample)["attributes"]["annotations"].append({"id": 1, "category_id": category})

    commands.pull(edit_release(path, double))
    commands.convert("data", *ALL_TRAIN, "--allow-failed", "1")
    assert labels_of(commands.rows()) == [[[1, 2]]]
    assert commands.ledger()[sample_uuid(1)].reason == "annotation id 1 occurs twice with different categories"


def test_categories_to_65535_are_classes(commands: Commands, tmp_path: Path) -> None:
    categories = (0, 255, 256, 65535)
    path = small_release(tmp_path / "drawn", [[0, 1, 2, 3, 4]], categories=categories, of=lambda i: categories[i - 1])
    commands.pull(path)
    commands.convert("data", *ALL_TRAIN)
    assert labels_of(commands.rows()) == [[[0, 1, 2, 3, 4]]]
    names = json.loads((tmp_path / "data/id2label.json").read_text())
    assert names == {"0": "unlabeled", "1": "class-0", "2": "class-255", "3": "class-256", "4": "class-65535"}


# -------------------------------------------------------------------- rows and entries


def test_every_pass_reads_the_same_from_disk(commands: Commands, tmp_path: Path) -> None:
    commands.pull(small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]]))
    commands.convert("data", *ALL_TRAIN)
    before = len(commands.server.log)
    passes = [[(type(r.image), r.image, r.label) for _, r in commands.rows().values()] for _ in range(2)]
    assert passes[0] == passes[1]
    assert len(commands.server.log) == before


def test_what_is_missing_from_an_entry_is_said_of_that_entry(commands: Commands, tmp_path: Path) -> None:
    path = small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]], [[3, 3]], [[1, 2]])

    def change(document: dict[str, Any]) -> None:
        whole, no_label, no_metadata, no_image = document["dataset"]["samples"]
        whole["metadata"] = {"site": "a"}
        no_label["labels"] = {"second": None}
        no_metadata["metadata"] = None
        no_image["attributes"]["image"]["url"] = None

    edit_release(path, change)
    assert "sample 'frame_0003.jpg' failed: its image has no URL" in commands.refused(path)
    commands.pull(path, "release", "--allow-failed", "1")
    commands.convert("data", *ALL_TRAIN)
    outcomes = [commands.ledger()[sample_uuid(i)].outcome for i in range(4)]
    assert outcomes == ["converted", "unlabeled", "converted", "failed"]
    grouped = ("--out", tmp_path / "grouped", "--group-by", "metadata.site", *ALL_TRAIN)
    refused = commands.cli("convert", tmp_path / "release", *grouped, code=1).stderr
    assert "--group-by metadata.site finds no group for 'frame_0002.jpg'" in refused


def test_a_url_says_nothing_of_what_it_holds(commands: Commands, tmp_path: Path) -> None:
    path = small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]])
    rgba = encode_png(np.array([[[9, 8, 7, 0], [6, 5, 4, 255]]], np.uint8))
    (tmp_path / "drawn/images/frame_0000.jpg").write_bytes(rgba)
    (tmp_path / "drawn/images/frame_0001.jpg").rename(tmp_path / "drawn/images/plain")
    bitmap = tmp_path / f"drawn/bitmaps/{sample_uuid(1)}.png"
    bitmap.rename(bitmap.with_suffix(""))

    def change(document: dict[str, Any]) -> None:
        sample = document["dataset"]["samples"][1]
        sample["attributes"]["image"]["url"] = "images/plain"
        label_of(sample)["attributes"]["segmentation_bitmap"]["url"] = f"bitmaps/{sample_uuid(1)}"

    commands.pull(edit_release(path, change))
    commands.convert("data", *ALL_TRAIN)
    rows = commands.rows()
    assert labels_of(rows) == [[[1, 1]], [[2, 2]]]
    assert rows[sample_uuid(0)][1].image == rgba
    assert decode_image(rgba).tolist() == [[[9, 8, 7], [6, 5, 4]]]


def test_equal_file_names_in_two_folders_are_two_files(commands: Commands, tmp_path: Path) -> None:
    path = small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]], [[3, 3]], names=("a/8.jpg", "b/8.jpg", "8.jpg"))
    commands.pull(path)
    commands.convert("data", *ALL_TRAIN, "--format", "bitmaps")
    assert len(list((tmp_path / "data/images/train").iterdir())) == 3
    listing = json.loads((tmp_path / "data/samples.json").read_text())
    found = {e["name"]: decode_semantic((tmp_path / "data" / e["label"]).read_bytes()).tolist() for e in listing}
    assert found == {"a/8.jpg": [[1, 1]], "b/8.jpg": [[2, 2]], "8.jpg": [[3, 3]]}


def test_nothing_is_fetched_that_is_not_needed(commands: Commands, tmp_path: Path) -> None:
    path = small_release(tmp_path / "drawn", [[1, 1]], [[2, 2]], [[3, 3]])
    edit_release(path, lambda d: d["dataset"]["samples"][1]["labels"].update({"ground-truth": None}))
    commands.pull(path)
    asked = [r.path for r in commands.server.log.find(path="/images/|/bitmaps/")]
    assert len(asked) == 4
    assert not any("frame_0001" in a or sample_uuid(1) in a for a in asked)


def test_a_bitmap_that_is_none_names_its_reason() -> None:
    """Of B7 and B8: never Pillow's "cannot identify image file" without a word of which."""
    with pytest.raises(BitmapError, match="it is an HTML or XML page, not an image"):
        decode_instance_bitmap(b"<html>Access Denied</html>")


# -------------------------------------------------------------------- the table


def main() -> int:
    """Run the tests of every fault and print what became of them."""
    nodes = sorted({node for _, tests in FAULTS.values() for node in tests})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *nodes],
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, set[str]] = {}
    for node, outcome in re.findall(
        r"^(tests/[\w/]+\.py::\w+).* (PASSED|FAILED|ERROR|SKIPPED)\b", done.stdout, re.MULTILINE
    ):
        found.setdefault(node, set()).add(outcome)
    print("| fault | in the SDK | test | |\n|---|---|---|---|")
    for fault, (what, tests) in FAULTS.items():
        for node in tests:
            outcomes = found.get(node, {"NOT RUN"})
            print(
                f"| {fault} | {what} | `{node}` | {'pass' if outcomes == {'PASSED'} else ', '.join(sorted(outcomes))} |"
            )
    if done.returncode:
        print(done.stdout[-4000:], done.stderr, file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
