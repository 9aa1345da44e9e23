"""Slices, gates and comparisons, from a release file through the real commands to exit codes."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import labelsync
from labelsync.dataset.split import Assignment
from labelsync.errors import DatasetError, GateFailed, OptionError
from labelsync.evaluation.changes import rows_of, seen
from labelsync.evaluation.compare import compare
from labelsync.evaluation.evaluate import evaluate
from labelsync.evaluation.figures import Figures
from labelsync.evaluation.side import read_side
from labelsync.evaluation.slices import Describer
from labelsync.evaluation.tally import read_tally, write_tally
from labelsync.labels import LabelMap
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row
from labelsync.records.results import EvaluateRecord
from labelsync.records.scores import CompareRecord, ImageChange
from labelsync.records.text import from_json
from labelsync.store.manifest import read_manifest, write_manifest
from tests.models import loud_segformer
from tests.releases import draw_release, edit_release

Cli = Callable[..., Result]


class World:
    """Two rounds of one dataset, two models, and their evaluations."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.release = draw_release(root / "drawn", samples=14, groups=7)
        edit_release(self.release, weather)
        labelsync.pull(self.release, out=root / "release")
        self.data = root / "data"
        convert = {"fractions": (0.4, 0.1, 0.5), "group_by": "metadata.sequence", "workers": 1}
        labelsync.convert(root / "release", out=self.data, **convert)
        labels = labelsync.load(self.data).labels
        for name, seed in (("old", 0), ("new", 1)):
            folder = loud_segformer(root / name, labels, seed=seed)
            evaluate(folder, dataset=self.data, out=root / f"{name}-e", device="cpu", by=["metadata.weather", "group"])


def weather(document: dict[str, Any]) -> None:
    for i, sample in enumerate(document["dataset"]["samples"]):
        if i % 3:
            sample["metadata"]["weather"] = "rain" if i % 3 == 1 else "sun"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("compare"))


def evaluation(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text())


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "images.jsonl").read_text().splitlines()]


# -------------------------------------------------------------------- slices


def test_each_slice_is_scored_as_if_it_were_alone(world: World) -> None:
    found = evaluation(world.root / "old-e")
    images = lines(world.root / "old-e")
    assert set(found["slices"]) == {"weather", "group"}
    assert set(found["slices"]["weather"]) == {"rain", "sun", "(none)"} & {i["slices"]["weather"] for i in images}
    assert len(found["slices"]["weather"]) > 1
    for by, values in found["slices"].items():
        assert sum(v["images"] for v in values.values()) == found["images"]
        for value, scored in values.items():
            areas = np.zeros((3, 3))
            for image in images:
                if image["slices"][by] == value:
                    for disk_id, column in image["areas"].items():
                        areas[:, int(disk_id) - 1] += column
            right, said, meant = areas
            with np.errstate(invalid="ignore"):
                iou = right / (said + meant - right)
            assert scored["figures"]["mean_iou"] == pytest.approx(np.nanmean(iou), abs=1e-12)
            assert scored["figures"]["overall_accuracy"] == pytest.approx(right.sum() / meant.sum(), abs=1e-12)


def test_two_slicings_are_never_one_and_no_value_is_taken_for_a_missing_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = labelsync.load(world.data)
    notes = {"a": "(none)", "b": None, "c": '"(none)"', "d": "x"}
    found = {uuid: {"group": note, "sequence": "seq-1"} for uuid, note in notes.items()}
    monkeypatch.setattr("labelsync.evaluation.slices.read_metadata", lambda _: found)
    describer = Describer(data, ["group", "metadata.group"])
    label = np.ones((2, 2), np.uint8)
    slices = [describer.facts(Row("x", uuid, b"", b""), label).slices for uuid in notes]
    assert {s["group"] for s in slices} == {"seq-1"}
    assert [s["metadata.group"] for s in slices] == ['"(none)"', "(none)", '""(none)""', "x"]


def test_every_image_has_its_own_scores(world: World) -> None:
    """The boundary IoU and calibration error of an image are those of an evaluation of it alone."""
    images = lines(world.root / "old-e")
    tally = read_tally(world.root / "old-e", 3)
    for i, image in enumerate(images):
        alone = Figures(tally.select([i], [1, 2, 3]), ["a", "b", "c"]).whole()
        for name in ("mean_iou", "overall_accuracy", "mean_boundary_iou", "expected_calibration_error"):
            assert image[name] == pytest.approx(alone[name], abs=1e-12)
    assert len({image["expected_calibration_error"] for image in images}) > 1


