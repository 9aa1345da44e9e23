"""What an evaluation keeps of every image: counts, from which any score of any set of images can be had again.

images.jsonl has a line per image with its own scores, counts.npz the arrays (`numpy.load` reads them):

    confusion    (n, 4) int64    rows image, label, prediction, pixels: the cells of every image that are not 0
    boundary     (N, 3, K) int64 band pixels per class: in both, of the prediction, of the label
    calibration  (N, 3, 15) float64 pixels, right pixels and summed confidence per bin of confidence

and where the classes say what is walkable (see `labelsync.evaluation.safety`)

    near         (n, 4) int64    as confusion, of the near field alone
    obstacles    (m, 5) int64    rows image, class, pixels, pixels seen, 1 if it reaches into the near field
    path         (N, 3) int64    rows of free path claimed, rows truly free, height of the image

`image` counts the lines of images.jsonl from 0, classes are disk ids, and a prediction of 0 is no class of the dataset.
"""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from labelsync.errors import DatasetError
from labelsync.evaluation.calibration import calibration_error
from labelsync.evaluation.confusion import Counts
from labelsync.evaluation.scores import score_arrays
from labelsync.store.files import write_bytes, write_text

IMAGES = "images.jsonl"
COUNTS = "counts.npz"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class ImageFacts:
    """An image of an evaluation.

    Attributes:
        label: digest of its label, whatever PNG it is stored in.
        group: what it is resampled with: its group in the dataset's splits, or its own uuid.
        slices: name of a slicing -> value, as "weather" -> "rain".
    """

    name: str
    uuid: str
    label: str
    group: str
    slices: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Tally:
    """The counts of N images and K classes. `arrays` holds those of counts.npz (see the module) by name."""

    images: tuple[ImageFacts, ...]
    num_labels: int
    arrays: Mapping[str, Array]

    @property
    def confusion(self) -> Counts:
        """(K, K + 1) int64 confusion counts of all images together."""
        return dense(self.arrays["confusion"], self.num_labels)

    @cached_property
    def areas(self) -> Counts:
        """(N, 3, K) int64 pixels per image and class: in the intersection, predicted, labelled."""
        image, label, prediction, pixels = self.arrays["confusion"].T
        found = np.zeros((len(self.images), 3, self.num_labels + 1), np.int64)
        right = label == prediction
        np.add.at(found, (image[right], 0, label[right]), pixels[right])
        np.add.at(found, (image, 1, prediction), pixels)
        np.add.at(found, (image, 2, label), pixels)
        return found[:, :, 1:]

    @cached_property
    def mean_iou(self) -> list[float]:
        """The mean IoU of each image; NaN = nothing labelled."""
        return [float(value) for value in score_arrays(self.areas).mean_iou]

    def select(self, images: Sequence[int], classes: Sequence[int]) -> "Tally":
        """The counts of some images in that order, on pixels labelled as some classes, numbered 1.. in that order.

        What is predicted beyond those classes is no class, so it stays wrong. The calibration stays that of all
        classes: its bins do not say which class a pixel has.
        """
        numbers = np.zeros(self.num_labels + 1, np.int64)
        numbers[list(classes)] = range(1, len(classes) + 1)
        places = np.full(len(self.images), -1)
        places[list(images)] = range(len(images))

        def table(rows: Array, *columns: int) -> Array:
            kept = rows[(places[rows[:, 0]] >= 0) & (numbers[rows[:, 1]] > 0)].copy()
            kept[:, 0] = places[kept[:, 0]]
            for column in columns:
                kept[:, column] = numbers[kept[:, column]]
            return kept

        arrays = {}
        for name, array in self.arrays.items():
            if name in _TABLES:
                arrays[name] = table(array, *_TABLES[name])
            else:
                arrays[name] = array[list(images)]
        arrays["boundary"] = arrays["boundary"][:, :, [c - 1 for c in classes]]
        return Tally(tuple(self.images[i] for i in images), len(classes), arrays)


