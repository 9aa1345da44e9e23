"""Whether an exported graph says what the model says: pixel by pixel, and by mean IoU where there are labels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync.deploy.images import find_images
from labelsync.errors import BitmapError, DatasetError, ModelError
from labelsync.evaluation.confusion import confusion, zeros
from labelsync.evaluation.scores import scores
from labelsync.labels import UNLABELED, LabelMap
from labelsync.model.loaded import LoadedModel
from labelsync.model.preprocess import resize_interleaved
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row
from labelsync.sidewalk.layout import draw_light
from labelsync.sidewalk.scenes import draw_scene

Image = npt.NDArray[np.uint8]
Bitmap = npt.NDArray[Any]

DRAWN = 12


@dataclass(frozen=True)
class Photo:
    """An image to compare on, and its disk ids if it is labelled."""

    name: str
    image: Image = field(repr=False)
    label: Bitmap | None = field(default=None, repr=False)


Opener = Callable[[], Photo]
"""Reads a photo when it is its turn; raises BitmapError."""


@dataclass(frozen=True)
class Parity:
    """`agreement` = share of all pixels that both put into one class; mean IoUs are None without labels."""

    images: int
    agreement: float
    worst_image: str
    worst_agreement: float
    mean_iou: float | None
    torch_mean_iou: float | None


def of_rows(rows: Sequence[Row], limit: int) -> list[Opener]:
    """At most `limit` rows, spread evenly."""
    return [partial(_of_row, rows, i) for i in _spread(len(rows), limit)]


def of_files(given: Sequence[str | Path], limit: int) -> list[Opener]:
    """At most `limit` of the image files, spread evenly. Raises OptionError if there is none."""
    files = find_images([str(item) for item in given])
    return [partial(_of_file, files[i]) for i in _spread(len(files), limit)]


def drawn() -> list[Opener]:
    """Street scenes of labelsync's own, the same ones every time: no photos, but better than noise."""
    return [partial(_of_scene, i) for i in range(DRAWN)]


def opened(photos: Sequence[Opener], *, progress: str = "") -> Iterator[Photo]:
    """The photos, one by one. Raises DatasetError for one that cannot be read."""
    for number, photo in enumerate(tqdm(photos, desc=progress, unit="image", disable=None if progress else True)):
        try:
            yield photo()
        except BitmapError as e:
            raise DatasetError(f"image {number + 1}: {e.message}", hint="repair it or leave it out") from None


def parity(
    torch_model: LoadedModel, onnx_model: LoadedModel, photos: Sequence[Opener], *, labels: LabelMap | None = None
) -> Parity:
    """Both models on the same images.

    A graph that answers at the model's own size is compared there, on the resized image: what a caller loses by
    enlarging class ids is no fault of the export. All others are compared at the image's size. Mean IoU is always at
    the label's size, through the Segmenter, as `evaluate` has it.

    Args:
        labels: the classes of the photos' labels, matched with the model's by name; None = they have none.

    Raises:
        DatasetError: an image or label that cannot be used.
        ModelError: the labels have none of the model's classes.
    """
    facts: Any = onnx_model.model
    small = facts.takes != "frames" and facts.gives != "logits"
    sides = [Segmenter(model, batch_size=1) for model in (torch_model, onnx_model)]
    table = _table(torch_model.labels, labels)
    number = labels.num_labels if labels else 1
    counts = [zeros(number), zeros(number)]
    shares: dict[str, float] = {}
    equal = pixels = 0
    for photo in opened(photos, progress="compare"):
        compared = resize_interleaved(photo.image, torch_model.size_hw).contiguous().numpy() if small else photo.image
        maps = [side.segment(compared) for side in sides]
        same = int(np.count_nonzero(maps[0] == maps[1]))
        shares[photo.name] = same / maps[0].size
        equal, pixels = equal + same, pixels + maps[0].size
        if photo.label is not None and labels is not None:
            native = [side.segment(photo.image) for side in sides] if small else maps
            for k, found in enumerate(native):
                counts[k] += _counted(photo, table[found], number)
    worst = min(shares, key=lambda name: shares[name])
    ious = [_none(scores(c).mean_iou) if labels else None for c in counts]
    return Parity(len(photos), equal / pixels, worst, shares[worst], ious[1], ious[0])


def _counted(photo: Photo, found: Bitmap, number: int) -> npt.NDArray[np.int64]:
    try:
        return confusion(photo.label if photo.label is not None else found, found, number)
    except BitmapError as e:
        raise DatasetError(f"{photo.name}: {e.message}", hint="convert the release again") from None


def _table(ours: LabelMap, theirs: LabelMap | None) -> npt.NDArray[Any]:
    """The model's disk ids -> the dataset's."""
    if theirs is None:
        return np.zeros(ours.num_labels + 1, np.uint8)
    table = theirs.align((UNLABELED, *ours.names)).astype(theirs.dtype)
    if not table.any():
        raise ModelError("model and dataset share no class", hint="measure it on a dataset that it was made for")
    return table


def _spread(number: int, limit: int) -> list[int]:
    """At most `limit` of the indices below `number`, first and last among them."""
    return sorted(set(np.linspace(0, number - 1, min(limit, number)).astype(int).tolist()))


def _of_row(rows: Sequence[Row], index: int) -> Photo:
    row = rows[index]
    try:
        return Photo(row.name, decode_image(row.image), decode_semantic(row.label))
    except BitmapError as e:
        raise BitmapError(f"{row.name}: {e.message}") from None


def _of_file(file: Path) -> Photo:
    try:
        return Photo(file.name, decode_image(file.read_bytes()))
    except OSError as e:
        raise BitmapError(f"{file.name}: {e.strerror or e}") from None
    except BitmapError as e:
        raise BitmapError(f"{file.name}: {e.message}") from None


def _of_scene(number: int) -> Photo:
    light = draw_light(np.random.default_rng((number, 1)))
    return Photo(f"scene {number + 1}", draw_scene(np.random.default_rng((number, 2)), light).image)


def _none(value: float) -> float | None:
    return None if np.isnan(value) else value
