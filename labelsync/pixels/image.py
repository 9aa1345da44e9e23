"""Image bytes <-> arrays, in the frame people draw in: EXIF orientation applied."""

import io
from dataclasses import dataclass
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from labelsync.errors import BitmapError
from labelsync.pixels.jpeg import decode_jpeg, outline_of
from labelsync.pixels.opening import opened
from labelsync.pixels.png import decode_png, encode_grey

_ORIENTATION = 0x0112  # in EXIF
_MAY_TURN = (b"eXIf", b"adobe.xmp", b"Raw profile")  # where a PNG may say so; Pillow would decode it to look
REDUCTIONS = (1, 2, 4, 8)  # what libjpeg reduces by fast

ImageLike = npt.NDArray[np.uint8] | bytes | Image.Image | str | PathLike[str]
"""An (H, W, 3) uint8 RGB array, image file bytes, a Pillow image, or a path."""


def as_array(image: ImageLike) -> npt.NDArray[np.uint8]:
    """Whatever holds an image -> (H, W, 3) uint8 RGB, EXIF applied. Raises BitmapError."""
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise BitmapError(f"an image is an (H, W, 3) uint8 array, not {image.shape} {image.dtype}")
        return image
    if isinstance(image, bytes):
        return decode_image(image)
    if isinstance(image, Image.Image):
        return rgb(image)
    try:
        return decode_image(Path(image).read_bytes())
    except OSError as e:
        raise BitmapError(f"{image} cannot be read ({e.strerror or e})") from None


def decode_image(data: bytes) -> npt.NDArray[np.uint8]:
    """Image file bytes -> (H, W, 3) uint8 RGB, EXIF orientation applied.

    Grey, palette, CMYK and alpha images become RGB (transparent pixels keep their colour). 16-bit grey is scaled to 8
    bits, unless no value needs more.

    Raises:
        BitmapError: not an image, cut short, or of floating-point numbers.
    """
    return decode_reduced(data, step=1).pixels


@dataclass(frozen=True, eq=False)
class Reduced:
    """An image with fewer pixels than its file.

    Attributes:
        pixels: (h, w, 3) uint8 RGB.
        step: pixel (y, x) covers those from (y step, x step) to below (y step + step, x step + step) of the image; the
            last row and column may reach beyond it.
        size_hw: (H, W) of the image.
    """

    pixels: npt.NDArray[np.uint8]
    step: int
    size_hw: tuple[int, int]


def decode_reduced(data: bytes, *, step: float) -> Reduced:
    """Image file bytes -> RGB as `decode_image`, a JPEG at 1, 1/2, 1/4 or 1/8 of its size.

    A JPEG can be decoded to fewer pixels at once, each near the mean of those it covers.

    Args:
        step: the largest that will do; 1 and less is the whole image.

    Raises:
        BitmapError: not an image, or cut short.
    """
    with opened(data) as image:
        width, height = image.size
        taken = max((n for n in REDUCTIONS if n <= min(step, width, height)), default=1)
        taken = taken if image.format == "JPEG" else 1
        size_hw = _size_hw(image) if taken > 1 else None
        if (pixels := _quickly(data, image, taken)) is None:
            if taken > 1:
                image.draft(image.mode, (width // taken, height // taken))
            pixels = rgb(image)
        return Reduced(pixels, taken, size_hw or (pixels.shape[0], pixels.shape[1]))


def _quickly(data: bytes, image: Image.Image, step: int) -> npt.NDArray[np.uint8] | None:
    """`rgb` of a common upright JPEG or PNG, in less time; None for the others, and for damaged ones."""
    if image.format == "JPEG":
        return decode_jpeg(data, image, step=step) if image.getexif().get(_ORIENTATION, 1) == 1 else None
    if any(name in data for name in _MAY_TURN) or (pixels := decode_png(data, image)) is None:
        return None
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, 2)
    return np.ascontiguousarray(pixels[..., :3])


def rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    """A PIL image -> (H, W, 3) uint8 RGB, as `decode_image` does it."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or upright.mode == "I":
        wide = np.asarray(upright).astype(np.int64).clip(0, 65535)
        upright = Image.fromarray((wide >> (8 if wide.max(initial=0) > 255 else 0)).astype(np.uint8))
    if upright.mode == "F":  # Pillow cuts them off at 0 and 255: of 0 to 1 all would be black
        raise BitmapError("its values are floating-point numbers, and it does not say which of them is white")
    if upright.mode == "P":  # Pillow warns of a transparent palette that becomes RGB at once
        upright = upright.convert("RGBA")
    return np.asarray(upright.convert("RGB"))


def grey_step(data: bytes) -> int:
    """What Pillow multiplies the numbers of a one-channel PNG with: 85 or 17 of 2 or 4 bits, which it stretches to 8.

    Args:
        data: a PNG that Pillow has opened.

    Raises:
        BitmapError: 16 bits in several channels, of which Pillow drops the lower eight.
    """
    bits, kind = (data[24], data[25]) if data[12:16] == b"IHDR" else (8, 0)
    if bits == 16 and kind != 0:
        raise BitmapError("a bitmap of several channels has 8 bits in each, this one has 16")
    return {2: 85, 4: 17}.get(bits, 1) if kind == 0 else 1


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) of image file bytes in the decoded frame; pixels are read only where the EXIF stands after them.

    Raises:
        BitmapError: not an image.
    """
    with opened(data) as image:
        return _size_hw(image)


def require_whole(data: bytes) -> tuple[int, int]:
    """(height, width) in the decoded frame of an image that can be decoded to its end.

    A JPEG of the common kinds is walked through marker by marker and its outline decoded, which costs a tenth of
    decoding it; the others are decoded, rarer JPEGs at an eighth of their size.

    Raises:
        BitmapError: not an image, cut short, or of a kind whose header can be read and whose pixels cannot.
    """
    with opened(data) as image:
        size_hw = _size_hw(image)
        if image.format == "JPEG" and (outline := outline_of(data)) is not None:
            _require_sound(outline)
        elif decode_png(data, image) is None:
            width, height = image.size
            image.draft(image.mode, (max(1, width // 8), max(1, height // 8)))  # reads all and does a third less
            image.load()
        return size_hw


@lru_cache(maxsize=256)  # the images of a camera have the same tables
def _require_sound(outline: bytes) -> None:
    """Raises whatever Pillow raises for a tiny JPEG of these tables; only the sound ones are remembered."""
    with Image.open(io.BytesIO(outline)) as tables:
        tables.load()


def encode_png(array: npt.NDArray[Any], *, level: int = 6) -> bytes:
    """(H, W) uint8 or uint16, or (H, W, 3|4) uint8 -> PNG bytes, the same for the same array.

    Args:
        level: of compression, for colours; ids and classes have a way of their own, see `encode_grey`.
    """
    if array.ndim == 2 and array.dtype in (np.uint8, np.uint16):
        return encode_grey(array)
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(out, "PNG", compress_level=level)
    return out.getvalue()


def encode_jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG bytes for people to look at; colours keep their full resolution, as text needs it."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90, subsampling=0)
    return out.getvalue()


def _size_hw(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    if image.format == "TIFF":  # Pillow turns these itself, and has done so in `size`
        return height, width
    return (width, height) if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8) else (height, width)
