"""Pictures for tiny models: blobs of colour, so that neighbouring pixels have to do with each other."""

import numpy as np
import numpy.typing as npt
from PIL import Image

RGB = npt.NDArray[np.uint8]


def picture(seed: int, size_hw: tuple[int, int] = (70, 90), *, blobs: tuple[int, int] = (6, 8)) -> RGB:
    """(H, W, 3) uint8: rows and columns of `blobs`, another picture for every seed."""
    small = np.random.default_rng(seed).integers(0, 256, (*blobs, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(size_hw[::-1], Image.Resampling.BICUBIC))


def busy_picture(height: int, width: int, seed: int = 0) -> RGB:
    """Enough going on for all classes, smooth enough for borders to lie between pixels."""
    return picture(seed, (height, width), blobs=(max(2, height // 12), max(2, width // 12)))
