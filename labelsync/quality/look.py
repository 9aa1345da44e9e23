"""One sample at a time: what its image is, what its label says, and what is wrong with either."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelsync.errors import BitmapError
from labelsync.pixels.image import decode_image, image_size, opened, rgb
from labelsync.pixels.instance import decode_instance_bitmap
from labelsync.pixels.semantic import decode_semantic, instance_classes, to_semantic
from labelsync.quality.labelled import Bounds, LabelCounts, count_instances, count_semantic, count_shapes
from labelsync.quality.likeness import GREY_SIZE, Hashes, perceptual_hash
from labelsync.quality.subject import Content, Subject
from labelsync.records.findings import Finding
from labelsync.store.files import sha256

_ORIENTATION = 0x0112  # the EXIF tag
_FORMATS = {"L": "grey", "1": "black and white", "P": "palette", "CMYK": "CMYK", "RGB": "RGB", "F": "float grey"}


@dataclass(frozen=True)
class ImageFacts:
    """An image that can be read.

    Attributes:
        digest: SHA-256 of the file.
        size_hw: height and width in the decoded frame.
        format: what its pixels are: "RGB", "grey", "16-bit grey", "RGB with alpha", ...
        orientation: of the EXIF, 1 = upright or none.
        bits: its perceptual hash, (4,) uint64.
        is_reduced: whether it was hashed at a fraction of its size, as a large JPEG is.
    """

    digest: str
    size_hw: tuple[int, int]
    format: str
    orientation: int
    bits: Hashes
    is_reduced: bool = False


@dataclass(frozen=True)
class Seen:
    """What is kept of a sample: no pixel of it. `image` is None where it cannot be read; `has_shapes` = a label of
    polygons or boxes, whose pixels were not counted."""

    index: int
    split: str
    name: str
    uuid: str
    image: ImageFacts | None
    findings: tuple[Finding, ...] = ()
    has_shapes: bool = False


def look(subject: Subject, index: int, bounds: Bounds) -> tuple[Seen, LabelCounts | None]:
    """Look at one sample; its counts are None where the label cannot be read."""
    content = subject.read(index)
    findings: list[Finding] = []
    image: ImageFacts | None = None
    try:
        image = image_facts(_given(content.image))
    except BitmapError as e:
        findings.append(Finding("broken-image", "error", f"its image {_after(e)}"))
    counts: LabelCounts | None = None
    try:
        counts = _counts(content, subject, bounds, image.size_hw if image else None)
        findings += counts.findings
    except BitmapError as e:
        findings.append(Finding("broken-bitmap", "error", f"its bitmap {_after(e)}"))
    split = content.split if subject.stage == "convert" else ""
    named = tuple(replace(f, split=split, name=content.name, uuid=content.uuid) for f in findings)
    has_shapes = counts is not None and content.label is None and bool(content.annotations)
    return Seen(index, content.split, content.name, content.uuid, image, named, has_shapes), counts


def image_facts(data: bytes) -> ImageFacts:
    """Facts of image file bytes; every byte is decoded, a JPEG at a fraction of its size.

    Raises:
        BitmapError: not an image, or cut short.
    """
    size_hw = image_size(data)
    with opened(data) as image:
        kind, orientation = _format(image), int(image.getexif().get(_ORIENTATION, 1))
        whole = image.size
        image.draft(image.mode, (4 * GREY_SIZE, 4 * GREY_SIZE))
        is_reduced = image.size != whole
        bits = perceptual_hash(Image.fromarray(rgb(image)))
    return ImageFacts(sha256(data), size_hw, kind, orientation, bits, is_reduced)


def pixel_digest(subject: Subject, index: int) -> str:
    """Digest of the decoded image at full size; the same for two files that show the very same pixels."""
    array = decode_image(_given(subject.read(index).image))
    return sha256(f"{array.shape}".encode() + array.tobytes())


def semantic(subject: Subject, index: int) -> npt.NDArray[Any] | None:
    """(H, W) disk ids of a sample's label; None where it has none, or one that cannot be read."""
    content = subject.read(index)
    try:
        if content.label is None:
            return None
        data = _given(content.label)
        if content.annotations is None:
            return decode_semantic(data)
        classes = instance_classes(
            ((a.id, a.category_id) for a in content.annotations), subject.labels.category_table()
        )
        return to_semantic(decode_instance_bitmap(data), classes, dtype=subject.labels.dtype)
    except BitmapError:
        return None


def _counts(content: Content, subject: Subject, bounds: Bounds, size_hw: tuple[int, int] | None) -> LabelCounts:
    labels, annotations = subject.labels, content.annotations
    if content.label is None:
        if annotations and subject.has_bitmaps:
            raise BitmapError(f"is not there, and its label has {len(annotations)} annotations")
        return count_shapes(annotations or (), labels)
    data = _given(content.label)
    if annotations is None:
        bitmap = decode_semantic(data)
        _require_size(bitmap, size_hw)
        return count_semantic(bitmap, labels, bounds)
    ids = decode_instance_bitmap(data)
    _require_size(ids, size_hw)
    return count_instances(ids, annotations, labels, bounds)


def _require_size(bitmap: npt.NDArray[np.generic], size_hw: tuple[int, int] | None) -> None:
    if size_hw is None or bitmap.shape == size_hw:
        return
    turned = " with its EXIF orientation applied" if bitmap.shape == size_hw[::-1] else ""
    a, b = (f"{height}x{width}" for height, width in (bitmap.shape, size_hw))
    raise BitmapError(f"is {a} pixels high x wide, and its image{turned} {b}")


def _given(data: bytes | str) -> bytes:
    if isinstance(data, str):
        raise BitmapError(data)
    if not data:
        raise BitmapError("is gone or empty")
    return data


def _after(error: BitmapError) -> str:
    """Why something is broken, as the end of a sentence; the decoders say it as a sentence of its own."""
    is_verb = error.message.startswith(("is ", "was ", "cannot "))
    return error.message if is_verb else f"cannot be read: {error.message}"


def _format(image: Image.Image) -> str:
    """What an open image's pixels are, before any of them is read."""
    mode = image.mode
    if mode.startswith("I"):
        return "16-bit grey" if mode.startswith("I;16") else "32-bit grey"
    if image.format == "PNG" and any(str(tile[3]).endswith(";16B") for tile in getattr(image, "tile", ())):
        return "16-bit RGB"  # Pillow keeps the upper eight
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return "grey with alpha" if mode.upper() == "LA" else "RGB with alpha"
    return _FORMATS.get(mode, mode)
