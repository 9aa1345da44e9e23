"""`convert` through the command: what comes out, and what is refused by name."""

import errno
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from PIL import Image

import labelsync
from labelsync.dataset import pool, shards
from labelsync.dataset.load import LabeledDataset
from labelsync.dataset.sample import File, LabelledSample
from labelsync.dataset.shards import Shard, ShardResult, write_shard
from labelsync.errors import LabelsyncError
from labelsync.labels import LabelClass, LabelMap
from labelsync.pixels.image import decode_image
from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Ledger, Row
from labelsync.records.text import from_json
from labelsync.store.files import sha256_file
from tests.releases import draw_release, edit_release, sample_uuid

Cli = Callable[..., Result]


def pulled(folder: Path, *, change: Callable[[dict[str, Any]], None] | None = None, **options: Any) -> Path:
    """A release folder of a drawn release."""
    release = draw_release(folder / "drawn", **options)
    if change:
        edit_release(release, change)
    allowed = 0 if change is None else 99
    return Path(labelsync.pull(release, out=folder / "pulled", allow_failed=allowed).path)


def rows_of(dataset: Path | LabeledDataset) -> dict[str, Row]:
    """uuid -> row, over all splits."""
    loaded = dataset if isinstance(dataset, LabeledDataset) else labelsync.load(dataset)
    return {row.uuid: row for rows in loaded.splits.values() for row in rows}


def ledger_of(dataset: Path) -> dict[str, tuple[str, str]]:
    """name -> (outcome, reason)."""
    ledger = from_json(Ledger, (dataset / "ledger.json").read_bytes())
    return {row.name: (row.outcome, row.reason) for row in ledger.rows}


def digests(dataset: Path) -> dict[str, str]:
    return {p.name: sha256_file(p) for p in sorted((dataset / "data").iterdir())}


def by_hand(drawn: Path, uuid: str, labels: LabelMap) -> np.ndarray:
    """The semantic bitmap of a sample by a loop over its annotations, sharing no code with `convert`."""
    document = json.loads((drawn / "release.json").read_text())
    names = {c["id"]: c["name"] for c in document["dataset"]["task_attributes"]["categories"]}
    sample = next(s for s in document["dataset"]["samples"] if s["uuid"] == uuid)
    rgba = np.asarray(Image.open(drawn / "bitmaps" / f"{uuid}.png")).astype(np.int64)
    instances = rgba[..., 0] + 256 * rgba[..., 1] + 65536 * rgba[..., 2]
    expected = np.full(instances.shape, labels.background_id)
    for annotation in sample["labels"]["ground-truth"]["attributes"]["annotations"]:
        disk = 1 + labels.names.index(names[annotation["category_id"]])
        expected[instances == annotation["id"]] = disk
    return expected


# -------------------------------------------------------------------- pixels


@pytest.mark.parametrize(
    ("ids", "dtype"),
    [((1, 2, 3), np.uint8), ((0, 4, 7, 300), np.uint8), (tuple(range(300)), np.uint16), ((65535, 0), np.uint8)],
    ids=["plain", "zero-and-gaps", "16-bit", "large"],
)
@pytest.mark.parametrize("unlabeled", ["ignore", "class"])
def test_every_pixel_is_its_annotations_class(
    tmp_path: Path, ids: tuple[int, ...], dtype: type, unlabeled: str
) -> None:
    release = pulled(tmp_path, samples=6, category_ids=ids)
    labelsync.convert(release, out=tmp_path / "data", unlabeled=unlabeled)
    dataset = labelsync.load(tmp_path / "data")
    rows = rows_of(dataset)
    assert len(rows) == 6
    for uuid, row in rows.items():
        bitmap = decode_semantic(row.label)
        assert bitmap.dtype == dtype
        np.testing.assert_array_equal(bitmap, by_hand(tmp_path / "drawn", uuid, dataset.labels))
        assert row.image == (tmp_path / "drawn/images" / row.name).read_bytes()


