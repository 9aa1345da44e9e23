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

from labelsync.labels import LabelMap
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.overlay import RGB, overlay, panel
from labelsync.records.release import Row
from labelsync.store.files import write_bytes
from labelsync.training.data import decode

PICTURES = "pictures"
_HEIGHT = 240  # pixels of a picture: an overview, not a second copy of the data


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
        for number, row in enumerate(self.rows):
            titles = (row.name, "label", f"step {step}")
            picture = Image.fromarray(side_by_side(segmenter, row, self.labels, titles=titles))
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=85)
            write_bytes(self.folder / f"step-{step:06}" / f"{number}-{_file_name(row.name)}.jpg", file.getvalue())


def side_by_side(segmenter: Segmenter, row: Row, labels: LabelMap, *, titles: tuple[str, str, str]) -> RGB:
    """(h, w, 3): image, label and what the model sees, with a legend of the classes in them.

    Raises:
        DatasetError: a row that cannot be used.
    """
    image, label = decode(row, labels)
    seen = segmenter.segment(image)
    pictures = (image, overlay(image, label, labels.colors), overlay(image, seen, labels.colors))
    there = sorted({*np.unique(label).tolist(), *np.unique(seen).tolist()} - {0})
    classes = [(labels.names[i - 1], labels.classes[i - 1].color) for i in there]
    return panel(list(zip(titles, pictures, strict=True)), classes, height=_HEIGHT)


def chosen(names: Sequence[str], number: int) -> list[int]:
    """Indices of the `number` names with the lowest hashes, in the order of these."""
    ranks = sorted(range(len(names)), key=lambda i: (hashlib.sha256(names[i].encode()).digest(), i))
    return ranks[:number]


def _file_name(name: str) -> str:
    """A sample's name as a short part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-")[-40:] or "sample"
