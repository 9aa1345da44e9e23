"""Pictures of the same few validation samples after every evaluation: image, label and what the model sees.

    <out>/pictures/step-000100/0-street-0007.jpg

They are there to be looked at while a run goes on. They are no part of the model: neither its manifest nor a
publication holds them, and without them a run is the same run.
"""

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from labelsync import store
from labelsync.labels import LabelMap
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.overlay import RGB, overlay, panel
from labelsync.records.release import Row
from labelsync.training.data import decode

PICTURES = "pictures"
_LONGEST = 640  # pixels of a picture's longer side: an overview, not a second copy of the data
_HEIGHT = 240


class Pictures:
    """The samples, and the folder that their pictures go to.

    Args:
        folder: gets a folder step-000100 for each evaluation.
        rows: of the validation split.
        number: of samples; which ones depends on their names alone, so they are the same in every run.
    """

    def __init__(self, folder: Path, rows: Sequence[Row], labels: LabelMap, *, number: int) -> None:
        self.folder = folder
        self.labels = labels
        self.rows = [rows[i] for i in chosen([row.name for row in rows], number)]

    def draw(self, segmenter: Segmenter, *, step: int) -> None:
        """Write a picture of each sample. Raises DatasetError for a row that cannot be used."""
        colors = self.labels.colors
        for number, row in enumerate(self.rows):
            image, label = decode(row, self.labels)
            seen = segmenter.segment(image)
            pictures = [
                (row.name, _small(image)),
                ("label", _small(overlay(image, label, colors))),
                (f"step {step}", _small(overlay(image, seen, colors))),
            ]
            there = sorted({*np.unique(label), *np.unique(seen)} - {0})
            classes = [(self.labels.names[i - 1], self.labels.classes[i - 1].color) for i in there]
            file = io.BytesIO()
            Image.fromarray(panel(pictures, classes, height=_HEIGHT)).save(file, "JPEG", quality=85)
            store.write_bytes(self.folder / f"step-{step:06}" / f"{number}-{_file_name(row.name)}.jpg", file.getvalue())


def chosen(names: Sequence[str], number: int) -> list[int]:
    """Indices of the `number` names with the lowest hashes, in the order of these."""
    ranks = sorted(range(len(names)), key=lambda i: (hashlib.sha256(names[i].encode()).digest(), i))
    return ranks[:number]


def _small(picture: RGB) -> RGB:
    image = Image.fromarray(picture)
    image.thumbnail((_LONGEST, _LONGEST))
    return np.asarray(image)


def _file_name(name: str) -> str:
    """A sample's name as a short part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")[-40:] or "sample"
