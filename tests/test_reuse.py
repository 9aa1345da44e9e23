"""A second round takes over what nothing happened to: whole shards by link, rows by copy, and never a wrong byte."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result

import labelsync
from labelsync.dataset import pool, reuse, sample, shards
from labelsync.dataset.reuse import ROWS, RowIndex, row_key
from labelsync.dataset.sample import File, LabelledSample
from labelsync.errors import DatasetError
from labelsync.labels import Category, LabelMap, from_categories
from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from labelsync.records.results import ConvertRecord
from labelsync.records.text import from_json
from labelsync.store.files import sha256_file
from labelsync.store.manifest import read_manifest, verify_files
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.loopback.segments import LoopbackSegments
from tests.releases import draw_release, edit_release, sample_uuid
from tests.tasks import draw_shapes_release
from tests.test_convert import digests, ledger_of

Cli = Callable[..., Result]
Change = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 4)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read of release folders."""
    names: list[str] = []
    read = sample.read_file
    monkeypatch.setattr(sample, "read_file", lambda f, kind: names.append(Path(f.path).name) or read(f, kind))
    monkeypatch.setattr("labelsync.dataset.remote.read_file", sample.read_file)
    return names


def redraw(folder: Path, *indices: int) -> Change:
    """Relabel samples as annotators do: a new bitmap under a new name, in which one object took over another."""

    def change(document: dict[str, Any]) -> None:
        for i in indices:
            key = sample_uuid(i)
            entry = next(s for s in document["dataset"]["samples"] if s["uuid"] == key)
            attributes = entry["labels"]["ground-truth"]["attributes"]
            first, *others = [a["id"] for a in attributes["annotations"]]
            ids = decode_instance_bitmap((folder / "bitmaps" / f"{key}.png").read_bytes())
            ids[:7, :9] = others[0] if others else first
            ids[7:9, :9] = 0
            (folder / "bitmaps" / f"{key}-2.png").write_bytes(encode_instance_bitmap(ids))
            attributes["segmentation_bitmap"]["url"] = f"bitmaps/{key}-2.png"

    return change


def two(folder: Path, *, samples: int = 40, change: Change = lambda _: None, **draw: Any) -> tuple[Path, Path]:
    """A converted first round at folder/"a", and the pulled second round."""
    drawn = draw_release(folder / "drawn", samples=samples, **draw)
    v1 = labelsync.pull(drawn, out=folder / "v1").path
    labelsync.convert(v1, out=folder / "a", workers=1)
    edit_release(drawn, change)
    edit_release(drawn, lambda d: d.update(name="v2.0"))
    return folder / "a", Path(labelsync.pull(drawn, out=folder / "v2").path)


def again(release: Path, old: Path, out: Path, **options: Any) -> ConvertRecord:
    return labelsync.convert(release, out=out, previous=old, workers=1, **options)


def without_data(old: Path, copy: Path) -> Path:
    """The same earlier round, its shards lost: it pins the same, and nothing of it can be taken over."""
    shutil.copytree(old, copy, ignore=shutil.ignore_patterns("*.parquet"))
    return copy


def same_as_from_scratch(folder: Path, release: Path, old: Path, **options: Any) -> ConvertRecord:
    """A second round with reuse; all that it leaves is byte for byte what a conversion of everything leaves."""
    record = again(release, old, folder / "b", **options)
    scratch = again(release, without_data(old, folder / "plain"), folder / "c", **options)
    assert scratch.reused == scratch.linked == 0
    assert digests(folder / "b") == digests(folder / "c")
    for name in (ROWS, "ledger.json", "splits.json", "id2label.json"):
        assert (folder / "b" / name).read_bytes() == (folder / "c" / name).read_bytes()
    assert record.pixel_shares == scratch.pixel_shares and record.bytes == scratch.bytes
    manifest = read_manifest(folder / "b", "convert")
    assert verify_files(folder / "b", manifest) == []
    assert {p.relative_to(folder / "b").as_posix() for p in (folder / "b").rglob("*") if p.is_file()} == {
        *manifest.files,
        "manifest.json",
    }
    return record


# -------------------------------------------------------------------- what is taken over


def test_only_what_changed_is_read_and_the_result_is_that_of_a_conversion_of_everything(
    tmp_path: Path, decoded: list[str]
) -> None:
    old, release = two(tmp_path, change=redraw(tmp_path / "drawn", 3, 17))
    decoded.clear()
    record = again(release, old, tmp_path / "first")
    assert sorted(decoded) == sorted(f"{sample_uuid(i)}.{kind}" for i in (3, 17) for kind in ("jpg", "png"))
    assert (record.decoded, record.reused, record.shards - record.linked) == (2, 38, 2)
    record = same_as_from_scratch(tmp_path, release, old)
    assert sum(digests(old)[n] != d for n, d in digests(tmp_path / "b").items()) == 2
    linked = [n for n in digests(old) if (old / "data" / n).samefile(tmp_path / "b/data" / n)]
    assert len(linked) == record.linked == record.shards - 2


