"""`labelsync prelabel` by the real command and the real SDK: which samples, what is uploaded, what is refused."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

import labelsync
from labelsync.deploy import drafting, strategy
from labelsync.errors import OptionError, SamplesFailed
from labelsync.records.prelabels import PrelabelRecord
from labelsync.records.text import from_json
from labelsync.release.cache import AssetCache
from tests.loopback.segments import LoopbackSegments
from tests.models import label_map, tiny_segformer
from tests.prelabel.conftest import DATASET, FREE, IDS, MIN_SIZE, World
from tests.releases import sample_uuid


def test_unlabeled_samples_get_the_prediction_and_all_others_keep_their_label(world: World) -> None:
    before = [world.label(i) for i in (0, 3)]
    record = world.record()
    assert world.statuses() == ["LABELED", "PRELABELED", "PRELABELED", "LABELED", "PRELABELED", "PRELABELED"]
    assert [world.label(i) for i in (0, 3)] == before
    assert record.outcomes == {"prelabeled": 4, "labeled": 2}
    assert (record.samples, record.path, record.races, record.undrawn) == (6, str(world.folder / "p"), (), ())
    assert world.puts() == 4
    written = 0
    for i in FREE:
        label, ids, wanted = world.label(i), world.bitmap(i), world.predicted(i)
        assert label is not None and label["attributes"]["format_version"] == "0.1"
        category = {a["id"]: a["category_id"] for a in label["attributes"]["annotations"]}
        assert sorted(category) == list(range(1, int(ids.max()) + 1))
        assert np.array_equal(np.vectorize(category.get)(ids), np.vectorize(lambda d: IDS[d - 1])(wanted))
        written += len(category)
    assert record.annotations == written > 8


def test_what_was_uploaded_comes_back_as_the_prediction_by_pull_and_convert(world: World) -> None:
    world.run()
    api = {"Authorization": f"APIKey {world.server.env['SEGMENTS_API_KEY']}"}
    requests.post(f"{world.server.url}/datasets/{DATASET}/releases/", json={"name": "v2"}, headers=api, timeout=5)
    world.cli("pull", f"{DATASET}@v2", "--out", world.folder / "r", env=world.server.env)
    argv = ("--status", "PRELABELED", "--workers", "1", "--out", world.folder / "d")
    world.cli("convert", world.folder / "r", *argv)
    dataset = labelsync.load(world.folder / "d")
    assert dataset.labels.names == tuple(f"class-{i}" for i in IDS)
    rows = {row.uuid: row for split in dataset.splits.values() for row in split}
    assert set(rows) == {sample_uuid(i) for i in FREE}
    for i in FREE:
        from labelsync.pixels.semantic import decode_semantic

        assert np.array_equal(decode_semantic(rows[sample_uuid(i)].label), world.predicted(i))


def test_things_are_annotations_one_by_one_and_stuff_is_one(world: World) -> None:
    def stuff(document: dict[str, Any]) -> None:
        for category in document["dataset"]["task_attributes"]["categories"]:
            category["has_instances"] = category["id"] == 300

    world.draw(stuff)
    world.run()
    counts: dict[int, int] = {}
    for i in FREE:
        label = world.label(i)
        assert label is not None
        found = [a["category_id"] for a in label["attributes"]["annotations"]]
        counts |= {c: max(counts.get(c, 0), found.count(c)) for c in found}
    assert counts[0] == counts[7] == 1 < counts[300]


def test_a_photo_taken_sideways_gets_its_label_upright(world: World) -> None:
    from PIL import Image

    path = world.folder / "drawn/images/frame_0001.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.load()
        image.save(path, exif=exif)
    world.run("--limit", 1)
    assert world.bitmap(1).shape == (64, 48)
    assert np.array_equal(world.bitmap(1) > 0, world.predicted(1) > 0)


def test_the_labeling_queue_is_worked_off_from_its_front(world: World) -> None:
    world.server.platform.sample(sample_uuid(4))[1].priority = 2.5
    record = world.record("--limit", 2)
    assert record.outcomes == {"prelabeled": 2, "labeled": 2, "left": 2}
    assert world.outcomes() == ["labeled", "prelabeled", "left", "labeled", "prelabeled", "left"]
    assert len(world.server.log.find(path=r"\.jpg", server="storage")) == 2  # the others are not needed


def test_the_same_command_again_takes_the_next_and_then_does_nothing(world: World) -> None:
    world.run("--limit", 3)
    assert world.record("--limit", 3).outcomes == {"prelabeled": 1, "there": 3, "labeled": 2}
    done = world.puts()
    assert world.record().outcomes == {"there": 4, "labeled": 2}
    assert world.puts() == done == 4
    assert world.events().count("run") == world.events().count("end") == 3


def test_labels_are_written_before_the_last_image_is_fetched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelsync.deploy.drafting.AHEAD", 2)
    monkeypatch.setattr("labelsync.deploy.drafting.WRITERS", 1)
    world.draw(samples=16, unlabeled=range(16))
    world.record("--batch-size", 1)
    order = [r.method + r.path for r in world.server.log]
    first = next(i for i, r in enumerate(order) if r.startswith("PUT/labels/"))
    assert sum(".jpg" in r for r in order[:first]) < 10 and sum(".jpg" in r for r in order) == 16


def test_an_interrupted_run_leaves_its_ledger(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelsync.deploy.drafting.WRITERS", 1)
    original = strategy.judge
    left = [2]

    def interrupted(*args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(drafting, "judge", interrupted)
    world.run("--batch-size", 1, code=130)
    there = world.statuses().count("PRELABELED")  # what had begun came to its end
    assert world.outcomes() == [
        {"": "left", "PRELABELED": "prelabeled", "LABELED": "labeled"}[status] for status in world.statuses()
    ]
    assert 1 <= there <= 2 and world.outcomes((4, 5)) == ["left", "left"]
    monkeypatch.setattr(drafting, "judge", original)
    assert world.record().outcomes == {"there": there, "prelabeled": 4 - there, "labeled": 2}


def test_a_full_disk_ends_the_run_in_a_line_and_the_ledger_tells(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: AssetCache, url: str, data: bytes) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), url)

    monkeypatch.setattr(AssetCache, "add", full)
    assert "the disk is full" in world.run(code=1).stderr
    rows = world.ledger()
    assert {rows[sample_uuid(i)].reason for i in FREE} == {"not tried: No space left on device"}


def test_a_dry_run_predicts_and_writes_nothing(world: World) -> None:
    dry = world.record("--dry-run")
    assert (dry.path, dry.dry_run, dry.outcomes) == ("", True, {"prelabeled": 4, "labeled": 2})
    assert {r.method for r in world.server.log} == {"GET"}
    assert not (world.folder / "p").exists()
    assert world.record().annotations == dry.annotations
    assert "1 sample of acme/sidewalk would be" not in world.run("--dry-run").stdout


def test_more_than_a_page_of_samples_is_listed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (2, 3, 4):  # the last page is full twice
        monkeypatch.setattr("labelsync.release.labeling.PER_PAGE", size)
        assert world.record("--dry-run").samples == 6


def test_images_in_a_private_bucket_are_signed_for(world: World) -> None:
    world.draw(private=True)
    assert world.record().outcomes["prelabeled"] == 4
    assert len([r for r in world.server.log if r.query == "include_signed_urls=1"]) == 4


def test_another_labelset_gets_the_labels(world: World) -> None:
    world.server.platform.datasets[DATASET].labelsets["model"] = ""
    record = world.record("--labelset", "model")
    assert record.outcomes == {"prelabeled": 6}  # in that labelset nobody has labelled anything
    assert world.statuses() == ["LABELED", "", "", "LABELED", "", ""]


def test_a_class_renamed_since_the_training_is_followed_and_said(world: World, tmp_path: Path) -> None:
    from labelsync.labels import from_categories
    from labelsync.store.manifest import MANIFEST, write_manifest
    from labelsync.taxonomy import Category

    labels = from_categories([Category(i, f"class-{i}") for i in IDS])
    write_manifest(world.model, "train", inputs={}, settings={}, summary={}, labels=labels)
    try:

        def rename(document: dict[str, Any]) -> None:
            document["dataset"]["task_attributes"]["categories"][1]["name"] = "pavement"

        world.draw(rename)
        done = world.run()
    finally:
        (world.model / MANIFEST).unlink()
    assert "class class-7 is drawn as category pavement" in done.stdout
    label = world.label(1)
    assert label is not None and {a["category_id"] for a in label["attributes"]["annotations"]} <= set(IDS)


# -------------------------------------------------------------------- what fails


def test_an_image_that_cannot_be_had_fails_alone_and_is_tried_again(world: World) -> None:
    (world.folder / "drawn/images/frame_0002.jpg").rename(world.folder / "away.jpg")
    (world.folder / "drawn/images/frame_0004.jpg").write_bytes(b"<html>")
    said = world.run(code=1).stderr
    assert "2 of 6 samples failed; 2 others are prelabeled" in said and f"--undo {world.folder / 'p'}" in said
    assert "'frame_0002.jpg': image " in said and "403" in said
    assert world.outcomes() == ["labeled", "prelabeled", "failed", "labeled", "failed", "prelabeled"]
    (world.folder / "away.jpg").rename(world.folder / "drawn/images/frame_0002.jpg")
    assert "1 of 6 samples failed; 1 others" in world.run(code=1).stderr
    assert world.statuses()[2] == "PRELABELED" and world.puts() == 3


def test_an_image_without_a_url_fails_alone(world: World) -> None:
    world.server.platform.sample(sample_uuid(1))[1].attributes = None
    with pytest.raises(SamplesFailed, match="1 of 6"), pytest.MonkeyPatch.context() as patch:
        for name, value in world.server.env.items():
            patch.setenv(name, value or "")
        labelsync.prelabel(world.model, dataset=DATASET, out=world.folder / "p", min_size=MIN_SIZE, device="cpu")
    assert world.outcomes((1, 2)) == ["failed", "prelabeled"]


def test_an_image_in_which_the_model_sees_nothing_is_left_unlabeled(world: World, tmp_path: Path) -> None:
    from labelsync.model.load import load_model, new_model, save_model
    from tests.models import loud

    names = ("unlabeled", *(f"class-{i}" for i in IDS))
    folder = tiny_segformer(tmp_path / "foreign", label_map(*(n if n != "unlabeled" else "x" for n in names)))
    made = loud(new_model(folder, label_map("x", *names[1:]), image_size=(64, 64), seed=0))
    made.model.decode_head.classifier.bias.data[0] = 1e4
    save_model(made, folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"]["0"], config["label2id"] = "unlabeled", {n: i for i, n in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_model(folder).labels.names == names[1:]
    world.model = folder
    assert world.record().outcomes == {"labeled": 2, "empty": 4}
    assert world.puts() == 0


@pytest.mark.parametrize("task", ["image-segmentation-sequence", "vector", "bboxes", "keypoints"])
def test_datasets_without_one_bitmap_an_image_are_refused(world: World, task: str) -> None:
    world.server.platform.datasets[DATASET].task_type = task
    said = world.run(code=1).stderr
    assert f"acme/sidewalk is of task type '{task}', and prelabels are drawn for segmentation-bitmap" in said


def test_refusals_are_one_line_and_write_nothing(world: World, tmp_path: Path) -> None:
    env = world.server.env
    base = ("prelabel", world.model)

    def said(*argv: object, code: int = 1, **more: str | None) -> str:
        result = world.cli(*argv, code=code, env=env | more)
        return result.stderr.strip().splitlines()[-1]

    assert "no dataset acme/none" in said(*base, "acme/none")
    assert "no labelset 'second'" in said(*base, DATASET, "--labelset", "second", code=2)
    assert "names no dataset" in said(*base, f"{DATASET}@v1.0", code=2)
    assert "names no dataset" in said(*base, "sidewalk", code=2)
    assert "a model and a dataset are needed" in said("prelabel", code=2)
    assert "there is no folder" in said("prelabel", tmp_path / "none", DATASET)
    assert "SEGMENTS_API_KEY is not set" in said(*base, DATASET, SEGMENTS_API_KEY=None)
    other = tiny_segformer(tmp_path / "other", label_map("class-0", "tree"), weights=True)
    assert "no category for 1 of the model's classes (tree)" in said("prelabel", other, DATASET)
    assert {r.method for r in world.server.log} == {"GET"}
    assert [p for p in tmp_path.iterdir() if p.name.startswith("prelabels")] == []


def test_a_folder_of_something_else_and_another_models_record_stay(world: World, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/thesis.txt").write_text("mine")
    assert "is not a folder of prelabel; choose another --out" in world.run(code=1).stderr
    (tmp_path / "p/thesis.txt").unlink()
    world.run("--limit", 1)
    assert "prelabels with another min_size" in world.run("--min-size", 9, code=1).stderr
    world.model = tiny_segformer(tmp_path / "m2", label_map(*(f"class-{i}" for i in IDS)), weights=True)
    assert "prelabels with another model" in world.run(code=1).stderr
    assert world.puts() == 1


def test_each_model_goes_on_with_a_record_of_its_own(
    world: World, server: LoopbackSegments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.folder)
    argv = ("prelabel", world.model, DATASET, "--limit", 1, "--json")
    first, second = (from_json(PrelabelRecord, world.cli(*argv, env=server.env).stdout) for _ in range(2))
    assert first.path == second.path and first.path.startswith("prelabels-sidewalk-")
    assert second.outcomes == {"prelabeled": 1, "there": 1, "labeled": 2, "left": 2}


def test_settings_out_of_range_are_usage_errors(world: World) -> None:
    for wrong in ({"limit": 0}, {"min_size": -1}):
        with pytest.raises(OptionError, match="out of range"):
            labelsync.prelabel(world.model, dataset=DATASET, **wrong)
