"""A model's opinion of the labels: where it finds them far less probable than usual, ranked, and drawn.

The ways to find label errors that do well on segmentation (Lad, Mueller: "Estimating label quality and errors in
semantic segmentation data via any model", DataPerf at ICML 2023; Northcutt, Jiang, Chuang: "Confident Learning", JAIR
2021) ask how probable a model finds the given label, not how sure it is of another. So does this one, of every region
that the model gives another class than the label does, and in proportion to what is usual:

    likely  = geometric mean of the model's probabilities of the label's class over the region's pixels
    usual   = what things of that class and size have as a rule, see `labelsync.quality.usual`
    score   = 1 - min(1, likely / usual)

So 0 is as usual, 0.5 half as probable, 0.99 a hundred times less. Asked of a model that was trained on the same labels
it finds less, since it has learned some of the mistakes; splits that it was not trained on show most. Samples are read,
predicted and forgotten one batch at a time.
"""

import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from tqdm import tqdm

from labelsync.errors import BitmapError, ModelError
from labelsync.labels import LabelMap
from labelsync.model.ahead import load_ahead
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image, encode_png
from labelsync.pixels.overlay import overlay, panel
from labelsync.quality.contradict import Bitmap, Judged, Region, judge
from labelsync.quality.labelled import percent
from labelsync.quality.look import semantic
from labelsync.quality.subject import Subject
from labelsync.quality.usual import Usual
from labelsync.records.findings import Finding
from labelsync.store.files import write_bytes

RGB = npt.NDArray[np.uint8]

KEPT = 5000  # findings in memory, the worst: of any number of samples
LEAST_SHARE = (
    0.0005  # of an image, that a region must have: of smaller ones a model sees and annotators draw too little
)
_MARGIN = 0.75  # around a region in its picture, in sizes of the region
_LEAST_SIDE = 160  # of what a picture shows, in pixels of the image


@dataclass(frozen=True, eq=False)
class Doubt:
    """A region that the model contradicts, the sample's number in the subject, and how bad it is, see the module."""

    index: int
    region: Region
    score: float = 0.0


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
        self._known = _known(self.segmenter, self.subject.labels)
        self._usual = Usual(self.subject.labels.num_labels)

    @property
    def digest(self) -> str:
        """Of the model."""
        return self.segmenter.loaded.digest

    def findings(self, *, bound: float, least: int) -> list[Finding]:
        """The regions whose score is `bound` or more, the worst first, at most `KEPT`.

        Those of fewer than `least` pixels, or of less than `LEAST_SHARE` of their image, are left out.

        What is usual is known once all is seen. Until then twice `KEPT` regions wait at most: of more, those stay that
        are the worst by what is usual so far.
        """
        self._usual = Usual(self.subject.labels.num_labels)
        waiting: list[Doubt] = []
        for index, judged in self._all(least):
            self._usual.add(judged.classes, judged.pixels, judged.log_likely)
            waiting += [Doubt(index, region) for region in judged.regions]
            if len(waiting) > 2 * KEPT:
                waiting = self._worst(waiting)
        self.doubts = tuple(doubt for doubt in self._worst(waiting) if doubt.score >= bound)
        return [self._finding(doubt) for doubt in self.doubts]

    def _all(self, least: int) -> Iterator[tuple[int, Judged]]:
        """What the model says of each sample that can be judged, by its number."""
        subject, segmenter = self.subject, self.segmenter
        with tqdm(total=subject.count, desc="second opinion", unit="sample", disable=None, file=sys.stderr) as bar:
            numbers = range(subject.count)
            for batch in load_ahead(numbers, lambda i: _read(subject, i), batch_size=segmenter.batch_size):
                whole = [(loading.item, *loading.value) for loading in batch if loading.value]
                labels = [label for *_, label in whole]
                answers = segmenter.segment_with_labels([image for _, image, _ in whole], labels)
                for (index, _, label), maps in zip(whole, answers, strict=True):
                    smallest = max(1, least, round(LEAST_SHARE * label.size))
                    yield index, judge(label, *maps, self._known, least=smallest)
                bar.update(len(batch))

    def _worst(self, doubts: list[Doubt]) -> list[Doubt]:
        """The worst `KEPT`, scored by what is usual so far, the worst first; of two alike the larger, then the first.

        They are ranked by the logarithm: the score of two that are many times less probable than usual is nearly one.
        """
        regions = [doubt.region for doubt in doubts]
        usual = self._usual.log_usual([r.label for r in regions], [r.pixels for r in regions])
        less = [float(u) - r.log_likely for u, r in zip(usual, regions, strict=True)]
        ranks = [(-round(x, 9), -d.region.pixels, d.index, d.region.box) for x, d in zip(less, doubts, strict=True)]
        order = sorted(range(len(doubts)), key=ranks.__getitem__)[:KEPT]
        return [Doubt(doubts[i].index, regions[i], -math.expm1(min(0.0, -less[i]))) for i in order]

    def _finding(self, doubt: Doubt) -> Finding:
        """What the check tells of a region."""
        region, names = doubt.region, self.subject.labels.id2label
        left, top, width, height = region.box
        part = "all" if region.share >= 1 else percent(region.share)
        message = (
            f"{region.pixels:,} pixels of {names[region.label]} at x {left}, y {top} ({width}x{height}), {part} of that"
            f" object or area, look like {names[region.said]} ({percent(region.confidence)} sure);"
            f" {names[region.label]} is {_times(doubt.score)}"
        )
        content = self.subject.read(doubt.index)
        return Finding(
            "contradicted-label",
            "info",  # a model's opinion: no gate for a pipeline
            message,
            split=content.split if self.subject.stage == "convert" else "",
            name=content.name,
            uuid=content.uuid,
            class_name=names[region.label],
            region=region.box,
            score=round(doubt.score, 6),
        )

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


def _times(score: float) -> str:
    """How much less probable than usual: the end of a message."""
    times = 1 / max(1 - score, 1e-9)
    if times < 1.1:
        return "as likely there as it usually is"
    return f"{times:.{0 if times >= 9.95 else 1}f} times less likely there than usual for its size"


def _known(segmenter: Segmenter, labels: LabelMap) -> npt.NDArray[np.bool_]:
    """(K + 1,): the classes that the model has an output for."""
    known = np.array([False, *(name not in segmenter.lacking for name in labels.names)])
    if not known.any():
        raise ModelError(
            f"{segmenter.loaded.source} knows none of the classes of these labels",
            hint="give a model that was trained on this dataset, or on one with the same class names",
        )
    return known


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
