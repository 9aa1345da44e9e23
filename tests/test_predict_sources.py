"""`labelsync predict` on videos, dataset splits and Segments.ai datasets, as a user gives them."""

import hashlib
import json
import re
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from click.testing import Result

import labelsync
from labelsync.deploy import flicker, sources
from labelsync.deploy.flicker import Flicker
from labelsync.deploy.images import safe_path, unique_names
from labelsync.deploy.predict import predict
from labelsync.errors import OptionError, SamplesFailed
from labelsync.model.load import new_model, save_model
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.semantic import decode_semantic
from labelsync.pixels.video import read_frames
from labelsync.records.results import PredictRecord, VideoScores
from labelsync.records.text import from_json
from labelsync.store.manifest import read_manifest, verify_files
from tests.clips import moving, read_clip, write_clip
from tests.loopback.segments import LoopbackSegments
from tests.models import loud, numbered, tiny_segformer
from tests.pictures import picture
from tests.releases import draw_release

Cli = Callable[..., Result]

FLAGS = ("--device", "cpu", "--batch-size", 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources") / "tiny"
    loaded = loud(new_model(tiny_segformer(folder, 5), numbered(5), image_size=(64, 64), seed=0))
    loaded.model.decode_head.classifier.weight.data *= 20  # as sure of some pixels as a trained model
    save_model(loaded, folder)
    return folder


@pytest.fixture
def predicted(model: Path, tmp_path: Path, cli: Cli) -> Callable[..., PredictRecord]:
    """Run the command on the CPU; its record. The folder is `out`."""

    def run(*argv: object, **kwargs: Any) -> PredictRecord:
        out = ("--out", tmp_path / "out", "--device", "cpu", "--json")
        return from_json(PredictRecord, cli("predict", model, *argv, *out, **kwargs).stdout)

    return run


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


# -------------------------------------------------------------------- videos


def test_a_video_becomes_a_bitmap_of_every_frame_and_an_overlay_video(
    model: Path, tmp_path: Path, predicted: Callable[..., PredictRecord]
) -> None:
    clip = write_clip(tmp_path / "walk.mp4", moving(9))
    record = predicted(clip, "--batch-size", 2)
    assert record.images == 9 and not record.failed
    segmenter, out = Segmenter(model, device="cpu"), tmp_path / "out"
    made, frames = lines(out), list(read_frames(clip))
    assert [m["bitmap"] for m in made] == [f"bitmaps/walk.mp4/frame_{i:06d}.png" for i in range(9)]
    assert [(m["frame"], m["seconds"]) for m in made] == [(i, i / 10) for i in range(9)]
    bitmaps = [decode_semantic((out / m["bitmap"]).read_bytes()) for m in made]
    assert all((b == segmenter.segment(f.pixels)).mean() > 0.999 for b, f in zip(bitmaps, frames, strict=True))
    shown, times = read_clip(out / "videos/walk.mp4")
    assert np.allclose(times, [f.seconds for f in frames], atol=1e-3)
    assert shown[0].shape[0] > 240 and all(s.shape == shown[0].shape for s in shown)  # enlarged, above one legend
    assert all(s.astype(float).std() > 10 for s in shown)
    manifest = read_manifest(out, "predict")
    assert verify_files(out, manifest) == [] and not (out / "overlays").exists()
    counted = Flicker()
    for frame, bitmap in zip(frames, bitmaps, strict=True):
        counted.add(frame.pixels, bitmap)
    assert record.videos == {str(clip): counted.scores()}
    found = record.videos[str(clip)]
    assert found.flicker is not None and found.changed is not None and 0 < found.flicker < found.changed < 1
    assert predicted(clip).unchanged and predicted(clip).videos == record.videos


def test_videos_and_images_come_together_and_without_overlays_no_film_is_made(
    tmp_path: Path, predicted: Callable[..., PredictRecord]
) -> None:
    for name in ("a.avi", "b.mkv"):
        write_clip(tmp_path / name, moving(4))
    (tmp_path / "a.png").write_bytes(encode_png(picture(3, (40, 50))))
    record = predicted(tmp_path / "*.avi", tmp_path / "b.mkv", tmp_path / "a.png", "--no-overlays")
    assert record.images == 9 and sorted(record.videos) == [str(tmp_path / "a.avi"), str(tmp_path / "b.mkv")]
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["bitmaps", "id2label.json", "manifest.json", "predictions.jsonl"]
    assert sorted(p.name for p in (out / "bitmaps").iterdir()) == ["a.avi", "a.png", "b.mkv"]


def test_the_same_video_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "walk.avi", moving(5, (50, 71)))  # an odd width
    for name in ("a", "b"):
        predict(model, images=clip, out=tmp_path / name, device="cpu")
    assert read_manifest(tmp_path / "a").digest == read_manifest(tmp_path / "b").digest
    assert (tmp_path / "a/videos/walk.avi.mp4").is_file()