def test_groups_of_the_dataset_are_what_is_drawn(world: World) -> None:
    record = evaluation(world.root / "old-e")
    groups = {image["group"] for image in lines(world.root / "old-e")}
    assert groups <= {f"seq-{i}" for i in range(7)}
    assert record["resampled"] == f"1000 resamples of {len(groups)} groups by metadata.sequence"
    low, high = record["intervals"]["mean_iou"]
    assert low < record["mean_iou"] < high


def test_frames_of_a_sequence_are_drawn_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the rule "uuid" splits.json lists the sequences, and a frame is called by its sequence and a number."""
    data = labelsync.load(world.data)
    pinned = Assignment(group_by="uuid", fractions=None, samples={}, groups={"seq": "test"})
    monkeypatch.setattr(type(data.files), "assignment", pinned)
    describer = Describer(data, ["group"])
    label = np.ones((2, 2), np.uint8)
    found = [describer.facts(Row("x", uuid, b"", b""), label) for uuid in ("seq.00000", "seq.front.00001", "other")]
    assert [facts.group for facts in found] == ["seq", "seq", "other"]
    assert describer.unit == "group by uuid"
    monkeypatch.setattr(type(data.files), "assignment", Assignment("uuid", None, {}))
    with pytest.raises(OptionError, match="has no groups"):
        Describer(data, ["group"])


def test_a_slicing_that_is_not_there_is_refused_before_anything_is_run(world: World, tmp_path: Path, cli: Cli) -> None:
    run = ("evaluate", world.root / "old", "--dataset", world.data, "--out", tmp_path / "e")
    error = cli(*run, "--by", "metadata.whether", code=2).stderr
    assert "no sample has metadata 'whether'" in error
    assert "sequence, weather" in error
    assert "no slicing" in cli(*run, "--by", "weather", code=2).stderr
    bare = tmp_path / "bare"
    shutil.copytree(world.data, bare)
    manifest = json.loads((bare / "manifest.json").read_text())
    del manifest["files"]["metadata.json"]
    (bare / "manifest.json").write_text(json.dumps(manifest))
    old = ("evaluate", world.root / "old", "--dataset", bare, "--out", tmp_path / "e", "--device", "cpu")
    assert "convert the release again" in cli(*old, "--by", "metadata.weather", code=1).stderr
    record = from_json(EvaluateRecord, cli(*old, "--json").stdout)
    assert record.resampled.endswith("images")


def test_convert_again_adds_the_metadata_that_an_earlier_labelsync_left_out(world: World, tmp_path: Path) -> None:
    out = tmp_path / "data"
    shutil.copytree(world.data, out)
    options: dict[str, Any] = {"fractions": (0.4, 0.1, 0.5), "group_by": "metadata.sequence", "workers": 1}
    assert labelsync.convert(world.root / "release", out=out, **options).unchanged
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["files"]["metadata.json"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    (out / "metadata.json").unlink()
    assert not labelsync.convert(world.root / "release", out=out, **options).unchanged
    found = json.loads((out / "metadata.json").read_text())
    assert {m.get("weather") for m in found.values()} == {None, "rain", "sun"}


# -------------------------------------------------------------------- gates


def test_a_gate_that_is_not_met_ends_in_exit_code_3_after_the_record(world: World, tmp_path: Path, cli: Cli) -> None:
    run = ("evaluate", world.root / "old", "--dataset", world.data, "--out", tmp_path / "e", "--device", "cpu")
    gates = ("--gate", "mean_iou >= 0", "--gate", "iou.class-1 > 1", "--gate", "mean_iou[weather=snow] > 0")
    ended = cli(*run, *gates, "--json", "--by", "metadata.weather", code=3)
    record = from_json(EvaluateRecord, ended.stdout)
    assert [g.passed for g in record.gates] == [True, False, False]
    failed = ended.stderr.splitlines()[-3:]
    assert failed[0].strip().startswith("iou.class-1 > 1: it is 0.")
    assert failed[1].strip().startswith("mean_iou[weather=snow] > 0: there is no such figure")
    assert failed[2].startswith("labelsync: 2 of 3 gates not met")
    again = from_json(EvaluateRecord, cli(*run, "--by", "metadata.weather", "--json").stdout)
    assert again.unchanged
    assert again.intervals == record.intervals
    with pytest.raises(GateFailed) as e:
        evaluate(
            world.root / "old",
            dataset=world.data,
            out=tmp_path / "e",
            by=["metadata.weather"],
            gate=["dice.class-1 > 1"],
        )
    assert isinstance(e.value.record, EvaluateRecord)


def test_a_gate_that_cannot_be_read_costs_no_evaluation(world: World, tmp_path: Path, cli: Cli) -> None:
    run = ("evaluate", world.root / "old", "--dataset", world.data, "--out", tmp_path / "e")
    cli(*run, "--gate", "mean_iou is good", code=2)
    assert not (tmp_path / "e").exists()


# -------------------------------------------------------------------- compare


def test_a_delta_is_the_difference_of_the_two_evaluations(world: World, cli: Cli) -> None:
    printed = cli("compare", world.root / "new-e", "--baseline", world.root / "old-e", "--json").stdout
    record = from_json(CompareRecord, printed)
    new, old = evaluation(world.root / "new-e"), evaluation(world.root / "old-e")
    for name in ("mean_iou", "mean_accuracy", "overall_accuracy", "mean_dice", "mean_boundary_iou"):
        delta = record.figures[name]
        assert (delta.new, delta.baseline) == pytest.approx((new[name], old[name]), abs=1e-12)
        assert delta.delta == pytest.approx(new[name] - old[name], abs=1e-12)
        assert delta.low <= delta.delta <= delta.high
    for name, value in new["per_category_iou"].items():
        assert record.figures[f"iou.{name}"].new == pytest.approx(value, abs=1e-12, nan_ok=True)
    rain = record.slices["weather"]["rain"]["mean_iou"]
    assert rain.new == pytest.approx(new["slices"]["weather"]["rain"]["figures"]["mean_iou"], abs=1e-12)
    text = cli("compare", world.root / "new-e", "--baseline", world.root / "old-e").stdout
    assert f"{record.figures['mean_iou'].delta:+.4f}" in text


def test_an_evaluation_compared_with_itself_has_not_changed(world: World) -> None:
    record = compare(world.root / "old-e", baseline=world.root / "old-e")
    assert {d.delta for d in record.figures.values() if d.delta is not None} == {0.0}
    assert (record.newly_failed, record.newly_fixed) == ((), ())


def test_images_that_cross_the_line_are_named_with_their_pictures(world: World) -> None:
    scores = [{i["uuid"]: i["mean_iou"] for i in lines(world.root / f"{name}-e")} for name in ("new", "old")]
    names = {i["uuid"]: i["name"] for i in lines(world.root / "new-e")}
    line = float(np.median([*scores[0].values(), *scores[1].values()]))
    record = compare(world.root / "new-e", baseline=world.root / "old-e", fail_below=line)
    failed = {names[u] for u in names if scores[0][u] < line <= scores[1][u]}
    fixed = {names[u] for u in names if scores[1][u] < line <= scores[0][u]}
    assert failed | fixed
    assert ({c.name for c in record.newly_failed}, {c.name for c in record.newly_fixed}) == (failed, fixed)
    pictures = [c.picture for c in (*record.newly_failed, *record.newly_fixed) if c.picture]
    assert all((world.root / "new-e" / picture).is_file() for picture in pictures)
    assert bool(record.newly_failed) <= bool(pictures)


def test_every_image_that_changed_sides_has_its_picture(world: World, tmp_path: Path, cli: Cli) -> None:
    """Evaluations that keep image and label of no image: those of the dataset are drawn, with both predictions."""
    sides = []
    for name in ("new", "old"):
        sides.append(tmp_path / f"{name}-e")
        shutil.copytree(world.root / f"{name}-e", sides[-1])
    scores = [[i["mean_iou"] for i in lines(side)] for side in sides]
    line = str(float(np.median(np.concatenate(scores))))
    argv = ("compare", sides[0], "--baseline", sides[1], "--fail-below", line, "--resamples", 0)
    assert "--dataset is for pictures" in cli(*argv, "--dataset", world.data, code=2).stderr
    worst = from_json(CompareRecord, cli(*argv, "--out", tmp_path / "parts", "--json").stdout)
    for side in sides:
        shutil.rmtree(side / "worst")
    changes = (*worst.newly_failed, *worst.newly_fixed)
    assert worst.newly_failed and worst.newly_fixed
    bare = from_json(CompareRecord, cli(*argv, "--out", tmp_path / "bare", "--json").stdout)
    assert {c.picture for c in (*bare.newly_failed, *bare.newly_fixed)} == {""}
    out = tmp_path / "c"
    said = cli(*argv, "--out", out, "--dataset", world.data).stdout
    assert f"{len(changes)} pictures in {out}" in said
    found = from_json(CompareRecord, cli(*argv, "--out", out, "--dataset", world.data, "--json").stdout)
    pictures = [c.picture for c in (*found.newly_failed, *found.newly_fixed)]
    assert pictures == sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))
    assert pictures[0].startswith("failed/01-") and pictures[-1].startswith("fixed/")
    width, height = decode_image((out / pictures[0]).read_bytes()).shape[1::-1]
    assert width > 4 * 360 and height > 360  # four pictures side by side, 4:3 each
    for change, picture in zip(changes, pictures, strict=True):  # as from the folders alone, where they still had them
        assert (tmp_path / "parts" / change.picture).read_bytes() == (out / picture).read_bytes()
    assert "exists" in cli(*argv[:-4], "--fail-below", 0.9, "--out", out, code=1).stderr
    other = tmp_path / "other"
    labelsync.convert(world.root / "release", out=other, fractions=(0.2, 0.2, 0.6), workers=1)
    error = cli(*argv, "--out", tmp_path / "d", "--dataset", other, code=1).stderr
    assert "is not the dataset of" in error and not (tmp_path / "d").exists()


def test_a_picture_shows_what_each_model_saw(world: World) -> None:
    """The baseline's prediction is the baseline's, at the size that is kept, in the classes of the new evaluation."""
    new, old = (read_side(world.root / f"{name}-e") for name in ("new", "old"))
    rows = rows_of(world.data, new, old)
    assert rows is not None
    changes = [ImageChange(i.name, i.uuid, 0.0, 0.0) for i in new.tally.images]
    found = {change.uuid: kept for change, kept in seen(changes, new, old, rows)}
    data = labelsync.load(world.data)
    models = [Segmenter(world.root / name, device="cpu", labels=data.labels) for name in ("new", "old")]
    different = 0
    for row in data.splits["test"]:
        kept = found[row.uuid]
        assert np.array_equal(kept.label, decode_semantic(row.label))
        expected = [model.segment(row.image) for model in models]
        assert np.mean(kept.new != expected[0]) < 0.01  # near ties
        assert np.mean(kept.baseline != expected[1]) < 0.01
        different += np.mean(expected[0] != expected[1]) > 0.1
    assert different
    names = [c.name for c in old.labels.classes]
    turned = LabelMap(tuple(old.labels.classes[names.index(n)] for n in ("class-2", "class-1", "class-3")))
    swapped = replace(new, manifest=replace(new.manifest, labels=turned))
    (_, kept) = next(seen(changes, swapped, old, rows))
    before = found[changes[0].uuid].baseline
    assert np.array_equal(kept.baseline, np.array([0, 2, 1, 3])[before])


def test_images_are_matched_by_uuid_not_by_their_place(world: World, tmp_path: Path) -> None:
    turned = tmp_path / "turned"
    shutil.copytree(world.root / "old-e", turned)
    manifest = read_manifest(turned)
    tally = read_tally(turned, 3)
    write_tally(turned, tally.select(range(len(tally.images))[::-1], [1, 2, 3]))
    write_manifest(
        turned,
        "evaluate",
        inputs=manifest.inputs,
        settings=manifest.settings,
        summary=manifest.summary,
        labels=manifest.labels,
    )
    for line in tally.mean_iou:
        record = compare(turned, baseline=world.root / "old-e", fail_below=line, resamples=50)
        assert (record.newly_failed, record.newly_fixed) == ((), ())
    delta = record.figures["mean_iou"]
    assert (delta.delta, delta.low, delta.high) == (0.0, 0.0, 0.0)


def test_gates_are_on_the_new_figures_and_on_the_change(world: World, tmp_path: Path, cli: Cli) -> None:
    delta = evaluation(world.root / "new-e")["mean_iou"] - evaluation(world.root / "old-e")["mean_iou"]
    run = ("compare", world.root / "new-e", "--baseline", world.root / "old-e")
    (tmp_path / "gates.toml").write_text('gates = ["delta.mean_iou[weather=rain] >= -1"]')
    cli(*run, "--gate", f"delta.mean_iou >= {delta - 0.01}", "--gates", tmp_path / "gates.toml")
    ended = cli(*run, "--gate", f"delta.mean_iou >= {delta + 0.01}", "--gate", "baseline.mean_iou > 2", code=3)
    assert ended.stderr.count("NOT MET") == 0
    assert ended.stdout.count("NOT MET") == 2
    assert ended.stderr.splitlines()[-1].startswith("labelsync: 2 of 2 gates not met")


def test_other_labels_samples_and_classes_are_refused_unless_what_is_common_is_wanted(
    world: World, tmp_path: Path, cli: Cli
) -> None:
    """A second round: one sample gone, one relabelled, one class more."""

    def changed(document: dict[str, Any]) -> None:
        samples = document["dataset"]["samples"]
        test = {i["uuid"] for i in lines(world.root / "old-e")}
        mine = [s for s in samples if s["uuid"] in test]
        samples.remove(mine[0])
        for annotation in mine[1]["labels"]["ground-truth"]["attributes"]["annotations"]:
            annotation["category_id"] = annotation["category_id"] % 3 + 1
        categories = document["dataset"]["task_attributes"]["categories"]
        categories.append({**categories[0], "id": 4, "name": "scooter"})

    shutil.copytree(world.root / "drawn", tmp_path / "drawn")
    edit_release(tmp_path / "drawn/release.json", changed)
    labelsync.pull(tmp_path / "drawn/release.json", out=tmp_path / "release")
    labelsync.convert(tmp_path / "release", out=tmp_path / "data", previous=world.data, workers=1)
    second = tmp_path / "e"
    evaluate(world.root / "old", dataset=tmp_path / "data", out=second, device="cpu", align=True)
    error = cli("compare", second, "--baseline", world.root / "old-e", code=1).stderr
    for what in ("1 samples only in the baseline", "1 labels that differ", "1 classes only in the new one: scooter"):
        assert what in error
    assert "--on-common" in error
    record = compare(second, baseline=world.root / "old-e", on_common=True)
    assert record.images == evaluation(world.root / "old-e")["images"] - 2
    assert record.classes == ("class-1", "class-2", "class-3")
    assert {d.delta for n, d in record.figures.items() if d.delta is not None} == {0.0}
    assert "expected_calibration_error" not in record.figures
    with pytest.raises(DatasetError, match="share no image"):
        compare(other_samples(world, tmp_path), baseline=world.root / "old-e", on_common=True)


def other_samples(world: World, tmp_path: Path) -> Path:
    out = tmp_path / "train-e"
    evaluate(world.root / "old", dataset=world.data, split="train", out=out, device="cpu", resamples=0)
    return out


def test_bands_of_two_widths_are_not_compared(world: World, tmp_path: Path) -> None:
    out = tmp_path / "e"
    evaluate(world.root / "old", dataset=world.data, out=out, device="cpu", boundary=0.05)
    record = compare(out, baseline=world.root / "old-e")
    assert not [name for name in record.figures if "boundary" in name]
    assert record.figures["mean_iou"].delta == 0.0


def test_an_evaluation_that_was_edited_or_is_none_is_refused(world: World, tmp_path: Path, cli: Cli) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(world.root / "old-e", edited)
    shutil.rmtree(edited / "worst")  # pictures are nobody's evidence
    cli("compare", edited, "--baseline", world.root / "old-e")
    with (edited / "images.jsonl").open("a") as f:
        f.write("\n")
    assert "was changed" in cli("compare", edited, "--baseline", world.root / "old-e", code=1).stderr
    assert "evaluate" in cli("compare", world.data, "--baseline", edited, code=1).stderr
    with pytest.raises(OptionError, match="resamples"):
        compare(world.root / "old-e", baseline=world.root / "old-e", resamples=-1)


def test_compare_needs_no_torch() -> None:
    """It is run on machines that only keep score: half a second and 80 MB instead of five and a gigabyte."""
    script = "import labelsync.evaluation.compare, sys; assert not {'torch', 'pyarrow'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
