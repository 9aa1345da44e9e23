"""The loop closed: a dataset is made and filled, people label, a release is a round; its model drafts the next labels.

Everything is done by the commands, but for what people do: they draw, accept and correct.
"""

import json
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import labelsync
from labelsync.pixels.instance import decode_instance_bitmap
from labelsync.pixels.semantic import decode_semantic
from tests.loopback.hub import LoopbackHub
from tests.loopback.segments import LoopbackSegments
from tests.loopback.segments_people import Person
from tests.releases import draw_release
from tests.teams import settle

DATASET = "acme/park"


@pytest.fixture
def folder(tmp_path: Path, server: LoopbackSegments, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A team's folder: recordings that are drawn, labelsync.toml, keys."""
    draw_release(tmp_path / "drawn", samples=24)
    gates = ("mean_iou >= 0.0", "delta.mean_iou >= -1.0")
    settle(tmp_path, server, monkeypatch, source=DATASET, gates=gates)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entries(drawn: Path) -> dict[str, dict[str, Any]]:
    """Name of a recording -> the label that is drawn for it."""
    samples = json.loads((drawn / "release.json").read_text())["dataset"]["samples"]
    return {e["name"]: e["labels"]["ground-truth"] for e in samples}


def label(server: LoopbackSegments, drawn: Path, names: Collection[str]) -> None:
    """Jane draws what is in some samples, whatever label they have: a bitmap into the platform's storage, and a label
    with it."""
    truth = entries(drawn)
    for sample in list(server.platform.dataset(DATASET).samples.values()):
        if sample.name not in names:
            continue
        given = truth[sample.name]["attributes"]
        key = f"assets/{uuid.uuid4()}.png"
        server.bucket.objects[key] = (drawn / given["segmentation_bitmap"]["url"]).read_bytes()
        attributes = given | {"segmentation_bitmap": {"url": f"{server.storage_url}/{key}"}}
        Person(server.platform, "jane").touch(sample.uuid, attributes=attributes)


def accept(server: LoopbackSegments, names: Collection[str], *, status: str = "LABELED") -> None:
    """Jane finds the prelabels of some samples right, and says so."""
    for sample in list(server.platform.dataset(DATASET).samples.values()):
        if sample.name in names:
            Person(server.platform, "jane").touch(sample.uuid, status=status, attributes=None)


def statuses(server: LoopbackSegments) -> dict[str, str]:
    """Name of a sample -> the status of its label, "" for none."""
    samples = server.platform.dataset(DATASET).samples.values()
    return {s.name: s.labels.get("ground-truth", {}).get("label_status", "") for s in samples}


def truth(drawn: Path, name: str) -> npt.NDArray[np.uint8]:
    """(H, W) disk ids of a recording as it was drawn: categories 1 to 3 are the classes 1 to 3."""
    attributes = entries(drawn)[name]["attributes"]
    ids = decode_instance_bitmap((drawn / attributes["segmentation_bitmap"]["url"]).read_bytes())
    table = np.zeros(int(ids.max()) + 1, np.uint8)
    for annotation in attributes["annotations"]:
        table[annotation["id"]] = annotation["category_id"]
    return table[ids]


def ledger(folder: Path) -> dict[str, str]:
    """Name -> outcome, of a folder with a ledger; every sample once."""
    rows = json.loads((folder / "ledger.json").read_text())["rows"]
    assert len({r["name"] for r in rows}) == len({r["uuid"] for r in rows}) == len(rows)
    return {r["name"]: r["outcome"] for r in rows}


def splits(round: Path) -> dict[str, str]:
    """uuid -> split."""
    found: dict[str, str] = json.loads((round / "dataset/splits.json").read_text())["samples"]
    return found


def scored(evaluation: Path) -> list[str]:
    """uuids of the images of an evaluation."""
    return sorted(json.loads(line)["uuid"] for line in (evaluation / "images.jsonl").read_text().splitlines())


def test_from_an_empty_account_to_a_second_round_on_corrected_prelabels(
    folder: Path, server: LoopbackSegments, cli: Any
) -> None:
    def run(*argv: object) -> Any:
        return json.loads(cli(*argv, "--json").stdout)

    drawn, first_round, second_round = folder / "drawn", folder / "rounds/v0.1", folder / "rounds/v0.2"
    images = sorted((drawn / "images").iterdir())
    names = [p.name for p in images]
    by_hand, accepted, reviewed, corrected, left = names[:12], names[12:15], names[15:17], names[17:22], names[22:]

    # a dataset, half of the recordings, and their labels
    run("create", DATASET, "--categories", drawn / "release.json")
    added = run("add-images", DATASET, *images[:14])
    assert added["outcomes"]["added"] == 14
    label(server, drawn, by_hand)
    released = run("create-release", DATASET, "v0.1")
    assert released["samples"] == 14

    # the first round
    first = run("run")
    assert list(first["releases"].values()) == ["v0.1"] and first["baseline_mean_iou"] is None
    assert ledger(first_round / "dataset") == {n: "converted" if n in by_hand else "unlabeled" for n in names[:14]}
    assert json.loads((first_round / "dataset/id2label.json").read_text())["1"] == "class-1"

    # all recordings, of which those that are there stay as they are
    before = {s.name: s.uuid for s in server.platform.dataset(DATASET).samples.values()}
    added = run("add-images", DATASET, drawn / "images")
    assert (added["outcomes"]["added"], added["outcomes"]["there"]) == (10, 14)

    # the round's model drafts the labels of what has none, once
    prelabel = ("prelabel", first_round / "model", DATASET, "--min-size", 0, "--out", "prelabels")
    assert run(*prelabel)["outcomes"] == {"prelabeled": 12, "labeled": 12}
    assert statuses(server) == {n: "LABELED" if n in by_hand else "PRELABELED" for n in names}
    assert run(*prelabel)["outcomes"] == {"there": 12, "labeled": 12}

    # jane accepts some, corrects others, and does not get to the last two
    accept(server, accepted)
    accept(server, reviewed, status="REVIEWED")
    label(server, drawn, corrected)
    assert run(*prelabel)["outcomes"] == {"there": 2, "touched": 10, "labeled": 12}
    assert {n for n, status in statuses(server).items() if status == "PRELABELED"} == {*left}

    # the second round takes what a person has said yes to
    assert run("create-release", DATASET, "v0.2")["samples"] == 24
    del server.log[:]
    second = run("run")
    assert (second["number"], second["previous"]) == (2, "v0.1")
    assert ledger(second_round / "dataset") == {n: "filtered" if n in left else "converted" for n in names}
    fetched = [r.path for r in server.log.find(method="GET", server="storage") if "/assets/" in r.path]
    assert len({*fetched}) == len(fetched) == 12  # the new bitmaps: the model has seen the images

    # what was accepted arrives as the model drew it, what was corrected as it was drawn
    run("predict", first_round / "model", *images[12:], "--out", "predicted")
    rows = {r.name: r for rows in labelsync.load(second_round / "dataset").splits.values() for r in rows}
    assert sorted(rows) == [*by_hand, *accepted, *reviewed, *corrected]
    for name, row in rows.items():
        is_model = name in accepted or name in reviewed
        bitmap = folder / "predicted/bitmaps" / Path(name).with_suffix(".png")
        wanted = np.asarray(Image.open(bitmap)) if is_model else truth(drawn, name)
        assert np.array_equal(decode_semantic(row.label), wanted), name

    # nobody changed its split or its number
    pinned = splits(second_round)
    assert pinned | splits(first_round) == pinned
    assert {n: r.uuid for n, r in rows.items() if n in by_hand} == {n: before[n] for n in by_hand}
    assert len(server.platform.dataset(DATASET).samples) == 24

    # both models on the test samples of the second round
    test = sorted(r.uuid for r in rows.values() if pinned[r.uuid] == "test")
    assert scored(second_round / "evaluation") == scored(second_round / "baseline") == test
    alone = run("evaluate", first_round / "model", "--dataset", second_round / "dataset", "--out", "alone")
    comparison = json.loads((second_round / "comparison.json").read_text())
    assert comparison["images"] == len(test) > 0
    assert comparison["figures"]["mean_iou"]["new"] == second["mean_iou"]
    assert comparison["figures"]["mean_iou"]["baseline"] == second["baseline_mean_iou"] == alone["mean_iou"]
    assert "against v0.1" in {s["stage"]: s["note"] for s in second["stages"]}["compare"]

    # the same command again does nothing, and what nobody looked at can be taken back
    assert {s["outcome"] for s in run("run")["stages"]} <= {"unchanged", "skipped"}
    assert [r["name"] for r in run("status")["rounds"]] == ["v0.1", "v0.2"]
    assert run("prelabel", "--undo", "prelabels")["outcomes"] == {"touched": 10, "undone": 2}
    assert {n for n, status in statuses(server).items() if not status} == {*left}