def test_frames_stream_through(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = [0, 0]

    def counted(path: Path) -> Iterator[Any]:
        for frame in read_frames(path):
            alive[0] += 1
            alive[1] = max(alive)
            weakref.finalize(frame.pixels, lambda: alive.__setitem__(0, alive[0] - 1))
            yield frame

    monkeypatch.setattr(sources.video, "read_frames", counted)
    monkeypatch.setattr(flicker, "read_frames", counted)
    clip = write_clip(tmp_path / "long.avi", moving(60, (48, 64)))
    record = predict(model, images=clip, out=tmp_path / "out", device="cpu", batch_size=2)
    assert record.images == 60
    assert alive[1] <= 12  # two batches in memory, one being written, and what waits to be read


def test_what_is_no_video_is_named_and_the_others_are_done(model: Path, tmp_path: Path, cli: Cli) -> None:
    good = write_clip(tmp_path / "good.mp4", moving(3))
    (tmp_path / "page.mp4").write_bytes(b"<!doctype html><p>not found")
    (tmp_path / "empty.mkv").write_bytes(b"")
    write_clip(tmp_path / "tracks.mp4", [])
    write_clip(tmp_path / "frames.avi", [])
    said = cli("predict", model, tmp_path / "*.*", "--out", tmp_path / "out", "--device", "cpu", code=1).stderr
    assert "4 of 7 images could not be read; the others are in" in said
    reasons = dict.fromkeys(("page.mp4", "empty.mkv"), "is no video that FFmpeg can read")
    reasons |= {"tracks.mp4": "has no pictures, only sound", "frames.avi": "is a video without a frame"}
    assert [f"{name}: it {reason}" in said for name, reason in reasons.items()] == [True] * 4
    assert [m.get("frame") for m in lines(tmp_path / "out") if m["image"] == str(good)] == [0, 1, 2]
    only = cli("predict", model, tmp_path / "page.mp4", "--out", tmp_path / "none", code=1).stderr
    assert "nothing was written" in only and not (tmp_path / "none").exists()


def test_of_a_video_that_breaks_off_the_frames_before_are_kept(model: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "cut.mp4", moving(40), movflags="+faststart")
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(SamplesFailed) as caught:
        predict(model, images=clip, out=tmp_path / "out", device="cpu")
    assert re.search(r"cut\.mp4: it breaks off after \d+ of 40 frames", caught.value.details[0])
    frames = [m for m in lines(tmp_path / "out") if "bitmap" in m]
    assert 5 < len(frames) < 40
    assert len(read_clip(tmp_path / "out/videos/cut.mp4")[0]) == len(frames)
    assert read_manifest(tmp_path / "out").summary["videos"][str(clip)]["frames"] == len(frames)


def test_a_folder_of_videos_says_how_to_name_them(tmp_path: Path, model: Path) -> None:
    write_clip(tmp_path / "clips.avi", moving(2)).rename(tmp_path / "v.avi")
    with pytest.raises(OptionError, match=r"name its videos \(1\), as .*\*\.avi"):
        predict(model, images=tmp_path, out=tmp_path / "out")


# -------------------------------------------------------------------- flicker


def test_flicker_counts_the_pixels_that_look_the_same_and_are_called_otherwise() -> None:
    counted = Flicker()
    grey = np.full((2, 4, 3), 100, np.uint8)
    moved = grey.copy()
    moved[:, 3] = 140  # one column shows something else
    moved[0, 0] = (108, 100, 92)  # noise
    counted.add(grey, np.array([[1, 1, 1, 1], [2, 2, 2, 2]], np.uint8))
    assert counted.scores() == VideoScores(frames=1, flicker=None, changed=None)
    counted.add(moved, np.array([[3, 1, 1, 2], [2, 2, 2, 2]], np.uint8))
    assert counted.scores() == VideoScores(frames=2, flicker=round(1 / 6, 6), changed=0.25)
    counted.add(moved, np.array([[3, 1, 1, 2], [2, 2, 2, 2]], np.uint8))
    assert counted.scores() == VideoScores(frames=3, flicker=round(1 / 14, 6), changed=round(2 / 16, 6))
    counted.add(np.zeros((3, 3, 3), np.uint8), np.zeros((3, 3), np.uint8))  # another size: nothing to compare
    assert counted.scores() == VideoScores(frames=4, flicker=round(1 / 14, 6), changed=round(2 / 16, 6))


# -------------------------------------------------------------------- dataset splits


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pulled release and the dataset made of it."""
    folder = tmp_path_factory.mktemp("released")
    labelsync.pull(draw_release(folder / "drawn", samples=12), out=folder / "release")
    labelsync.convert(folder / "release", out=folder / "data", workers=1)
    return folder


def test_a_split_of_a_dataset(
    model: Path, released: Path, tmp_path: Path, predicted: Callable[..., PredictRecord]
) -> None:
    record = predicted(released / "data", "--split", "train")
    rows = labelsync.load(released / "data").splits["train"]
    assert record.images == len(rows) > 3
    made, segmenter = lines(tmp_path / "out"), Segmenter(model, device="cpu")
    assert [m["image"] for m in made] == [row.name for row in rows]
    for line, row in zip(made, rows, strict=True):
        assert line["bitmap"] == f"bitmaps/{row.name.removesuffix('.jpg')}.png"
        bitmap = decode_semantic((tmp_path / "out" / line["bitmap"]).read_bytes())
        assert (bitmap == segmenter.segment(row.image)).mean() > 0.999
    assert predicted(released / "data", "--split", "train").unchanged


def test_what_is_asked_of_a_dataset_in_vain(model: Path, released: Path, tmp_path: Path, cli: Cli) -> None:
    out = ("--out", tmp_path / "out")
    said = cli("predict", model, released / "data", "--split", "tset", *out, code=1).stderr
    assert "has no split 'tset'; there are: train, validation, test" in said
    assert "pass --split train" in cli("predict", model, released / "data", *out, code=2).stderr
    said = cli("predict", model, released / "release/images", "--keep-zero", *out, code=2).stderr
    assert "--keep-zero is about a dataset; say which split of it with --split" in said
    assert "does not exist" in cli("predict", model, tmp_path / "none", "--split", "test", *out, code=1).stderr


def test_of_a_release_folder_the_images_are_meant(
    released: Path, tmp_path: Path, predicted: Callable[..., PredictRecord]
) -> None:
    assert predicted(released / "release").images == 12
    assert len(list((tmp_path / "out/bitmaps").iterdir())) == 12


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("../../etc/x.jpg", "etc/x.jpg"),
        ("/abs/x.jpg", "abs/x.jpg"),
        ("C:\\x\n.jpg", "C--x-.jpg"),
        ("", "image"),
        ("..", "image"),
    ],
)
def test_names_of_samples_stay_in_the_folder(name: str, path: str) -> None:
    assert safe_path(name).as_posix() == path


def test_samples_of_several_datasets_have_files_of_their_own(
    released: Path, tmp_path: Path, predicted: Callable[..., PredictRecord]
) -> None:
    labelsync.pull(draw_release(tmp_path / "drawn", samples=12, seed=9), out=tmp_path / "release")
    labelsync.convert(tmp_path / "release", out=tmp_path / "more", workers=1)
    record = predicted(released / "data", tmp_path / "more", "--split", "train")
    made = lines(tmp_path / "out")
    assert record.images == len(made) == len({line["bitmap"].casefold() for line in made}) > 12
    rows = [row for d in (released / "data", tmp_path / "more") for row in labelsync.load(d).splits["train"]]
    for line, row in zip(made, rows, strict=True):
        assert line["sha256"] == hashlib.sha256(row.image).hexdigest()
        assert line["bitmap"].endswith(f"/{row.name.removesuffix('.jpg')}.png")


def test_a_name_longer_than_files_may_have_is_shortened_and_stays_itself() -> None:
    names = ["é" * 254 + c for c in "ab"] + ["x" * 400 + ".jpg", "deep/" + "y" * 260]
    found = [safe_path(name).as_posix() for name in names]
    assert len(set(found)) == 4 and all(len(part.encode()) <= 230 for f in found for part in f.split("/"))
    assert found[2].endswith(".jpg") and found[3].startswith("deep/yyy")


def test_two_spellings_of_an_accent_are_one_name_to_some_file_systems() -> None:
    assert unique_names([PurePosixPath("caf\u00e9.jpg"), PurePosixPath("cafe\u0301.png")]) == [
        "caf\u00e9.jpg",
        "cafe\u0301.png",
    ]


# -------------------------------------------------------------------- Segments.ai


def test_every_sample_of_a_segments_dataset_labelled_or_not(
    model: Path, tmp_path: Path, server: LoopbackSegments, predicted: Callable[..., PredictRecord]
) -> None:
    drawn = draw_release(tmp_path / "drawn", samples=5, unlabeled=[1, 3])
    server.add_round(drawn)
    record = predicted("acme/sidewalk", env=server.env)
    assert record.images == 5
    for line in lines(tmp_path / "out"):
        file = next((tmp_path / "drawn/images").glob(f"*{Path(line['image']).stem}*"), None)
        assert file is not None, line
        bitmap = decode_semantic((tmp_path / "out" / line["bitmap"]).read_bytes())
        assert (bitmap == Segmenter(model, device="cpu").segment(file)).mean() > 0.999
    fetched = sum("/images/" in r.path for r in server.log)
    assert fetched == 5
    predicted("acme/sidewalk", "--overwrite", env=server.env)
    assert sum("/images/" in r.path for r in server.log) == fetched  # from the cache
    assert predicted("acme/sidewalk", env=server.env).unchanged


def test_samples_and_files_of_one_name_have_files_of_their_own(
    model: Path, tmp_path: Path, server: LoopbackSegments, predicted: Callable[..., PredictRecord]
) -> None:
    server.add_round(draw_release(tmp_path / "drawn", samples=2))
    (tmp_path / "mine").mkdir()
    for i in range(2):
        (tmp_path / f"mine/frame_{i:04d}.png").write_bytes(encode_png(picture(i, (50, 70))))
    assert predicted(tmp_path / "mine", "acme/sidewalk", env=server.env).images == 4
    names = sorted(line["bitmap"] for line in lines(tmp_path / "out"))
    plain = [f"frame_{i:04d}.png" for i in range(2)]
    assert names == [*(f"bitmaps/acme/sidewalk/{n}" for n in plain), *(f"bitmaps/{n}" for n in plain)]


def test_images_in_a_private_bucket_are_signed_for(
    tmp_path: Path, server: LoopbackSegments, predicted: Callable[..., PredictRecord]
) -> None:
    server.add_round(draw_release(tmp_path / "drawn", samples=3), private=True)
    assert predicted("acme/sidewalk", env=server.env).images == 3


def test_a_sample_whose_image_is_gone_is_named(model: Path, tmp_path: Path, server: LoopbackSegments, cli: Cli) -> None:
    server.add_round(draw_release(tmp_path / "drawn", samples=4))
    gone = sorted((tmp_path / "drawn/images").iterdir())[2]
    gone.unlink()
    argv = ("predict", model, "acme/sidewalk", "--out", tmp_path / "out", "--device", "cpu")
    said = cli(*argv, code=1, env=server.env).stderr
    assert "1 of 4 images could not be read" in said and "403 Forbidden" in said
    assert sum("bitmap" in line for line in lines(tmp_path / "out")) == 3


def test_what_reads_like_a_dataset_and_is_none(
    model: Path, tmp_path: Path, server: LoopbackSegments, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ("--out", tmp_path / "out")
    said = cli("predict", model, "acme/nothing", *out, code=1, env=server.env).stderr
    assert "no dataset acme/nothing on Segments.ai" in said and "--split" in said
    assert "SEGMENTS_API_KEY" in cli("predict", model, "acme/sidewalk", *out, code=1).stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for mistyped in ("photos/walk", "album/walk.jpg", "album/walk.mp4", "../walk", "a/b/c"):
        assert "no image at" in cli("predict", model, mistyped, *out, code=2, env=server.env).stderr
    assert not server.log or all("nothing" in r.path or "status" in r.path for r in server.log)


# -------------------------------------------------------------------- what else is written


def test_entropy_and_probabilities_are_those_of_the_segmenter(
    model: Path, tmp_path: Path, predicted: Callable[..., PredictRecord]
) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(encode_png(picture(i, (50 + i, 70))))
    predicted(tmp_path, "--entropy", "--probabilities")
    segmenter = Segmenter(model, device="cpu")
    for i, line in enumerate(lines(tmp_path / "out")):
        ((classes, sure, shares),) = segmenter.segment_with_probabilities([tmp_path / f"{i}.png"])
        out = tmp_path / "out"
        assert np.array_equal(decode_semantic((out / line["bitmap"]).read_bytes()), classes)
        written = decode_image((out / line["entropy"]).read_bytes())[..., 0]
        assert np.abs(written / 255 - sure.entropy).max() <= 0.5 / 255 + 1e-6 and written.std() > 1
        assert line["mean_entropy"] == pytest.approx(float(sure.entropy.mean()), abs=1e-5)
        assert np.array_equal(np.load(out / line["probabilities"])["probabilities"], shares)
        assert np.abs(shares.sum(0, dtype=int) - 255).max() <= 3  # five roundings
    record = predicted(tmp_path / "*.png", "--overwrite", "--precision", "bf16")
    assert record.precision == "bf16" and not (tmp_path / "out/entropy").exists()
    assert not predicted(tmp_path / "*.png", "--overwrite", "--precision", "auto").unchanged


def test_more_ways_of_looking_are_those_of_the_segmenter(
    model: Path, tmp_path: Path, predicted: Callable[..., PredictRecord]
) -> None:
    (tmp_path / "x.png").write_bytes(encode_png(picture(0, (90, 140))))
    plain = predicted(tmp_path / "x.png", "--entropy")
    ways: dict[str, Any] = {"flip": True, "scales": (1.0, 1.5), "window": "64"}
    found = predicted(tmp_path / "x.png", "--flip", "--scales", "1,1.5", "--window", 64, "--entropy", "--overwrite")
    assert not found.unchanged and plain.images == 1
    ((classes, sure),) = Segmenter(model, device="cpu", **ways).segment_with_uncertainty([tmp_path / "x.png"])
    bitmap = decode_semantic((tmp_path / "out/bitmaps/x.png").read_bytes())
    assert np.array_equal(bitmap, classes)
    assert not np.array_equal(bitmap, Segmenter(model, device="cpu").segment(tmp_path / "x.png"))
    assert lines(tmp_path / "out")[0]["mean_entropy"] == pytest.approx(float(sure.entropy.mean()), abs=1e-5)


# -------------------------------------------------------------------- interrupted runs


def test_an_interrupted_run_goes_on_where_it_was(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(encode_png(picture(i, (50, 70))))
    clip = write_clip(tmp_path / "walk.avi", moving(6))
    given = (tmp_path / "*.png", clip)
    seen: list[int] = []
    segment = Segmenter.segment_batch

    def interrupted(self: Segmenter, images: list[Any]) -> list[Any]:
        images = list(images)
        seen.extend([0] * len(images))
        if len(seen) > limit:
            raise KeyboardInterrupt
        return segment(self, images)

    monkeypatch.setattr(Segmenter, "segment_batch", interrupted)
    settings: dict[str, Any] = {"device": "cpu", "batch_size": 2}
    for allowed, done in ((6, 5), (5, 9)):  # the first image of each run is the black one that warms up
        limit = allowed
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            predict(model, images=given, out=tmp_path / "out", **settings)
        assert not (tmp_path / "out").exists()
        assert (tmp_path / ".out.unfinished/lines.jsonl").read_text().count('"bitmap"') == done
    limit = 1000
    seen.clear()
    assert "9 of them by the interrupted run" in cli("predict", model, *given, "--out", tmp_path / "out", *FLAGS).stdout
    assert len(seen) == 1 + 11 - 9
    assert not list(tmp_path.glob(".out.unfinished"))
    predict(model, images=given, out=tmp_path / "whole", **settings)
    assert read_manifest(tmp_path / "out").digest == read_manifest(tmp_path / "whole").digest


def test_what_is_kept_of_another_model_or_image_is_not_used(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(encode_png(picture(i, (50, 70))))
    images, out = tmp_path / "*.png", tmp_path / "out"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def interrupt() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("labelsync.deploy.predict._refuse_nothing", stop)
            with pytest.raises(KeyboardInterrupt):
                predict(model, images=images, out=out, device="cpu")

    interrupt()
    (tmp_path / "1.png").write_bytes(encode_png(picture(9, (50, 70))))
    (tmp_path / ".out.unfinished/bitmaps/2.png").unlink()
    lines_file = tmp_path / ".out.unfinished/lines.jsonl"
    lines_file.write_text(lines_file.read_text() + '{"image": "cut sh')
    assert predict(model, images=images, out=out, device="cpu").resumed == 2
    assert decode_semantic((out / "bitmaps/1.png").read_bytes()).shape == (50, 70)
    interrupt_out = tmp_path / "other"
    out = interrupt_out
    interrupt()
    assert predict(model, images=images, out=out, device="cpu", entropy=True).resumed == 0
