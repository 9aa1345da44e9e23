"""`MeanIoU` and the confusion counts beside evaluate's mean_iou, per 1080p image of 35 classes, on one core.

evaluate's metric has to be loaded from the Hub, so its computation stands here: that of huggingface/evaluate,
metrics/mean_iou/mean_iou.py, `intersect_and_union` and what follows it. What evaluate does before, keeping every map on
disk until `compute`, is left out; it takes longer than all of this. CPU time; both sides get the same arrays.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.confusion import confusion
from labelsync.evaluation.metric import MeanIoU
from labelsync.evaluation.scores import scores
from tests.benchmarks import scenes
from tests.benchmarks.measure import ROUNDS, Line, median, say, table, workplace

IMAGES = 4
CLASSES = 35
VOID = 255
AIM = 10
EXACT = 1e-12

Maps = Sequence[npt.NDArray[Any]]


def run(folder: Path, *, images: int = IMAGES, rounds: int = ROUNDS, size: tuple[int, int] = scenes.FULL_HD) -> str:
    """Measure all sides in turn; the table."""
    del folder  # nothing is written
    say(f"metric: drawing {images} pairs of maps")
    pairs = [maps_of(i, size=size) for i in range(images)]
    references, predictions = [r for r, _ in pairs], [p for _, p in pairs]
    noise = [np.random.default_rng(i).integers(0, CLASSES, size).astype(np.uint8) for i in range(images)]
    kinds = {
        "uint8 maps": (references, predictions),
        "int64 maps": ([r.astype(np.int64) for r in references], [p.astype(np.int64) for p in predictions]),
        "uint8 maps of noise": (noise, noise[::-1]),
    }
    lines = []
    for kind, (meant, said) in kinds.items():
        sides = {"MeanIoU": ours, "confusion": by_confusion, "evaluate": theirs}
        if kind == "int64 maps":
            del sides["confusion"]  # labels from disk are bytes
        spent: dict[str, list[float]] = {name: [] for name in sides}
        results = {}
        for _ in range(rounds):
            for name, side in sides.items():
                start = time.process_time()
                results[name] = side(said, meant)
                spent[name].append((time.process_time() - start) / images * 1e3)
        there = median(spent["evaluate"])
        for name in sides.keys() - {"evaluate"}:
            here = median(spent[name])
            apart = difference(results[name], results["evaluate"])
            aim = AIM if kind == "uint8 maps" else None  # what the aim was set beside
            met = None if aim is None else there / here >= aim and apart <= EXACT
            result = f"{there / here:.1f} times, {apart:.0e} apart"
            lines.append(
                Line(f"{name}, {kind}", f"{here:.2f}", f"{there:.2f}", result, f"{aim} times" if aim else "", met)
            )
    title = f"Metric, {size[1]}x{size[0]}, {CLASSES} classes, CPU ms per image on one core"
    return table(title, sorted(lines, key=lambda line: line.what), sides=("labelsync", "evaluate's mean_iou"))


def maps_of(index: int, *, size: tuple[int, int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """(reference, prediction): outlines a few pixels off, and wrong blocks, as upsampled answers of a model are."""
    _, ids, _ = scenes.draw(index, size=size)
    reference = np.where(ids == 0, VOID, ids % CLASSES).astype(np.uint8)
    prediction = np.roll(ids % CLASSES, (3, 5), (0, 1)).astype(np.uint8)
    rng = np.random.default_rng(index)
    wrong = np.kron(rng.random((-(-size[0] // 16), -(-size[1] // 16))) < 0.1, np.ones((16, 16), bool))
    prediction[wrong[: size[0], : size[1]]] = rng.integers(CLASSES)
    return reference, prediction


def ours(predictions: Maps, references: Maps) -> dict[str, Any]:
    """The replacement for `evaluate.load("mean_iou")`."""
    metric = MeanIoU(num_labels=CLASSES, ignore_index=VOID)
    metric.add_batch(predictions=predictions, references=references)
    return metric.compute()


def by_confusion(predictions: Maps, references: Maps) -> dict[str, Any]:
    """As `labelsync evaluate` and training count, in disk ids: 0 = unlabeled, which both maps say one higher."""
    one = np.uint8(1)
    total = sum(confusion(r + one, p + one, CLASSES) for r, p in zip(references, predictions, strict=True))
    found = scores(np.asarray(total))
    return {"mean_iou": found.mean_iou, "per_category_iou": found.per_category_iou}


def theirs(predictions: Maps, references: Maps) -> dict[str, Any]:
    """evaluate's computation."""
    intersections, unions, labelled = np.zeros((3, CLASSES))
    for prediction, reference in zip(predictions, references, strict=True):
        kept = reference != VOID
        said, meant = prediction[kept], reference[kept]
        agreed = said[said == meant]
        areas = [histogram(x) for x in (agreed, said, meant)]
        intersections += areas[0]
        unions += areas[1] + areas[2] - areas[0]
        labelled += areas[2]
    with np.errstate(invalid="ignore"):
        iou, accuracy = intersections / unions, intersections / labelled
    return {
        "mean_iou": np.nanmean(iou),
        "mean_accuracy": np.nanmean(accuracy),
        "overall_accuracy": intersections.sum() / labelled.sum(),
        "per_category_iou": iou,
        "per_category_accuracy": accuracy,
    }


def histogram(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pixels per class, as evaluate counts them."""
    return np.histogram(values, bins=CLASSES, range=(0, CLASSES - 1))[0]


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest between any two numbers of the same name; infinite where only one of them is NaN."""
    apart = [0.0]
    for name, value in one.items():
        a, b = np.atleast_1d(value), np.atleast_1d(other[name])
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return float("inf")
        apart.append(float(np.nanmax(np.abs(a - b), initial=0)))
    return max(apart)


if __name__ == "__main__":
    with workplace() as folder:
        print(run(folder))
