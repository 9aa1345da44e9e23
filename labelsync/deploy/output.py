"""What is written of one image: bitmap, overlay, entropy, probabilities; and the line that says so."""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelsync.labels import LabelMap
from labelsync.model.segmenter import Segmenter
from labelsync.model.uncertainty import Uncertainty
from labelsync.pixels.image import encode_jpeg
from labelsync.pixels.overlay import overlay, panel
from labelsync.pixels.png import encode_grey
from labelsync.pixels.semantic import encode_semantic
from labelsync.store.files import write_bytes

_PICTURE_HEIGHTS = (240, 720)  # overlays are to look at; the bitmaps hold every pixel

RGB = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Prediction:
    """One line of predictions.jsonl: what was made from an image; `problem` says why nothing was.

    `frame` and `seconds` say where in a video it is, `sha256` then is "<of the video>#<frame>". `mean_entropy` is that
    of all pixels, in 0..1.
    """

    image: str
    frame: int | None = None
    seconds: float | None = None
    sha256: str = ""
    bitmap: str = ""
    overlay: str = ""
    entropy: str = ""
    probabilities: str = ""
    height: int = 0
    width: int = 0
    mean_entropy: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Wanted:
    """Which files beside the bitmaps are wanted."""

    overlays: bool = True
    entropy: bool = False
    probabilities: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of an image."""

    bitmap: npt.NDArray[Any]
    sure: Uncertainty | None = None
    probabilities: npt.NDArray[np.uint8] | None = None


def answers(segmenter: Segmenter, images: list[RGB], wanted: Wanted) -> list[Answer]:
    """A batch through the model, with as much as is wanted. Raises as `Segmenter.segment`."""
    if wanted.probabilities:
        return [Answer(*found) for found in segmenter.segment_with_probabilities(images)]
    if wanted.entropy:
        return [Answer(*found) for found in segmenter.segment_with_uncertainty(images)]
    return [Answer(bitmap) for bitmap in segmenter.segment_batch(images)]


def save(
    folder: Path, name: str, image: RGB, answer: Answer, line: Prediction, *, labels: LabelMap, wanted: Wanted
) -> Prediction:
    """Write the files of one image below `folder`; returns `line`, which says which image it is, with their names."""
    height, width = answer.bitmap.shape
    line = replace(line, bitmap=f"bitmaps/{name}.png", height=height, width=width)
    write_bytes(folder / line.bitmap, encode_semantic(answer.bitmap))
    if wanted.overlays:
        line = replace(line, overlay=f"overlays/{name}.jpg")
        write_bytes(folder / line.overlay, encode_jpeg(picture(image, answer.bitmap, labels)))
    if wanted.entropy and answer.sure is not None:
        entropy = answer.sure.entropy
        mean = round(float(entropy.mean(dtype=np.float64)), 6)
        line = replace(line, entropy=f"entropy/{name}.png", mean_entropy=mean)
        write_bytes(folder / line.entropy, encode_grey((entropy * 255).round().astype(np.uint8)))
    if wanted.probabilities and answer.probabilities is not None:
        line = replace(line, probabilities=f"probabilities/{name}.npz")
        packed = io.BytesIO()
        np.savez_compressed(packed, allow_pickle=False, probabilities=answer.probabilities)
        write_bytes(folder / line.probabilities, packed.getvalue())
    return line


def picture(
    image: RGB, bitmap: npt.NDArray[Any], labels: LabelMap, *, classes: list[int] | None = None
) -> npt.NDArray[np.uint8]:
    """The image under its classes, with a legend.

    Args:
        classes: disk ids in the legend; None = those that occur.
    """
    ids = np.unique(bitmap).tolist() if classes is None else classes
    height = min(max(image.shape[0], _PICTURE_HEIGHTS[0]), _PICTURE_HEIGHTS[1])
    if height < image.shape[0]:  # first smaller, then painted: a third of the time
        size = max(1, round(image.shape[1] * height / image.shape[0])), height
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
        bitmap = np.asarray(Image.fromarray(bitmap).resize(size, Image.Resampling.NEAREST))
    return panel(
        [("", overlay(image, bitmap, labels.colors))],
        [(labels.classes[i - 1].name, labels.classes[i - 1].color) for i in ids if i > 0],
        height=height,
    )
