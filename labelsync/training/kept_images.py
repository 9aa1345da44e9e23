"""Decoded images on disk, so that an image is decoded once and not once an epoch (`--cache-images`).

DIR/ab/abcd....image    one file per image and reduction: a head of 32 bytes, then the pixels, mapped into memory

A file is found by the SHA-256 of what it was made from: the bytes of the image file, the reduction, and the versions of
the decoders. So an image that was changed is another one, and nothing in the folder is ever out of date. A run with the
folder gives what it gives without. Labels are not kept: a PNG of classes is decoded in half a millisecond.
"""

import hashlib
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import features

from labelsync.errors import OutputError
from labelsync.pixels.image import REDUCTIONS, Reduced, decode_reduced
from labelsync.store.files import replacing

_HEAD = struct.Struct("<8s6I")
_MAGIC = b"LSIMAGE1"


@dataclass(frozen=True)
class KeptImages:
    """Decoded images below `folder`. Any number of processes and runs may share it."""

    folder: Path

    def read(self, data: bytes, *, step: float) -> Reduced:
        """`decode_reduced`, of which this returns the very pixels; they are read-only.

        Raises:
            BitmapError: as `decode_reduced`.
            OutputError: an image cannot be written into the folder.
        """
        # only a JPEG is reduced, the same for all steps between two of the possible ones
        step = max((n for n in REDUCTIONS if n <= step), default=1) if data[:2] == b"\xff\xd8" else 1
        path = self._path(data, step)
        if (there := _mapped(path)) is not None:
            return there
        image = decode_reduced(data, step=step)
        try:
            _write(path, image)
        except OSError as e:
            raise OutputError(
                f"a decoded image cannot be written below {self.folder} ({e.strerror or e})",
                hint="make room, give another folder, or train without --cache-images",
            ) from None
        return image

    def summary(self) -> str:
        """How much is in the folder."""
        sizes = [path.stat().st_size for path in self.folder.glob("*/*.image")]
        return f"decoded images: {len(sizes):,} ({sum(sizes) / 1e6:,.1f} MB) in {self.folder}"

    def _path(self, data: bytes, step: int) -> Path:
        key = hashlib.sha256(data)
        key.update(f"{_decoders()} step {step}".encode())
        name = key.hexdigest()
        return self.folder / name[:2] / f"{name}.image"


def kept_in(folder: str | Path | None) -> KeptImages | None:
    """Images kept in a folder, None where there is to be none."""
    return KeptImages(Path(folder).expanduser().resolve()) if folder else None


@cache
def _decoders() -> str:
    """What decodes, with versions: another one might give other pixels."""
    jpeg = features.version_feature("libjpeg_turbo")  # type: ignore[no-untyped-call]
    return f"{_MAGIC.decode()} pillow {version('pillow')} jpeg {jpeg} simplejpeg {version('simplejpeg')}"


def _mapped(path: Path) -> Reduced | None:
    """The image in a file; None where there is none, or one that somebody cut short."""
    try:
        with path.open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # ValueError: it is empty
        return None
    if len(memory) < _HEAD.size:
        return None
    magic, step, full_height, full_width, height, width, _ = _HEAD.unpack_from(memory)
    if magic != _MAGIC or len(memory) != _HEAD.size + height * width * 3:
        return None
    pixels = np.frombuffer(memory, np.uint8, offset=_HEAD.size).reshape(height, width, 3)
    return Reduced(pixels, step, (full_height, full_width))


def _write(path: Path, image: Reduced) -> None:
    shape: Sequence[int] = image.pixels.shape
    head = _HEAD.pack(_MAGIC, image.step, *image.size_hw, shape[0], shape[1], 0)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(head)
        file.write(np.ascontiguousarray(image.pixels).data)
