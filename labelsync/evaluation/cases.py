"""The worst images of an evaluation as layers that a page can lay over each other: image, label, prediction, error."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelsync.evaluation.changes import Seen
from labelsync.evaluation.groups import Groups
from labelsync.evaluation.scores import score_arrays
from labelsync.evaluation.small import Bitmap
from labelsync.evaluation.tally import Tally
from labelsync.evaluation.worst import Parts, read_parts, worst_pictures
from labelsync.labels import LabelMap
from labelsync.pixels.image import decode_image
from labelsync.pixels.overlay import borders
from labelsync.records.scores import ImageChange

WRONG = "#ff9800"
DANGEROUS = "#ff0050"
UNSCORED = "#8a8f98"

_ALPHA = 140  # of 255, over the image
_PALETTE = 256


@dataclass(frozen=True)
class Key:
    """An entry of a legend: a class, its colour as #rrggbb, and its IoU in that image."""

    name: str
    color: str
    iou: float | None = None


@dataclass(frozen=True)
class Turn:
    """An image that fails now or fails no more, its number on the page; layers as of a `Case`, "" if not kept."""

    number: int
    change: ImageChange
    width: int
    height: int
    image: str
    label: str
    baseline: str
    prediction: str
    legend: tuple[Key, ...]


@dataclass(frozen=True)
class Case:
    """One of the worst images. The layers are data URLs of PNGs to be laid over `image`; `whole` is all of it in one
    picture, where an evaluation kept no more than that ("" else)."""

    rank: int
    name: str
    uuid: str
    mean_iou: float
    accuracy: float | None
    slices: Mapping[str, str]
    width: int
    height: int
    image: str
    label: str = ""
    prediction: str = ""
    error: str = ""
    dangerous: bool = False
    legend: tuple[Key, ...] = ()
    whole: bool = False


def worst_cases(folder: Path, tally: Tally, labels: LabelMap, groups: Groups | None) -> tuple[Case, ...]:
    """The worst images of an evaluation folder, the worst first, as far as their pictures are still there.

    Raises:
        BitmapError: a picture that is none.
    """
    parts = read_parts(folder / "worst", tally)
    if parts:
        return tuple(
            _case(rank, i, parts=found, tally=tally, labels=labels, groups=groups)
            for rank, (i, found) in enumerate(parts.items(), 1)
        )
    files = {i: folder / "worst" / file for i, file in worst_pictures(tally).items()}
    there = [(i, file) for i, file in files.items() if file.is_file()]
    return tuple(_whole(rank, i, file, tally) for rank, (i, file) in enumerate(there, 1))


def turned(number: int, change: ImageChange, found: Seen, labels: LabelMap) -> Turn:
    """An image that changed sides, of which `found` is kept."""
    layers = [b for b in (found.label, found.baseline, found.new) if b is not None]
    present = np.unique(np.concatenate([bitmap.ravel() for bitmap in layers]))
    height, width = found.label.shape
    return Turn(
        number=number,
        change=change,
        width=width,
        height=height,
        image=_url(found.image, "jpeg"),
        label=colored(found.label, labels.colors),
        baseline="" if found.baseline is None else colored(found.baseline, labels.colors),
        prediction="" if found.new is None else colored(found.new, labels.colors),
        legend=tuple(Key(labels.names[c - 1], hex_of(labels.classes[c - 1].color)) for c in present if c > 0),
    )


def colored(bitmap: Bitmap, colors: npt.NDArray[np.uint8]) -> str:
    """(h, w) disk ids and (K + 1, 3) colours -> PNG, see-through but for the borders of classes."""
    if 2 * len(colors) > _PALETTE:
        alpha = np.where(bitmap > 0, _ALPHA, 0).astype(np.uint8)
        alpha[borders(bitmap)] = 255
        pixels = np.concatenate([colors[np.minimum(bitmap, len(colors) - 1)], alpha[..., None]], 2)
        return _png(Image.fromarray(pixels, "RGBA"))
    edges = borders(bitmap)
    ids = np.where(edges, bitmap.astype(int) + len(colors), bitmap).astype(np.uint8)
    alphas = [0, *[_ALPHA] * (len(colors) - 1), *[255] * len(colors)]
    return _paletted(ids, np.concatenate([colors, colors]), alphas)


