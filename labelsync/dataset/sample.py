"""One labelled sample -> one row: the image's own bytes, and the label as a PNG of disk ids."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labelsync.errors import BitmapError
from labelsync.labels import LabelMap
from labelsync.pixels.image import require_whole
from labelsync.pixels.instance import decode_instance_bitmap
from labelsync.pixels.semantic import count_pixels, encode_semantic, instance_classes, to_semantic
from labelsync.pixels.shapes import draw_shapes
from labelsync.records.release import Annotation, LedgerRow, Outcome
from labelsync.store.files import sha256


@dataclass(frozen=True)
class File:
    """A file of a release folder, and what the pull recorded of it; `url` = its http(s) URL in the release, or ""."""

    path: str
    sha256: str
    size: int
    url: str = ""


@dataclass(frozen=True)
class LabelledSample:
    """What is needed to convert a sample; plain data, so that any process can do it.

    Attributes:
        stem: a file name made of the uuid, harmless on every system.
        bitmap: None where nothing was drawn.
        annotations: (id in the bitmap, category id) of each.
        dataset: the Segments.ai dataset whose category ids those are.
        shapes: the annotations, where they and not a bitmap say what is drawn.
        line_width: of their lines, in pixels; 0 = lines are not drawn.
    """

    uuid: str
    name: str
    status: str
    stem: str
    image: File
    bitmap: File | None
    annotations: tuple[tuple[int, int], ...]
    dataset: str = ""
    shapes: tuple[Annotation, ...] = ()
    line_width: float = 0.0

    @property
    def extension(self) -> str:
        """Of the image, with its dot."""
        return Path(self.image.path).suffix


@dataclass(frozen=True)
class Converted:
    """`image` = the file as it was; `label` = PNG of disk ids; `pixels` = (K + 1,) int64, pixels per disk id."""

    sample: LabelledSample
    image: bytes
    label: bytes
    pixels: npt.NDArray[np.int64]


Read = Callable[[File, str], bytes]
"""(file, "image" or "bitmap") -> the bytes that were pulled, or a BitmapError."""


def convert_sample(
    sample: LabelledSample, labels: LabelMap, read: Read | None = None
) -> tuple[LedgerRow, Converted | None]:
    """The sample's ledger row, and its row of the dataset if it is converted; `read` is `read_file` unless given."""

    undrawn: dict[str, int] = {}

    def row(outcome: Outcome, reason: str = "") -> LedgerRow:
        return LedgerRow(sample.uuid, sample.name, outcome, reason, sample.status, undrawn)

    read = read or read_file
    try:
        image = read(sample.image, "image")
        if sample.shapes:
            bitmap, undrawn = _drawn(sample, labels, _checked_size(image))
        else:
            bitmap = _semantic(sample, labels, _checked_size(image), read)
    except BitmapError as e:
        return row("failed", e.message), None
    pixels = count_pixels(bitmap, labels.num_labels)
    if pixels[0] == bitmap.size:  # under unlabeled="class" only where all of it is of dropped categories
        return row("empty", _why_empty(sample, labels, undrawn)), None
    return row("converted"), Converted(sample, image, encode_semantic(bitmap), pixels)


def _why_empty(sample: LabelledSample, labels: LabelMap, undrawn: dict[str, int]) -> str:
    if not sample.annotations:
        return "it has no annotations"
    table = labels.category_table(sample.dataset)
    if not any(table.get(category) for _, category in sample.annotations):
        return "all its annotations are of dropped categories"
    if sum(undrawn.values()) < len(sample.annotations):
        return "no pixel is labelled"
    return "nothing of it touches a pixel: " + ", ".join(f"{n} {kind}" for kind, n in undrawn.items())


def _drawn(
    sample: LabelledSample, labels: LabelMap, size_hw: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8 | np.uint16], dict[str, int]]:
    """`draw_shapes` of a sample."""
    return draw_shapes(
        sample.shapes,
        labels.category_table(sample.dataset),
        size_hw,
        unlabeled=labels.background_id,
        dtype=labels.dtype,
        line_width=sample.line_width,
    )


def _semantic(
    sample: LabelledSample, labels: LabelMap, size_hw: tuple[int, int], read: Read
) -> npt.NDArray[np.uint8 | np.uint16]:
    """(H, W) disk ids. Raises BitmapError with a reason that reads after the sample's name."""
    if sample.bitmap is None:
        if sample.annotations:
            raise BitmapError(f"its label has {len(sample.annotations)} annotations and no bitmap")
        return np.full(size_hw, labels.background_id, labels.dtype)
    data = read(sample.bitmap, "bitmap")
    try:
        instances = decode_instance_bitmap(data)
    except BitmapError as e:
        raise BitmapError(f"its bitmap: {e.message}") from None
    if instances.shape != size_hw:
        turned = " (EXIF orientation applied)" if instances.shape == size_hw[::-1] else ""
        raise BitmapError(f"its bitmap is {_hw(instances.shape)}, its image {_hw(size_hw)} pixels high x wide{turned}")
    classes = instance_classes(sample.annotations, labels.category_table(sample.dataset))
    return to_semantic(instances, classes, unlabeled=labels.background_id, dtype=labels.dtype)


def _checked_size(image: bytes) -> tuple[int, int]:
    try:
        return require_whole(image)
    except BitmapError as e:
        raise BitmapError(f"its image: {e.message}") from None


def read_file(file: File, kind: str) -> bytes:
    """The bytes that were pulled. Raises BitmapError if they are gone or others."""
    try:
        data = Path(file.path).read_bytes()
    except OSError as e:
        raise BitmapError(f"its {kind} cannot be read ({e.strerror}): {Path(file.path).name}") from None
    if sha256(data) != file.sha256:
        raise BitmapError(f"its {kind} was changed after the pull: {Path(file.path).name}")
    return data


def _hw(shape: tuple[int, ...]) -> str:
    return f"{shape[0]}x{shape[1]}"
