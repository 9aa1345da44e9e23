"""The loop closed: a dataset is made and filled, people label, a release is a round, and the next one follows.

Nothing here but the labels themselves is put on the platform by the test: people draw those.
"""

import json
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.loopback.segments import KEY, LoopbackSegments
from tests.models import tiny_segformer
from tests.releases import draw_release

DATASET = "acme/park"

CONFIG = """
[segments]
datasets = ["acme/park"]
[hub]
dataset = "{dataset}"
model = "{model}"
[train]
model = "start"
recipe = "demo"
image_size = "32"
set = ["max_steps=2"]
[gates]
require = ["mean_iou >= 0.0", "delta.mean_iou >= -1.0"]
"""


@pytest.fixture
def platform() -> Iterator[LoopbackSegments]:
    """An empty Segments.ai."""
    with LoopbackSegments() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path, platform: LoopbackSegments, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A team's folder: recordings that are drawn, labelsync.toml, keys."""
    draw_release(tmp_path / "drawn", samples=24)
    tiny_segformer(tmp_path / "start", 3)
    repos = {kind: f"acme/{kind}-{uuid.uuid4().hex[:8]}" for kind in ("dataset", "model")}  # one Hub for all tests
    (tmp_path / "labelsync.toml").write_text(CONFIG.format(**repos))
    for name, value in (("SEGMENTS_API_URL", platform.url), ("SEGMENTS_API_KEY", KEY), ("HF_TOKEN", WRITE_TOKEN)):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def label(server: LoopbackSegments, drawn: Path, names: Collection[str]) -> None:
    """People draw what is in some samples: bitmaps into the platform's storage, labels to the samples."""
    entries = {e["name"]: e for e in json.loads((drawn / "release.json").read_text())["dataset"]["samples"]}
    for sample in list(server.platform.dataset(DATASET).samples.values()):
        if sample.name not in names:
            continue
        given = entries[sample.name]["labels"]["ground-truth"]
        bitmap = given["attributes"]["segmentation_bitmap"]["url"]
        key = f"assets/{uuid.uuid4()}.png"
        server.bucket.objects[key] = (drawn / bitmap).read_bytes()
        attributes = given["attributes"] | {"segmentation_bitmap": {"url": f"{server.storage_url}/{key}"}}
        server.platform.put_label(sample.uuid, "ground-truth", {"label_status": "LABELED", "attributes": attributes})


def test_from_an_empty_account_to_a_second_round(folder: Path, platform: LoopbackSegments, cli: Any) -> None:
    def run(*argv: object) -> Any:
        return json.loads(cli(*argv, "--json").stdout)

    images = sorted((folder / "drawn/images").iterdir())
    names = [p.name for p in images]

    # a dataset, half of the recordings, and their labels
    run("create", DATASET, "--categories", folder / "drawn/release.json")
    added = run("add-images", DATASET, *images[:14])
    assert added["outcomes"]["added"] == 14
    label(platform, folder / "drawn", names[:12])
    released = run("create-release", DATASET, "v0.1")
    assert released["samples"] == 14

    # the first round
    first = run("run")
    assert list(first["releases"].values()) == ["v0.1"]
    ledger = json.loads((folder / "rounds/v0.1/dataset/ledger.json").read_text())["rows"]
    assert [r["outcome"] for r in ledger].count("converted") == 12
    assert [r["outcome"] for r in ledger].count("unlabeled") == 2
    assert json.loads((folder / "rounds/v0.1/dataset/id2label.json").read_text())["1"] == "class-1"

    # all recordings, of which those that are there stay as they are; labels of the rest; the second round
    before = {s.name: s.uuid for s in platform.platform.dataset(DATASET).samples.values()}
    added = run("add-images", DATASET, folder / "drawn/images")
    assert (added["outcomes"]["added"], added["outcomes"]["there"]) == (10, 14)
    label(platform, folder / "drawn", names[12:])
    assert run("create-release", DATASET, "v0.2")["samples"] == 24
    del platform.log[:]
    second = run("run")
    assert (second["number"], second["previous"]) == (2, "v0.1")
    fetched = [r for r in platform.log.find(method="GET", server="storage") if "/assets/" in r.path]
    assert len(fetched) == 2 * 12  # image and bitmap of what was labelled since
    assert {s["stage"]: s["outcome"] for s in second["stages"]}["compare"] == "done"

    # nobody changed its split or its number, and the same command again does nothing
    splits = [json.loads((folder / f"rounds/{r}/dataset/splits.json").read_text())["samples"] for r in ("v0.1", "v0.2")]
    assert {u: splits[1][u] for u in splits[0]} == splits[0]
    assert {*before.values()} <= {s.uuid for s in platform.platform.dataset(DATASET).samples.values()}
    assert {s["outcome"] for s in run("run")["stages"]} <= {"unchanged", "skipped"}
    assert [r["name"] for r in run("status")["rounds"]] == ["v0.1", "v0.2"]