def test_the_same_release_again_is_linked_whole(tmp_path: Path, decoded: list[str], cli: Cli) -> None:
    old, release = two(tmp_path)
    decoded.clear()
    shown = cli("convert", release, "--out", tmp_path / "b", "--previous", old).stdout
    assert "40 rows as they were (10 shards linked), 0 samples decoded" in shown
    assert decoded == [] and digests(old) == digests(tmp_path / "b")


def test_a_file_system_that_cannot_link_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, release = two(tmp_path)

    def no_link(*_: object, **__: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_link)
    assert again(release, old, tmp_path / "b").linked == 10
    assert digests(old) == digests(tmp_path / "b")
    assert not any((old / "data" / n).samefile(tmp_path / "b/data" / n) for n in digests(old))


def test_samples_that_come_go_and_change_their_status(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        del document["dataset"]["samples"][5]
        labels = [s["labels"]["ground-truth"] for s in document["dataset"]["samples"]]
        labels[0]["label_status"] = "REVIEWED"
        labels[1]["label_status"] = "REJECTED"
        document["dataset"]["samples"][7]["name"] = "another.jpg"

    draw_release(tmp_path / "more", samples=44)
    first = json.loads((tmp_path / "more/release.json").read_text())["dataset"]["samples"][40:]
    old, _ = two(tmp_path)
    shutil.copytree(tmp_path / "more", tmp_path / "drawn", dirs_exist_ok=True)
    edit_release(tmp_path / "drawn/release.json", change)
    edit_release(tmp_path / "drawn/release.json", lambda d: d["dataset"]["samples"].sort(key=lambda s: s["uuid"]))
    release = Path(labelsync.pull(tmp_path / "drawn/release.json", out=tmp_path / "v3").path)
    record = same_as_from_scratch(tmp_path, release, old)
    assert len(first) == 4
    assert record.decoded == 4 + 1, "the new ones, and the one with another name"
    assert record.reused == 40 - 3
    assert ledger_of(tmp_path / "b")["frame_0001.jpg"] == ("filtered", "status REJECTED")


def test_empty_and_lost_samples(tmp_path: Path, decoded: list[str]) -> None:
    """That nothing is labelled is remembered, that something failed is tried again."""
    drawn = draw_release(tmp_path / "drawn", samples=20, empty=[2, 3], wrong_size=[4], unknown_category=[5])
    release = Path(labelsync.pull(drawn, out=tmp_path / "v1").path)
    labelsync.convert(release, out=tmp_path / "a", workers=1, allow_failed=2)
    decoded.clear()
    record = same_as_from_scratch(tmp_path, release, tmp_path / "a", allow_failed=2)
    assert record.decoded == 2 and record.reused == 16 and record.outcomes["empty"] == 2
    assert record.linked < record.shards, "a shard with a lost sample is made again"
    assert f"{sample_uuid(2)}.png" not in decoded[:4]


def test_a_rename_keeps_every_byte_and_a_new_class_too_until_the_bitmaps_need_16_bits(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        categories = document["dataset"]["task_attributes"]["categories"]
        categories[1]["name"] = "pavement"
        categories.append({"name": "kerb", "id": 900})

    old, release = two(tmp_path, category_ids=tuple(range(1, 254)), change=change)
    record = same_as_from_scratch(tmp_path, release, old)
    assert (record.decoded, record.linked, record.num_labels) == (0, 10, 254)
    assert digests(old) == digests(tmp_path / "b")

    def one_more(document: dict[str, Any]) -> None:
        document["dataset"]["task_attributes"]["categories"].append({"name": "gully", "id": 901})

    edit_release(tmp_path / "drawn/release.json", one_more)
    wide = Path(labelsync.pull(tmp_path / "drawn/release.json", out=tmp_path / "v3").path)
    record = again(wide, tmp_path / "b", tmp_path / "wide")
    assert (record.decoded, record.reused, record.num_labels) == (40, 0, 255)


def test_a_renumbering_keeps_every_byte(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        first, second, _ = document["dataset"]["task_attributes"]["categories"]
        first["id"], second["id"] = second["id"], first["id"]
        for s in document["dataset"]["samples"]:
            for a in s["labels"]["ground-truth"]["attributes"]["annotations"]:
                a["category_id"] = {1: 2, 2: 1}.get(a["category_id"], 3)

    old, release = two(tmp_path, change=change)
    assert same_as_from_scratch(tmp_path, release, old, allow_renumbering=True).linked == 10


def test_a_correction_of_the_json_alone_is_converted(tmp_path: Path) -> None:
    """The bitmap is the same, its annotation means another class now."""

    def change(document: dict[str, Any]) -> None:
        entry = next(s for s in document["dataset"]["samples"] if s["uuid"] == sample_uuid(9))
        annotation = entry["labels"]["ground-truth"]["attributes"]["annotations"][0]
        annotation["category_id"] = annotation["category_id"] % 3 + 1

    old, release = two(tmp_path, change=change)
    record = same_as_from_scratch(tmp_path, release, old)
    assert record.decoded == 1
    assert sum(digests(old)[n] != d for n, d in digests(tmp_path / "b").items()) == 1


@pytest.mark.parametrize("task_type", ["vector", "bboxes"])
def test_drawn_shapes_are_taken_over_with_what_the_ledger_says_of_them(tmp_path: Path, task_type: str) -> None:
    drawn = draw_shapes_release(tmp_path / "drawn", task_type=task_type, samples=16).path
    first = labelsync.pull(drawn, out=tmp_path / "v1").path
    before = labelsync.convert(first, out=tmp_path / "a", workers=1)

    def move(document: dict[str, Any]) -> None:
        shapes = document["dataset"]["samples"][3]["labels"]["ground-truth"]["attributes"]["annotations"]
        shapes[0]["points"][0][0] += 5

    release = Path(labelsync.pull(edit_release(drawn, move), out=tmp_path / "v2").path)
    record = same_as_from_scratch(tmp_path, release, tmp_path / "a")
    assert (record.decoded, record.reused) == (1, 15)
    assert record.undrawn == before.undrawn
    assert again(release, tmp_path / "a", tmp_path / "wide", line_width=3.0).decoded > 1 or task_type == "bboxes"


def test_other_column_names_copy_rows_and_link_no_shard(tmp_path: Path) -> None:
    old, release = two(tmp_path)
    record = same_as_from_scratch(tmp_path, release, old, columns="image,label")
    assert (record.decoded, record.reused, record.linked) == (0, 40, 0)


def test_row_groups_stay_as_the_earlier_round_had_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, release = two(tmp_path)
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 5000)
    record = same_as_from_scratch(tmp_path, release, old)
    assert (record.decoded, record.reused, record.linked) == (0, 40, 10)


def test_a_converter_that_writes_other_bytes_takes_nothing_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, release = two(tmp_path)
    monkeypatch.setattr(reuse, "ROW_FORMAT", reuse.ROW_FORMAT + 1)
    assert again(release, old, tmp_path / "b").reused == 0
    monkeypatch.undo()
    monkeypatch.setattr(reuse, "SHARD_FORMAT", reuse.SHARD_FORMAT + 1)
    record = again(release, old, tmp_path / "c")
    assert (record.reused, record.linked) == (40, 0)


def test_a_round_of_plain_bitmaps_and_one_onto_itself(tmp_path: Path) -> None:
    old, release = two(tmp_path, change=redraw(tmp_path / "drawn", 1))
    assert again(release, old, tmp_path / "plain", format="bitmaps").reused == 0
    expected = again(release, old, tmp_path / "b")
    before = digests(tmp_path / "b")
    record = again(release, old, old, overwrite=True)
    assert record.digest == expected.digest and digests(old) == before


def test_processes_take_over_as_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "BYTES_FOR_PROCESSES", 0)
    change = redraw(tmp_path / "drawn", *range(0, 40, 1))
    old, release = two(tmp_path, samples=48, change=change)
    record = labelsync.convert(release, out=tmp_path / "two", previous=old, workers=2)
    assert (record.decoded, record.reused) == (40, 8)
    again(release, old, tmp_path / "one")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")


# -------------------------------------------------------------------- damage


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[: len(data) // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
@pytest.mark.parametrize("touched", [True, False])
def test_a_damaged_shard_is_converted_again(tmp_path: Path, damage: Callable[[Path], None], touched: bool) -> None:
    old, release = two(tmp_path, change=redraw(tmp_path / "drawn", 3))
    expected = again(release, old, tmp_path / "expected")
    changed = next(n for n, d in digests(tmp_path / "expected").items() if digests(old)[n] != d)
    name = changed if touched else next(n for n in digests(old) if n != changed)
    rows = read_manifest(old, "convert").summary["rows"][f"data/{name}"]
    damage(old / "data" / name)
    record = again(release, old, tmp_path / "b")
    assert digests(tmp_path / "b") == digests(tmp_path / "expected")
    assert record.reused == expected.reused - rows + (1 if touched else 0)
    assert record.digest == expected.digest


@pytest.mark.parametrize("damage", [Path.unlink, cut, flip])
def test_a_damaged_rows_file_is_not_believed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    old, release = two(tmp_path)
    damage(old / ROWS)
    record = again(release, old, tmp_path / "b")
    assert record.reused == 0 and digests(tmp_path / "b") == digests(old)


def test_a_row_that_is_not_the_one_that_was_asked_for_is_not_taken(tmp_path: Path) -> None:
    """rows.json and its manifest agree with each other, and not with the shard."""
    old, release = two(tmp_path, change=redraw(tmp_path / "drawn", 3))
    document = json.loads((old / ROWS).read_text())
    for shard in document["shards"].values():
        shard["rows"].reverse()
    (old / ROWS).write_text(json.dumps(document))
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["files"][ROWS] = {"sha256": sha256_file(old / ROWS), "size": (old / ROWS).stat().st_size}
    (old / "manifest.json").write_text(json.dumps(manifest))
    again(release, old, tmp_path / "b")
    again(release, without_data(old, tmp_path / "plain"), tmp_path / "c")
    assert digests(tmp_path / "b") == digests(tmp_path / "c")


# -------------------------------------------------------------------- keys

SAMPLE = LabelledSample(
    "u", "n.jpg", "LABELED", "u", File("a/u.jpg", "11", 1), File("b/u.png", "22", 2), ((1, 7), (2, 8), (3, 7))
)
LABELS = from_categories([Category(7, "road"), Category(8, "kerb")])


def changed_map(**changes: Any) -> LabelMap:
    return replace(LABELS, **changes)


@pytest.mark.parametrize(
    ("sample", "labels", "is_same"),
    [
        (replace(SAMPLE, status="REVIEWED", stem="x"), LABELS, True),
        (replace(SAMPLE, image=File("elsewhere/u.jpg", "11", 1, "https://a/b?sig=1")), LABELS, True),
        (replace(SAMPLE, annotations=((3, 7), (2, 8), (1, 7))), LABELS, True),
        (SAMPLE, changed_map(classes=(replace(LABELS.classes[0], name="street"), LABELS.classes[1])), True),
        (SAMPLE, from_categories([Category(7, "road"), Category(8, "kerb"), Category(9, "new")]), True),
        (replace(SAMPLE, uuid="v"), LABELS, False),
        (replace(SAMPLE, name="m.jpg"), LABELS, False),
        (replace(SAMPLE, image=File("a/u.png", "11", 1)), LABELS, False),
        (replace(SAMPLE, image=File("a/u.jpg", "12", 1)), LABELS, False),
        (replace(SAMPLE, bitmap=File("b/u.png", "23", 2)), LABELS, False),
        (replace(SAMPLE, bitmap=None), LABELS, False),
        (replace(SAMPLE, annotations=((1, 8), (2, 8), (3, 7))), LABELS, False),
        (replace(SAMPLE, annotations=SAMPLE.annotations[:2]), LABELS, False),
        (SAMPLE, changed_map(classes=LABELS.classes[::-1]), False),
        (SAMPLE, from_categories([Category(7, "road"), Category(8, "kerb")], unlabeled="class"), False),
        (SAMPLE, from_categories([Category(i, str(i)) for i in range(7, 300)]), False),
    ],
)
def test_a_key_is_of_what_the_bytes_depend_on(sample: LabelledSample, labels: LabelMap, is_same: bool) -> None:
    assert (row_key(sample, labels) == row_key(SAMPLE, LABELS)) == is_same


def test_a_sample_that_cannot_be_converted_has_no_key() -> None:
    assert row_key(replace(SAMPLE, annotations=((1, 9),)), LABELS) == ""


def test_what_a_sample_holds_besides_counts_too() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Drawn(LabelledSample):
        lines: tuple[tuple[float, float], ...] = ()

    fields = {name: getattr(SAMPLE, name) for name in SAMPLE.__dataclass_fields__}
    keys = {row_key(Drawn(**fields, lines=lines), LABELS) for lines in ((), ((0.5, 1.0),), ((0.5, 2.0),))}
    assert len(keys) == 3


def test_rows_json_says_what_is_in_the_shards(tmp_path: Path) -> None:
    from labelsync.pixels.semantic import decode_semantic

    old, _ = two(tmp_path, samples=20, empty=[4])
    index = from_json(RowIndex, (old / ROWS).read_bytes())
    dataset = labelsync.load(old)
    rows = [row for split in dataset.splits.values() for row in split]
    listed = [pixels for name in sorted(index.shards, key=order) for _, _, pixels in index.shards[name].rows]
    uuids = [uuid for name in sorted(index.shards, key=order) for uuid, _, _ in index.shards[name].rows]
    assert uuids == [row.uuid for row in rows]
    for path, shard in index.shards.items():
        metadata = pq.ParquetFile(old / path).metadata
        assert [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)] == list(shard.groups)
    for row, pixels in zip(rows, listed, strict=True):
        values, counts = np.unique(decode_semantic(row.label), return_counts=True)
        assert pixels == dict(zip(values.tolist(), counts.tolist(), strict=True))
    assert sum(s.size for s in index.shards.values()) == sum(len(r.image) + len(r.label) for r in rows)
    assert [reason for s in index.shards.values() for reason in s.empty.values()] == ["it has no annotations"]


def order(path: str) -> tuple[int, str]:
    split = path.removeprefix("data/").partition("-")[0]
    return ["train", "validation", "test"].index(split), path


# -------------------------------------------------------------------- over the network


def test_a_second_round_from_segments_fetches_no_image(tmp_path: Path, cli: Cli) -> None:
    """5 % relabelled: no image, a twentieth of the bitmaps' bytes, a twentieth of the decoding."""
    with LoopbackSegments() as server:
        drawn = draw_release(tmp_path / "drawn", samples=60, base_url=server.mount(tmp_path / "drawn"))
        root = json.loads(drawn.read_text())["dataset"]["samples"][0]["attributes"]["image"]["url"].split("images/")[0]

        def next_round(document: dict[str, Any]) -> None:
            redraw(tmp_path / "drawn", 7, 23, 51)(document)
            document["name"] = "v2.0"
            for s in document["dataset"]["samples"]:
                bitmap = s["labels"]["ground-truth"]["attributes"]["segmentation_bitmap"]
                bitmap["url"] = root + "bitmaps/" + bitmap["url"].rpartition("/")[2] + "?X-Amz-Signature=new"

        first = server.add_round(drawn)
        cli("pull", first, "--out", tmp_path / "v1", env=server.env)
        cli("convert", tmp_path / "v1", "--out", tmp_path / "a", "--workers", 1)
        second = server.add_round(edit_release(drawn, next_round))
        server.log.clear()
        pulled = json.loads(cli("pull", second, "--out", tmp_path / "v2", "--json", env=server.env).stdout)
        out = ("--out", tmp_path / "b", "--previous", tmp_path / "a", "--workers", 1, "--json")
        record = json.loads(cli("convert", tmp_path / "v2", *out).stdout)
        asked = server.log.find("GET", "/(images|bitmaps)/")
    assert {r.path.rpartition("/")[2] for r in asked} == {f"{sample_uuid(i)}-2.png" for i in (7, 23, 51)}
    every = sum(p.stat().st_size for p in (tmp_path / "v2/bitmaps").iterdir())
    assert 0 < pulled["bytes_fetched"] <= every / 10
    assert (record["decoded"], record["reused"]) == (3, 57)


def test_a_round_published_on_the_hub_is_taken_over(
    tmp_path: Path, cli: Cli, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    old, release = two(tmp_path, samples=24, change=redraw(tmp_path / "drawn", 3))
    cli("push", old, "--repo-id", "acme/reused", "--tag", "v1.0")
    out = ("--out", tmp_path / "b", "--previous", "acme/reused@v1.0", "--workers", 1, "--json")
    record = json.loads(cli("convert", release, *out).stdout)
    assert (record["decoded"], record["reused"]) == (1, 23)
    again(release, old, tmp_path / "c")
    assert digests(tmp_path / "b") == digests(tmp_path / "c")


def test_a_hub_that_goes_away_costs_time_and_nothing_else(
    tmp_path: Path, cli: Cli, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    old, release = two(tmp_path, samples=24)
    cli("push", old, "--repo-id", "acme/half-reused", "--tag", "v1.0")

    def refused(repo: str, revision: str, file: str) -> Path:
        raise DatasetError(f"{repo} has no {file}")

    monkeypatch.setattr(reuse, "fetch_file", refused)
    record = labelsync.convert(release, out=tmp_path / "b", previous="acme/half-reused@v1.0", workers=1)
    assert record.reused == 0 and digests(tmp_path / "b") == digests(old)
