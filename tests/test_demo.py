"""The demo as a user runs it: one process, no network, the record on stdout. It is the slowest test there is."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from labelsync.errors import OutputExists
from labelsync.pipeline.demo import SCENES, demo
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic
from labelsync.sidewalk.scenes import CATEGORIES, SIZE_HW, flaws
from tests.conftest import NOWHERE


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder and the record of `labelsync demo`, with a Hub and proxies that nobody answers."""
    out = tmp_path_factory.mktemp("demo") / "labelsync-demo"
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # the tests' own are for tiny models
    environment = {k: v for k, v in os.environ.items() if k not in threads}
    done = subprocess.run(
        [sys.executable, "-m", "labelsync", "demo", "--out", str(out), "--json"],
        env=environment | {"HF_ENDPOINT": NOWHERE, "HF_HUB_OFFLINE": "1", "NO_PROXY": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_ledger_accounts_for_every_scene(run: tuple[Path, dict[str, Any]]) -> None:
    out, record = run
    outcomes = record["convert"]["outcomes"]
    assert sum(outcomes.values()) == record["convert"]["samples"] == SCENES
    drawn = flaws(SCENES, 0)
    assert outcomes["filtered"] == len(drawn.skipped) > 0
    assert outcomes["unlabeled"] == len(drawn.unlabeled) > 0
    assert outcomes["failed"] == len(drawn.wrong_size) > 0
    rows = json.loads((out / "dataset" / "ledger.json").read_text())["rows"]
    assert len({row["uuid"] for row in rows}) == SCENES
    assert {row["status"] for row in rows if row["outcome"] == "filtered"} == {"SKIPPED"}
    assert all(row["reason"] for row in rows if row["outcome"] != "converted")
    assert sum(record["convert"]["splits"].values()) == outcomes["converted"]


def test_model_has_learned_every_class(run: tuple[Path, dict[str, Any]]) -> None:
    evaluated = run[1]["evaluate"]
    assert evaluated["split"] == "test"
    assert evaluated["images"] == run[1]["convert"]["splits"]["test"]
    scores = evaluated["per_category_iou"]
    assert set(scores) == {c.name for c in CATEGORIES}
    assert None not in scores.values()
    assert evaluated["mean_iou"] == pytest.approx(np.mean(list(scores.values())))
    assert evaluated["mean_iou"] >= 0.60, scores
    assert min(scores.values()) >= 0.10, scores


def test_the_model_that_is_scored_was_trained_on_this_dataset(run: tuple[Path, dict[str, Any]]) -> None:
    record = run[1]
    digest = record["convert"]["digest"]
    assert record["train"]["dataset_digest"] == record["evaluate"]["dataset_digest"] == digest
    assert 400_000 < record["train"]["parameters"] < 600_000


def test_overlays_and_bitmaps_of_the_test_images_are_there(run: tuple[Path, dict[str, Any]]) -> None:
    out, record = run
    overlays = sorted((out / "predictions" / "overlays").iterdir())
    bitmaps = sorted((out / "predictions" / "bitmaps").iterdir())
    assert len(overlays) == len(bitmaps) == record["predict"]["images"] == record["convert"]["splits"]["test"]
    for overlay, bitmap in zip(overlays, bitmaps, strict=True):
        assert decode_image(overlay.read_bytes()).std() > 10
        predicted = decode_semantic(bitmap.read_bytes())
        assert predicted.shape == SIZE_HW
        assert 1 <= predicted.min() <= predicted.max() <= len(CATEGORIES)


def test_record_lies_beside_the_stages(run: tuple[Path, dict[str, Any]]) -> None:
    out, record = run
    assert json.loads((out / "demo.json").read_text()) == record
    assert list(record["seconds"]) == ["draw", "pull", "convert", "train", "evaluate", "report", "predict"]
    assert {p.name for p in out.iterdir() if p.is_dir()} == {
        *("scenes", "release", "dataset", "start", "model", "evaluation", "predictions"),
    }


def test_text_names_what_was_lost_and_where_to_look(run: tuple[Path, dict[str, Any]]) -> None:
    from labelsync.cli.demo import as_text
    from labelsync.records.results import DemoRecord
    from labelsync.records.text import from_json

    out, record = run
    text = as_text(from_json(DemoRecord, json.dumps(record)))
    lost = [r for r in json.loads((out / "dataset" / "ledger.json").read_text())["rows"] if r["outcome"] == "failed"]
    assert len(lost) == len(flaws(SCENES, 0).wrong_size)
    for row in lost:
        assert f"{row['name']}  failed: {row['reason']}" in text
    assert f"splits: {record['convert']['splits']['train']} train" in text
    assert all(name in text for name in record["evaluate"]["per_category_iou"])
    assert str(out / "predictions" / "overlays") in text
    assert f"open {out / 'report.html'} in a browser" in text


def test_the_report_of_the_demo_holds_all_of_it(run: tuple[Path, dict[str, Any]]) -> None:
    out, record = run
    page = (out / "report.html").read_text()
    assert f"{record['evaluate']['mean_iou']:.3f}" in page
    for said in ("Safety", "Worst images", "What the model saw while it learned", "Class balance"):
        assert said in page
    assert len(page.encode()) == record["report"]["bytes"] < 15e6


# -------------------------------------------------------------------- what lies there already


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path, cli: Callable[..., Result]) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for flags, said in ((), "exists"), (("--overwrite",), "no demo has been there"):
        result = cli("demo", "--out", tmp_path, *flags, code=1)
        assert said in result.stderr
        assert result.stdout == ""
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwrite_replaces_an_earlier_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the first stage: that much tells whether the old folder has gone."""
    out = tmp_path / "demo"
    (out / "predictions").mkdir(parents=True)
    (out / "demo.json").write_text("{}")

    class DrawnError(Exception):
        pass

    def stop(folder: Path, **_: Any) -> Path:
        assert folder.parent == out
        raise DrawnError

    monkeypatch.setattr("labelsync.pipeline.demo.draw_release", stop)
    with pytest.raises(OutputExists):
        demo(out=out)
    assert (out / "predictions").is_dir()
    with pytest.raises(DrawnError):
        demo(out=out, overwrite=True)
    assert [p.name for p in out.iterdir()] == ["demo.json"]