def test_id2label_has_string_keys_from_zero_on(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=4, category_ids=(0, 4, 300))
    labelsync.convert(release, out=tmp_path / "data")
    expected = {"0": "unlabeled", "1": "class-0", "2": "class-4", "3": "class-300"}
    assert json.loads((tmp_path / "data/id2label.json").read_text()) == expected


@pytest.mark.parametrize("orientation", range(1, 9))
def test_label_and_image_agree_in_the_frame_that_exif_asks_for(tmp_path: Path, orientation: int) -> None:
    """People draw on the image as a browser shows it; the stored bytes stay as the camera wrote them."""
    release = draw_release(tmp_path / "drawn", samples=4)
    path = tmp_path / "drawn/images/frame_0000.jpg"
    upright = Image.open(path).convert("RGB")
    back = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]  # the inverse, as PIL.Image.Transpose
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if back is None else upright.transpose(Image.Transpose(back))
    stored.save(path, quality=95, exif=exif)
    folder = labelsync.pull(release, out=tmp_path / "pulled").path
    labelsync.convert(folder, out=tmp_path / "data")
    row = rows_of(tmp_path / "data")[sample_uuid(0)]
    image, label = decode_image(row.image), decode_semantic(row.label)
    assert row.image == path.read_bytes()
    assert image.shape[:2] == label.shape == (48, 64)
    top = decode_image(path.read_bytes())[:20][label[:20] == label[0, 0]]
    assert np.abs(top.mean(0) - np.asarray(upright)[:20][label[:20] == label[0, 0]].mean(0)).max() < 3


def test_a_bitmap_in_the_unturned_frame_is_refused(tmp_path: Path, cli: Cli) -> None:
    release = draw_release(tmp_path / "drawn", samples=4)
    path = tmp_path / "drawn/images/frame_0000.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(path).save(path, exif=exif)  # 48 x 64 in the file, 64 x 48 as it is shown
    labelsync.pull(release, out=tmp_path / "pulled")
    result = cli("convert", tmp_path / "pulled", "--out", tmp_path / "data", code=1)
    assert "frame_0000.jpg" in result.stderr
    assert "its bitmap is 48x64, its image 64x48" in result.stderr and "EXIF" in result.stderr


# -------------------------------------------------------------------- the ledger


def test_every_sample_ends_in_one_row_of_the_ledger(tmp_path: Path, cli: Cli) -> None:
    release = pulled(
        tmp_path,
        samples=20,
        unlabeled=[1, 2],
        skipped=[3],
        prelabeled=[4],
        reviewed=[5],
        empty=[6],
        wrong_size=[7],
        unknown_instance=[8],
        unknown_category=[9],
    )
    out = tmp_path / "data"
    printed = json.loads(cli("convert", release, "--out", out, "--allow-failed", 3, "--json").stdout)
    expected = {"pulled": 0, "converted": 12, "unlabeled": 2, "filtered": 2, "empty": 1, "failed": 3}
    assert printed["outcomes"] == expected
    assert printed["samples"] == sum(expected.values()) == 20
    assert sum(printed["splits"].values()) == 12 == len(rows_of(out))
    ledger = ledger_of(out)
    assert ledger["frame_0001.jpg"][0] == "unlabeled"
    assert ledger["frame_0003.jpg"] == ("filtered", "status SKIPPED")
    assert ledger["frame_0004.jpg"] == ("filtered", "status PRELABELED")
    assert ledger["frame_0005.jpg"] == ("converted", "")
    assert ledger["frame_0006.jpg"] == ("empty", "it has no annotations")
    assert ledger["frame_0007.jpg"] == ("failed", "its bitmap is 46x64, its image 48x64 pixels high x wide")
    assert ledger["frame_0008.jpg"][1].startswith("instance id 999 is drawn on 6 pixels and has no annotation")
    assert "category 60000, which the taxonomy does not have" in ledger["frame_0009.jpg"][1]


