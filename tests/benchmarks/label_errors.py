"""How many planted label errors `check --model` finds: some components get another class, in a copy of a split.

Of N planted errors the first N regions of the ranking are looked at: precision is the share of them that lie in a
planted error, recall the share of planted errors that one of them lies in.

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

import labelsync
from labelsync.evaluation.components import components
from labelsync.labels import LabelMap
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.semantic import decode_semantic, encode_semantic
from labelsync.quality.second_opinion import LEAST_SHARE, Opinion
from labelsync.quality.subject import Content, Subject
from labelsync.records.release import Row
from tests.benchmarks.measure import say

SHARES = (0.01, 0.05, 0.1)  # of the components
SEED = 0


@dataclass(frozen=True, eq=False)
class Planted:
    """A split with errors: its rows, and for each (H, W) the number of the planted error from 1, 0 = none."""

    rows: list[Row]
    errors: list[npt.NDArray[np.int64]]
    number: int
    components: int


def plant(rows: Sequence[Row], labels: LabelMap, share: float) -> Planted:
    """Give `share` of the components that are not specks another class, drawn from all others."""
    draw = np.random.default_rng(SEED)
    spoilt, errors, number, total = [], [], 0, 0
    for row in rows:
        label = decode_semantic(row.label).copy()
        found = components(label, np.array([False] + [True] * labels.num_labels))
        large = np.flatnonzero(found.pixels >= max(10, round(LEAST_SHARE * label.size)))
        first = found.first_pixels
        of = _numbers(found, label)
        marks = np.zeros(label.shape, np.int64)
        total += len(large)
        for i in large[draw.random(len(large)) < share]:
            number += 1
            pixels = of == i
            own = int(label.ravel()[first[i]])
            label[pixels] = draw.choice([c for c in range(1, labels.num_labels + 1) if c != own])
            marks[pixels] = number
        spoilt.append(Row(row.name, row.uuid, row.image, encode_semantic(label)))
        errors.append(marks)
    return Planted(spoilt, errors, number, total)


def _numbers(found: Any, label: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(H, W) number of the component of each pixel, -1 where there is none."""
    numbers = np.full(label.size, -1, np.int64)
    labelled = np.flatnonzero(label.ravel())
    numbers[labelled] = found.at(labelled)
    return numbers.reshape(label.shape)


def measure(rows: Sequence[Row], labels: LabelMap, segmenter: Segmenter, share: float) -> dict[str, float]:
    """Precision and recall at the number of planted errors."""
    planted = plant(rows, labels, share)

    def read(index: int) -> Content:
        row = planted.rows[index]
        return Content("all", row.name, row.uuid, row.image, row.label)

    subject = Subject("planted", "convert", "", "", labels, {"all": len(rows)}, {}, (), read)
    opinion = Opinion(subject, segmenter)
    opinion.findings(bound=0.0, least=10)
    top = opinion.doubts[: planted.number]
    hits = [int(planted.errors[d.index][d.region.at[1], d.region.at[0]]) for d in top]
    found = {h for h in hits if h}
    return {
        "components": planted.components,
        "planted": planted.number,
        "precision": sum(h > 0 for h in hits) / max(len(hits), 1),
        "recall": len(found) / max(planted.number, 1),
    }


def table_of(rows: Sequence[Row], labels: LabelMap, segmenter: Segmenter, title: str) -> str:
    """A line per share of planted errors."""
    lines = [
        f"\n### Label errors that a model finds, {title}\n",
        "| errors in components | precision at that number | recall at that number | by chance |",
        "| --- | --- | --- | --- |",
    ]
    for share in SHARES:
        found = measure(rows, labels, segmenter, share)
        lines.append(
            f"| {found['planted']} of {found['components']} | {found['precision']:.2f} | {found['recall']:.2f}"
            f" | {found['planted'] / max(found['components'], 1):.2f} |"
        )
    return "\n".join(lines) + "\n"


def run(folder: Path) -> str:
    """Drawn scenes, and a model that was trained on others of them."""
    say("label_errors: drawing and training")
    record = labelsync.demo(out=folder / "demo")
    data = labelsync.load(record.convert.path)
    return table_of(
        list(data.splits["test"]), data.labels, Segmenter(record.train.path), "drawn scenes, the demo's model"
    )


def main() -> None:
    """A dataset and a model of your own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset")
    parser.add_argument("model")
    parser.add_argument("--split", default="validation")
    given = parser.parse_args()
    data = labelsync.load(given.dataset)
    segmenter = Segmenter(given.model, labels=data.labels)
    print(table_of(list(data.splits[given.split]), data.labels, segmenter, f"{given.dataset}, {given.split}"))


if __name__ == "__main__":
    main()
