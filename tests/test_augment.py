"""Augmentation: keyed draws, pixels and label moved together, no label invented."""

import random
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torchvision.transforms.v2 import functional

from labelsync.model.preprocess import resize
from labelsync.training.augment import Draw, apply, draw, settled
from labelsync.training.knobs import Augment
from tests.training import VARIED, drawn

GREY = (124, 116, 104)

LABEL = np.array(
    [
        [1, 1, 2, 2],
        [1, 1, 2, 2],
        [3, 3, 4, 4],
        [3, 3, 4, 5],
    ],
    np.uint8,
)
# The image says the same as the label, so that after any move the two can be compared.
IMAGE = np.repeat(LABEL[..., None] * 40, 3, 2)


def seen(drawn: Draw, size_hw: tuple[int, int] = (4, 4)) -> tuple[list[list[int]], list[list[int]]]:
    """Image (as label numbers) and label after a draw."""
    pixels, ids = apply(IMAGE, LABEL, drawn, size_hw=size_hw, fill=(0, 0, 0))
    return (pixels[0].numpy() // 40).tolist(), ids.tolist()


# -------------------------------------------------------------------- the draw


def test_a_draw_depends_on_its_key_alone() -> None:
    random.seed(1)
    first = [draw(VARIED, seed=3, epoch=e, index=i) for e in range(3) for i in range(20)]
    random.seed(2)
    torch.manual_seed(2)
    again = [draw(VARIED, seed=3, epoch=e, index=i) for i in range(19, -1, -1) for e in (2, 1, 0)]
    assert sorted(map(repr, first)) == sorted(map(repr, again))
    assert len(set(first)) == 60


def test_a_draw_leaves_every_global_generator_alone() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    image, label = drawn(0)
    apply(image, label, draw(VARIED, seed=0, epoch=0, index=0), size_hw=(32, 32), fill=GREY)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


@pytest.mark.parametrize("part", ["seed", "epoch", "index"])
def test_every_part_of_the_key_matters(part: str) -> None:
    key = {"seed": 0, "epoch": 0, "index": 0}
    assert draw(VARIED, **key) != draw(VARIED, **(key | {part: 1}))


def test_nothing_is_varied_by_default() -> None:
    drawn_ = draw(Augment(), seed=0, epoch=0, index=0)
    assert (drawn_.flip, drawn_.scale, drawn_.aspect, drawn_.color) == (False, 1.0, 1.0, ())


def test_draws_fill_their_bounds() -> None:
    draws = [draw(VARIED, seed=0, epoch=0, index=i) for i in range(2000)]
    scales = np.array([d.scale for d in draws])
    assert 0.5 <= scales.min() < 0.52 and 1.93 < scales.max() <= 2.0
    assert 0.45 < (scales > 1).mean() < 0.55  # as often nearer as farther
    assert 0.45 < np.mean([d.flip for d in draws]) < 0.55
    brightness, contrast, saturation, hue = (np.array([dict(d.color)[i] for d in draws]) for i in range(4))
    for factor in (brightness, contrast, saturation):
        assert 0.8 <= factor.min() < 0.81 and 1.19 < factor.max() <= 1.2
    assert -0.05 <= hue.min() < -0.049 and 0.049 < hue.max() <= 0.05
    assert {next(i for i, _ in d.color) for d in draws} == {0, 1, 2, 3}  # in any order


# -------------------------------------------------------------------- the application


def test_no_variation_is_the_resize_of_evaluation() -> None:
    image, label = drawn(7, size_hw=(37, 53))
    pixels, ids = apply(image, label, Draw(), size_hw=(24, 32), fill=GREY)
    assert torch.equal(pixels, resize(image, (24, 32)))
    nearest = functional.resize(
        torch.from_numpy(label)[None], [24, 32], interpolation=functional.InterpolationMode.NEAREST_EXACT
    )
    assert np.array_equal(ids, nearest[0].numpy())


def test_a_flip_mirrors_image_and_label() -> None:
    image, label = seen(Draw(flip=True))
    assert label == image == LABEL[:, ::-1].tolist()


@pytest.mark.parametrize(("top", "left", "expected"), [(0, 0, 1), (0, 1, 2), (1, 0, 3), (0.5, 0.5, None)])
def test_zooming_in_shows_a_part_of_both(top: float, left: float, expected: int | None) -> None:
    image, label = seen(Draw(scale=2.0, top=top, left=left))
    middle = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    assert label == ([[expected] * 4] * 4 if expected else middle)
    assert expected is None or image == label


def test_zooming_out_pads_with_ignored_pixels() -> None:
    pixels, ids = apply(IMAGE, LABEL, Draw(scale=0.5, top=0, left=1), size_hw=(8, 8), fill=GREY)
    assert np.array_equal(ids[:4, 4:], LABEL)
    assert torch.equal(pixels[0, :4, 4:], torch.from_numpy(IMAGE[..., 0]))
    outside = np.ones((8, 8), bool)
    outside[:4, 4:] = False
    assert not ids[outside].any()
    assert all((pixels[c].numpy()[outside] == GREY[c]).all() for c in range(3))


def test_a_wide_crop_can_be_padded_along_one_side_only() -> None:
    _, ids = apply(IMAGE, LABEL, Draw(aspect=4.0, top=0, left=0), size_hw=(4, 4), fill=GREY)
    assert ids.tolist() == [[1, 2, 0, 0]] * 4  # twice as wide as the image, half as high


def test_labels_above_255_stay_what_they_are() -> None:
    label = LABEL.astype(np.uint16) * 1000
    _, ids = apply(IMAGE, label, Draw(scale=0.7), size_hw=(9, 11), fill=GREY)
    assert ids.dtype == np.uint16
    assert set(np.unique(ids)) <= {0, 1000, 2000, 3000, 4000, 5000}


def test_colour_changes_pixels_and_not_labels() -> None:
    image, label = drawn(1)
    plain, _ = apply(image, label, Draw(), size_hw=(32, 32), fill=GREY)
    for kind, value in enumerate((1.2, 0.8, 1.5, 0.1)):
        varied, ids = apply(image, label, Draw(color=((kind, value),)), size_hw=(32, 32), fill=GREY)
        assert varied.dtype == torch.uint8
        assert not torch.equal(varied, plain)
        assert np.array_equal(ids, apply(image, label, Draw(), size_hw=(32, 32), fill=GREY)[1])


def test_colour_leaves_the_padding_at_its_colour() -> None:
    pixels, ids = apply(IMAGE, LABEL, Draw(scale=0.5, color=((0, 1.2), (1, 0.7))), size_hw=(8, 8), fill=GREY)
    assert all((pixels[c].numpy()[ids == 0] == GREY[c]).all() for c in range(3))


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    size_hw=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    index=st.integers(0, 10_000),
)
def test_any_size_gives_the_asked_size_and_only_ids_that_were_there(
    height: int, width: int, size_hw: tuple[int, int], index: int
) -> None:
    rng = np.random.default_rng(index)
    label = rng.integers(1, 6, (height, width)).astype(np.uint8)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    wild = Augment(flip=0.5, scale=(0.1, 10), aspect=(0.1, 10))
    pixels, ids = apply(image, label, draw(wild, seed=0, epoch=0, index=index), size_hw=size_hw, fill=GREY)
    assert pixels.shape == (3, *size_hw) and pixels.dtype == torch.uint8
    assert ids.shape == size_hw and ids.dtype == np.uint8
    assert set(np.unique(ids)) <= set(np.unique(label)) | {0}
    assert ids.any()