def null_url(document: dict[str, Any]) -> None:
    document["dataset"]["samples"][2]["labels"]["ground-truth"]["attributes"]["segmentation_bitmap"]["url"] = None


def twice(document: dict[str, Any]) -> None:
    label = document["dataset"]["samples"][2]["labels"]["ground-truth"]["attributes"]
    label["annotations"].append(
        label["annotations"][0] | {"category_id": 1 + label["annotations"][0]["category_id"] % 3}
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"wrong_size": [2]}, "its bitmap is 46x64, its image 48x64"),
        ({"unknown_instance": [2]}, "instance id 999 is drawn on 6 pixels"),
        ({"unknown_category": [2]}, "category 60000, which the taxonomy does not have"),
        ({"change": twice}, "occurs twice with different categories"),
    ],
)
def test_a_lost_sample_is_named_and_leaves_no_folder(
    tmp_path: Path, cli: Cli, options: dict[str, Any], reason: str
) -> None:
    release = pulled(tmp_path, samples=8, **options)
    result = cli("convert", release, "--out", tmp_path / "data", code=1)
    assert result.stderr.splitlines()[-1].startswith("labelsync: sample 'frame_0002.jpg' failed: ")
    assert reason in result.stderr and "--allow-failed 1" in result.stderr
    assert {p.name for p in tmp_path.iterdir()} == {"drawn", "pulled", ".pulled.lock", ".data.lock"}


def test_all_lost_samples_are_told_at_once(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=12, wrong_size=[1, 5], unknown_category=[9])
    result = cli("convert", release, "--out", tmp_path / "data", "--allow-failed", 2, code=1)
    assert all(f"frame_{i:04d}.jpg" in result.stderr for i in (1, 5, 9))
    assert "2 more of 12 samples failed" in result.stderr


def test_what_was_allowed_to_fail_in_the_pull_does_not_count_again(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=8, change=null_url)
    printed = json.loads(cli("convert", release, "--out", tmp_path / "data", "--json").stdout)
    assert printed["outcomes"]["failed"] == 1
    assert ledger_of(tmp_path / "data")["frame_0002.jpg"] == ("failed", "its label has 5 annotations and no bitmap URL")
    assert "1 of 8 samples were lost" in (tmp_path / "data/README.md").read_text()


def test_pixels_without_annotation_are_lost_not_empty(tmp_path: Path, cli: Cli) -> None:
    def forget(document: dict[str, Any]) -> None:
        document["dataset"]["samples"][2]["labels"]["ground-truth"]["attributes"]["annotations"] = []

    release = pulled(tmp_path, samples=8, change=forget)
    assert "has no annotation" in cli("convert", release, "--out", tmp_path / "data", code=1).stderr


def test_annotations_without_pixels_are_empty_and_without_a_bitmap_too(tmp_path: Path) -> None:
    def nothing_drawn(document: dict[str, Any]) -> None:
        label = document["dataset"]["samples"][2]["labels"]["ground-truth"]["attributes"]
        label |= {"annotations": [], "segmentation_bitmap": {"url": None}}

    release = draw_release(tmp_path / "drawn", samples=8)
    edit_release(release, nothing_drawn)
    blank = encode_instance_bitmap(np.zeros((48, 64), np.uint32))
    (tmp_path / "drawn/bitmaps" / f"{sample_uuid(3)}.png").write_bytes(blank)
    labelsync.convert(labelsync.pull(release, out=tmp_path / "pulled").path, out=tmp_path / "data")
    assert ledger_of(tmp_path / "data")["frame_0002.jpg"] == ("empty", "it has no annotations")
    assert ledger_of(tmp_path / "data")["frame_0003.jpg"] == ("empty", "no pixel is labelled")


