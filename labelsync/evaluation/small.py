"""Images and bitmaps small enough to keep of every image, and large enough to look at. Needs no torch."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelsync.pixels.overlay import RGB

SIDE = 640

Bitmap = npt.NDArray[Any]


def prediction_file(folder: Path, image: int) -> Path:
    """Where an evaluation folder has its small prediction of an image: its line in images.jsonl, counted from 0."""
    return folder / "predictions" / f"{image:05d}.png"


def smaller(bitmap: Bitmap) -> Bitmap:
    """A bitmap at most `SIDE` pixels high and wide."""
    return nearest(bitmap, small_size(bitmap.shape))


def small_jpeg(image: RGB) -> bytes:
    """An image at most `SIDE` pixels high and wide, as a JPEG file."""
    file = io.BytesIO()
    size = small_size(image.shape[:2])[::-1]
    Image.fromarray(image).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return file.getvalue()


def small_size(size_hw: tuple[int, ...]) -> tuple[int, int]:
    """The size of what is kept of an image of that size."""
    height, width = size_hw
    scale = min(1.0, SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def nearest(bitmap: Bitmap, size_hw: tuple[int, int]) -> Bitmap:
    """A bitmap at another size; each pixel has the class in the middle of what it covers."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(size_hw, bitmap.shape, strict=True)
    )
    chosen: Bitmap = bitmap[rows[:, None], columns]
    return chosen
