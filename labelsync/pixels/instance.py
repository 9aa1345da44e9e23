"""Instance bitmaps: Segments.ai's PNGs <-> ids.

A pixel's id is R + 256 G + 65536 B; alpha is 255 and means nothing; 0 = unlabeled.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelsync.errors import BitmapError
from labelsync.pixels.image import encode_png, grey_step, opened
from labelsync.pixels.png import decode_png

MAX_INSTANCE_ID = (1 << 24) - 1


def decode_instance_bitmap(data: bytes) -> npt.NDArray[np.uint32]:
    """PNG bytes -> (H, W) uint32 instance ids, 0 = unlabeled.

    RGBA is what the platform writes. RGB and palette files are what optimisers make of it (same colours, same ids). A
    single channel of 1 to 16 bits holds the ids themselves, as the SDK's own cache wrote them. Transparency means
    nothing in any of them.

    Raises:
        BitmapError: not a PNG, cut short, or of another pixel format.
    """
    with opened(data) as image:
        if image.format != "PNG":
            raise BitmapError(f"a bitmap is a PNG, this is {image.format}")
        pixels = decode_png(data, image)
        if pixels is not None:
            return pixels.astype(np.uint32) if pixels.ndim == 2 else _ids_of_colors(pixels)
        step = grey_step(data)
        ids = ids_of_image(image)
        if step > 1:
            ids //= np.uint32(step)
        return ids


def ids_of_image(image: Image.Image) -> npt.NDArray[np.uint32]:
    """An open image, of any file format -> (H, W) uint32 instance ids; see `decode_instance_bitmap`.

    Raises:
        BitmapError: of another pixel format, or with a negative id.
    """
    if image.mode in ("RGBA", "RGB"):
        return _ids_of_colors(np.asarray(image))
    if image.mode == "P":
        colors = np.zeros((256, 3), np.uint8)
        listed = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
        colors[: len(listed)] = listed
        found: npt.NDArray[np.uint32] = _ids_of_colors(colors)[np.asarray(image)]
        return found
    if image.mode == "LA":
        return np.asarray(image)[..., 0].astype(np.uint32)
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        ids = np.asarray(image)
        if ids.size and int(ids.min()) < 0:
            raise BitmapError(f"an instance id is not negative, and one is {int(ids.min())}")
        return ids.astype(np.uint32)
    raise BitmapError(f"a bitmap is an RGBA PNG, this one is of mode {image.mode}")


def encode_instance_bitmap(ids: npt.NDArray[Any]) -> bytes:
    """(H, W) integer ids -> RGBA PNG bytes as Segments.ai writes them. Raises BitmapError for ids over 2^24 - 1."""
    if ids.size and (int(ids.max()) > MAX_INSTANCE_ID or int(ids.min()) < 0):
        raise BitmapError(f"instance ids are 0 to {MAX_INSTANCE_ID}, not {int(ids.min())} to {int(ids.max())}")
    rgba = np.ascontiguousarray(ids.astype("<u4")).view(np.uint8).reshape(*ids.shape, 4).copy()
    rgba[..., 3] = 255
    return encode_png(rgba)


def _ids_of_colors(colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """(..., 3|4) -> (...) ids: four bytes are a little-endian number with alpha on top."""
    if colors.shape[-1] == 3:
        rgba = np.empty((*colors.shape[:-1], 4), np.uint8)
        rgba[..., :3] = colors
        colors = rgba
    ids: npt.NDArray[np.uint32] = np.ascontiguousarray(colors).view("<u4")[..., 0]
    ids = np.bitwise_and(ids, MAX_INSTANCE_ID, out=ids if ids.flags.writeable else None)
    return ids.astype(np.uint32, copy=False)
