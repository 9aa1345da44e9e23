"""A model's opinion of the labels: where it is sure of another class, ranked, and drawn.

The idea is confident learning's (Northcutt, Jiang, Chuang: "Confident Learning: Estimating Uncertainty in Dataset
Labels", JAIR 2021): a label that a model contradicts with confidence is probably wrong. Asked of a model that was
trained on the same labels it finds less, since it has learned some of the mistakes; splits that it was not trained on
show most. Samples are read, predicted and forgotten one batch at a time.
"""

import heapq
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from tqdm import tqdm

from labelsync.errors import BitmapError, ModelError, OptionError
from labelsync.labels import LabelMap
from labelsync.model.ahead import load_ahead
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.overlay import overlay, panel
from labelsync.quality.contradict import Bitmap, Region, contradictions
from labelsync.quality.labelled import percent
from labelsync.quality.look import semantic
from labelsync.quality.subject import Subject
from labelsync.records.findings import Finding
from labelsync.store.files import write_bytes

RGB = npt.NDArray[np.uint8]

KEPT = 5000  # findings in memory, the worst: of any number of samples
LEAST_SHARE = (
    0.0005  # of an image, that a region must have: of smaller ones a model sees and annotators draw too little
)
_LOGITS = "export the model with --gives logits"
_MARGIN = 0.75  # around a region in its picture, in sizes of the region
_LEAST_SIDE = 160  # of what a picture shows, in pixels of the image


@dataclass(frozen=True, eq=False)
class Doubt:
    """A region that the model contradicts, and the sample's number in the subject."""

    index: int
    region: Region

    def __lt__(self, other: "Doubt") -> bool:
        """The better label is less; of two alike the later and the smaller one."""
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[float, int, int, tuple[int, ...]]:
        region = self.region
        return round(region.score, 9), region.pixels, -self.index, tuple(-x for x in region.box)


@dataclass
class Opinion:
    """What a model thinks of a subject's labels; `segmenter` answers in the subject's disk ids.

    Raises:
        ModelError: the model knows none of the classes.
    """

    subject: Subject
    segmenter: Segmenter
    doubts: tuple[Doubt, ...] = ()

    def __post_init__(self) -> None:
        self._judged = _judged(self.segmenter, self.subject.labels)

    @property
    def digest(self) -> str:
        """Of the model."""
        return self.segmenter.loaded.digest

    def findings(self, *, bound: float, least: int) -> list[Finding]:
        """The regions whose score is `bound` or more, the worst first, at most `KEPT`.

        Those of fewer than `least` pixels, or of less than `LEAST_SHARE` of their image, are left out.
        """
        self.doubts = tuple(heapq.nlargest(KEPT, self._all(bound, least)))
        return [_finding(doubt, self.subject) for doubt in self.doubts]

    def _all(self, bound: float, least: int) -> Iterator[Doubt]:
        subject, segmenter = self.subject, self.segmenter
        with tqdm(total=subject.count, desc="second opinion", unit="sample", disable=None, file=sys.stderr) as bar:
            numbers = range(subject.count)
            for batch in load_ahead(numbers, lambda i: _read(subject, i), batch_size=segmenter.batch_size):
                whole = [(loading.item, *loading.value) for loading in batch if loading.value]
                answers = segmenter.segment_with_confidence([image for _, image, _ in whole])
                for (index, _, label), (said, sure) in zip(whole, answers, strict=True):
                    if sure is None:
                        raise OptionError(f"{segmenter.loaded.source} does not say how sure it is", hint=_LOGITS)
                    smallest = max(least, round(LEAST_SHARE * label.size))
                    regions = contradictions(label, said, sure, self._judged, least=smallest)
                    yield from (Doubt(index, region) for region in regions if region.score >= bound)
                bar.update(len(batch))

    def draw(self, folder: Path, *, limit: int) -> None:
        """A picture of each of the worst regions, "001-<name>.png" the worst: image, label and prediction around it.

        They are predicted again: keeping predictions until the worst are known would take memory with every sample.
        """
        for rank, doubt in enumerate(self.doubts[: limit or None], 1):
            name = self.subject.read(doubt.index).name
            image, label = _read(self.subject, doubt.index)
            pixels = (image, label, self.segmenter.segment(image))
            picture = _picture(name, doubt.region, pixels, self.subject.labels)
            file = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip(".")[:80] or "image"
            write_bytes(folder / f"{rank:03d}-{file}.png", encode_png(picture, level=3))


