"""`labelsync select`: what a model is unsure of, kept apart, out of folders and videos, ready for add-images."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import labelsync
from labelsync.deploy.core_set import k_center
from labelsync.deploy.strategy import judge
from labelsync.errors import OptionError, SamplesFailed
from labelsync.model.load import new_model
from labelsync.model.preprocess import normalize, resize
from labelsync.model.segmenter import Segmenter
from labelsync.release.gather import frames_of, gather
from labelsync.store.manifest import read_manifest, verify_files
from tests.clips import moving, write_clip
from tests.loopback.segments import LoopbackSegments
from tests.models import ARCHITECTURES, label_map, loud_segformer, tiny_config
from tests.pictures import picture


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loud_segformer(tmp_path_factory.mktemp("select") / "model", label_map("road", "walk", "sky"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images in two folders, of which three are alike."""
    for i in range(6):
        path = tmp_path / f"shots/{'ab'[i % 2]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0 if i < 3 else i, (48, 64))).save(path)
    return tmp_path / "shots"


def entropies(model: Path, files: list[Path]) -> list[float]:
    found = Segmenter(model, device="cpu").segment_with_uncertainty(files)
    return [round(float(maps.entropy.mean(dtype=np.float64)), 6) for _, maps in found]


NAMES = ["a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png"]


def test_the_least_sure_images_come_first(folder, model, cli):
    unsure = entropies(model, [folder / n for n in NAMES])
    wanted = [NAMES[i] for i in sorted(range(6), key=lambda i: (-unsure[i], i))]
    shown = cli("select", folder, "--model", model, "--count", 4, "--strategy", "entropy", "--device", "cpu")
    assert shown.stdout.splitlines() == wanted[:4]
    record = labelsync.select(folder, model=model, count=9, strategy="entropy")
    assert [c.name for c in record.chosen] == wanted and record.images == 6
    assert [c.uncertainty for c in record.chosen] == pytest.approx(sorted(unsure, reverse=True), abs=1e-6)


def test_images_that_are_alike_come_last_in_a_diverse_order(folder, model):
    alike = {"a/0.png", "b/1.png", "a/2.png"}
    for strategy in ("diverse", "entropy+diverse", "margin+diverse"):
        names = [c.name for c in labelsync.select([folder], model=model, count=6, strategy=strategy).chosen]
        assert set(names[4:]) < alike and len(set(names)) == 6
    points = Segmenter(model, device="cpu").embed([folder / n for n in NAMES])
    found = labelsync.select(folder, model=model, count=3, strategy="diverse", batch_size=2)
    assert [c.name for c in found.chosen] == [NAMES[i] for i in k_center(points, count=3)]
    assert found.chosen[0].uncertainty is None


def test_the_folder_it_leaves_is_ready_for_add_images(folder, model, tmp_path, cli):
    clip = write_clip(tmp_path / "walk.mp4", moving(12))
    flags = ("--model", model, "--count", 5, "--every", 2, "--out", tmp_path / "out", "--device", "cpu")
    shown = cli("select", folder, clip, *flags)
    *names, last = shown.stdout.splitlines()
    assert f"add-images OWNER/DATASET {tmp_path / 'out/images'}" in last and len(names) == 5
    files = {p.relative_to(tmp_path / "out/images").as_posix(): p for p in (tmp_path / "out/images").rglob("*.*g")}
    assert sorted(files) == sorted(names)
    assert {n.split("/")[0] for n in names} >= {"walk.mp4"}
    frames = {p.name: p.data for p in frames_of(clip, every=2, skip=lambda _: False)}
    for name, file in files.items():
        assert file.read_bytes() == (frames[name] if name in frames else (folder / name).read_bytes())
    listed = [json.loads(line) for line in (tmp_path / "out/chosen.jsonl").read_text().splitlines()]
    assert [x["name"] for x in listed] == names and [x["place"] for x in listed] == [1, 2, 3, 4, 5]
    assert all(x["source"] == str(clip) and int(x["name"][-10:-4]) == x["frame"] for x in listed if "frame" in x)
    manifest = read_manifest(tmp_path / "out", "select")
    assert not verify_files(tmp_path / "out", manifest)
    with LoopbackSegments() as server:
        cli("create", "acme/walk", "--categories", "sidewalk", env=server.env)
        cli("add-images", "acme/walk", tmp_path / "out/images", env=server.env)
        assert sorted(s.name for s in server.platform.datasets["acme/walk"].samples.values()) == sorted(names)
        again = cli("add-images", "acme/walk", folder, "--dry-run", "--json", env=server.env)
        there = sum(not n.startswith("walk.mp4") for n in names)
        assert json.loads(again.stdout)["outcomes"]["there"] == there


