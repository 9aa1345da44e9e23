"""Image bytes <-> arrays, in the frame people draw in: EXIF orientation applied."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from labelsync.errors import BitmapError


def decode_image(data: bytes) -> npt.NDArray[np.uint8]:
    """Image file bytes -> (H, W, 3) uint8 RGB, EXIF orientation applied.

    Grey, palette, CMYK and alpha images become RGB (transparent pixels keep their colour); 16-bit grey is scaled to 8.

    Raises:
        BitmapError: not an image, or cut short.
    """
    with opened(data) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16") or upright.mode == "I":
            wide = np.asarray(upright).astype(np.uint32)
            upright = Image.fromarray((wide >> (8 if wide.max(initial=0) > 255 else 0)).astype(np.uint8))
        return np.asarray(upright.convert("RGB"))


def image_size(data: bytes) -> tuple[int, int]:
    """(height, width) of image file bytes in the decoded frame, from the header alone."""
    with opened(data) as image:
        width, height = image.size
        return (width, height) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (height, width)


def encode_png(array: npt.NDArray[Any], *, level: int = 6) -> bytes:
    """(H, W) uint8 or uint16, or (H, W, 3|4) uint8 -> PNG bytes, the same for the same array."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(out, "PNG", compress_level=level)
    return out.getvalue()


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """A PIL image over bytes; every way Pillow fails inside the block is a BitmapError."""
    try:
        with warnings.catch_warnings():
            # The size was labelled by people on purpose; Pillow's own hard limit (twice this) still holds.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                yield image
    except BitmapError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise BitmapError(_reason(data, e)) from None


def _reason(data: bytes, error: Exception) -> str:
    """Why these bytes are no image, in words that tell an HTML error page from a cut file."""
    if not data:
        return "the file is empty"
    start = data[:256].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<error")):
        return "it is an HTML or XML page, not an image"
    if "truncated" in str(error) or "broken" in str(error) or "unexpected end" in str(error):
        return f"the image is cut short ({error})"
    return "it is not an image that Pillow can read"