def _finding(doubt: Doubt, subject: Subject) -> Finding:
    """What the check tells of a region."""
    region, names = doubt.region, subject.labels.id2label
    left, top, width, height = region.box
    part = "all" if region.share >= 1 else percent(region.share)
    message = (
        f"{region.pixels:,} pixels of {names[region.label]} at x {left}, y {top} ({width}x{height}), {part} of that"
        f" object or area, look like {names[region.said]} ({percent(region.confidence)} sure)"
    )
    content = subject.read(doubt.index)
    return Finding(
        "contradicted-label",
        "info",  # a model's opinion: no gate for a pipeline
        message,
        split=content.split if subject.stage == "convert" else "",
        name=content.name,
        uuid=content.uuid,
        class_name=names[region.label],
        region=region.box,
        score=round(region.score, 6),
    )


def _judged(segmenter: Segmenter, labels: LabelMap) -> npt.NDArray[np.bool_]:
    """(K + 1,): the classes that the model has an output for."""
    judged = np.array([False, *(name not in segmenter.lacking for name in labels.names)])
    if not judged.any():
        raise ModelError(
            f"{segmenter.loaded.source} knows none of the classes of these labels",
            hint="give a model that was trained on this dataset, or on one with the same class names",
        )
    return judged


def _read(subject: Subject, index: int) -> tuple[RGB, Bitmap]:
    """Image and label of a sample. Raises BitmapError for one that cannot be judged; the check says why elsewhere."""
    content, label = subject.read(index), semantic(subject, index)
    if label is None or isinstance(content.image, str):
        raise BitmapError("it has no image or no label that can be read")
    image = decode_image(content.image)
    if label.shape != image.shape[:2] or int(label.max(initial=0)) > subject.labels.num_labels:
        raise BitmapError("its label does not fit its image or its classes")
    return image, label


# -------------------------------------------------------------------- pictures


def _picture(name: str, region: Region, pixels: tuple[RGB, Bitmap, Bitmap], labels: LabelMap) -> RGB:
    """Image, label and prediction around a region, and a legend."""
    top, bottom, left, right = _view(region, pixels[0].shape)
    image, label, said = (a[top:bottom, left:right] for a in pixels)
    box = (region.box[0] - left, region.box[1] - top, *region.box[2:])
    present = [c for c in np.union1d(np.unique(label), np.unique(said)) if c > 0]
    names = labels.id2label
    return panel(
        [
            (name, _boxed(image, box)),
            (f"label: {names[region.label]}", overlay(image, label, labels.colors)),
            (f"model: {names[region.said]}, {percent(region.confidence)}", overlay(image, said, labels.colors)),
        ],
        [(names[c], labels.classes[c - 1].color) for c in present],
    )


def _view(region: Region, size_hw: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of what is shown of an image: the region and what is around it."""
    left, top, width, height = region.box
    half = max(_LEAST_SIDE, round(max(width, height) * (1 + 2 * _MARGIN))) // 2
    y, x = top + height // 2, left + width // 2
    return max(0, y - half), min(size_hw[0], y + half), max(0, x - half), min(size_hw[1], x + half)


def _boxed(image: RGB, box: tuple[int, ...]) -> RGB:
    """The image with a frame around a box, white in black so that it shows on any ground."""
    left, top, width, height = box
    drawn = Image.fromarray(np.ascontiguousarray(image))
    pen = ImageDraw.Draw(drawn)
    pen.rectangle((left - 2, top - 2, left + width + 1, top + height + 1), outline=(0, 0, 0))
    pen.rectangle((left - 1, top - 1, left + width, top + height), outline=(255, 255, 255))
    return np.asarray(drawn)
