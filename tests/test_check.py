"""`labelsync check`: every planted fault is found, where it is and nowhere else, and nothing is found where none is."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import labelsync
from labelsync.errors import DatasetNotFound, GateFailed, OptionError, ReleaseError
from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from labelsync.quality.look import image_facts
from labelsync.records.findings import CheckRecord
from labelsync.records.text import from_json, to_json
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.releases import draw_release, edit_release, sample_uuid

SPLITS = {"train": range(16), "validation": range(16, 20), "test": range(20, 24)}

Change = Callable[[Path, list[dict[str, Any]]], None]


def name(i: int) -> str:
    return f"frame_{i:04d}.jpg"


def annotations(samples: list[dict[str, Any]], i: int) -> list[dict[str, Any]]:
    return samples[i]["labels"]["ground-truth"]["attributes"]["annotations"]


def redraw(folder: Path, i: int, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the instance bitmap of sample i."""
    path = folder / f"bitmaps/{sample_uuid(i)}.png"
    path.write_bytes(encode_instance_bitmap(change(decode_instance_bitmap(path.read_bytes()))))


def copy(folder: Path, samples: list[dict[str, Any]], i: int, to: int, *, label: bool = False) -> None:
    """Give sample `to` the image of sample i, and its label too."""
    shutil.copy(folder / f"images/{name(i)}", folder / f"images/{name(to)}")
    if label:
        shutil.copy(folder / f"bitmaps/{sample_uuid(i)}.png", folder / f"bitmaps/{sample_uuid(to)}.png")
        annotations(samples, to)[:] = annotations(samples, i)


def store_as(folder: Path, i: int, change: Callable[[Image.Image], Image.Image], **options: Any) -> None:
    """Encode the image of sample i anew; Pillow finds a file's kind by its bytes, not by its name."""
    path = folder / f"images/{name(i)}"
    with Image.open(path) as image:
        image.load()
    out = io.BytesIO()
    change(image).save(out, **({"format": "JPEG", "quality": 95} | options))
    path.write_bytes(out.getvalue())


@pytest.fixture
def pulled(tmp_path: Path) -> Callable[..., Path]:
    """A release folder of 24 drawn samples; `change` edits the drawn files and the list of samples first."""

    def make(change: Change = lambda *_: None, *, at: str = "a", allow_failed: int = 0, **draw: Any) -> Path:
        drawn = tmp_path / at / "drawn"
        path = draw_release(drawn, **({"samples": 24} | draw))
        edit_release(path, lambda d: change(drawn, d["dataset"]["samples"]))
        return Path(labelsync.pull(path, out=tmp_path / at / "release", allow_failed=allow_failed).path)

    return make