def test_the_same_choice_again_is_left_as_it_is(folder, model, tmp_path, cli):
    def chosen(*argv: object, code: int = 0) -> dict:
        flags = ("--model", model, "--count", 2, "--out", tmp_path / "out", "--device", "cpu", "--json", *argv)
        shown = cli("select", folder, *flags, code=code)
        return json.loads(shown.stdout) if not code else {}

    first = chosen()
    before = {p: p.read_bytes() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()}
    assert chosen() == first | {"unchanged": True}
    assert "chosen" not in chosen("--strategy", "diverse", code=1)
    assert chosen("--overwrite") == first
    after = {p: p.read_bytes() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()}
    assert {p: d for p, d in before.items() if p.name != "manifest.json"} == {
        p: d for p, d in after.items() if p.name != "manifest.json"
    }


def test_an_interrupted_choice_goes_on_where_it_was(folder, model, tmp_path, cli, monkeypatch):
    clip = write_clip(tmp_path / "walk.mp4", moving(12))
    flags = ("--model", model, "--count", 3, "--every", 2, "--batch-size", 2, "--device", "cpu")
    looked, allowed = [], [3]

    def interrupted(segmenter, images, order):
        looked.extend(images)
        allowed[0] -= 1
        if allowed[0] < 0:
            raise KeyboardInterrupt
        return judge(segmenter, images, order)

    monkeypatch.setattr("labelsync.deploy.select.judge", interrupted)
    out = ("--out", tmp_path / "out")
    cli("select", folder, clip, *flags, *out, code=130)
    kept = tmp_path / ".out.unfinished/lines.jsonl"
    assert kept.read_text().count('"embedding"') == 6 and not (tmp_path / "out").exists()
    kept.write_text(kept.read_text() + '{"name": "cut sh')
    Image.fromarray(picture(9, (48, 64))).save(folder / "a/2.png")  # another image by now
    looked.clear(), allowed.__setitem__(0, 99)
    chosen = cli("select", folder, clip, *flags, *out).stdout.splitlines()[:-1]
    assert len(looked) == 12 - 5 and not kept.parent.exists()
    whole = cli("select", folder, clip, *flags, "--out", tmp_path / "whole").stdout.splitlines()[:-1]
    assert chosen == whole
    for strategy in ("entropy", "margin+diverse"):  # what was said in another way is no use
        looked.clear(), allowed.__setitem__(0, 1)
        cli("select", folder, *flags, "--out", tmp_path / strategy, code=130)
        looked.clear(), allowed.__setitem__(0, 99)
        cli("select", folder, *flags, "--out", tmp_path / strategy, "--strategy", strategy)
        assert len(looked) == 6


def test_what_an_earlier_choice_left_is_not_chosen_from(folder, model, cli):
    """The chosen ones lie among the others now, under other names."""
    flags = ("--model", model, "--count", 2, "--strategy", "entropy", "--device", "cpu", "--json")
    first = json.loads(cli("select", folder, *flags, "--out", folder / "chosen").stdout)
    again = json.loads(cli("select", folder, *flags, "--out", folder / "chosen").stdout)
    assert again == first | {"unchanged": True}


