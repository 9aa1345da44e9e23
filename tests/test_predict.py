import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from labelsync.deploy.images import find_images, output_names
from labelsync.deploy.predict import predict
from labelsync.errors import OptionError, OutputExists, SamplesFailed
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.results import PredictRecord
from labelsync.records.text import from_json
from labelsync.store.manifest import read_manifest, verify_files
from tests.models import loud_segformer
from tests.pictures import picture


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loud_segformer(tmp_path_factory.mktemp("predict") / "tiny", 5)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """a/x.png, b/x.png, b/x.jpg, notes.txt and a photo taken sideways."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(["a/x.png", "b/x.png"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_png(picture(seed, (40 + 20 * seed, 90))))
    Image.fromarray(picture(5)).save(folder / "b" / "x.jpg")
    (folder / "notes.txt").write_text("not an image")
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(picture(6, (40, 100))).save(folder / "sideways.jpg", exif=exif)
    return folder


def lines(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]


# -------------------------------------------------------------------- which files, which names


def test_files_folders_and_globs_are_sorted_and_each_file_comes_once(photos: Path) -> None:
    everything = [photos / n for n in ("a/x.png", "b/x.jpg", "b/x.png", "sideways.jpg")]
    assert find_images([str(photos)]) == everything
    assert find_images([str(photos / "b"), str(photos / "**" / "*.png"), str(photos / "b" / "x.jpg")]) == everything[:3]
    assert find_images([str(photos / "notes.txt")]) == [photos / "notes.txt"]  # named, so it is meant
    assert find_images([str(photos / "*")]) == everything[3:]
    (photos / "again.jpg").symlink_to(photos / "sideways.jpg")
    assert len(find_images([str(photos)])) == 4


def test_a_name_that_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "cam[1].png"
    file.write_bytes(b"")
    assert find_images([str(file)]) == [file]


def test_what_an_earlier_run_left_is_not_predicted_again(photos: Path) -> None:
    out = photos / "predictions"
    shutil.copytree(photos / "a", out / "overlays")
    shutil.copytree(photos / "a", photos / ".predictions.unfinished/bitmaps")
    assert len(find_images([str(photos)], outside=out)) == 4


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["/d/x.jpg"], ["x"]),
        (["/d/X.jpg"], ["X"]),
        (["/d/a/x.jpg", "/d/b/x.jpg"], ["a/x", "b/x"]),
        (["/d/x.jpg", "/d/x.png"], ["x.jpg", "x.png"]),
        (["/d/X.jpg", "/d/x.png"], ["X.jpg", "x.png"]),
        (["/d/X.jpg", "/d/x.JPG"], ["X.jpg", "x.JPG-2"]),
        (["/d/x.jpg", "/d/x.jpg.png", "/d/x.png"], ["x.jpg", "x.jpg-2", "x.png"]),
        (["/d/frame.0001.jpg", "/d/frame.0002.jpg"], ["frame.0001", "frame.0002"]),
        (["a/x.jpg", "/elsewhere/x.jpg"], None),
    ],
)
def test_no_two_images_share_an_output_name(files: list[str], names: list[str] | None) -> None:
    found = output_names([Path(f) for f in files])
    assert names is None or found == names
    assert len({n.casefold() for n in found}) == len(files)
    assert not any(Path(n).is_absolute() or ".." in Path(n).parts for n in found)


def test_nothing_to_predict_is_a_usage_error(tmp_path: Path) -> None:
    for given in (str(tmp_path / "no.jpg"), str(tmp_path), str(tmp_path / "*.jpg")):
        with pytest.raises(OptionError, match="no image at"):
            find_images([given])


# -------------------------------------------------------------------- the verb


def test_bitmaps_are_the_segmenters_classes_at_the_upright_size(model: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    record = predict(model, images=(str(photos),), out=out, device="cpu", batch_size=3)
    assert (record.images, record.failed, record.path) == (4, {}, str(out))
    segmenter = Segmenter(model, device="cpu", batch_size=1)
    made = lines(out)
    assert [m["bitmap"] for m in made] == [f"bitmaps/{n}.png" for n in ("a/x", "b/x.jpg", "b/x.png", "sideways")]
    for line in made:
        bitmap = decode_semantic((out / str(line["bitmap"])).read_bytes())
        assert bitmap.dtype == np.uint8
        assert (bitmap == segmenter.segment(str(line["image"]))).mean() > 0.999  # sums of a batch may round otherwise
        assert bitmap.shape == (line["height"], line["width"])
    assert (made[-1]["height"], made[-1]["width"]) == (100, 40)
    assert json.loads((out / "id2label.json").read_text())["0"] == "unlabeled"
    manifest = read_manifest(out, "predict")
    assert verify_files(out, manifest) == []
    assert manifest.inputs["model"] == segmenter.loaded.digest


def test_overlays_show_the_image_under_a_legend(model: Path, photos: Path, tmp_path: Path) -> None:
    predict(model, images=photos / "sideways.jpg", out=tmp_path / "out", device="cpu")
    overlay = decode_image((tmp_path / "out" / "overlays" / "sideways.jpg").read_bytes())
    height, width = overlay.shape[:2]
    assert width < height  # upright, as the bitmap
    assert height > 240  # small images are enlarged, and the legend stands below
    predict(model, images=(str(photos),), out=tmp_path / "plain", overlays=False, device="cpu")
    assert not (tmp_path / "plain" / "overlays").exists()
    assert all("overlay" not in line for line in lines(tmp_path / "plain"))


def test_what_cannot_be_read_is_named_and_the_rest_is_done(model: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "cut.jpg").write_bytes((photos / "b" / "x.jpg").read_bytes()[:300])
    (photos / "page.png").write_bytes(b"<!doctype html><p>not found")
    out = tmp_path / "out"
    with pytest.raises(SamplesFailed, match=r"2 of 6 images could not be read; the others are in .*out") as caught:
        predict(model, images=(str(photos),), out=out, device="cpu", batch_size=2)
    assert [d.split("/")[-1].split(":")[0] for d in caught.value.details] == ["cut.jpg", "page.png"]
    made = lines(out)
    assert [bool(m.get("bitmap")) for m in made] == [True, True, True, False, False, True]
    assert all((out / str(m["bitmap"])).is_file() for m in made if "bitmap" in m)
    failed = read_manifest(out, "predict").summary["failed"]
    assert list(failed) == [str(photos / "cut.jpg"), str(photos / "page.png")]
    assert "HTML" in failed[str(photos / "page.png")]


def test_nothing_but_failures_is_still_one_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(SamplesFailed, match="1 of 1 images could not be read; nothing was written"):
        predict(model, images=(str(tmp_path / "x.png"),), out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_the_same_images_give_the_same_bytes(model: Path, photos: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        predict(model, images=(str(photos),), out=tmp_path / name, device="cpu")
    assert read_manifest(tmp_path / "a").digest == read_manifest(tmp_path / "b").digest


def test_the_same_predictions_again_do_nothing(
    model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(model, images=str(photos), out=tmp_path / "out", device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr("labelsync.deploy.predict.Segmenter", None)  # nothing is loaded
        assert predict(model, images=str(photos), out=tmp_path / "out").unchanged
    one = sorted(photos.rglob("*.jpg"))[0]
    one.write_bytes(encode_png(picture(99)))
    with pytest.raises(OutputExists):
        predict(model, images=str(photos), out=tmp_path / "out", device="cpu")
    assert not predict(model, images=str(photos), out=tmp_path / "out", device="cpu", overwrite=True).unchanged
    next((tmp_path / "out/bitmaps").rglob("*.png")).unlink()
    with pytest.raises(OutputExists):
        predict(model, images=str(photos), out=tmp_path / "out", device="cpu")


def test_16_bit_ids_where_the_model_has_more_than_254_classes(tmp_path: Path) -> None:
    folder = loud_segformer(tmp_path / "tiny", 300)
    (tmp_path / "x.png").write_bytes(encode_png(picture(0)))
    predict(folder, images=(str(tmp_path / "x.png"),), out=tmp_path / "out", device="cpu")
    data = (tmp_path / "out" / "bitmaps" / "x.png").read_bytes()
    assert decode_semantic(data).dtype == np.uint16
    assert decode_semantic(data).max() > 255
    assert Image.open(io.BytesIO(data)).mode.startswith("I;16")


# -------------------------------------------------------------------- the command


def test_the_command(model: Path, photos: Path, tmp_path: Path, cli: Callable[..., Result]) -> None:
    out = tmp_path / "out"
    printed = cli("predict", model, photos / "a", photos / "b" / "*.jpg", "--out", out, "--device", "cpu").stdout
    assert "2 images" in printed
    assert str(out) in printed
    assert "exists" in cli("predict", model, photos, "--out", out, code=1).stderr
    again = cli("predict", model, photos, "--out", out, "--overwrite", "--json", "--no-overlays").stdout
    assert from_json(PredictRecord, again).images == 4
    assert not (out / "overlays").exists()
    (photos / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    failed = cli("predict", model, photos, "--out", out, "--overwrite", code=1).stderr
    assert "1 of 5 images could not be read" in failed
    assert "cut.jpg" in failed
    assert len(lines(out)) == 5


def test_the_commands_refusals(model: Path, photos: Path, tmp_path: Path, cli: Callable[..., Result]) -> None:
    assert "no image at" in cli("predict", model, tmp_path / "none.jpg", code=2).stderr
    assert "there is no folder" in cli("predict", tmp_path / "none", photos, "--out", tmp_path / "o", code=1).stderr
    assert not (tmp_path / "o").exists()
    cli("predict", model, code=2)
    assert "--batch-size" in cli("predict", model, photos, "--batch-size", 0, code=2).stderr
