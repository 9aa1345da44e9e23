"""The record of an evaluation folder, and its figures by name. Needs no torch: `compare` and `report` read with it."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from labelsync.errors import DatasetError
from labelsync.evaluation.figures import HEADLINES, PER_CLASS
from labelsync.evaluation.gates import with_slices
from labelsync.records.results import EvaluateRecord
from labelsync.records.text import from_json
from labelsync.store.manifest import Manifest

EVALUATION = "evaluation.json"


def read_evaluation(folder: Path) -> dict[str, Any]:
    """All of evaluation.json. Raises DatasetError if it is not there or is no JSON object."""
    try:
        found = json.loads((folder / EVALUATION).read_bytes())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise DatasetError(f"{folder} has no {EVALUATION} that can be read", hint="evaluate again, with --overwrite")
    return found


def read_record(folder: Path, manifest: Manifest, here: Mapping[str, Any]) -> EvaluateRecord:
    """The record of an evaluation, made just now or found; `here` = what depends on this call."""
    names = {field.name for field in fields(EvaluateRecord)}
    known = {name: value for name, value in read_evaluation(folder).items() if name in names}
    text = json.dumps(known | dict(here) | {"digest": manifest.digest}, ensure_ascii=False, allow_nan=False)
    return from_json(EvaluateRecord, text, where=EVALUATION)


def figures_of(record: EvaluateRecord) -> dict[str, float | None]:
    """Every figure of an evaluation by the name that gates use."""
    figures = {name: getattr(record, name) for name in HEADLINES}
    for kind in PER_CLASS:
        figures |= {f"{kind}.{name}": value for name, value in getattr(record, f"per_category_{kind}").items()}
    if record.safety is not None:
        figures |= record.safety.figures
    return with_slices(figures, record.slices)