@pytest.mark.parametrize("bitmap", [True, False])
def test_an_empty_label_is_all_background_where_that_is_a_class(tmp_path: Path, bitmap: bool) -> None:
    def without(document: dict[str, Any]) -> None:
        document["dataset"]["samples"][2]["labels"]["ground-truth"]["attributes"]["segmentation_bitmap"] = None

    release = draw_release(tmp_path / "drawn", samples=8, empty=[2], category_ids=(7,))
    if not bitmap:
        edit_release(release, without)
    labelsync.convert(labelsync.pull(release, out=tmp_path / "pulled").path, out=tmp_path / "data", unlabeled="class")
    dataset = labelsync.load(tmp_path / "data")
    assert dataset.labels.names == ("class-7", "background")
    assert set(np.unique(decode_semantic(rows_of(dataset)[sample_uuid(2)].label))) == {2}


@pytest.mark.parametrize("kind", ["image", "bitmap"])
@pytest.mark.parametrize("what", ["gone", "changed", "cut"])
def test_files_of_the_release_folder_must_be_those_that_were_pulled(
    tmp_path: Path, cli: Cli, kind: str, what: str
) -> None:
    release = pulled(tmp_path, samples=8)
    path = next((release / f"{kind}s").glob(f"{sample_uuid(2)}.*"))
    data = path.read_bytes()
    path.unlink()  # it may be a link into the cache
    if what != "gone":
        path.write_bytes(data[:-1] + b"?" if what == "changed" else data[: len(data) // 2])
    result = cli("convert", release, "--out", tmp_path / "data", code=1)
    assert "'frame_0002.jpg' failed: its" in result.stderr
    assert ("cannot be read" if what == "gone" else "was changed after the pull") in result.stderr


def test_an_image_that_ends_well_but_does_not_decode_is_lost(tmp_path: Path, cli: Cli) -> None:
    """The pull trusts the end marker of an image; here it is decoded, and not first in an epoch of a training."""
    release = draw_release(tmp_path / "drawn", samples=8)
    path = tmp_path / "drawn/images/frame_0002.jpg"
    path.write_bytes(path.read_bytes().replace(b"\xff\xdb", b"\xff\xfe"))  # the tables become comments
    labelsync.pull(release, out=tmp_path / "pulled")
    result = cli("convert", tmp_path / "pulled", "--out", tmp_path / "data", code=1)
    assert "'frame_0002.jpg' failed: its image:" in result.stderr


# -------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("flags", "message", "code"),
    [
        (["--fractions", "80,20"], "three shares are needed", 2),
        (["--fractions", "a,b,c"], "is not a list of numbers", 2),
        (["--group-by", "sequence"], "is no rule", 2),
        (["--group-by", "metadata.site"], "finds no group for 'frame_0000.jpg' and 5 more samples", 1),
        (["--status", "DONE"], "no status is called 'DONE'", 2),
        (["--status", "REJECTED"], "no sample to convert: 6 filtered", 1),
        (["--splits", "nowhere.json"], "No such file", 2),
        (["--previous", "nowhere"], "nowhere does not exist", 1),
        (["--workers", "0"], "--workers is 0, which is out of range; give 1 or more", 2),
        (["--allow-failed", "-1"], "--allow-failed is -1, which is out of range; give 0 or more", 2),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    tmp_path: Path, cli: Cli, flags: list[str], message: str, code: int
) -> None:
    release = pulled(tmp_path, samples=6)
    result = cli("convert", release, "--out", tmp_path / "data", *flags, code=code)
    assert message in result.stderr
    assert not (tmp_path / "data").exists()


def verified(tmp_path: Path, indices: Sequence[int]) -> Path:
    """A pulled release of six samples whose reviewers have gone one step further with these."""

    def change(document: dict[str, Any]) -> None:
        for i in indices:
            document["dataset"]["samples"][i]["labels"]["ground-truth"]["label_status"] = "VERIFIED"

    release = edit_release(draw_release(tmp_path / "drawn", samples=6, unlabeled=[5]), change)
    labelsync.pull(release, out=tmp_path / "pulled")
    return tmp_path / "pulled"


def test_a_release_without_a_wanted_status_says_which_it_has_and_the_flag(tmp_path: Path, cli: Cli) -> None:
    said = cli("convert", verified(tmp_path, range(5)), "--out", tmp_path / "data", code=1).stderr
    assert "no sample to convert: 1 unlabeled, 5 filtered (by status: 5 VERIFIED)" in said
    assert said.rstrip().endswith("take those with --status VERIFIED")


def test_statuses_that_were_left_out_are_told(tmp_path: Path, cli: Cli) -> None:
    release = verified(tmp_path, [1, 3])
    flags = ("--workers", 1, "--fractions", "100,0,0")
    shown = cli("convert", release, "--out", tmp_path / "data", *flags).stdout
    assert "6 samples: 3 converted, 1 unlabeled, 2 filtered\n  left out by --status: 2 VERIFIED\n" in shown
    every = cli("convert", release, "--out", tmp_path / "all", "--status", "LABELED,VERIFIED", *flags).stdout
    assert "5 converted, 1 unlabeled\nsplits" in every


def test_a_folder_that_is_no_finished_pull_is_refused(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=4)
    (release / "manifest.json").unlink()
    assert "manifest.json" in cli("convert", release, "--out", tmp_path / "data", code=1).stderr
    assert "does not exist" in cli("convert", tmp_path / "none", "--out", tmp_path / "data", code=1).stderr


def test_one_class_and_the_rest_ignored_is_refused_with_the_way_out(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=6, category_ids=(0,))
    assert "--unlabeled class" in cli("convert", release, "--out", tmp_path / "data", code=1).stderr
    cli("convert", release, "--out", tmp_path / "data", "--unlabeled", "class")


def test_too_few_samples_for_the_splits_is_an_error_that_says_what_to_do(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=2)
    assert "--fractions" in cli("convert", release, "--out", tmp_path / "data", code=1).stderr
    cli("convert", release, "--out", tmp_path / "data", "--fractions", "50,0,50")


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "shard")

    release = pulled(tmp_path, samples=6)
    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    assert "the disk is full" in cli("convert", release, "--out", tmp_path / "data", code=1).stderr
    assert not (tmp_path / "data").exists() and not list(tmp_path.glob(".data.*.partial"))


# -------------------------------------------------------------------- names


def hostile(document: dict[str, Any]) -> None:
    names = ["../../../../x.jpg", "a/b.JPG", "a/b.jpg", "A/B.jpg", "same", "same", "Upper.jpg"]
    for sample, name in zip(document["dataset"]["samples"], names, strict=False):
        sample["name"] = name


@pytest.mark.parametrize("format", ["parquet", "bitmaps"])
def test_hostile_and_equal_names_stay_apart_and_inside(tmp_path: Path, format: str) -> None:
    release = pulled(tmp_path, samples=8, change=hostile)
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    out = tmp_path / "deep/data"
    record = labelsync.convert(release, out=out, format=format)
    assert record.outcomes["converted"] == 8
    outside = {p for p in tmp_path.rglob("*") if p.is_file()} - before - set(out.rglob("*"))
    assert [p.name for p in outside] == [".data.lock"]
    if format == "parquet":
        assert {r.name for r in rows_of(out).values()} >= {"../../../../x.jpg", "a/b.JPG", "same"}
        return
    listing = json.loads((out / "samples.json").read_text())
    assert len({e["image"].lower() for e in listing}) == len({e["label"].lower() for e in listing}) == 8
    assert {Path(e["image"]).name for e in listing} >= {"x.jpg", "Upper.jpg", "frame_0007.jpg"}
    assert {len(Path(e[kind]).parts) for e in listing for kind in ("image", "label")} == {3}
    for e in listing:
        instances = decode_instance_bitmap((tmp_path / "drawn/bitmaps" / f"{e['uuid']}.png").read_bytes())
        label = decode_semantic((out / e["label"]).read_bytes())
        assert ((label > 0) == (instances > 0)).all()
        assert (out / e["image"]).is_file()


def test_no_image_is_taken_from_where_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` prefers a local file of an image's `path` over its bytes when it writes rows again."""
    import datasets

    release = pulled(tmp_path, samples=4)
    labelsync.convert(release, out=tmp_path / "data")
    plain = labelsync.convert(release, out=tmp_path / "plain", format="bitmaps")
    table = pq.read_table(tmp_path / "data/data")
    assert len(plain.splits) == 3
    for folder in (release / "images", release / "bitmaps", tmp_path / "drawn/images", *tmp_path.glob("plain/*/*")):
        for cell in [*table["pixel_values"].to_pylist(), *table["label"].to_pylist()]:
            assert not (folder / cell["path"]).exists()
    monkeypatch.chdir(release / "images")
    again = datasets.Image(decode=False).encode_example(table["pixel_values"][0].as_py())
    assert again["bytes"] == table["pixel_values"][0].as_py()["bytes"]


# -------------------------------------------------------------------- options that shape the folder


def test_columns_can_be_called_image_and_label(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=4)
    labelsync.convert(release, out=tmp_path / "data", columns="image,label")
    assert pq.read_schema(next((tmp_path / "data/data").iterdir())).names == ["image", "label", "name", "uuid"]
    assert len(rows_of(tmp_path / "data")) == 4


def test_statuses_are_chosen(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=10, reviewed=[0, 1, 2, 3], prelabeled=[4, 5])
    out = tmp_path / "data"
    printed = json.loads(cli("convert", release, "--out", out, "--status", "REVIEWED,prelabeled", "--json").stdout)
    assert printed["outcomes"]["converted"] == 6 and printed["outcomes"]["filtered"] == 4


def test_splits_from_a_file(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=6, groups=3)
    file = tmp_path / "given.json"
    file.write_text(json.dumps({"train": ["seq-0"], "test": ["seq-1", "frame_0002.jpg", sample_uuid(5)]}))
    flags = ("--splits", file, "--group-by", "metadata.sequence")
    cli("convert", release, "--out", tmp_path / "data", *flags)
    splits = labelsync.load(tmp_path / "data").splits
    assert {s: sorted(r.name[6:10] for r in rows) for s, rows in splits.items()} == {
        "train": ["0000", "0003"],
        "test": ["0001", "0002", "0004", "0005"],
    }
    file.write_text(json.dumps({"train": ["seq-0"], "test": ["seq-1"]}))
    result = cli(
        "convert", release, "--out", tmp_path / "b", "--splits", file, "--group-by", "metadata.sequence", code=1
    )
    assert "has no split for sample 'frame_0002.jpg' (and 1 more)" in result.stderr


def test_groups_do_not_straddle(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=24, groups=6)
    labelsync.convert(release, out=tmp_path / "data", group_by="metadata.sequence", fractions=(50, 25, 25))
    found = {
        (int(row.name[6:10]) % 6, split)
        for split, rows in labelsync.load(tmp_path / "data").splits.items()
        for row in rows
    }
    assert len(found) == 6 and {split for _, split in found} == {"train", "validation", "test"}


@pytest.mark.parametrize("lost", range(6))
def test_a_split_whose_only_sample_is_lost_gets_another(tmp_path: Path, lost: int) -> None:
    release = pulled(tmp_path, samples=6, wrong_size=[lost])
    record = labelsync.convert(release, out=tmp_path / "data", allow_failed=1)
    assert sum(record.splits.values()) == 5 and set(record.splits) == {"train", "validation", "test"}
    assert min(record.splits.values()) == 1
    assert record.outcomes["failed"] == 1
    assert ledger_of(tmp_path / "data")[f"frame_{lost:04d}.jpg"][0] == "failed"


# -------------------------------------------------------------------- shards, processes, determinism


def test_the_same_release_gives_the_same_bytes_in_any_order_with_any_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = pulled(tmp_path, samples=48)
    one = labelsync.convert(release, out=tmp_path / "one", workers=1)
    two = labelsync.convert(release, out=tmp_path / "two", workers=2)
    monkeypatch.setattr(pool, "BYTES_FOR_PROCESSES", 0)
    four = labelsync.convert(release, out=tmp_path / "four", workers=2)
    assert one.digest == two.digest == four.digest and one.shards == 4
    assert digests(tmp_path / "two") == digests(tmp_path / "four")
    edit_release(tmp_path / "drawn/release.json", lambda d: d["dataset"]["samples"].reverse())
    turned = labelsync.pull(tmp_path / "drawn/release.json", out=tmp_path / "turned").path
    labelsync.convert(turned, out=tmp_path / "three", workers=1)
    assert digests(tmp_path / "one") == digests(tmp_path / "two") == digests(tmp_path / "three")


def test_rows_are_in_order_of_name_and_written_a_group_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 5000)
    release = pulled(tmp_path, samples=30)
    labelsync.convert(release, out=tmp_path / "data", workers=1)
    files = sorted((tmp_path / "data/data").glob("train-*"))
    for path in files:
        names = pq.read_table(path)["name"].to_pylist()
        assert names == sorted(names)
    metadata = pq.ParquetFile(files[0]).metadata
    sizes = [metadata.row_group(g).total_byte_size for g in range(metadata.num_row_groups)]
    assert len(sizes) > 3 and max(sizes) < 5000 + 3000


@pytest.mark.parametrize(("rows", "size"), [(20, 1), (5_000, 1), (10**6, 10**12), (1, 10**12), (90, 10**8)])
def test_the_number_of_shards_grows_to_a_limit(rows: int, size: int) -> None:
    counts = shards.shard_counts(
        {"train": rows * 8, "validation": rows, "test": rows}, {"train": size * 8, "validation": size, "test": size}
    )
    assert sum(counts.values()) <= shards.MAX_SHARDS and min(counts.values()) >= 1
    assert counts["train"] == counts["test"] == 1 or counts["train"] > counts["test"] or rows * 8 <= shards.SHARD_ROWS
    if rows >= 5_000:
        assert sum(counts.values()) > shards.MAX_SHARDS - 6


def test_a_samples_shard_is_the_one_of_the_first_release_of_labelsync() -> None:
    assert [shards.shard_of(u, 7) for u in "abcdef"] == [4, 1, 0, 2, 1, 2]


@pytest.mark.parametrize(("least", "processes"), [(None, 0), (0, 2)])
def test_processes_are_started_only_for_what_is_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: int | None, processes: int
) -> None:
    asked: list[int] = []

    class Counted(ProcessPoolExecutor):
        def __init__(self, count: int, **kwargs: Any) -> None:
            asked.append(count)
            super().__init__(count, **kwargs)

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Counted)
    if least is not None:
        monkeypatch.setattr(pool, "BYTES_FOR_PROCESSES", least)
    labelsync.convert(pulled(tmp_path, samples=40), out=tmp_path / "data", workers=2)
    assert sum(asked) == processes


def test_threads_stop_before_their_next_sample_when_one_shard_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the disk is full: nobody writes on in a folder that goes away."""
    started = threading.Event()
    ended: list[str] = []

    def write(shard: Shard, stopped: Callable[[], bool]) -> ShardResult:
        if shard.path == "full":
            started.wait(10)
            raise OSError(28, "No space left on device")
        started.set()
        while not stopped():
            time.sleep(0.01)
        ended.append(shard.path)
        raise InterruptedError("stopped")

    monkeypatch.setattr(pool, "write_shard", write)
    jobs = [Shard(str(tmp_path), "train", path, (), LABELS, names={}) for path in ("full", "other")]
    with pytest.raises(OSError, match="No space left"):
        pool.write_shards(jobs, workers=2)
    assert ended == ["other"]


def test_a_script_needs_no_main_guard_and_its_threads_no_care(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=40)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, labelsync\n"
        "from labelsync.dataset import pool\n"
        "pool.BYTES_FOR_PROCESSES = 0\n"
        "print('started')\n"
        "print(labelsync.convert(sys.argv[1], out=sys.argv[2], workers=2).outcomes['converted'])\n"
    )
    done = subprocess.run(
        [sys.executable, script, release, tmp_path / "data"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout.split() == ["started", "40"], done.stderr


class _Deadly:
    """Kills the process that unpickles it."""

    image, bitmap = File("", "", pool.BYTES_FOR_PROCESSES), None

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os._exit, (7,)


LABELS = LabelMap((LabelClass("a"), LabelClass("b")))


def test_a_killed_worker_is_one_line(tmp_path: Path) -> None:
    deadly: Any = (_Deadly(),) * 20
    jobs = [Shard(str(tmp_path), "train", "x", deadly, LABELS, names={}) for _ in range(2)]
    with pytest.raises(LabelsyncError, match="a worker process was killed") as e:
        pool.write_shards(jobs, workers=2)
    assert "--workers 1" in e.value.hint


def test_a_stopped_shard_ends_before_its_next_sample(tmp_path: Path) -> None:
    asked: list[int] = []

    def stopped() -> bool:
        asked.append(1)
        return len(asked) > 2

    many = tuple(LabelledSample(str(i), "", "", "", File("nowhere", "", 0), None, ()) for i in range(9))
    with pytest.raises(InterruptedError):
        write_shard(Shard(str(tmp_path), "train", "x", many, LABELS, names={}), stopped)
    assert len(asked) == 3


# -------------------------------------------------------------------- again


def test_the_same_conversion_again_does_nothing(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=6)
    out = tmp_path / "data"
    first = labelsync.convert(release, out=out)
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    again = labelsync.convert(release, out=out, workers=1)
    assert again.unchanged and again.digest == first.digest and again.splits == first.splits
    assert times == {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert "exists" in cli("convert", release, "--out", out, "--status", "LABELED", code=1).stderr
    assert "unchanged" in cli("convert", release, "--out", out).stdout
    cli("convert", release, "--out", out, "--status", "LABELED", "--overwrite")


def test_a_folder_that_lost_a_file_is_made_again(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=6)
    out = tmp_path / "data"
    first = labelsync.convert(release, out=out)
    next((out / "data").iterdir()).unlink()
    again = labelsync.convert(release, out=out)
    assert not again.unchanged and again.digest == first.digest and len(rows_of(out)) == 6


def test_losses_that_were_allowed_once_are_not_allowed_for_ever(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=8, wrong_size=[2])
    out = tmp_path / "data"
    shown = cli("convert", release, "--out", out, "--allow-failed", 1).stdout
    assert "\n  'frame_0002.jpg' failed: its bitmap is 46x64" in shown, "what is lost with leave is still named"
    assert "frame_0002.jpg" in cli("convert", release, "--out", out, code=1).stderr
    assert (out / "manifest.json").is_file()
    assert "unchanged" in cli("convert", release, "--out", out, "--allow-failed", 1).stdout


def test_the_command_shows_ledger_splits_and_classes(tmp_path: Path, cli: Cli) -> None:
    release = pulled(tmp_path, samples=12, unlabeled=[0])
    shown = cli("convert", release, "--out", tmp_path / "data").stdout
    assert "12 samples: 11 converted, 1 unlabeled" in shown
    assert "splits: 9 train, 1 validation, 1 test (3 shards" in shown
    assert all(f"class-{c}" in shown for c in (1, 2, 3)) and shown.count("%") == 3


def test_nothing_of_the_folder_names_this_machine(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=6, wrong_size=[2])
    labelsync.convert(release, out=tmp_path / "data", allow_failed=1)
    for path in (tmp_path / "data").rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


def test_a_moved_release_folder_gives_the_same_dataset(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=6)
    first = labelsync.convert(release, out=tmp_path / "data")
    shutil.move(release, tmp_path / "elsewhere")
    assert labelsync.convert(tmp_path / "elsewhere", out=tmp_path / "data").unchanged
    assert labelsync.convert(tmp_path / "elsewhere", out=tmp_path / "other").digest == first.digest
