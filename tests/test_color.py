"""The colour jitter in one pass: torchvision's numbers, within what its docstring says."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torchvision.transforms.v2 import functional

from labelsync.training import color
from labelsync.training.color import BRIGHTNESS, CONTRAST, HUE, SATURATION, Change, vary_color
from tests.training import drawn

THEIRS = (
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
    functional.adjust_hue,
)


def theirs(image: np.ndarray, changes: list[Change]) -> np.ndarray:
    """torchvision's operators, one after the other."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
    for kind, value in changes:
        pixels = THEIRS[kind](pixels, value)
    return pixels.numpy()


def noise(seed: int, shape: tuple[int, int] = (61, 47)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other.astype(int))


@given(kind=st.sampled_from([BRIGHTNESS, CONTRAST, SATURATION]), factor=st.floats(0, 2), seed=st.integers(0, 999))
def test_a_factor_differs_from_torchvisions_by_a_level_at_most(kind: int, factor: float, seed: int) -> None:
    image = noise(seed)
    assert apart(vary_color(image, [(kind, factor)]), theirs(image, [(kind, factor)])).max() <= 1


@given(shift=st.floats(-0.5, 0.5), seed=st.integers(0, 999))
def test_a_shift_of_hue_differs_from_torchvisions_by_a_level_at_most(shift: float, seed: int) -> None:
    image = noise(seed)
    differences = apart(vary_color(image, [(HUE, shift)]), theirs(image, [(HUE, shift)]))
    assert differences.max() <= 1
    assert (differences > 0).mean() < 0.02


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)])
def test_all_four_in_any_order_stay_with_torchvisions(order: tuple[int, ...]) -> None:
    values = {BRIGHTNESS: 1.2, CONTRAST: 0.8, SATURATION: 1.25, HUE: 0.1}
    changes = [(kind, values[kind]) for kind in order]
    for image in (noise(1, (128, 128)), drawn(3)[0]):
        differences = apart(vary_color(image, changes), theirs(image, changes))
        assert differences.max() <= 4
        assert (differences > 1).mean() < 0.01


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_grey_has_no_hue_and_no_saturation(level: int) -> None:
    image = np.full((3, 5, 3), level, np.uint8)
    assert (vary_color(image, [(HUE, 0.3)]) == level).all()
    assert apart(vary_color(image, [(SATURATION, 0.5)]), np.full((3, 3, 5), level)).max() <= 1


@pytest.mark.parametrize("rgb", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)])
@pytest.mark.parametrize("sixths", [-3, -2, -1, 0, 1, 2, 3])
def test_pure_colours_turn_into_pure_colours(rgb: tuple[int, int, int], sixths: int) -> None:
    image = np.array([[rgb]], np.uint8)
    changes = [(HUE, sixths / 6)]
    assert apart(vary_color(image, changes), theirs(image, changes)).max() <= 1


def test_a_large_image_is_the_sum_of_its_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(5)
    changes = [(BRIGHTNESS, 0.9), (HUE, -0.1), (CONTRAST, 1.3), (SATURATION, 0.7)]
    whole = vary_color(image, changes)
    monkeypatch.setattr(color, "_CHUNK", 100)
    assert np.array_equal(vary_color(image, changes), whole)


def test_the_image_is_left_alone_and_may_be_a_view() -> None:
    image = noise(2)
    before = image.copy()
    view = image[3:-2, ::-1]
    varied = vary_color(view, [(HUE, 0.2), (BRIGHTNESS, 1.5)])
    assert np.array_equal(image, before)
    assert np.array_equal(varied, vary_color(view.copy(), [(HUE, 0.2), (BRIGHTNESS, 1.5)]))
    assert np.array_equal(vary_color(image, []), image.transpose(2, 0, 1))
    assert not np.shares_memory(vary_color(image[:1, :1], []), image)
