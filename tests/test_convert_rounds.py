"""A later round: what `--previous` pins, and what may change."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import labelsync
from labelsync.dataset import shards
from labelsync.pixels.semantic import decode_semantic
from tests.releases import draw_release, edit_release, sample_uuid
from tests.test_convert import digests, rows_of

Cli = Callable[..., Result]


def rounds(
    folder: Path,
    *,
    first: int = 20,
    later: int = 30,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    **draw: Any,
) -> tuple[Path, Path]:
    """Two pulled releases of one dataset: more samples, in another order, with `change` applied to the second."""
    pulled = []
    for name, samples in (("v1", first), ("v2", later)):
        release = draw_release(folder / f"drawn-{name}", samples=samples, name=name, **draw)
        if name == "v2":
            edit_release(release, lambda d: d["dataset"]["samples"].reverse())
            edit_release(release, change)
        pulled.append(Path(labelsync.pull(release, out=folder / f"pulled-{name}").path))
    return pulled[0], pulled[1]


def categories(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["dataset"]["task_attributes"]["categories"]  # type: ignore[no-any-return]


def split_of(dataset: Path) -> dict[str, str]:
    return {row.uuid: split for split, rows in labelsync.load(dataset).splits.items() for row in rows}


def test_a_later_round_moves_no_sample_and_keeps_every_label(tmp_path: Path) -> None:
    v1, v2 = rounds(tmp_path)
    labelsync.convert(v1, out=tmp_path / "a")
    labelsync.convert(v2, out=tmp_path / "b", previous=tmp_path / "a")
    before, after = split_of(tmp_path / "a"), split_of(tmp_path / "b")
    assert len(before) == 20 and len(after) == 30
    assert {u: after[u] for u in before} == before
    old, new = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    assert all(new[u] == old[u] for u in old)


def test_untouched_shards_stay_byte_for_byte_and_their_number_is_pinned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 4)

    def relabel(document: dict[str, Any]) -> None:
        sample = next(s for s in document["dataset"]["samples"] if s["uuid"] == sample_uuid(3))
        for a in sample["labels"]["ground-truth"]["attributes"]["annotations"]:
            a["category_id"] = a["category_id"] % 3 + 1

    v1, v2 = rounds(tmp_path, first=40, later=40, change=relabel)
    labelsync.convert(v1, out=tmp_path / "a", workers=1)
    monkeypatch.setattr(shards, "SHARD_ROWS", 100)  # today's choice would be another
    labelsync.convert(v2, out=tmp_path / "b", previous=tmp_path / "a", workers=1)
    before, after = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert before.keys() == after.keys() and len(before) == 10
    assert sum(before[n] != after[n] for n in before) == 1


def test_a_shard_that_has_no_sample_any_more_is_there_and_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import load_dataset

    monkeypatch.setattr(shards, "SHARD_ROWS", 4)
    v1, _ = rounds(tmp_path, first=40, later=40)
    labelsync.convert(v1, out=tmp_path / "a", workers=1)
    rows = labelsync.load(tmp_path / "a").splits["train"]
    gone = {r.uuid for r in rows[: len(rows) - 3]}

    def drop(document: dict[str, Any]) -> None:
        document["dataset"]["samples"] = [s for s in document["dataset"]["samples"] if s["uuid"] not in gone]

    edit_release(tmp_path / "drawn-v2/release.json", drop)
    v2 = labelsync.pull(tmp_path / "drawn-v2/release.json", out=tmp_path / "fewer").path
    labelsync.convert(v2, out=tmp_path / "b", previous=tmp_path / "a", workers=1)
    assert digests(tmp_path / "a").keys() == digests(tmp_path / "b").keys()
    dataset = labelsync.load(tmp_path / "b")
    assert len(dataset.splits["train"]) == 3 == len(list(dataset.splits["train"]))
    loaded = load_dataset(str(tmp_path / "b"), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(loaded["uuid"]) == sorted(r.uuid for r in dataset.splits["train"])


def test_renames_are_followed_and_new_categories_come_last(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        categories(document)[1]["name"] = "pavement"
        categories(document).insert(0, {"name": "kerb", "id": 0})

    v1, v2 = rounds(tmp_path, change=change)
    labelsync.convert(v1, out=tmp_path / "a")
    labelsync.convert(v2, out=tmp_path / "b", previous=tmp_path / "a")
    assert labelsync.load(tmp_path / "b").labels.names == ("class-1", "pavement", "class-3", "kerb")
    old, new = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    assert all(new[u].label == old[u].label for u in old)
    card = (tmp_path / "b/README.md").read_text()
    assert "class-2 is now pavement; kerb is new" in card


def test_a_removed_category_keeps_its_slot(tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        del categories(document)[0]
        for s in document["dataset"]["samples"]:
            for a in s["labels"]["ground-truth"]["attributes"]["annotations"]:
                a["category_id"] = max(2, a["category_id"])

    v1, v2 = rounds(tmp_path, change=change)
    labelsync.convert(v1, out=tmp_path / "a")
    labelsync.convert(v2, out=tmp_path / "b", previous=tmp_path / "a")
    assert labelsync.load(tmp_path / "b").labels.names == ("class-1", "class-2", "class-3")
    values = {int(v) for r in rows_of(tmp_path / "b").values() for v in np.unique(decode_semantic(r.label))}
    assert values == {0, 2, 3}
    assert "class-1 (no longer in the taxonomy)" in (tmp_path / "b/README.md").read_text()


def test_a_renumbering_is_refused_and_followed_by_name_when_told(tmp_path: Path, cli: Cli) -> None:
    def change(document: dict[str, Any]) -> None:
        first, second, _ = categories(document)
        first["id"], second["id"] = second["id"], first["id"]
        for s in document["dataset"]["samples"]:
            for a in s["labels"]["ground-truth"]["attributes"]["annotations"]:
                a["category_id"] = {1: 2, 2: 1}.get(a["category_id"], 3)

    v1, v2 = rounds(tmp_path, change=change)
    labelsync.convert(v1, out=tmp_path / "a")
    flags = ("convert", v2, "--out", tmp_path / "b", "--previous", tmp_path / "a")
    assert "--allow-renumbering" in cli(*flags, code=1).stderr
    cli(*flags, "--allow-renumbering")
    old, new = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    assert all(new[u].label == old[u].label for u in old)


def test_what_the_earlier_round_pinned_needs_no_repeating_and_cannot_be_contradicted(tmp_path: Path, cli: Cli) -> None:
    v1, v2 = rounds(tmp_path, groups=5)
    pinned = ("--unlabeled", "class", "--group-by", "metadata.sequence", "--fractions", "60,20,20")
    cli("convert", v1, "--out", tmp_path / "a", *pinned)
    again = ("convert", v2, "--out", tmp_path / "b", "--previous", tmp_path / "a")
    for flag, value in (("--unlabeled", "ignore"), ("--group-by", "uuid")):
        assert f"{flag} is '{value}', and the earlier round used" in cli(*again, flag, value, code=2).stderr
    cli(*again)
    splits = json.loads((tmp_path / "b/splits.json").read_text())
    assert splits["group_by"] == "metadata.sequence" and splits["fractions"] == [0.6, 0.2, 0.2]
    assert labelsync.load(tmp_path / "b").labels.unlabeled == "class"
    groups = {f"seq-{i}" for i in range(5)}
    assert splits["groups"].keys() == groups
    after = split_of(tmp_path / "b")
    assert len({(i % 5, after[sample_uuid(i)]) for i in range(30)}) == 5


def test_a_splits_json_pins_as_well_as_the_dataset_it_is_from(tmp_path: Path) -> None:
    v1, v2 = rounds(tmp_path)
    labelsync.convert(v1, out=tmp_path / "a")
    labelsync.convert(v2, out=tmp_path / "b", splits=tmp_path / "a/splits.json")
    before, after = split_of(tmp_path / "a"), split_of(tmp_path / "b")
    assert {u: after[u] for u in before} == before and len(after) == 30


def test_without_the_earlier_round_nothing_is_pinned(tmp_path: Path) -> None:
    """The test of the tests above: a fresh start does move samples."""
    v1, v2 = rounds(tmp_path, first=20, later=60)
    labelsync.convert(v1, out=tmp_path / "a")
    labelsync.convert(v2, out=tmp_path / "b")
    before, after = split_of(tmp_path / "a"), split_of(tmp_path / "b")
    assert {u: after[u] for u in before} != before


def test_a_split_that_lost_its_last_sample_is_an_error(tmp_path: Path, cli: Cli) -> None:
    v1, v2 = rounds(tmp_path, first=10, later=10)
    labelsync.convert(v1, out=tmp_path / "a")
    (test,) = (r.uuid for r in labelsync.load(tmp_path / "a").splits["test"])

    def skip(document: dict[str, Any]) -> None:
        sample = next(s for s in document["dataset"]["samples"] if s["uuid"] == test)
        sample["labels"]["ground-truth"]["label_status"] = "SKIPPED"

    edit_release(tmp_path / "drawn-v2/release.json", skip)
    labelsync.pull(tmp_path / "drawn-v2/release.json", out=v2, overwrite=True)
    result = cli("convert", v2, "--out", tmp_path / "b", "--previous", tmp_path / "a", code=1)
    assert "the split 'test' is empty" in result.stderr and "--splits FILE" in result.stderr


def test_a_split_that_is_new_beside_pinned_ones_gets_what_is_left_of_90_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 1)
    v1, v2 = rounds(tmp_path, first=60, later=90)
    labelsync.convert(v1, out=tmp_path / "a", fractions=(90, 0, 10), workers=1)
    first = json.loads((tmp_path / "a/splits.json").read_text())["shards"]
    assert sum(first.values()) == 60
    labelsync.convert(v2, out=tmp_path / "b", previous=tmp_path / "a", fractions=(10, 80, 10), workers=1)
    later = json.loads((tmp_path / "b/splits.json").read_text())["shards"]
    assert {split: later[split] for split in first} == first
    assert later["validation"] > 1 and sum(later.values()) <= 90
