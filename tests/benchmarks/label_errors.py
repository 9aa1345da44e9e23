"""How many planted label errors `check --model` finds: some components get another class, in a copy of a split.

The other class is drawn from all others, or, which is what annotators do, from those that the model takes that class
for, in proportion. Of N planted errors the first N regions of the ranking are looked at: precision is the share of them
whose place lies in a planted error, recall the share of planted errors that hold one of them. The labels' own errors
are there too, and to find one of them counts as wrong here.

Beside it, rankings of whole components that need no more than the probability of the given label: by its mean, and by
the softmin over their pixels, the best score of Lad and Mueller, "Estimating label quality and errors in semantic
segmentation data via any model" (2023), with their temperature. Chance is the share of components with an error.

`python -m tests.benchmarks.label_errors DATASET MODEL [--split validation]` does it with real data and a real model; by
itself it draws scenes and trains for a minute.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import labelsync
from labelsync.evaluation.components import components
from labelsync.evaluation.confusion import confusion
from labelsync.labels import LabelMap
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic, encode_semantic
from labelsync.quality.second_opinion import LEAST_SHARE, Opinion
from labelsync.quality.subject import Content, Subject
from labelsync.records.release import Row
from labelsync.store.files import sha256
from tests.benchmarks.measure import say

SHARES = (0.01, 0.05, 0.1)  # of the components
LEAST = 10  # pixels
TEMPERATURE = 0.1  # of the softmin
SEED = 0

Floats = npt.NDArray[np.float64]
Hits = list[int]  # number of the planted error at each place of a ranking, 0 = none


class Once(Segmenter):
    """A Segmenter that runs the model once for each image, and remembers its small outputs."""

    def __init__(self, *args: Any, **named: Any) -> None:
        self._seen: dict[str, list[torch.Tensor]] = {}
        super().__init__(*args, **named)

    def _plain_views(self, arrays: Sequence[npt.NDArray[np.uint8]]) -> list[list[torch.Tensor]]:
        keys = [sha256(array.tobytes()) for array in arrays]
        for key, array in zip(keys, arrays, strict=True):
            if key not in self._seen:
                (self._seen[key],) = super()._plain_views([array])
        return [self._seen[key] for key in keys]


@dataclass(frozen=True, eq=False)
class Planted:
    """A split with errors: its rows, and for each (H, W) the number of the planted error from 1, 0 = none."""

    rows: list[Row]
    errors: list[npt.NDArray[np.int64]]
    number: int
    components: int


def plant(rows: Sequence[Row], share: float, odds: Floats) -> Planted:
    """Give `share` of the components that are not specks another class; (K, K) `odds` of each class by each."""
    draw = np.random.default_rng(SEED)
    known = np.array([False] + [True] * len(odds))
    spoilt, errors, number, total = [], [], 0, 0
    for row in rows:
        label = decode_semantic(row.label).copy()
        found = components(label, known)
        of = found.numbers(label.shape)
        large = np.flatnonzero(found.pixels >= least_of(label))
        marks = np.zeros(label.shape, np.int64)
        total += len(large)
        for i in large[draw.random(len(large)) < share]:
            number += 1
            chances = odds[found.classes[i] - 1]
            label[of == i] = 1 + draw.choice(len(odds), p=chances / chances.sum())
            marks[of == i] = number
        spoilt.append(Row(row.name, row.uuid, row.image, encode_semantic(label)))
        errors.append(marks)
    return Planted(spoilt, errors, number, total)


def least_of(label: npt.NDArray[Any]) -> int:
    """What is too small for the check, in pixels."""
    return max(LEAST, round(LEAST_SHARE * label.size))


def any_other(labels: LabelMap) -> Floats:
    """(K, K): every other class alike."""
    return 1.0 - np.eye(labels.num_labels)


def confused(rows: Sequence[Row], labels: LabelMap, segmenter: Segmenter) -> Floats:
    """(K, K): how many pixels of each class the model takes for each other one; one more, so that none is without."""
    found = any_other(labels)
    for row in rows:
        label, said = decode_semantic(row.label), segmenter.segment(row.image)
        found += confusion(label, said, labels.num_labels)[:, -labels.num_labels :]
    return found * any_other(labels)


# -------------------------------------------------------------------- rankings


def of_check(planted: Planted, labels: LabelMap, segmenter: Segmenter) -> tuple[Hits, list[int]]:
    """The regions of `check --model`, and the samples in the order of their worst one."""

    def read(index: int) -> Content:
        row = planted.rows[index]
        return Content("all", row.name, row.uuid, row.image, row.label)

    subject = Subject("planted", "convert", "", "", labels, {"all": len(planted.rows)}, {}, (), read)
    opinion = Opinion(subject, segmenter)
    opinion.findings(bound=0.0, least=LEAST)
    doubts = opinion.doubts
    hits = [int(planted.errors[d.index][d.region.at[1], d.region.at[0]]) for d in doubts[: planted.number]]
    return hits, list(dict.fromkeys(d.index for d in doubts))


def of_components(planted: Planted, labels: LabelMap, segmenter: Segmenter) -> tuple[Hits, Hits]:
    """Whole components by the mean, and by the softmin, of the probability of the given label."""
    known = np.array([False, *(name not in segmenter.lacking for name in labels.names)])
    means, softmins, hits = [], [], []
    for row, marks in zip(planted.rows, planted.errors, strict=True):
        label = decode_semantic(row.label)
        ((_, _, likely),) = segmenter.segment_with_labels([decode_image(row.image)], [label])
        found = components(label, known)
        weights = np.exp(-likely.astype(np.float64) / TEMPERATURE)
        large = found.pixels >= least_of(label)
        means += list((found.total(likely) / found.pixels)[large])
        softmins += list((found.total(weights * likely) / found.total(weights))[large])
        hits += list(marks.ravel()[found.lowest(likely)][large])
    found_by = [[int(hits[i]) for i in np.argsort(x, kind="stable")[: planted.number]] for x in (means, softmins)]
    return found_by[0], found_by[1]


def told(hits: Hits, number: int) -> str:
    """Precision and recall."""
    return f"{sum(h > 0 for h in hits) / max(len(hits), 1):.2f}, {len(set(hits) - {0}) / max(number, 1):.2f}"


def line_of(kind: str, share: float, odds: Floats, rows: Sequence[Row], labels: LabelMap, segmenter: Segmenter) -> str:
    """A row of the table."""
    planted = plant(rows, share, odds)
    hits, samples = of_check(planted, labels, segmenter)
    by_mean, by_softmin = of_components(planted, labels, segmenter)
    spoilt = {i for i, marks in enumerate(planted.errors) if marks.any()}
    first = len(spoilt & set(samples[: len(spoilt)])) / max(len(spoilt), 1)
    n = planted.number
    cells = (
        f"{n} of {planted.components}, {kind}",
        told(hits, n),
        told(by_softmin, n),
        told(by_mean, n),
        f"{n / max(planted.components, 1):.2f}",
        f"{first:.2f}",
        f"{len(spoilt) / max(len(rows), 1):.2f}",
    )
    return f"| {' | '.join(cells)} |"


def table_of(rows: Sequence[Row], labels: LabelMap, segmenter: Segmenter, title: str) -> str:
    """A line per kind and share of planted errors."""
    lines = [
        f"\n### Label errors that a model finds, {title}\n",
        "Precision and recall at the number of errors; samples: share with an error, of as many as have one.\n",
        "| errors in components | check | components by softmin | by mean | by chance | samples | by chance |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind, odds in (("any class", any_other(labels)), ("a likely class", confused(rows, labels, segmenter))):
        lines += [line_of(kind, share, odds, rows, labels, segmenter) for share in SHARES]
    return "\n".join(lines) + "\n"


def run(folder: Path) -> str:
    """Drawn scenes, and a model that was trained on others of them."""
    say("label_errors: drawing and training")
    record = labelsync.demo(out=folder / "demo")
    data = labelsync.load(record.convert.path)
    return table_of(list(data.splits["test"]), data.labels, Once(record.train.path), "drawn scenes, the demo's model")


def main() -> None:
    """A dataset and a model of your own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("model")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--skip", type=int, default=0, help="rows of the split to leave out, from its first")
    given = parser.parse_args()
    data = labelsync.load(given.dataset)
    segmenter = Once(given.model, labels=data.labels)
    rows = list(data.splits[given.split])[given.skip :]
    print(table_of(rows, data.labels, segmenter, f"{given.dataset}, {given.split}"))


if __name__ == "__main__":
    main()