@pytest.fixture
def converted(pulled: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """The dataset of such a release: 16 samples in train, 4 in validation, 4 in test."""

    def make(change: Change = lambda *_: None, *, at: str = "a", draw: dict[str, Any] | None = None, **o: Any) -> Path:
        release = pulled(change, at=at, **(draw or {}))
        splits = tmp_path / "splits.json"
        splits.write_text(json.dumps({split: [name(i) for i in those] for split, those in SPLITS.items()}))
        out = tmp_path / at / "dataset"
        labelsync.convert(release, out=out, **({"splits": splits, "workers": 1} | o))
        return out

    return make


def found(record: CheckRecord) -> set[tuple[str, str, str, str]]:
    """(kind, severity, split, sample) of every finding."""
    assert sum(k.errors + k.warnings + k.infos for k in record.kinds.values()) == len(record.findings)
    return {(f.kind, f.severity, f.split, f.name) for f in record.findings}


def only(record: CheckRecord) -> str:
    """The sentence of the only finding."""
    (finding,) = record.findings
    return finding.message


# ---------------------------------------------------------------- nothing wrong


def test_a_clean_release_and_its_dataset_pass(pulled, converted, cli):
    release, dataset = pulled(), converted(at="b")
    for folder, stage, splits in (
        (release, "pull", {"all": 24}),
        (dataset, "convert", {"train": 16, "validation": 4, "test": 4}),
    ):
        shown = cli("check", folder, "--strict")
        assert shown.stdout.endswith("\nnothing found\n")
        record = from_json(CheckRecord, cli("check", folder, "--strict", "--json").stdout)
        assert (record.stage, record.splits, record.samples, record.left_out) == (stage, splits, 24, {})
        assert (record.errors, record.warnings, record.infos, record.kinds, record.findings) == (0, 0, 0, {}, ())
        assert (record.dataset, record.release) == ("acme/sidewalk", "v1.0")


def test_the_balance_is_that_of_the_bitmaps(pulled, converted, cli):
    release, dataset = labelsync.check(pulled()), labelsync.check(converted(at="b"))
    totals = json.loads(cli("convert", "a/release", "--out", "c", "--workers", "1", "--json").stdout)["pixel_shares"]
    pixels = {name: b.pixels["all"] for name, b in release.classes.items()}
    assert pixels == {name: sum(b.pixels.values()) for name, b in dataset.classes.items()}
    assert {n: round(p / sum(pixels.values()), 6) for n, p in pixels.items()} == totals
    rows = labelsync.load(dataset.source).splits["test"]
    shown = [set(np.unique(np.asarray(Image.open(io.BytesIO(row.label)))).tolist()) for row in rows]
    assert {n: b.images["test"] for n, b in dataset.classes.items()} == {
        f"class-{k}": sum(k in ids for ids in shown) for k in (1, 2, 3)
    }


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---------------------------------------------------------------- labels


def test_labels_without_or_with_hardly_any_pixels(pulled):
    def change(folder, samples):
        redraw(folder, 5, np.zeros_like)
        annotations(samples, 7)[:] = [{"id": 1, "category_id": 1}]
        redraw(folder, 7, lambda ids: np.where(np.arange(ids.size).reshape(ids.shape) < 20, 1, 0))

    record = labelsync.check(pulled(change, empty=[3]))
    assert found(record) == {
        ("empty-label", "warning", "", name(3)),
        ("empty-label", "warning", "", name(5)),
        ("tiny-label", "warning", "", name(7)),
    }
    told = {f.name: f.message for f in record.findings}
    assert told[name(3)] == "no pixel is labelled: it has no annotations"
    assert "no pixel is labelled, though it has " in told[name(5)]
    assert told[name(7)] == "0.651% of its pixels are labelled (20 of 3,072), less than 1%"
    assert found(labelsync.check("a/release", min_labelled=0.006, ignore=["empty-label"])) == set()


def test_annotations_and_pixels_that_do_not_belong_together(pulled):
    def change(folder, samples):
        annotations(samples, 2).append({"id": 77, "category_id": 2})
        annotations(samples, 4).append({"id": 88, "category_id": 1})
        redraw(folder, 4, lambda ids: np.where(np.arange(ids.size).reshape(ids.shape) < 4, 88, ids))
        annotations(samples, 6).append(annotations(samples, 6)[0] | {"category_id": 3})
        annotations(samples, 6)[0]["category_id"] = 1

    record = labelsync.check(pulled(change, unknown_instance=[8], unknown_category=[9]))
    assert found(record) == {
        ("undrawn-annotation", "warning", "", name(2)),
        ("tiny-instance", "info", "", name(4)),
        ("bad-annotation", "error", "", name(6)),
        ("unknown-id", "error", "", name(8)),
        ("bad-annotation", "error", "", name(9)),
    }
    by_name = {f.name: f for f in record.findings}
    assert by_name[name(2)].message.endswith("annotations touch no pixel: 77 (class-2)")
    assert by_name[name(2)].instances == (77,)
    assert by_name[name(4)].message == "1 instance of fewer than 10 pixels: 88 (class-1, 4 pixels)"
    assert by_name[name(8)].message == "1 drawn id without annotation: 999 (6 pixels)"
    assert by_name[name(8)].uuid == sample_uuid(8)
    assert not [f for f in labelsync.check("a/release", min_instance=4).findings if f.kind == "tiny-instance"]


def test_a_bitmap_of_another_size_or_kind(pulled):
    def change(folder, _):
        (folder / f"bitmaps/{sample_uuid(6)}.png").write_bytes((folder / f"images/{name(0)}").read_bytes())

    release = pulled(change, wrong_size=[2], allow_failed=1)
    record = labelsync.check(release)
    assert ("broken-bitmap", "error", "", name(2)) in found(record)
    messages = {f.name: f.message for f in record.findings}
    assert messages[name(2)] == "its bitmap is 46x64 pixels high x wide, and its image 48x64"
    assert ("lost-sample", "warning", "", name(6)) in found(record)  # pull saw that it is no PNG


def test_a_label_with_annotations_and_no_bitmap(pulled):
    def change(_, samples):
        samples[3]["labels"]["ground-truth"]["attributes"]["segmentation_bitmap"] = None

    record = labelsync.check(pulled(change, allow_failed=1))
    assert found(record) == {("lost-sample", "warning", "", name(3))}
    assert only(record).startswith("was lost on the way here: its label has ")


def test_files_that_were_harmed_or_lost(pulled):
    def change(folder, _):
        (folder / f"images/{name(3)}").unlink()

    release = pulled(change, allow_failed=1)
    (release / f"images/{sample_uuid(4)}.jpg").write_bytes(b"no image")
    (release / f"images/{sample_uuid(5)}.jpg").unlink()
    (release / f"bitmaps/{sample_uuid(6)}.png").write_bytes(b"")
    record = labelsync.check(release)
    assert found(record) == {
        ("lost-sample", "warning", "", name(3)),
        ("broken-image", "error", "", name(4)),
        ("broken-image", "error", "", name(5)),
        ("broken-bitmap", "error", "", name(6)),
    }
    messages = {f.name: f.message for f in record.findings}
    assert messages[name(4)] == "its image was changed after the pull"
    assert messages[name(5)] == "its image cannot be read (No such file or directory)"
    assert (record.samples, record.left_out) == (23, {"failed": 1})


def test_labels_of_other_statuses_are_left_out(pulled):
    release = pulled(skipped=[1, 2], prelabeled=[3], unlabeled=[4], unknown_instance=[3])
    record = labelsync.check(release)
    assert (found(record), record.samples) == (set(), 20)
    assert record.left_out == {"unlabeled": 1, "filtered": 3}
    assert {f.name for f in labelsync.check(release, status=("prelabeled",)).findings if f.name} == {name(3)}


# ---------------------------------------------------------------- the same image twice


def test_duplicates_in_a_release(pulled):
    def change(folder, samples):
        copy(folder, samples, 0, to=9, label=True)
        copy(folder, samples, 1, to=10)
        store_as(folder, 2, lambda image: image)
        copy(folder, samples, 2, to=11, label=True)
        store_as(folder, 11, lambda image: image, format="PNG")

    record = labelsync.check(pulled(change), ignore=["near-duplicate", "odd-size"])
    assert found(record) == {
        ("duplicate", "warning", "", name(9)),
        ("duplicate", "error", "", name(10)),
        ("duplicate", "warning", "", name(11)),
    }
    by_name = {f.name: f for f in record.findings}
    assert by_name[name(9)].message == f"is the same image file as {name(0)!r}; the labels agree"
    assert by_name[name(10)].message.startswith(f"is the same image file as {name(1)!r}; the labels differ in ")
    assert by_name[name(11)].message == f"has the same pixels, in another file, as {name(2)!r}; the labels agree"
    assert by_name[name(9)].others == (sample_uuid(0),)


def test_the_same_pixels_are_found_in_a_large_jpeg_that_is_hashed_at_a_reduced_size(pulled):
    def change(folder, samples):
        blocks = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        store_as(folder, 0, lambda _: Image.fromarray(blocks).resize((480, 360), Image.Resampling.NEAREST))
        copy(folder, samples, 0, to=3)
        store_as(folder, 3, lambda image: image, format="PNG")
        jpeg, png = (image_facts((folder / f"images/{name(i)}").read_bytes()) for i in (0, 3))
        assert jpeg.is_reduced
        assert (jpeg.bits != png.bits).any()

    record = labelsync.check(pulled(change, samples=4, size=(360, 480)), ignore=["near-duplicate", "unused-class"])
    assert only(record).startswith(f"has the same pixels, in another file, as {name(0)!r}; the labels differ in ")


def test_duplicates_across_splits_are_errors_and_told_once(converted):
    def change(folder, samples):
        copy(folder, samples, 0, to=21, label=True)  # test has an image of train
        copy(folder, samples, 0, to=22, label=True)  # twice
        copy(folder, samples, 3, to=4, label=True)  # train has one twice
        copy(folder, samples, 5, to=17)  # validation has one of train, labelled otherwise

    record = labelsync.check(converted(change))
    assert found(record) == {
        ("duplicate", "error", "test", name(21)),
        ("duplicate", "error", "test", name(22)),
        ("duplicate", "warning", "train", name(4)),
        ("duplicate", "error", "validation", name(17)),
    }
    messages = [f.message for f in record.findings]
    assert messages[0].startswith(f"is the same image file as {name(5)!r} of train; the labels differ in ")
    assert messages[1] == f"is the same image file as {name(0)!r} of train and 1 more; the labels agree"
    assert record.kinds["duplicate"].samples == {"train": 1, "validation": 1, "test": 2}


def test_how_far_two_labels_of_one_image_differ_is_told(pulled):
    def change(folder, samples):
        copy(folder, samples, 0, to=9, label=True)
        redraw(folder, 9, lambda ids: np.where(np.arange(ids.size).reshape(ids.shape) < 384, 0, ids))  # 6 of 48 rows

    record = labelsync.check(pulled(change), ignore=["near-duplicate", "undrawn-annotation"])
    assert only(record).endswith("; the labels differ in 12.5% of the pixels")


def test_near_duplicates_across_splits(converted, cli):
    def change(folder, samples):
        copy(folder, samples, 0, to=1)
        copy(folder, samples, 0, to=18)
        copy(folder, samples, 6, to=20)
        for i, quality in ((1, 80), (18, 60), (20, 50)):
            store_as(folder, i, lambda image: image, quality=quality)

    dataset = converted(change)
    record = labelsync.check(dataset)
    assert found(record) == {
        ("near-duplicate", "warning", "validation", name(18)),
        ("near-duplicate", "warning", "test", name(20)),
    }
    sentence = {f.name: f.message for f in record.findings}[name(18)]
    assert " of train and 1 more (" in sentence
    assert record.kinds["near-duplicate"].samples == {"validation": 1, "test": 1}
    shown = cli("check", dataset).stdout
    assert "\nnear-duplicate (1 of 4 validation images, 1 of 4 test images):\n" in shown
    assert [line.split() for line in shown.splitlines()[-3:]] == [
        ["found", "errors", "warnings", "infos"],
        ["near-duplicate", "-", "2", "-"],
        ["all", "-", "2", "-"],
    ]
    assert "--group-by metadata.KEY or name:REGEX (every image is its own group now)" in shown
    assert found(labelsync.check(dataset, near=0)) == set()
    assert len(labelsync.check(dataset, near=256).findings) == 8


def test_a_release_tells_how_many_images_are_alike(pulled):
    def change(folder, samples):
        copy(folder, samples, 0, to=1)
        store_as(folder, 1, lambda image: image, quality=60)

    record = labelsync.check(pulled(change))
    assert found(record) == {("near-duplicate", "info", "", "")}
    assert only(record).startswith("2 of 24 images look like another one here")
    assert "--group-by" in record.kinds["near-duplicate"].advice


# ---------------------------------------------------------------- classes


def only_in(where: range, *, category: int) -> Change:
    """A category that no sample but those has; elsewhere it is drawn as category 1."""

    def change(_: Path, samples: list[dict[str, Any]]) -> None:
        for i in range(24):
            for k, a in enumerate(annotations(samples, i)):
                if i in where and k == 0:
                    a["category_id"] = category
                elif a["category_id"] == category:
                    a["category_id"] = 1

    return change


def test_classes_that_nobody_drew(pulled):
    record = labelsync.check(pulled(only_in(range(0), category=3)))
    assert found(record) == {("unused-class", "warning", "", "")}
    assert only(record) == "class 'class-3' is in none of 24 labels"
    assert record.findings[0].class_name == "class-3"


@pytest.mark.parametrize(
    ("where", "severity", "split", "says"),
    [
        (range(16), "warning", "", "train (16 images) and not in validation or test: its scores there say nothing"),
        (range(20), "warning", "test", "train (16 images), validation (4 images) and not in test: its scores"),
        (range(20, 24), "error", "", "test (4 images) and not in train or validation: it is scored and never learnt"),
    ],
)
def test_classes_that_a_split_lacks(converted, where, severity, split, says):
    record = labelsync.check(converted(only_in(where, category=3)))
    assert found(record) == {("class-in-split", severity, split, "")}
    assert only(record).startswith(f"class 'class-3' is in {says}")


def test_a_removed_class_is_no_finding(converted, pulled):
    def drop(document: dict[str, Any]) -> None:
        document["dataset"]["task_attributes"]["categories"].pop()

    first = converted(only_in(range(0), category=3))
    edit_release(Path("a/drawn/release.json"), drop)
    labelsync.pull("a/drawn/release.json", out="second")
    labelsync.convert("second", out="next", previous=first, workers=1)
    record = labelsync.check("next")
    assert (found(record), list(record.classes)) == (set(), ["class-1", "class-2"])


# ---------------------------------------------------------------- images


def test_images_that_are_unlike_the_others(pulled):
    def change(folder, _):
        exif = Image.Exif()
        exif[0x0112] = 8
        store_as(folder, 1, lambda image: image.transpose(Image.Transpose.ROTATE_270), exif=exif)
        store_as(folder, 2, lambda image: image.resize((128, 96)))
        redraw(folder, 2, lambda ids: ids.repeat(2, axis=0).repeat(2, axis=1))
        store_as(folder, 3, lambda image: image.crop((0, 0, 32, 48)))
        redraw(folder, 3, lambda ids: ids[:, :32])
        store_as(folder, 4, lambda image: image.convert("L"))
        store_as(folder, 5, lambda image: image.convert("CMYK"))
        store_as(folder, 6, lambda image: image.convert("RGBA"), format="PNG")

    ours = {"exif-orientation", "odd-size", "odd-format", "broken-bitmap", "broken-image"}
    record = labelsync.check(pulled(change))
    assert {f for f in found(record) if f[0] in ours} == {
        ("exif-orientation", "warning", "", name(1)),
        ("odd-size", "info", "", name(2)),
        ("odd-size", "warning", "", name(3)),
        ("odd-format", "info", "", name(4)),
        ("odd-format", "info", "", name(5)),
        ("odd-format", "info", "", name(6)),
    }
    told = {f.name: f.message for f in record.findings if f.kind in ours}
    assert told[name(2)] == "is 96x128 pixels high x wide, as 4.17% of the images; 22 of 24 images are 48x64"
    assert told[name(3)].endswith("of another shape than most: width to height 0.67, usually 1.33")
    assert told[name(6)] == "is RGB with alpha, where 21 of 24 images are RGB"


def test_images_that_all_are_of_another_kind_are_told_once(pulled):
    def change(folder, _):
        for i in range(24):
            store_as(folder, i, lambda image: image.convert("L"))

    record = labelsync.check(pulled(change), ignore=["near-duplicate"])
    assert found(record) == {("odd-format", "info", "", "")}
    assert only(record) == "24 of 24 images are grey, not RGB"


def test_where_every_image_has_a_size_of_its_own_none_is_odd(pulled):
    def change(folder, _):
        for i in range(24):
            store_as(folder, i, lambda image, i=i: image.resize((64 + i, 48 + i)))

    record = labelsync.check(pulled(change), ignore=["near-duplicate", "broken-bitmap"])
    assert "odd-size" not in record.kinds


# ---------------------------------------------------------------- datasets, wherever they are


def spoiled(folder: Path, samples: list[dict[str, Any]]) -> None:
    """One of each that a dataset can have."""
    copy(folder, samples, 0, to=21)
    copy(folder, samples, 6, to=17)
    store_as(folder, 17, lambda image: image, quality=60)
    only_in(range(16), category=3)(folder, samples)
    annotations(samples, 2)[:] = [{"id": 1, "category_id": 2}]
    redraw(folder, 2, lambda ids: np.where(np.arange(ids.size).reshape(ids.shape) < 20, 1, 0))


SPOILED = {
    ("duplicate", "error", "test", name(21)),
    ("near-duplicate", "warning", "validation", name(17)),
    ("class-in-split", "warning", "", ""),
    ("tiny-label", "warning", "train", name(2)),
}


def test_parquet_plain_files_and_the_hub_tell_the_same(converted, hub: LoopbackHub, monkeypatch):
    dataset = converted(spoiled)
    plain = converted(spoiled, at="b", format="bitmaps")
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    labelsync.push(dataset, repo_id="acme/spoiled")
    first, *others = (labelsync.check(x) for x in (dataset, plain, "acme/spoiled@v1.0"))
    assert found(first) == SPOILED
    assert [replace(o, source=first.source) for o in others] == [first, first]


def test_plain_files_that_were_harmed(converted):
    dataset = converted(format="bitmaps")
    image, label = dataset / f"images/train/{name(3)}", dataset / "labels/test/frame_0021.png"
    image.write_bytes(bytes(image.stat().st_size))
    label.unlink()
    record = labelsync.check(dataset)
    assert found(record) == {
        ("broken-image", "error", "train", name(3)),
        ("broken-bitmap", "error", "test", name(21)),
    }


def test_under_unlabeled_class_background_alone_is_a_label(converted):
    dataset = converted(lambda folder, _: redraw(folder, 3, lambda ids: ids * 0), unlabeled="class")
    record = labelsync.check(dataset)
    assert found(record) == set()
    assert record.classes["background"].images["train"] == 16


def test_threads_and_runs_change_nothing(converted):
    dataset = converted(spoiled)
    one, *others = (labelsync.check(dataset, workers=n) for n in (1, 2, 7, 7))
    assert others == [one] * 3


# ---------------------------------------------------------------- the gate and the command


def test_strict_prints_the_record_and_exits_3(converted, cli):
    dataset = converted(spoiled)
    plain = cli("check", dataset, "--json")
    strict = cli("check", dataset, "--json", "--strict", code=3)
    assert strict.stdout == plain.stdout
    assert strict.stderr.rstrip().endswith(
        f"labelsync: {dataset} has 1 error and 3 warnings; mend them, or accept a kind with --ignore KIND"
    )
    assert cli("check", dataset, "--strict", code=3).stdout == cli("check", dataset).stdout
    cli("check", dataset, "--strict", "--ignore", "duplicate,near-duplicate,class-in-split,tiny-label")
    with pytest.raises(GateFailed) as caught:
        labelsync.check(dataset, strict=True)
    assert to_json(caught.value.record) + "\n" == plain.stdout


def test_an_info_is_no_reason_to_fail(pulled, cli):
    def change(folder, _):
        store_as(folder, 4, lambda image: image.convert("L"))

    assert cli("check", pulled(change), "--strict").stdout.splitlines()[-1].split() == ["all", "-", "-", "1"]


def test_a_warning_is_reason_enough(pulled, cli):
    said = cli("check", pulled(empty=[3]), "--strict", code=3).stderr
    assert "/a/release has 0 errors and 1 warning; mend them" in said.splitlines()[-1]


def test_the_worst_are_listed_and_all_are_counted(pulled, cli):
    def change(_, samples):
        for i in range(12):
            annotations(samples, i).extend({"id": 100 + k, "category_id": 1} for k in range(i + 1))

    release = pulled(change)
    record = labelsync.check(release, limit=2)
    assert [f.name for f in record.findings] == [name(11), name(10)]
    assert record.warnings == record.kinds["undrawn-annotation"].warnings == 12
    shown = cli("check", release).stdout
    assert shown.count("touch no pixel") == 10
    assert "and 2 more (--limit 0 lists all)" in shown
    assert cli("check", release, "--limit", 0).stdout.count("touch no pixel") == 12


def test_the_table_shows_shares_per_split(converted, cli):
    lines = cli("check", converted(spoiled)).stdout.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("class "))
    columns = ("pixels train", "pixels validation", "pixels test", "images train", "images validation", "images test")
    assert lines[head].split("  ")[0] == "class"
    assert [c for c in columns if c in lines[head]] == list(columns)
    row = next(line for line in lines if line.startswith("class-3"))
    assert row.split()[2:4] == ["-", "-"]
    assert row.split()[4:] == ["94%", "-", "-"]  # all of train but the tiny one


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"near": 257}, "--near is 257"),
        ({"near": -1}, "--near is -1"),
        ({"min_labelled": 1.5}, "--min-labelled is 1.5"),
        ({"min_labelled": float("nan")}, "--min-labelled is nan"),
        ({"min_instance": -1}, "--min-instance is -1"),
        ({"limit": -1}, "--limit is -1"),
        ({"workers": 0}, "--workers is 0"),
        ({"ignore": ["duplicates"]}, "no kind of finding is called 'duplicates'"),
        ({"status": ["DONE"]}, "no status is called"),
    ],
)
def test_a_value_out_of_range_is_refused(options, says, tmp_path):
    with pytest.raises(OptionError, match=says):
        labelsync.check(tmp_path / "nowhere", **options)


def test_what_cannot_be_checked_is_told(pulled, converted, cli, tmp_path):
    release = pulled()
    with pytest.raises(DatasetNotFound, match=r"is a file.*pull it first"):
        labelsync.check("a/drawn/release.json")
    with pytest.raises(DatasetNotFound, match=r"has no manifest\.json"):
        labelsync.check("a/drawn")
    with pytest.raises(DatasetNotFound, match="does not exist"):
        labelsync.check(tmp_path / "nowhere")
    said = cli("check", "acme/nothing-there@v1.0", code=1).stderr
    assert said.rstrip().endswith("; a release on Segments.ai is pulled first")
    (release / "release.json").write_text((release / "release.json").read_text().replace("class-1", "class-9"))
    with pytest.raises(ReleaseError, match="was changed after the pull"):
        labelsync.check(release)
