"""An evaluation folder, as comparisons and reports read it. Needs no torch."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsync.errors import DatasetError
from labelsync.evaluation.figures import Figures
from labelsync.evaluation.groups import Groups
from labelsync.evaluation.safety import safety_ratios
from labelsync.evaluation.tally import COUNTS, Tally, read_tally
from labelsync.labels import LabelMap
from labelsync.records.text import from_json
from labelsync.store.manifest import Manifest, read_manifest, verify_files


@dataclass(frozen=True, eq=False)
class Side:
    """One evaluation: its folder and manifest, and what it counted of which classes.

    `lacking` = those of the classes that its model does not know, and so can only miss.
    """

    folder: Path
    tally: Tally
    classes: tuple[str, ...]
    manifest: Manifest
    lacking: tuple[str, ...] = ()

    @property
    def settings(self) -> Mapping[str, Any]:
        """How it counted."""
        return self.manifest.settings

    @property
    def labels(self) -> LabelMap:
        """The classes of its dataset."""
        labels = self.manifest.labels
        assert labels is not None  # noqa: S101 - `read_side` has looked
        return labels

    @property
    def groups(self) -> Groups:
        """What its classes mean to a robot."""
        return from_json(Groups, json.dumps(self.settings["groups"]), where=f"the manifest of {self.folder}")

    def figures(self, skipped: Collection[str]) -> Figures:
        """Its figures, without the families `skipped`."""
        if "safety" in skipped:
            return Figures(self.tally, self.classes, skipped=skipped)
        return Figures(self.tally, self.classes, safety_ratios(self.tally, self.groups, self.classes), skipped=skipped)


def read_side(folder: str | Path) -> Side:
    """An evaluation folder. Raises DatasetNotFound, DatasetError: none, or one whose files were edited."""
    folder = Path(folder)
    manifest = read_manifest(folder, "evaluate")
    changed = [name for name in verify_files(folder, manifest) if "/" not in name]  # pictures may be thrown away
    if changed:
        raise DatasetError(f"{changed[0]} of {folder} was changed since it was written", hint="evaluate again")
    if manifest.labels is None or COUNTS not in manifest.files:
        raise DatasetError(f"{folder} has no counts per image", hint="evaluate again, with --overwrite")
    tally = read_tally(folder, manifest.labels.num_labels)
    lacking = tuple(manifest.summary.get("lacking", ()))
    return Side(folder, tally, manifest.labels.names, manifest, lacking)
