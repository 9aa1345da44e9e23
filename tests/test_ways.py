"""Mirrored, resized and through windows: what comes out is the mean that it should be, of every pixel."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelsync.errors import ModelError, OptionError
from labelsync.model.load import new_model
from labelsync.model.loaded import LoadedModel
from labelsync.model.preprocess import normalize, resize
from labelsync.model.segmenter import Segmenter
from labelsync.model.ways import Canvas, Grid, Ways, pick_of_mean, read_ways, scaled, window_starts
from labelsync.model.winner import winner_and_confidence
from tests.models import ARCHITECTURES, loud_segformer, numbered, tiny_config
from tests.pictures import busy_picture

HW = (64, 96)

EVERY_WAY: list[dict[str, Any]] = [
    {"flip": True},
    {"scales": (0.5, 1.0, 1.5)},
    {"window": "50x70"},
    {"flip": True, "scales": (0.5, 1.0), "window": "50x70"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loud_segformer(tmp_path_factory.mktemp("ways") / "model", 5, image_size=HW)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Segmenter:
    return Segmenter(folder, device="cpu")


class ByColor(torch.nn.Module):
    """A model whose outputs are sums of the colours of a pixel, or of the mean of `cell` x `cell` pixels.

    What it says of a place depends on nothing else, in whatever view it sees it.
    """

    def __init__(self, *, cell: int = 1) -> None:
        super().__init__()
        drawn = torch.randn(4, 3, generator=torch.Generator().manual_seed(5))
        self.weight = torch.nn.Parameter(drawn)
        self.cell = cell

    def forward(self, pixels: torch.Tensor) -> Any:
        if self.cell > 1:
            pixels = torch.nn.functional.avg_pool2d(pixels, self.cell)
        return SimpleNamespace(logits=sum(self.weight[None, :, i, None, None] * pixels[:, i : i + 1] for i in range(3)))


def toy(size_hw: tuple[int, int], *, cell: int = 1) -> LoadedModel:
    model: Any = ByColor(cell=cell).eval()
    mean, std = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)
    return LoadedModel(model, numbered(4), numbered(4).names, size_hw, mean, std, "toy", "d" * 64)


def by_color(image: npt.NDArray[np.uint8], loaded: LoadedModel) -> npt.NDArray[np.uint8]:
    """What a toy says of every pixel of the image as it is."""
    pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
    outputs = loaded.model(normalize(pixels, mean=loaded.mean, std=loaded.std)).logits[0]
    return np.asarray(outputs.argmax(0) + 1, np.uint8)


# -------------------------------------------------------------------- what flags say


def test_scales_are_put_in_order_and_a_window_is_height_and_width() -> None:
    assert read_ways().plain
    assert read_ways(scales=[1]).plain
    assert read_ways(flip=True, scales=[1.25, 0.75, 1, 1.25], window="384x512") == Ways(
        True, (0.75, 1.0, 1.25), (384, 512)
    )
    assert read_ways(window="512").window == (512, 512)
    assert read_ways(window="384x512").window_text == "384x512"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scales": ()}, "--scales"),
        ({"scales": (1.0, 0.0)}, "--scales 1,0"),
        ({"scales": (float("nan"),)}, "--scales nan"),
        ({"scales": (float("inf"),)}, "--scales inf"),
        ({"window": "0x512"}, "--window '0x512'"),
        ({"window": "big"}, "--window 'big'"),
    ],
)
def test_what_says_nothing_is_refused_before_a_model_is_read(given: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        Segmenter("nowhere", **given)


def test_scaled_inputs_are_multiples_of_32_and_the_models_own_stays() -> None:
    assert scaled((500, 333), 1) == (500, 333)
    assert scaled((512, 1024), 0.75) == (384, 768)
    assert scaled((512, 512), 1.1) == (576, 576)
    assert scaled((64, 64), 0.01) == (32, 32)


# -------------------------------------------------------------------- windows


@given(length=st.integers(1, 5000), window=st.integers(1, 1500), cells=st.integers(1, 600))
def test_windows_cover_every_cell_evenly_and_overlap_by_a_third(length: int, window: int, cells: int) -> None:
    total, starts = window_starts(length, window, cells)
    assert starts[0] == 0
    assert starts[-1] + cells == total
    gaps = np.diff(starts)
    assert all(0 < gap <= np.ceil(cells * 2 / 3) for gap in gaps)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
    if length <= window:
        assert (total, starts) == (cells, [0])
    else:
        assert (
            abs(total / cells - length / window) <= 0.5 / cells + 1e-9
        )  # the size of things in the window is as asked for


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    window=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    grid=st.tuples(st.integers(4, 40), st.integers(4, 40), st.integers(1, 4), st.integers(1, 4)),
)
def test_windows_put_together_are_the_whole(
    size: tuple[int, int], window: tuple[int, int], grid: tuple[int, int, int, int]
) -> None:
    """Cells that say which they are come back where they were; the pixels of windows lie where their cells do."""
    inputs, cells = grid[:2], (max(1, grid[0] // grid[2]), max(1, grid[1] // grid[3]))
    canvas = Canvas(np.zeros((*size, 3), np.uint8), Grid(inputs, cells), window)
    (high, wide), (h, w) = canvas._cells_hw, cells
    whole = torch.arange(high * wide).float().reshape(1, high, wide)
    for y, x in canvas.places:
        assert canvas.pixels((y, x)).shape == (3, *inputs)
        canvas.add((y, x), whole[:, y : y + h, x : x + w])
        assert abs(canvas._pixel(y, 0) - y * inputs[0] / h) <= 0.5
    torch.testing.assert_close(canvas.take(), whole)


@pytest.mark.parametrize("size_hw", [(64, 64), (65, 200), (190, 129), (64, 1), (1, 64), (150, 40)])
def test_through_windows_as_large_as_its_input_a_model_sees_the_image_as_it_is(size_hw: tuple[int, int]) -> None:
    """No pixel is resized along a side longer than the window; the other one is taken whole, as without windows."""
    loaded = toy((64, 64))
    image = busy_picture(*size_hw, seed=4)
    found = Segmenter(loaded, window="64", batch_size=3).segment(image)
    if min(size_hw) >= 64:
        assert np.array_equal(found, by_color(image, loaded))
    assert found.shape == size_hw
    stretched = np.ascontiguousarray(resize(image, (max(64, size_hw[0]), max(64, size_hw[1]))).permute(1, 2, 0).numpy())
    outputs = loaded.model(
        normalize(torch.from_numpy(stretched.transpose(2, 0, 1).copy())[None], mean=loaded.mean, std=loaded.std)
    ).logits
    expected = torch.nn.functional.interpolate(outputs, size=size_hw, mode="bilinear")[0].argmax(0) + 1
    assert np.array_equal(found, expected.numpy())


@pytest.mark.parametrize("window", ["64x96", "150x201", "1000"])
def test_a_window_that_holds_the_whole_image_changes_nothing(plain: Segmenter, window: str) -> None:
    images = [busy_picture(*size) for size in ((64, 96), (40, 30), (1, 96), (64, 1))]
    images += [busy_picture(150, 201)] if window != "64x96" else []
    through = Segmenter(plain.loaded, window=window)
    for image in images:
        assert np.array_equal(through.segment(image), plain.segment(image))
        (found,), (expected,) = through.segment_with_confidence([image]), plain.segment_with_confidence([image])
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_windows_are_averaged_as_mmsegmentation_does(folder: Path) -> None:
    """Its loop over the image at the size of the model's input: upsample, add, count, divide."""
    image = busy_picture(150, 250, seed=7)
    segmenter = Segmenter(folder, device="cpu", window="64x96", batch_size=2)
    found = segmenter.segment(image)
    loaded = segmenter.loaded
    grid = Grid(HW, (16, 24))
    canvas = Canvas(image, grid, (64, 96))
    high, wide = (side * 4 for side in canvas._cells_hw)
    pixels = resize(image, (high, wide))
    total, windows = torch.zeros(5, high, wide), torch.zeros(high, wide)
    for y, x in ((4 * y, 4 * x) for y, x in canvas.places):
        window = pixels[None, :, y : y + 64, x : x + 96]
        with torch.inference_mode():
            outputs = loaded.model(normalize(window, mean=loaded.mean, std=loaded.std)).logits
        total[:, y : y + 64, x : x + 96] += torch.nn.functional.interpolate(outputs, size=HW, mode="bilinear")[0]
        windows[y : y + 64, x : x + 96] += 1
    assert len(canvas.places) == 16
    assert windows.min() == 1
    mean = torch.nn.functional.interpolate((total / windows)[None], size=(150, 250), mode="bilinear")[0]
    assert (found == mean.argmax(0).numpy() + 1).mean() > 0.97  # all but along the borders of windows
    assert (np.roll(found, 3, 1) == mean.argmax(0).numpy() + 1).mean() < 0.95


