"""Image files as Pillow opens them, with every way it fails told in one. No arrays: a pull needs none."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from labelsync.errors import BitmapError

# People labelled images of that size on purpose; Pillow's hard limit (twice this) still holds. Set once and for all:
# `warnings.catch_warnings` around every open would not be safe in threads.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """A PIL image over bytes; every way Pillow fails inside the block is a BitmapError."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            yield image
    except (BitmapError, MemoryError):
        raise
    except Exception as e:  # noqa: BLE001 - on a broken file Pillow raises struct.error, KeyError, zlib.error and others
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
    if isinstance(error, Image.DecompressionBombError):
        return str(error)
    return "it is not an image that Pillow can read"
