"""Pictures of the images a model does worst on: image, label, prediction, and a legend."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labelsync import store
from labelsync.evaluation.tally import Tally
from labelsync.labels import LabelMap
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.overlay import overlay, panel
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row

if TYPE_CHECKING:  # `compare` names pictures too, and needs no torch
    from labelsync.model.segmenter import Segmenter

WORST = 6


def worst_first(names: Sequence[str], mean_iou: Sequence[float]) -> list[int]:
    """Indices by rising mean IoU, equals by name; images with nothing labelled (NaN) are left out."""
    known = [i for i, value in enumerate(mean_iou) if not math.isnan(value)]
    return sorted(known, key=lambda i: (mean_iou[i], names[i], i))


def worst_pictures(tally: Tally) -> dict[int, str]:
    """Number of the image -> file name of its picture, "01-<name>.png" the worst, for the `WORST` worst."""
    names = [image.name for image in tally.images]
    ranked = worst_first(names, tally.mean_iou)[:WORST]
    return {i: f"{rank:02d}-{_file_name(names[i])}.png" for rank, i in enumerate(ranked, 1)}


def write_worst(folder: Path, segmenter: "Segmenter", rows: Sequence[Row], tally: Tally, labels: LabelMap) -> None:
    """Write the pictures of the worst images.

    They are predicted again, one by one: keeping predictions until the worst are known would take memory with every
    image.
    """
    for i, file in worst_pictures(tally).items():
        image, label = decode_image(rows[i].image), decode_semantic(rows[i].label)
        prediction = segmenter.segment(image)
        present = np.union1d(np.unique(label), np.unique(prediction))
        picture = panel(
            [
                (rows[i].name, image),
                ("label", overlay(image, label, labels.colors)),
                (f"prediction, mean IoU {tally.mean_iou[i]:.3f}", overlay(image, prediction, labels.colors)),
            ],
            [(labels.names[c - 1], labels.classes[c - 1].color) for c in present if c > 0],
        )
        store.write_bytes(folder / file, encode_png(picture, level=3))


def _file_name(name: str) -> str:
    """A sample's name as a file name: it may hold slashes, or be ../../x.jpg."""
    return re.sub(r"[^\w.-]+", "_", Path(name).stem).strip(".")[:80] or "image"