_TABLES = {"confusion": (1, 2), "near": (1, 2), "obstacles": (1,)}
"""Tables whose first column is the image -> their columns that hold a class, the labelled one first."""


def members_of(tally: Tally) -> dict[str, dict[str, list[int]]]:
    """slicing -> value -> numbers of its images, in order of slicing and value."""
    found: dict[str, dict[str, list[int]]] = {}
    for i, image in enumerate(tally.images):
        for name, value in image.slices.items():
            found.setdefault(name, {}).setdefault(value, []).append(i)
    return {name: dict(sorted(values.items())) for name, values in sorted(found.items())}


def sparse(counts: Counts) -> Counts:
    """(K, K + 1) confusion counts -> (n, 3) rows label, prediction, pixels of the cells that are not 0."""
    label, prediction = np.nonzero(counts)
    return np.stack([label + 1, prediction, counts[label, prediction]], 1)


def dense(rows: Counts, num_labels: int) -> Counts:
    """(n, 4) rows image, label, prediction, pixels -> (K, K + 1) confusion counts of all images together."""
    found = np.zeros((num_labels, num_labels + 1), np.int64)
    np.add.at(found, (rows[:, 1] - 1, rows[:, 2]), rows[:, 3])
    return found


def stacked(tables: Sequence[Counts], columns: int) -> Counts:
    """Tables of several images -> one, with the number of the image as its first column."""
    rows = [np.insert(table, 0, i, axis=1) for i, table in enumerate(tables)]
    return np.concatenate([np.zeros((0, columns), np.int64), *rows])


def label_digest(label: Array) -> str:
    """sha256 over the size and the disk ids of a label."""
    size = ",".join(map(str, label.shape)).encode()
    return hashlib.sha256(size + b"\0" + np.ascontiguousarray(label, "<u2").tobytes()).hexdigest()


# -------------------------------------------------------------------- on disk


def write_tally(folder: Path, tally: Tally) -> None:
    """images.jsonl and counts.npz."""
    found, border = score_arrays(tally.areas), score_arrays(tally.arrays["boundary"])
    calibration = calibration_error(tally.arrays["calibration"])
    lines = [
        {
            "name": image.name,
            "uuid": image.uuid,
            "label": image.label,
            "group": image.group,
            **({"slices": image.slices} if image.slices else {}),
            "pixels": int(areas[2].sum()),
            "mean_iou": _known(float(mean_iou)),
            "overall_accuracy": _known(float(accuracy)),
            "mean_boundary_iou": _known(float(boundary_iou)),
            "expected_calibration_error": _known(float(error)),
            "areas": {str(i): column.tolist() for i, column in enumerate(areas.T, 1) if column.any()},
        }
        for image, areas, mean_iou, accuracy, boundary_iou, error in zip(
            tally.images,
            tally.areas,
            found.mean_iou,
            found.overall_accuracy,
            border.mean_iou,
            calibration,
            strict=True,
        )
    ]
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_text(folder / IMAGES, text)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **tally.arrays)
    write_bytes(folder / COUNTS, buffer.getvalue())


def read_tally(folder: Path, num_labels: int) -> Tally:
    """The tally that `write_tally` left. Raises DatasetError if it is not there or damaged."""
    try:
        lines = [json.loads(line) for line in (folder / IMAGES).read_text().splitlines()]
        images = tuple(ImageFacts(i["name"], i["uuid"], i["label"], i["group"], i.get("slices", {})) for i in lines)
        with np.load(io.BytesIO((folder / COUNTS).read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as e:
        what = f"no {COUNTS}" if isinstance(e, FileNotFoundError) else f"counts that cannot be read ({e})"
        raise DatasetError(f"{folder} has {what}", hint="evaluate again, with --overwrite") from None
    return Tally(images, num_labels, arrays)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
