"""How often each class is there, per split, and the classes that are missing somewhere."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labelsync.labels import LabelMap
from labelsync.quality.labelled import LabelCounts, counted
from labelsync.records.findings import ClassBalance, Finding

_TRAIN = "train"


@dataclass
class Tally:
    """Sums over the labels of each split. `pixels`, `images` = split -> (K + 1,) int64 by disk id."""

    pixels: dict[str, npt.NDArray[np.int64]]
    images: dict[str, npt.NDArray[np.int64]]

    @classmethod
    def of(cls, splits: Mapping[str, int], labels: LabelMap) -> "Tally":
        """Nothing counted yet."""
        zeros = [{split: np.zeros(labels.num_labels + 1, np.int64) for split in splits} for _ in range(2)]
        return cls(*zeros)

    def add(self, split: str, counts: LabelCounts) -> None:
        """One more label."""
        self.pixels[split] += counts.pixels
        self.images[split][list(counts.present)] += 1

    def merge(self, other: "Tally") -> None:
        """What another tally of the same splits has counted."""
        for split in self.pixels:
            self.pixels[split] += other.pixels[split]
            self.images[split] += other.images[split]


def balance(tally: Tally, labels: LabelMap) -> dict[str, ClassBalance]:
    """Class name -> its pixels and images; a removed class is left out unless something shows it."""
    found = {
        name: ClassBalance(
            {split: int(pixels[i]) for split, pixels in tally.pixels.items()},
            {split: int(images[i]) for split, images in tally.images.items()},
        )
        for i, name in enumerate(labels.names, 1)
    }
    gone = {c.name for c in labels.classes if c.removed}
    return {name: b for name, b in found.items() if name not in gone or any(b.images.values())}


def missing_classes(classes: Mapping[str, ClassBalance], splits: Mapping[str, int]) -> list[Finding]:
    """A finding for each class that no label shows, or that not every split has."""
    findings = []
    for name, b in classes.items():
        without = [split for split, n in b.images.items() if not n]
        if not any(b.images.values()):
            message = f"class {name!r} is in none of {counted(sum(splits.values()), 'label')}"
            findings.append(Finding("unused-class", "warning", message, class_name=name))
        elif without:
            findings.append(_unevenly(name, b, without))
    return findings


def _unevenly(name: str, b: ClassBalance, without: list[str]) -> Finding:
    there = ", ".join(f"{split} ({counted(n, 'image')})" for split, n in b.images.items() if n)
    message = f"class {name!r} is in {there} and not in {' or '.join(without)}"
    untrained = _TRAIN in without
    message += ": it is scored and never learnt" if untrained else ": its scores there say nothing"
    return Finding(
        "class-in-split",
        "error" if untrained else "warning",
        message,
        split=without[0] if len(without) == 1 else "",
        class_name=name,
        score=float(sum(b.images.values())),
    )
