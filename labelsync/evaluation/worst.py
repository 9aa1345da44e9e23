"""Pictures of the images a model does worst on: image, label, prediction, and a legend.

worst/01-<name>.png                   side by side, of the `WORST` worst: to be looked at
worst/parts/01-<name>.jpg             the image, at most `SIDE` pixels high and wide, of the `PARTS` worst: what
worst/parts/01-<name>.label.png       `report` draws them from; label and prediction are semantic bitmaps of the
worst/parts/01-<name>.prediction.png  same size
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labelsync.evaluation.small import Bitmap, small_jpeg, smaller
from labelsync.evaluation.tally import Tally
from labelsync.labels import LabelMap
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.overlay import RGB, overlay, panel
from labelsync.pixels.semantic import decode_semantic, encode_semantic
from labelsync.records.release import Row
from labelsync.store.files import write_bytes

if TYPE_CHECKING:  # `compare` names pictures too, and needs no torch
    from labelsync.model.segmenter import Segmenter

WORST = 6
PARTS = 20


@dataclass(frozen=True, eq=False)
class Parts:
    """What is kept of one of the worst images: a JPEG file, and (h, w) disk ids of its label and its prediction."""

    image: bytes
    label: Bitmap
    prediction: Bitmap


def worst_first(names: Sequence[str], mean_iou: Sequence[float]) -> list[int]:
    """Indices by rising mean IoU, equals by name; images with nothing labelled (NaN) are left out."""
    known = [i for i, value in enumerate(mean_iou) if not math.isnan(value)]
    return sorted(known, key=lambda i: (mean_iou[i], names[i], i))


def worst_pictures(tally: Tally) -> dict[int, str]:
    """Number of the image -> file name of its picture, "01-<name>.png" the worst, for the `WORST` worst."""
    return {i: f"{stem}.png" for i, stem in _stems(tally, WORST).items()}


def write_worst(folder: Path, segmenter: "Segmenter", rows: Sequence[Row], tally: Tally, labels: LabelMap) -> None:
    """Write the pictures of the worst images, and their parts.

    They are predicted again, one by one: keeping predictions until the worst are known would take memory with every
    image.
    """
    pictures = worst_pictures(tally)
    for i, stem in _stems(tally, PARTS).items():
        image, label = decode_image(rows[i].image), decode_semantic(rows[i].label)
        prediction = segmenter.segment(image)
        _write_parts(folder / "parts" / stem, image, label, prediction)
        if i in pictures:
            title = f"prediction, mean IoU {tally.mean_iou[i]:.3f}"
            picture = _side_by_side((rows[i].name, "label", title), image, label, prediction, labels)
            write_bytes(folder / pictures[i], encode_png(picture, level=3))


def read_parts(folder: Path, tally: Tally) -> dict[int, Parts]:
    """Number of the image -> its parts, the worst first, of those that are still there: pictures may be thrown away.

    Raises:
        BitmapError: a file there that is no bitmap.
    """
    found = {}
    for i, stem in _stems(tally, PARTS).items():
        files = [folder / "parts" / f"{stem}{end}" for end in _ENDS]
        if all(file.is_file() for file in files):
            image, label, prediction = (file.read_bytes() for file in files)
            found[i] = Parts(image, decode_semantic(label), decode_semantic(prediction))
    return found


_ENDS = (".jpg", ".label.png", ".prediction.png")


def _stems(tally: Tally, number: int) -> dict[int, str]:
    """Number of the image -> "01-<name>", for the worst."""
    names = [image.name for image in tally.images]
    ranked = worst_first(names, tally.mean_iou)[:number]
    return {i: f"{rank:02d}-{file_name(names[i])}" for rank, i in enumerate(ranked, 1)}


def _side_by_side(titles: tuple[str, str, str], image: RGB, label: Bitmap, prediction: Bitmap, labels: LabelMap) -> RGB:
    present = np.union1d(np.unique(label), np.unique(prediction))
    pictures = (image, overlay(image, label, labels.colors), overlay(image, prediction, labels.colors))
    legend = [(labels.names[c - 1], labels.classes[c - 1].color) for c in present if c > 0]
    return panel(list(zip(titles, pictures, strict=True)), legend)


def _write_parts(stem: Path, image: RGB, label: Bitmap, prediction: Bitmap) -> None:
    bitmaps = (encode_semantic(smaller(bitmap)) for bitmap in (label, prediction))
    for end, data in zip(_ENDS, (small_jpeg(image), *bitmaps), strict=True):
        write_bytes(stem.with_name(stem.name + end), data)


def file_name(name: str) -> str:
    """A sample's name as a file name: it may hold slashes, or be ../../x.jpg."""
    return re.sub(r"[^\w.-]+", "_", Path(name).stem).strip(".")[:80] or "image"
