import io
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from PIL import Image
from torchvision.transforms.v2 import functional
from transformers import AutoModelForSemanticSegmentation

from labelsync.errors import BitmapError, ModelError, OptionError
from labelsync.evaluation.confusion import confusion
from labelsync.evaluation.on_device import confusion_on_device
from labelsync.model import winner
from labelsync.model.load import load_model, new_model
from labelsync.model.precision import pick_precision
from labelsync.model.preprocess import resize
from labelsync.model.segformer import logits_of, quicken
from labelsync.model.segmenter import Segmenter
from labelsync.model.winner import winning_output
from labelsync.pixels.image import encode_png
from tests.models import ARCHITECTURES, label_map, loud, loud_segformer, numbered, tiny_config, tiny_segformer
from tests.pictures import busy_picture

HW = (64, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loud_segformer(tmp_path_factory.mktemp("segmenter") / "model", 5, image_size=HW)


@pytest.fixture(scope="module")
def segmenter(folder: Path) -> Segmenter:
    return Segmenter(folder, device="cpu")


@pytest.mark.parametrize("size_hw", [(150, 201), (40, 30), HW, (333, 17)])
def test_gives_the_classes_that_transformers_pipeline_gives(
    folder: Path, segmenter: Segmenter, size_hw: tuple[int, int]
) -> None:
    image = busy_picture(*size_hw)
    pipe = transformers.pipeline("image-segmentation", model=str(folder), device="cpu")
    expected = np.zeros(size_hw, np.uint8)
    for part in pipe(Image.fromarray(image)):
        expected[np.asarray(part["mask"]) > 0] = segmenter.labels.id_of(part["label"])
    found = segmenter.segment(image)
    assert len(np.unique(found)) >= 4  # else the test would see little
    assert np.array_equal(found, expected)


def bilinear(logits: npt.NDArray[np.float64], size_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(C, h, w) -> (C, H, W) by the definition: pixel centres, corners not aligned, edges repeated."""
    for axis, size in ((1, size_hw[0]), (2, size_hw[1])):
        length = logits.shape[axis]
        at = ((np.arange(size) + 0.5) * length / size - 0.5).clip(0, length - 1)
        low = np.floor(at).astype(int)
        weight = np.expand_dims(at - low, tuple({1: (0, 2), 2: (0, 1)}[axis]))
        high = np.minimum(low + 1, length - 1)
        logits = np.take(logits, low, axis) * (1 - weight) + np.take(logits, high, axis) * weight
    return logits


def test_equals_a_straight_float64_computation(folder: Path, segmenter: Segmenter) -> None:
    image = busy_picture(120, 170, seed=3)
    model = load_model(folder, device="cpu").model.double()
    pixels = resize(image, HW).double()
    exact = torch.nn.functional.interpolate(
        torch.from_numpy(image.transpose(2, 0, 1).astype(np.float64))[None], size=HW, mode="bilinear", antialias=True
    )
    assert (pixels - exact).abs().max() <= 1  # torchvision, and so the saved processor, rounds to bytes
    mean, std = (torch.tensor(v).double().view(1, 3, 1, 1) for v in (segmenter.loaded.mean, segmenter.loaded.std))
    with torch.inference_mode():
        logits = model((pixels[None] / 255 - mean) / std).logits[0].numpy()
    upsampled = bilinear(logits, (120, 170))
    best = np.sort(upsampled, axis=0)
    clear = best[-1] - best[-2] > 1e-3 * np.abs(upsampled).max()  # apart from near ties, where float32 may differ
    assert clear.mean() > 0.98
    expected = upsampled.argmax(0) + 1
    assert np.array_equal(segmenter.segment(image)[clear], expected[clear])


@pytest.mark.parametrize("outputs", [1, 3, 257, 300])
@pytest.mark.parametrize("size_hw", [(7, 9), (30, 20), (3, 4), (14, 9), (100, 5), (131, 77)])
@pytest.mark.parametrize("blobs", [True, False])
def test_the_winner_is_that_of_upsampling_everything(outputs: int, size_hw: tuple[int, int], blobs: bool) -> None:
    generator = torch.Generator().manual_seed(outputs)
    logits = torch.randn(outputs, 7, 9, generator=generator)
    if blobs:  # few borders, as in an image: most pixels are not computed
        coarse = torch.randn(1, outputs, 2, 2, generator=generator)
        logits = torch.nn.functional.interpolate(coarse, size=(7, 9), mode="bicubic")[0]
    logits[:, 3] = 1.0  # whole rows of equals: the first wins
    everything = torch.nn.functional.interpolate(logits[None], size=size_hw, mode="bilinear", align_corners=False)
    found = winning_output(logits, size_hw)
    assert found.dtype == (torch.uint8 if outputs <= 256 else torch.int32)
    assert torch.equal(found.long(), everything[0].argmax(0))


@pytest.mark.parametrize("size_hw", [(131, 77), (250, 300), (66, 41), (1000, 40)])
def test_what_is_not_computed_is_as_if_it_were(size_hw: tuple[int, int]) -> None:
    coarse = torch.randn(1, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    logits = torch.nn.functional.interpolate(coarse, size=(33, 40), mode="bicubic")[0]
    everything = torch.nn.functional.interpolate(logits[None], size=size_hw, mode="bilinear")[0].argmax(0)
    found = winner._between_rows(logits, size_hw)
    assert found is not None and len(everything.unique()) >= 4
    assert torch.equal(found.long(), everything)


def test_few_pixels_are_computed_where_few_classes_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    means = winner._means
    monkeypatch.setattr(winner, "_means", lambda a, b, s: computed.append(s.numel()) or means(a, b, s))
    logits = torch.full((4, 32, 32), -3.0)
    logits[0, :20], logits[1, 20:, :16], logits[2, 20:, 16:] = 1.0, 2.0, 1.5
    everything = torch.nn.functional.interpolate(logits[None], size=(320, 400), mode="bilinear")[0]
    assert torch.equal(winning_output(logits, (320, 400)).long(), everything.argmax(0))
    assert 400 * 10 <= sum(computed) <= 400 * 10 * 1.5  # the rows between 20 and 21, and what meets there


def test_images_of_all_sizes_in_batches_are_what_they_are_alone(folder: Path) -> None:
    images = [busy_picture(30 + 7 * i, 90 - 9 * i, seed=i) for i in range(7)]
    together = Segmenter(folder, device="cpu", batch_size=3).segment_batch(iter(images))
    alone = Segmenter(folder, device="cpu", batch_size=1)
    assert [m.shape for m in together] == [i.shape[:2] for i in images]
    for image, found in zip(images, together, strict=True):
        assert (found == alone.segment(image)).mean() > 0.999  # sums of a batch may round otherwise
    assert alone.segment_batch([]) == []


def test_every_way_of_giving_an_image(segmenter: Segmenter, tmp_path: Path) -> None:
    image = busy_picture(50, 70)
    expected = segmenter.segment(image)
    png = encode_png(image)
    path = tmp_path / "x.png"
    path.write_bytes(png)
    for given in (png, path, str(path), Image.fromarray(image)):
        assert np.array_equal(segmenter.segment(given), expected)


def test_a_photo_taken_sideways_is_segmented_upright(segmenter: Segmenter) -> None:
    image = busy_picture(50, 70)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    out = io.BytesIO()
    Image.fromarray(np.rot90(image, 1)).save(out, "PNG", exif=exif)
    found = segmenter.segment(out.getvalue())
    assert np.array_equal(found, segmenter.segment(image))
    assert np.array_equal(segmenter.segment(Image.open(io.BytesIO(out.getvalue()))), found)


def test_outputs_are_aligned_by_name_and_a_foreign_winner_becomes_0(folder: Path, segmenter: Segmenter) -> None:
    image = busy_picture(100, 100)
    own = segmenter.segment(image)
    aligned = Segmenter(folder, device="cpu", labels=label_map("class 4", "unknown", "class 1")).segment(image)
    expected = np.array([0, 3, 0, 0, 1, 0], np.uint8)[own]  # by disk id of the model's own map
    assert set(np.unique(expected)) == {0, 1, 3}
    assert np.array_equal(aligned, expected)


def test_above_254_classes_ids_have_16_bits(tmp_path: Path) -> None:
    config = tiny_segformer(tmp_path, 300)
    found = Segmenter(loud(new_model(config, numbered(300), image_size=HW, seed=0))).segment(busy_picture(80, 90))
    assert found.dtype == np.uint16
    assert found.max() > 255
    few = Segmenter(new_model(config, numbered(254), image_size=HW, seed=0)).segment(busy_picture(8, 9))
    assert few.dtype == np.uint8


def test_threads_share_one_segmenter(segmenter: Segmenter) -> None:
    images = [busy_picture(60, 80, seed=i) for i in range(8)]
    expected = [segmenter.segment(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(segmenter.segment, images * 2))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected * 2, strict=True))


def test_training_mode_and_autocast_around_it_change_nothing(folder: Path, segmenter: Segmenter) -> None:
    image = busy_picture(60, 80)
    loaded = load_model(folder, device="cpu")
    loaded.model.config.classifier_dropout_prob = 0.9
    loaded.model.decode_head.dropout.p = 0.9
    loaded.model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Segmenter(loaded).segment(image)
    assert np.array_equal(found, segmenter.segment(image))
    assert not torch.is_inference_mode_enabled()


def test_a_model_that_has_diverged_is_named(folder: Path) -> None:
    loaded = load_model(folder, device="cpu")
    with torch.no_grad():
        loaded.model.decode_head.classifier.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        Segmenter(replace(loaded, source="runs/9")).segment(busy_picture(20, 20))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((4, 4), np.uint8), r"\(4, 4\) uint8"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (b"<html>", "HTML"),
        ("nowhere.png", "nowhere.png cannot be read"),
    ],
)
def test_what_is_no_image_is_refused(segmenter: Segmenter, image: object, said: str) -> None:
    with pytest.raises(BitmapError, match=said):
        segmenter.segment(image)  # type: ignore[arg-type]


def test_an_empty_batch_size_is_refused(folder: Path) -> None:
    with pytest.raises(OptionError, match="--batch-size"):
        Segmenter(folder, batch_size=0)


def test_maps_on_the_device_are_those_of_segment_and_are_counted_alike(segmenter: Segmenter) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((40, 56), (33, 70), (64, 64))]
    labels = segmenter.labels
    pairs = [(image, rng.integers(0, labels.num_labels + 1, image.shape[:2]).astype(np.uint8)) for image in images]
    maps = segmenter.segment_on_device(images)
    assert all(m.device == segmenter.device and m.dtype == torch.int32 for m in maps)
    assert all(np.array_equal(m.numpy(), s) for m, s in zip(maps, segmenter.segment_batch(images), strict=True))
    for (image, label), there in zip(pairs, maps, strict=True):
        here = confusion(label, segmenter.segment(image), labels.num_labels)
        assert np.array_equal(confusion_on_device(label, there, labels.num_labels), here)


def test_any_view_of_an_image_is_resized_as_its_copy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    fixed = image.copy()
    fixed.flags.writeable = False
    for view in (image[3:40, 5:60], image[::-1], image[:, ::-2], image[..., ::-1], fixed, image.transpose(1, 0, 2)):
        planes = torch.from_numpy(np.array(view.transpose(2, 0, 1), order="C"))
        for size_hw in ((24, 31), (90, 100), view.shape[:2]):
            expected = functional.resize(planes, list(size_hw), antialias=True)
            assert torch.equal(resize(view, size_hw), expected)
            assert resize(view, size_hw).is_contiguous()


def test_a_model_that_it_loads_is_warm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    monkeypatch.setattr(Segmenter, "segment_batch", lambda self, images: [seen.append(i.shape) for i in images])
    Segmenter(folder, device="cpu")
    assert seen == [(*HW, 3)]
    Segmenter(load_model(folder, device="cpu"))  # somebody else's, perhaps in training
    assert len(seen) == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_is_used_and_says_nearly_the_same(
    folder: Path, segmenter: Segmenter, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = busy_picture(60, 80)
    half = Segmenter(folder, device="cpu", precision=precision)
    kinds: list[torch.dtype] = []

    def watched(*call: Any) -> torch.Tensor:
        logits = logits_of(*call)
        kinds.append(logits.dtype)
        return logits

    monkeypatch.setattr("labelsync.model.segmenter.logits_of", watched)
    found = half.segment(image)
    assert kinds == [getattr(torch, {"bf16": "bfloat16", "fp16": "float16"}[precision])]
    assert (found == segmenter.segment(image)).mean() > 0.95
    assert kinds[1:] == [torch.float32]


def test_automatic_precision_is_half_on_a_gpu_alone() -> None:
    assert [pick_precision("auto", torch.device(d)) for d in ("cpu", "cuda", "mps")] == ["fp32", "fp16", "fp32"]
    with pytest.raises(OptionError, match="there are: auto, fp32, bf16, fp16"):
        pick_precision("half", torch.device("cpu"))


@pytest.mark.parametrize("outputs", [1, 5, 40])
def test_the_reordered_head_gives_the_outputs_of_the_model(tmp_path: Path, outputs: int) -> None:
    loaded = loud(new_model(tiny_segformer(tmp_path, outputs), numbered(outputs), image_size=HW, seed=0))
    generator = torch.Generator().manual_seed(outputs)
    with torch.no_grad():
        for tensor in (*loaded.model.decode_head.parameters(), *loaded.model.decode_head.batch_norm.buffers()):
            if tensor.is_floating_point():  # every term of the head counts
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.2)
        for size_hw in (HW, (64, 64), (71, 50)):
            pixels = torch.randn(2, 3, *size_hw, generator=generator)
            expected = loaded.model.double()(pixels.double()).logits
            found = logits_of(loaded.model.float(), pixels)
            assert found.shape == expected.shape
            assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_the_reordered_head_learns_what_the_model_learns(tmp_path: Path) -> None:
    config = tiny_segformer(tmp_path / "config", 5)
    plain, quick = (loud(new_model(config, numbered(5), image_size=HW, seed=0)).model.double().train() for _ in "ab")
    quicken(quick)
    pixels = torch.randn(3, 3, *HW, generator=torch.Generator().manual_seed(0)).double()
    for model in (plain, quick):
        torch.manual_seed(0)
        outputs = model(pixel_values=pixels).logits
        (outputs * torch.linspace(-1, 1, outputs.numel(), dtype=torch.float64).view_as(outputs)).mean().backward()
    assert torch.allclose(quick(pixel_values=pixels).logits, plain(pixel_values=pixels).logits, rtol=1e-9, atol=1e-12)
    of_plain = dict(plain.named_parameters())
    for name, parameter in quick.named_parameters():
        assert torch.allclose(parameter.grad, of_plain[name].grad, rtol=1e-6, atol=1e-12), name
    for name, buffer in quick.named_buffers():  # the batch's statistics
        assert torch.allclose(buffer, dict(plain.named_buffers())[name]), name
    assert quick.state_dict().keys() == plain.state_dict().keys()
    twin = deepcopy(quick)
    with torch.no_grad():
        twin.decode_head.linear_fuse.weight.zero_()
    assert not torch.equal(
        twin(pixel_values=pixels).logits, quick(pixel_values=pixels).logits
    )  # not the first's weights


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a != "segformer"])
def test_other_architectures_are_asked_themselves(architecture: str) -> None:
    model = AutoModelForSemanticSegmentation.from_config(tiny_config(architecture)).eval()
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(logits_of(model, pixels), model(pixels).logits)