@pytest.mark.parametrize("strategy", ["entropy", "entropy+diverse", "diverse"])
def test_a_file_that_gives_classes_alone_is_refused_before_anything_is_looked_at(
    folder, model, tmp_path, cli, monkeypatch, strategy
):
    file = tmp_path / "m.onnx"
    labelsync.export(model, out=file, takes="frames", gives="classes", runs=0, tolerance=0.5, images=[folder])
    monkeypatch.setattr("labelsync.deploy.select._choose", None)
    flags = ("--model", file, "--count", 1, "--strategy", strategy, "--out", tmp_path / "out")
    said = cli("select", folder, *flags, code=1 if strategy == "diverse" else 2).stderr
    assert "m.onnx" in said or "gives no embeddings of images" in said
    assert not list(tmp_path.glob(".out.*unfinished"))


def test_what_cannot_be_read_is_told_and_the_choice_made_among_the_others(folder, model, tmp_path, cli):
    (folder / "a/bad.jpg").write_bytes(b"no image")
    clip = write_clip(tmp_path / "walk.mp4", moving(12))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    shown = cli("select", folder, cut, "--model", model, "--count", 3, "--out", tmp_path / "out", code=1)
    assert "'a/bad.jpg': " in shown.stderr and "'cut.mp4': " in shown.stderr
    assert "images could not be read; 3 of the others are chosen" in shown.stderr.splitlines()[-1]
    assert len((tmp_path / "out/chosen.jsonl").read_text().splitlines()) == 3
    with pytest.raises(SamplesFailed, match="1 of 1 images could not be read"):
        labelsync.select(folder / "a/bad.jpg", model=model, count=1, out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("images", "flags", "line"),
    [
        ("shots", {"count": 0}, "--count is 0"),
        ("shots", {"every": 0}, "--every is 0"),
        ("shots", {"strategy": "guess"}, "no strategy is called 'guess'"),
        ("https://example.com/a.jpg", {}, "is at a URL"),
        ("nowhere", {}, "there is no nowhere"),
    ],
)
def test_refusals_come_before_anything_is_looked_at(folder, model, tmp_path, images, flags, line):
    given = folder if images == "shots" else images
    with pytest.raises(OptionError, match=line):
        labelsync.select(given, model=model, out=tmp_path / "out", **({"count": 1} | flags))
    assert not (tmp_path / "out").exists()


def test_names_are_those_of_add_images(folder, model):
    record = labelsync.select(folder, model=model, count=6, strategy="entropy")
    assert sorted(c.name for c in record.chosen) == [p.name for p in gather([folder])]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_embeddings_that_tell_images_apart(architecture, tmp_path):
    labels = label_map("road", "walk")
    tiny_config(architecture).save_pretrained(tmp_path)
    loaded = new_model(tmp_path, labels, image_size=(64, 64), seed=0)
    for weight in loaded.model.parameters():  # what is drawn for a real size fades away in a tiny one
        if weight.ndim == 4:
            torch.nn.init.kaiming_normal_(weight, generator=torch.Generator().manual_seed(0))
    segmenter = Segmenter(loaded, device="cpu", batch_size=2)
    images = [picture(i, (48, 64)) for i in (1, 2, 1)]
    found = segmenter.embed(images)
    assert found.shape[0] == 3 and found.ndim == 2 and found.dtype == np.float32 and np.isfinite(found).all()
    found /= np.abs(found).max()
    assert np.allclose(found[0], found[2], atol=1e-4) and not np.allclose(found[0], found[1], atol=1e-2)
    assert segmenter.embed([]).shape[0] == 0


def test_an_embedding_is_the_mean_of_the_last_hidden_state(model):
    segmenter = Segmenter(model, device="cpu")
    image = picture(3, (48, 64))
    pixels = normalize(torch.stack([resize(image, (64, 64))]), mean=segmenter.loaded.mean, std=segmenter.loaded.std)
    with torch.inference_mode():
        last = segmenter.loaded.model.segformer(pixels).last_hidden_state.numpy()
    assert np.allclose(segmenter.embed([image])[0], last[0].reshape(last.shape[1], -1).mean(1), atol=1e-6)