def errors(label: Bitmap, prediction: Bitmap, *, obstacle: Bitmap, walkable: Bitmap) -> npt.NDArray[np.uint8]:
    """(h, w) uint8: 0 = right, 1 = wrong, 2 = an obstacle taken for walkable, 3 = unlabeled and so not scored.

    Args:
        obstacle, walkable: (K + 1,) bool by disk id.
    """
    found: npt.NDArray[np.uint8] = (label != prediction).astype(np.uint8)
    found[obstacle[label] & walkable[prediction]] = 2
    found[label == 0] = 3
    return found


# -------------------------------------------------------------------- one image


def _case(rank: int, i: int, *, parts: Parts, tally: Tally, labels: LabelMap, groups: Groups | None) -> Case:
    facts, areas = tally.images[i], tally.areas[i]
    tables = [np.zeros(labels.num_labels + 1, bool) for _ in range(2)]
    for table, group in zip(tables, ("obstacle", "walkable"), strict=True):
        table[groups.ids(group, labels.names) if groups else []] = True
    wrong = errors(parts.label, parts.prediction, obstacle=tables[0], walkable=tables[1])
    iou = score_arrays(areas[None]).per_category_iou[0]
    present = np.union1d(np.unique(parts.label), np.unique(parts.prediction))
    height, width = parts.label.shape
    return Case(
        rank=rank,
        name=facts.name,
        uuid=facts.uuid,
        mean_iou=tally.mean_iou[i],
        accuracy=_accuracy(tally, i),
        slices=facts.slices,
        width=width,
        height=height,
        image=_url(parts.image, "jpeg"),
        label=colored(parts.label, labels.colors),
        prediction=colored(parts.prediction, labels.colors),
        error=_paletted(wrong, _rgb("#000000", WRONG, DANGEROUS, UNSCORED), (0, 215, 255, 150)),
        dangerous=bool((wrong == 2).any()),
        legend=tuple(
            Key(labels.names[c - 1], hex_of(labels.classes[c - 1].color), _known(iou[c - 1])) for c in present if c > 0
        ),
    )


def _whole(rank: int, i: int, file: Path, tally: Tally) -> Case:
    """Of an evaluation that kept no parts: its picture, as a JPEG of a fifth of the size."""
    pixels = decode_image(file.read_bytes())
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=80)
    facts = tally.images[i]
    return Case(
        rank=rank,
        name=facts.name,
        uuid=facts.uuid,
        mean_iou=tally.mean_iou[i],
        accuracy=_accuracy(tally, i),
        slices=facts.slices,
        width=pixels.shape[1],
        height=pixels.shape[0],
        image=_url(jpeg.getvalue(), "jpeg"),
        whole=True,
    )


def _accuracy(tally: Tally, i: int) -> float | None:
    right, _, meant = tally.areas[i].sum(1)
    return float(right / meant) if meant else None


def hex_of(color: tuple[int, int, int]) -> str:
    """A colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _rgb(*colors: str) -> npt.NDArray[np.uint8]:
    return np.array([list(bytes.fromhex(color[1:])) for color in colors], np.uint8)


def _paletted(ids: npt.NDArray[np.uint8], colors: npt.NDArray[np.uint8], alphas: Sequence[int]) -> str:
    picture = Image.fromarray(ids, "L")
    picture.putpalette(colors.astype(np.uint8).tobytes())  # and so it is of mode P
    return _png(picture, transparency=bytes(alphas))


def _png(picture: Image.Image, **settings: Any) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, **settings)
    return _url(file.getvalue(), "png")


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
