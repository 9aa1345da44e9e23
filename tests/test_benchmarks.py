"""The benchmarks run: on two or a few small samples, for their code alone. What they measure is for `tox -e bench`."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import labelsync
from labelsync.pixels.semantic import decode_semantic, encode_semantic
from labelsync.records.release import Row
from tests import reference
from tests.benchmarks import active_learning, convert, label_errors, measure, metric, scenes, second_round, tutorial
from tests.benchmarks import input as benchmark_input
from tests.benchmarks import predict as benchmark_predict
from tests.benchmarks import training as benchmark_training
from tests.models import TINY, label_map
from tests.releases import draw_release

SMALL = (54, 96)


def test_scenes_are_the_same_each_time_and_as_the_platform_writes_them(tmp_path: Path) -> None:
    one, two = (scenes.release_of(tmp_path / n, samples=2, size=SMALL, copies=2) for n in ("one", "two"))
    assert [p.read_bytes() for p in sorted(one.parent.rglob("*.*"))] == [
        p.read_bytes() for p in sorted(two.parent.rglob("*.*"))
    ]
    record = labelsync.pull(one, out=tmp_path / "release")
    assert record.outcomes["pulled"] == record.samples == 4
    assert labelsync.convert(tmp_path / "release", out=tmp_path / "data", workers=1).outcomes["converted"] == 4


def test_a_full_size_scene_is_as_heavy_as_a_real_one() -> None:
    picture, ids, annotations = scenes.draw(1)
    assert picture.shape == (*scenes.FULL_HD, 3)
    assert 15 <= len(annotations) <= 60
    assert 15 <= len(np.unique(ids[ids > 0])) <= 60
    assert picture.astype(float).std() > 5 and 0.5 < (ids > 0).mean() < 1


def test_the_next_round_changes_only_what_was_relabelled(tmp_path: Path) -> None:
    one = scenes.release_of(tmp_path / "one", samples=4, size=SMALL)
    two = scenes.next_round(one.parent, tmp_path / "two", relabelled=[2], size=SMALL)
    changes = labelsync.diff(one, two)
    assert {change: n for change, n in changes.totals.items() if n} == {"relabelled": 1, "redrawn": 3}
    assert sum(change.pixels > 0 for change in changes.samples.values()) == 1  # redrawn: in another file, all the same


def test_convert_is_measured_beside_its_floor(tmp_path: Path) -> None:
    report = convert.run(tmp_path, samples=2, copies=8, rounds=1, size=SMALL)
    assert "| wall s |" in report and "| encode the label |" in report
    stages = [float(line.split("|")[2]) for line in report.splitlines() if line.startswith("| ") and "%" in line]
    assert all(stages), "a stage that takes no time is one that is not found any more"


def test_the_input_is_measured_beside_the_documents_transform(tmp_path: Path) -> None:
    report = benchmark_input.run(tmp_path, images=2, rounds=1, size=(216, 384))
    assert "| resize and jitter |" in report and "| recipe sidewalk, --cache-images |" in report
    stages = [
        line.split("|")[2:4] for line in report.splitlines() if line.startswith(("| decode", "| resize |", "| jit"))
    ]
    assert len(stages) == 4
    assert all(float(x) for stage in stages for x in stage), "a stage that takes no time is not found any more"


def test_training_is_measured_beside_the_documents_loop(tmp_path: Path) -> None:
    small = {"size": (64, 64), "batch": 2, "steps": 2, "rounds": 1, "picture": (108, 192)}
    report = benchmark_training.run(tmp_path, **small, backbones=("SegFormer B0",))
    for side in ("documents", "official example", "from memory"):
        assert f"| {side} |" in report
    assert "64x64, batch 2" in report


def test_the_metric_is_measured_beside_evaluates_and_equals_it(tmp_path: Path) -> None:
    report = metric.run(tmp_path, images=2, rounds=1, size=(216, 384))
    assert report.count("0e+00 apart") == 5


def test_predictions_are_measured_beside_the_pipeline_and_are_the_same(tmp_path: Path) -> None:
    tiny = {k: v for k, v in TINY.items() if k not in ("model_type", "architectures")}
    report = benchmark_predict.run(tmp_path, images=2, rounds=1, size=(108, 192), side=64, config=tiny)
    shares = [float(share) for share in re.findall(r"times, ([\d.]+)% of the pixels the same", report)]
    assert len(shares) == 3 and min(shares) >= 99.9
    assert int(re.search(r", (\d+) classes an image", report)[1]) >= 10


def test_active_learning_is_simulated_on_labels_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(active_learning, "SIZE_HW", (32, 32))
    labelsync.pull(draw_release(tmp_path / "drawn", samples=12), out=tmp_path / "release")
    labelsync.convert(tmp_path / "release", out=tmp_path / "data", workers=1, fractions=(0.75, 0, 0.25))
    data = labelsync.load(tmp_path / "data")
    train, test = list(data.splits["train"]), list(data.splits["test"])
    first = {row.uuid for row in train[:3]}
    found = active_learning.simulate(data.labels, train, test, first, count=2, seeds=2, steps=1)
    assert list(found) == ["no new labels", "random", *active_learning.STRATEGIES, "all labels"]
    assert all(len(values) == 2 and np.isfinite(values).all() for values in found.values())
    assert "| random | " in active_learning.table_of(found, "drawn")


def test_evaluates_computation_is_the_published_definition() -> None:
    pairs = [metric.maps_of(i, size=(54, 96)) for i in range(2)]
    references, predictions = [r for r, _ in pairs], [p for _, p in pairs]
    expected = reference.mean_iou(predictions, references, num_labels=metric.CLASSES, ignore_index=metric.VOID)
    assert metric.difference(metric.theirs(predictions, references), expected) < 1e-12


@pytest.mark.slow
def test_a_second_round_is_measured_beside_the_first(tmp_path: Path) -> None:
    report = second_round.run(tmp_path, samples=20, rounds=1, size=SMALL)
    assert "| image bytes fetched | 0 |" in report


def test_both_sides_of_the_tutorials_table(tmp_path: Path) -> None:
    ours, theirs = tutorial.Side(2, 1, 3, 100, 10), tutorial.Side(40, 30, 50, 700, 90)
    report = tutorial.report([ours] * 3, [theirs] * 3, samples=10)
    assert "| samples/s, imports left out | 10.0 | 0.33 | 30.0 times | 15 times | met |" in report
    assert "20.0 times | 15 times | met" in report
    assert "1/7.0 | 1/8 | **missed**" in report


def test_memory_and_time_of_a_program_include_what_it_starts(tmp_path: Path) -> None:
    child = "b = bytearray(150_000_000); b[::4096] = b'x' * len(b[::4096])"
    script = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child + '; sum(range(10**7))'!r}]); print(1)"
    )
    done = measure.measured([sys.executable, "-c", script])
    assert done.peak > 150e6 and done.cpu > 0.05
    assert done.record == 1
    with pytest.raises(RuntimeError, match="ended with 3"):
        measure.measured([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_served_release_has_absolute_urls(tmp_path: Path) -> None:
    drawn = scenes.release_of(tmp_path / "drawn", samples=1, size=SMALL)
    with measure.served(drawn.parent) as url:
        released = scenes.with_base_url(drawn, url, drawn.with_name("served.json"), query="?s=1")
        (entry,) = json.loads(released.read_text())["dataset"]["samples"]
        assert entry["attributes"]["image"]["url"].startswith(f"{url}/images/")
        assert measure.labelsync("pull", released, "--out", tmp_path / "r", cache=tmp_path / "c").record["fetched"] == 2


def test_planted_label_errors_are_whole_components_and_marked() -> None:
    labels = label_map("a", "b", "c")
    label = np.zeros((40, 60), np.uint8)
    label[:20, :30], label[:20, 30:], label[25:, :20], label[25:, 40:], label[39, 30] = (
        1,
        2,
        3,
        1,
        2,
    )  # the last a speck
    rows = [Row(str(i), str(i), b"", encode_semantic(label)) for i in range(30)]
    odds = label_errors.any_other(labels)
    odds[0] = 0, 0, 1  # a goes to c alone
    planted = label_errors.plant(rows, 0.5, odds)
    assert planted.components == 120 and 40 <= planted.number <= 80
    for row, marks in zip(planted.rows, planted.errors, strict=True):
        found = decode_semantic(row.label)
        assert np.array_equal(found != label, marks > 0) and not marks[39, 30]
        assert set(found[(marks > 0) & (label == 1)].tolist()) <= {3}
    numbers = np.unique(np.concatenate([np.unique(m[m > 0]) for m in planted.errors]))
    assert numbers.tolist() == list(range(1, planted.number + 1))
    assert label_errors.told([3, 3, 0, 1], 4) == "0.75, 0.50"