# -------------------------------------------------------------------- crops without a class that fills them

ROAD = np.full((40, 40), 1, np.uint8)
ROAD[:10, :10] = 2  # something else in one corner only
LIMITED = Augment(flip=0.5, scale=(2.0, 2.0), hue=0.1, max_class_share=0.9)


def share(label: np.ndarray, place: Draw) -> float:
    """The largest share of a class in the crop, counted on the crop itself."""
    _, ids = apply(np.zeros((*label.shape, 3), np.uint8), label, place, size_hw=(20, 20), fill=GREY)
    counts = np.bincount(ids.reshape(-1), minlength=3)[1:]
    return float(counts.max() / counts.sum())


def test_a_limit_changes_nothing_else_of_the_draw() -> None:
    for index in range(20):
        free = draw(replace(LIMITED, max_class_share=1.0), seed=0, epoch=0, index=index)
        limited = draw(LIMITED, seed=0, epoch=0, index=index)
        assert replace(limited, others=()) == free and len(limited.others) == 9
        assert settled(free, ROAD, most=0.9) == free


def test_a_crop_of_one_class_alone_is_laid_elsewhere() -> None:
    moved = kept = 0
    for index in range(200):
        first = draw(LIMITED, seed=0, epoch=0, index=index)
        place = settled(first, ROAD, most=0.9)
        places = [(first.top, first.left), *first.others]
        shares = [share(ROAD, replace(first, top=t, left=left)) for t, left in places]
        good = [p for p, s in zip(places, shares, strict=True) if s <= 0.9]
        assert (place.top, place.left) == (good[0] if good else places[int(np.argmin(shares))])
        moved += (place.top, place.left) != places[0]
        kept += (place.top, place.left) == places[0]
        assert settled(first, ROAD, most=0.9) == place
    assert moved > 50 and kept > 10


def test_where_there_is_no_better_place_the_first_is_taken() -> None:
    for label in (np.ones((40, 40), np.uint8), np.zeros((40, 40), np.uint8)):
        first = draw(LIMITED, seed=0, epoch=0, index=0)
        assert settled(first, label, most=0.75) == first
    whole = draw(replace(LIMITED, scale=(0.5, 0.5)), seed=0, epoch=0, index=0)  # the padding moves, the image is whole
    assert settled(whole, ROAD, most=0.75) == whole


@given(height=st.integers(1, 300), width=st.integers(1, 300), index=st.integers(0, 1000))
def test_any_label_has_a_place(height: int, width: int, index: int) -> None:
    label = np.random.default_rng(index).integers(0, 4, (height, width)).astype(np.uint8)
    limited = Augment(scale=(0.1, 10), aspect=(0.1, 10), max_class_share=0.5)
    place = settled(draw(limited, seed=0, epoch=0, index=index), label, most=0.5)
    _, ids = apply(np.zeros((height, width, 3), np.uint8), label, place, size_hw=(8, 8), fill=GREY)
    assert ids.shape == (8, 8)