# -------------------------------------------------------------------- means of views


@pytest.mark.parametrize("outputs", [1, 5, 300])
@pytest.mark.parametrize("size_hw", [(70, 90), (7, 1), (1, 9), (3, 4), (33, 8)])
def test_the_mean_is_that_of_the_probabilities_of_everything_upsampled(
    outputs: int, size_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelsync.model.ways._VALUES", (outputs * size_hw[1] * 3, 1))  # bands of three rows
    generator = torch.Generator().manual_seed(outputs)
    views = [torch.randn(outputs, h, w, generator=generator) * 2 for h, w in ((7, 9), (7, 9), (12, 3), (20, 31))]
    whole = [torch.nn.functional.interpolate(v[None].double(), size=size_hw, mode="bilinear")[0] for v in views]
    mean = torch.stack([w.softmax(0) for w in whole]).mean(0)
    winner, confidence = pick_of_mean(views, size_hw, winner_and_confidence)
    best = mean.topk(min(2, outputs), 0).values
    clear = best[0] - best[-1] > 1e-5 if outputs > 1 else torch.ones(size_hw, dtype=torch.bool)
    assert clear.double().mean() > 0.95
    assert torch.equal(winner.long()[clear], mean.argmax(0)[clear])
    torch.testing.assert_close(confidence.double(), mean.amax(0), rtol=1e-4, atol=1e-6)
    assert winner.dtype == (torch.uint8 if outputs <= 256 else torch.int32)


@pytest.mark.parametrize("cell", [1, 4])
@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_model_that_sees_only_colours_says_the_same_of_one_colour_in_every_way(
    way: dict[str, Any], cell: int
) -> None:
    loaded = toy((64, 96), cell=cell)
    for color in ((0, 0, 0), (255, 0, 40), (7, 200, 90)):
        image = np.full((131, 203, 3), color, np.uint8)
        expected = Segmenter(loaded).segment(image)
        assert len(np.unique(expected)) == 1
        assert np.array_equal(Segmenter(loaded, **way).segment(image), expected)


@pytest.mark.parametrize("cell", [1, 4])
def test_a_model_that_knows_no_left_and_right_says_the_same_of_a_mirrored_image(cell: int) -> None:
    loaded = toy((64, 96), cell=cell)
    for size_hw in ((131, 203), (64, 96), (20, 1), (1, 20)):
        image = busy_picture(*size_hw, seed=2)
        assert np.array_equal(Segmenter(loaded, flip=True).segment(image), Segmenter(loaded).segment(image))


def test_with_flip_what_is_said_of_a_mirrored_image_is_mirrored(folder: Path, plain: Segmenter) -> None:
    image = busy_picture(128, 192, seed=1)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    flipping = Segmenter(folder, device="cpu", flip=True)
    assert (flipping.segment(mirrored)[:, ::-1] == flipping.segment(image)).mean() > 0.999
    assert (plain.segment(mirrored)[:, ::-1] == plain.segment(image)).mean() < 0.97


def test_every_view_is_resized_mirrored_and_weighed_alike(folder: Path) -> None:
    image = busy_picture(110, 140, seed=3)
    segmenter = Segmenter(folder, device="cpu", flip=True, scales=(1.5, 0.5))
    loaded = segmenter.loaded
    mean = torch.zeros(5, 110, 140)
    for size_hw in ((32, 64), (96, 128)):
        pixels = normalize(resize(image, size_hw)[None], mean=loaded.mean, std=loaded.std)
        with torch.inference_mode():
            for view in (loaded.model(pixels).logits, loaded.model(pixels.flip(-1)).logits.flip(-1)):
                mean += torch.nn.functional.interpolate(view, size=(110, 140), mode="bilinear")[0].softmax(0) / 4
    ((found, confidence),) = segmenter.segment_with_confidence([image])
    best = mean.topk(2, 0).values
    clear = (best[0] - best[1] > 1e-4).numpy()
    assert clear.mean() > 0.95  # views that are all but sure and do not agree are a draw
    assert np.array_equal(found[clear], (mean.argmax(0) + 1).numpy()[clear])
    np.testing.assert_allclose(confidence, best[0].numpy(), rtol=1e-4)
    assert confidence.max() <= 1


# -------------------------------------------------------------------- the segmenter


@pytest.mark.parametrize("way", EVERY_WAY)
def test_images_of_all_sizes_in_batches_are_what_they_are_alone(folder: Path, way: dict[str, Any]) -> None:
    images = [busy_picture(*size, seed=i) for i, size in enumerate(((150, 201), (40, 30), (1, 64), (90, 1), (64, 96)))]
    segmenter = Segmenter(folder, device="cpu", batch_size=3, **way)
    together = segmenter.segment_batch(images)
    assert [found.shape for found in together] == [image.shape[:2] for image in images]
    alone = [Segmenter(segmenter.loaded, batch_size=1, **way).segment(image) for image in images]
    sure = segmenter.segment_with_confidence(images)
    there = segmenter.segment_on_device(images)
    for i, found in enumerate(together):
        assert found.dtype == np.uint8
        assert found.min() >= 1
        assert (found == alone[i]).mean() > 0.999  # sums of a batch may round otherwise
        assert (found == sure[i][0]).mean() > 0.999
        assert np.array_equal(found, there[i].numpy())
        assert 0.2 <= sure[i][1].min() <= sure[i][1].max() <= 1  # of five outputs the winner has a fifth
    assert segmenter.segment_batch([]) == []


def test_a_model_that_has_diverged_is_named_whatever_the_way(folder: Path) -> None:
    for way in EVERY_WAY:
        segmenter = Segmenter(folder, device="cpu", **way)
        with torch.no_grad():
            segmenter.loaded.model.get_parameter("decode_head.classifier.bias").fill_(float("nan"))
        with pytest.raises(ModelError, match="not finite"):
            segmenter.segment(busy_picture(120, 120))


def test_training_mode_is_left_before_anything_is_looked_at(folder: Path, plain: Segmenter) -> None:
    loaded = Segmenter(folder, device="cpu").loaded
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    loaded.model.train()
    found = Segmenter(loaded, window="1000").segment(busy_picture(70, 80))
    assert np.array_equal(found, plain.segment(busy_picture(70, 80)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in loaded.model.state_dict().items())


def in_every_way(architecture: str, tmp_path: Path) -> None:
    """What a tiny model of an architecture says in each way, or the line that says why it cannot."""
    tiny_config(architecture).save_pretrained(tmp_path)
    loaded = new_model(tmp_path, numbered(5), image_size=(64, 64), seed=1)
    image = busy_picture(150, 201)
    whole = Segmenter(loaded).segment(image)
    for way in ({"flip": True}, {"window": "100"}, {"flip": True, "window": "64x80"}):
        assert Segmenter(loaded, **way).segment(image).shape == whole.shape
    assert np.array_equal(Segmenter(loaded, window="201").segment(image), whole)
    if architecture == "data2vec-vision":  # its position embeddings are of one size
        with pytest.raises(OptionError, match=r"--scales 1\.5: .* cannot take inputs of 96x96 in place of 64x64") as e:
            Segmenter(loaded, scales=(1.0, 1.5))
        assert "--window" in e.value.hint
        return
    scaling = Segmenter(loaded, flip=True, scales=(1.0, 1.5), window="100")
    ((found, confidence),) = scaling.segment_with_confidence([image])
    assert found.shape == whole.shape
    assert found.min() >= 1
    assert confidence.min() >= 0.2 - 1e-6


@pytest.mark.parametrize("architecture", ["segformer", "data2vec-vision"])
def test_an_architecture_in_every_way(architecture: str, tmp_path: Path) -> None:
    in_every_way(architecture, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted({*ARCHITECTURES} - {"segformer", "data2vec-vision"}))
def test_every_architecture_in_every_way(architecture: str, tmp_path: Path) -> None:
    in_every_way(architecture, tmp_path)
