"""Pictures of the images a model does worst on: image, label, prediction, and a legend."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from labelsync import store
from labelsync.labels import LabelMap
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.overlay import overlay, panel
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row

WORST = 6


class Scored(Protocol):
    """The scores of one image, as `worst_first` needs them."""

    @property
    def name(self) -> str:
        """Name of the sample."""

    @property
    def mean_iou(self) -> float:
        """Its mean IoU; NaN = nothing labelled."""


def worst_first(images: Sequence[Scored]) -> list[int]:
    """Indices by rising mean IoU, equals by name; images with nothing labelled are left out."""
    known = [i for i, image in enumerate(images) if not math.isnan(image.mean_iou)]
    return sorted(known, key=lambda i: (images[i].mean_iou, images[i].name, i))


def write_worst(
    folder: Path, segmenter: Segmenter, rows: Sequence[Row], images: Sequence[Scored], labels: LabelMap
) -> None:
    """Write a PNG for each of the `WORST` worst images, "01-<name>.png" the worst.

    They are predicted again, one by one: keeping predictions until the worst are known would take memory with every
    image.
    """
    for rank, i in enumerate(worst_first(images)[:WORST], 1):
        image, label = decode_image(rows[i].image), decode_semantic(rows[i].label)
        prediction = segmenter.segment(image)
        present = np.union1d(np.unique(label), np.unique(prediction))
        picture = panel(
            [
                (rows[i].name, image),
                ("label", overlay(image, label, labels.colors)),
                (f"prediction, mean IoU {images[i].mean_iou:.3f}", overlay(image, prediction, labels.colors)),
            ],
            [(labels.names[c - 1], labels.classes[c - 1].color) for c in present if c > 0],
        )
        store.write_bytes(folder / f"{rank:02d}-{_file_name(rows[i].name)}.png", encode_png(picture, level=3))


def _file_name(name: str) -> str:
    """A sample's name as a file name: it may hold slashes, or be ../../x.jpg."""
    return re.sub(r"[^\w.-]+", "_", Path(name).stem).strip(".")[:80] or "image"
