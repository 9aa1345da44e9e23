"""The way from file bytes to a training item: reduced decoding, alignment with the label, decoded images on disk."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from labelsync.errors import BitmapError, DatasetError, OutputError
from labelsync.pixels.image import decode_image, decode_reduced, rgb
from labelsync.pixels.semantic import encode_semantic
from labelsync.records.release import Row
from labelsync.training import augment, kept_images
from labelsync.training.augment import Draw, apply, draw, largest_step
from labelsync.training.data import EpochSampler, TrainingData, collate
from labelsync.training.kept_images import KeptImages
from labelsync.training.knobs import Augment
from tests.training import LABELS, VARIED

TURNED = 0x0112


def picture(size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Soft colours: what a JPEG keeps."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size_hw[::-1], Image.Resampling.BICUBIC))


def jpeg(array: np.ndarray, *, turned: int = 1, mode: str = "RGB", **options: object) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    if turned != 1:
        exif[TURNED] = turned
    Image.fromarray(array).convert(mode).save(file, "JPEG", **({"quality": 95, "exif": exif} | options))
    return file.getvalue()


def by_pillow(data: bytes, step: int = 1) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        if step > 1:
            image.draft(image.mode, (image.width // step, image.height // step))
        return rgb(image)


# -------------------------------------------------------------------- decoding


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}])
@pytest.mark.parametrize("size_hw", [(1, 1), (7, 9), (48, 64), (101, 203)])
def test_jpegs_are_decoded_as_pillow_does(mode: str, options: dict[str, object], size_hw: tuple[int, int]) -> None:
    data = jpeg(picture(size_hw), mode=mode, **options)
    assert np.array_equal(decode_image(data), by_pillow(data))
    for step in (2, 4, 8):
        image = decode_reduced(data, step=step)
        assert image.size_hw == size_hw
        assert image.step == max(n for n in (1, 2, 4, 8) if n <= min(step, *size_hw))
        assert np.array_equal(image.pixels, by_pillow(data, image.step))


def test_an_rgb_jpeg_without_a_change_of_colours_is_decoded_as_pillow_does() -> None:
    data = jpeg(picture((40, 50)), keep_rgb=True)
    assert np.array_equal(decode_image(data), by_pillow(data))


@pytest.mark.parametrize("turned", range(1, 9))
def test_turned_jpegs_are_reduced_upright(turned: int) -> None:
    data = jpeg(picture((48, 96)), turned=turned)
    whole, image = decode_reduced(data, step=1), decode_reduced(data, step=2.9)
    assert whole.size_hw == image.size_hw == whole.pixels.shape[:2]
    assert (image.step, image.pixels.shape[:2]) == (2, tuple(s // 2 for s in whole.size_hw))
    means = whole.pixels.reshape(image.pixels.shape[0], 2, image.pixels.shape[1], 2, 3).mean((1, 3))
    assert np.abs(means - image.pixels).max() < 12  # the same picture in the same frame


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_what_is_no_jpeg_is_never_reduced(mode: str) -> None:
    file = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(np.full((32, 40), 23_040, np.uint16)).save(file, "PNG")
    else:
        Image.fromarray(picture((32, 40))).convert(mode).save(file, "PNG")
    image = decode_reduced(file.getvalue(), step=4)
    assert image.step == 1
    assert np.array_equal(image.pixels, by_pillow(file.getvalue()))


def test_a_png_that_says_how_to_turn_it_is_turned() -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[TURNED] = 6
    Image.fromarray(picture((32, 40))).save(file, "PNG", exif=exif)
    assert decode_image(file.getvalue()).shape == (40, 32, 3)


@pytest.mark.parametrize("step", [1, 2])
def test_a_jpeg_that_is_cut_short_is_an_error(step: int) -> None:
    data = jpeg(picture((200, 300)))
    with pytest.raises(BitmapError, match="cut short"):
        decode_reduced(data[: len(data) // 2], step=step)


# -------------------------------------------------------------------- image and label


def striped(size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A label of blocks and an image that says the same in grey, so that the two can be compared."""
    rng = np.random.default_rng(3)
    blocks = rng.integers(1, 4, (-(-size_hw[0] // 24), -(-size_hw[1] // 24))).astype(np.uint8)
    label = np.kron(blocks, np.ones((24, 24), np.uint8))[: size_hw[0], : size_hw[1]]
    return np.repeat((label * 80)[..., None], 3, 2), label


@given(index=st.integers(0, 5000), size=st.sampled_from([(240, 360), (241, 363), (250, 333)]))
def test_image_and_label_stay_within_a_pixel_when_decoded_smaller(index: int, size: tuple[int, int]) -> None:
    image, label = striped(size)
    data = jpeg(image, quality=100, subsampling=0)
    drawn = replace(draw(VARIED, seed=0, epoch=0, index=index), color=())
    reduced = decode_reduced(data, step=largest_step(label.shape, drawn, size_hw=(48, 64)))
    pixels, ids = apply(reduced.pixels, label, drawn, size_hw=(48, 64), fill=(0, 0, 0), step=reduced.step)
    said = np.round(pixels[0].numpy() / 80).astype(int)
    # where the label is the same all around a pixel, within one, the image must say it
    padded = np.pad(ids, 1, mode="edge").astype(int)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    even = around.min((2, 3)) == around.max((2, 3))
    even[[0, -1]] = even[:, [0, -1]] = False  # what lies beyond the edge is seen in the image alone
    assert even.mean() > 0.2
    assert np.array_equal(said[even], ids[even])


@given(index=st.integers(0, 5000))
def test_the_label_does_not_depend_on_how_the_image_is_decoded(index: int) -> None:
    image, label = striped((240, 360))
    drawn = draw(VARIED, seed=0, epoch=0, index=index)
    whole = apply(image, label, drawn, size_hw=(48, 64), fill=(0, 0, 0))[1]
    small = apply(image[::4, ::4], label, drawn, size_hw=(48, 64), fill=(0, 0, 0), step=4)[1]
    assert np.array_equal(whole, small)
    assert set(np.unique(whole)) <= {0, 1, 2, 3}


def test_an_image_is_never_decoded_smaller_than_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[tuple[int, ...], tuple[int, int]]] = []

    def resize(crop: np.ndarray, size_hw: tuple[int, int]) -> torch.Tensor:
        seen.append((crop.shape, size_hw))
        return torch.zeros(*size_hw, 3, dtype=torch.uint8)

    monkeypatch.setattr(augment, "resize_interleaved", resize)
    label = np.ones((1080, 1920), np.uint8)
    wild, steps = Augment(scale=(0.1, 10), aspect=(0.5, 2)), set()
    for index in range(300):
        drawn = draw(wild, seed=0, epoch=0, index=index)
        step = max((n for n in (1, 2, 4, 8) if n <= largest_step(label.shape, drawn, size_hw=(512, 512))), default=1)
        image = np.zeros((-(-1080 // step), -(-1920 // step), 3), np.uint8)
        apply(image, label, drawn, size_hw=(512, 512), fill=(0, 0, 0), step=step)
        crop, size_hw = seen.pop()
        assert step == 1 or all(c >= s - 1 for c, s in zip(crop[:2], size_hw, strict=True))
        steps.add(step)
    assert steps == {1, 2, 4, 8}
    assert largest_step((1080, 1920), Draw(), size_hw=(512, 512)) == 1080 / 512
    assert largest_step((1080, 1920), Draw(scale=2.0), size_hw=(512, 512)) == 540 / 512
    assert largest_step((1080, 1920), Draw(scale=0.5), size_hw=(512, 512)) == 1080 / 256


# -------------------------------------------------------------------- items


def rows(number: int = 4) -> list[Row]:
    made = []
    for i in range(number):
        label = striped((96, 128))[1]
        made.append(Row(f"s{i}.jpg", f"u{i}", jpeg(picture((96, 128), seed=i)), encode_semantic(label)))
    return made


def data(kept: KeptImages | None = None, **kwargs: object) -> TrainingData:
    return TrainingData(rows(), LABELS, **({"size_hw": (24, 32), "augment": VARIED, "kept": kept} | kwargs))


def everything(of: TrainingData, workers: int = 0) -> list[torch.Tensor]:
    """All pixels and ids of three epochs, as a loader gives them."""
    found = []
    sampler = EpochSampler(len(of), seed=0)
    for sampler.epoch in range(3):
        for batch in DataLoader(of, batch_size=2, sampler=sampler, collate_fn=collate, num_workers=workers):
            found += [batch["pixel_values"], batch["labels"]]
    return found


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_loading_processes_change_nothing() -> None:
    assert same(everything(data()), everything(data(), workers=2))


def test_an_image_of_another_size_than_its_label_is_refused_however_small_it_is_decoded() -> None:
    of = data(augment=Augment())
    of.rows = [Row("a.jpg", "u", jpeg(picture((96, 130))), rows()[0].label)]
    error = of[(0, 0)]
    assert isinstance(error, DatasetError)
    assert error.message == "sample a.jpg (u): the image is 96x130 and its label 96x128"


# -------------------------------------------------------------------- decoded images on disk


def test_kept_images_change_nothing_and_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = everything(data())
    kept = KeptImages(tmp_path / "kept")
    assert same(everything(data(kept), workers=2), plain)
    monkeypatch.setattr(kept_images, "decode_reduced", None)  # nothing is left to decode
    assert same(everything(data(kept)), plain)
    files = list((tmp_path / "kept").rglob("*.image"))
    assert kept.summary() == (
        f"decoded images: {len(files)} ({sum(f.stat().st_size for f in files) / 1e6:,.1f} MB) in {tmp_path / 'kept'}"
    )


def test_another_image_under_the_same_name_is_another_one(tmp_path: Path) -> None:
    kept = KeptImages(tmp_path)
    one, other = jpeg(picture((40, 60), 1)), jpeg(picture((40, 60), 2))
    for image in (one, other, one):
        for step in (1, 2):
            assert np.array_equal(kept.read(image, step=step).pixels, decode_reduced(image, step=step).pixels)


def test_other_decoders_start_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, image = KeptImages(tmp_path), jpeg(picture((40, 60)))
    kept.read(image, step=1)
    monkeypatch.setattr(kept_images, "_decoders", lambda: "pillow 99")
    kept.read(image, step=1)
    assert len(list(tmp_path.rglob("*.image"))) == 2


@pytest.mark.parametrize("left", [0, 10, 32, 4000])
def test_a_file_that_was_cut_is_made_again(tmp_path: Path, left: int) -> None:
    kept, image = KeptImages(tmp_path), jpeg(picture((40, 60)))
    kept.read(image, step=1)
    (path,) = tmp_path.rglob("*.image")
    whole = path.read_bytes()
    path.write_bytes(whole[:left])
    assert np.array_equal(kept.read(image, step=1).pixels, decode_image(image))
    assert path.read_bytes() == whole


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    error = data(KeptImages(tmp_path / "file"))[(0, 0)]
    assert isinstance(error, OutputError)
    assert "--cache-images" in error.hint


def test_only_jpegs_are_kept_in_several_sizes(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(picture((64, 64))).save(file, "PNG")
    for step in (1, 2, 3.5, 8):
        KeptImages(tmp_path).read(file.getvalue(), step=step)
    assert len(list(tmp_path.rglob("*.image"))) == 1
