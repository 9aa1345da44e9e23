"""How a run went: the curves and the pictures that `train` left in its folder."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from labelsync.errors import DatasetError, LabelsyncError, ModelNotFound
from labelsync.evaluation.plots import Chart, curves
from labelsync.store.files import sha256_file
from labelsync.store.manifest import MANIFEST, Manifest, read_manifest

METRICS = "metrics.jsonl"
PICTURES = "pictures"
SAMPLES = 3
STEPS = 8

_STEP = re.compile(r"step-(\d+)")
_FILE = re.compile(r"(\d+)-(.+)\.jpg")


@dataclass(frozen=True)
class Shot:
    """A picture of a validation sample after some step, as a data URL: image, label, prediction."""

    step: int
    image: str
    width: int
    height: int
    best: bool


@dataclass(frozen=True)
class Film:
    """The pictures of one validation sample, in the order of the steps."""

    name: str
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Course:
    """A run.

    Attributes:
        manifest: None where it is not finished.
        scores: step, epoch and mean IoU of every evaluation.
        steps_pictured: evaluations that left pictures; `films` may hold fewer.
    """

    chart: Chart | None
    films: tuple[Film, ...]
    scores: tuple[Mapping[str, Any], ...]
    steps_pictured: int
    best_step: int | None
    manifest: Manifest | None


def read_course(folder: Path) -> Course:
    """The run in a folder, finished or not. Raises DatasetError if its metrics cannot be read."""
    try:
        manifest = read_manifest(folder, "train")
    except LabelsyncError:  # interrupted, or still going on
        manifest = None
    entries = _entries(folder / METRICS)
    best = None if manifest is None else manifest.summary.get("best_step")
    scores = tuple(e for e in entries if isinstance(e.get("eval_mean_iou"), int | float))
    films, pictured = _films(folder / PICTURES, best)
    return Course(_chart(entries, scores, best), films, scores, pictured, best, manifest)


def require_run(folder: Path) -> Path:
    """The folder. Raises ModelNotFound if no run is in it."""
    if not (folder / METRICS).is_file() and not (folder / PICTURES).is_dir():
        raise ModelNotFound(f"{folder} has no {METRICS}, so it is no run", hint="give a folder of labelsync train")
    return folder


def course_files(folder: Path) -> list[str]:
    """What of a run its report depends on: names with sizes or digests."""
    metrics = [sha256_file(folder / name) for name in (METRICS, MANIFEST) if (folder / name).is_file()]
    pictures = sorted((folder / PICTURES).rglob("*.jpg"))
    return metrics + [f"{p.relative_to(folder).as_posix()} {p.stat().st_size}" for p in pictures]


def _entries(path: Path) -> list[dict[str, Any]]:
    try:
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        return [entry for entry in found if "step" in entry]
    except (OSError, ValueError, TypeError) as e:
        raise DatasetError(f"{path} cannot be read ({e})", hint="train again, or leave out --run") from None


def _chart(entries: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]], best: int | None) -> Chart | None:
    lines = {
        "loss": {"training loss": _points(entries, "loss"), "validation loss": _points(entries, "eval_loss")},
        "validation": {
            "mean IoU": _points(entries, "eval_mean_iou"),
            "mean accuracy": _points(entries, "eval_mean_accuracy"),
            "overall accuracy": _points(entries, "eval_overall_accuracy"),
        },
    }
    known = {panel: {line: points for line, points in found.items() if points} for panel, found in lines.items()}
    panels = {panel: found for panel, found in known.items() if found}
    if not panels:
        return None
    said = [e["eval_mean_iou"] for e in scores]
    alt = "Curves over the steps of the training: loss"
    if said:
        alt += f", and mean IoU on the validation split, from {said[0]:.3f} to {said[-1]:.3f}, at best {max(said):.3f}"
    return curves(panels, best=best, alt=alt)


def _points(entries: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(e["step"], e[key]) for e in entries if isinstance(e.get(key), int | float)]


# -------------------------------------------------------------------- pictures


def _films(folder: Path, best: int | None) -> tuple[tuple[Film, ...], int]:
    """A few samples after a few steps, and how many steps have pictures."""
    steps = {int(m[1]): p for p in sorted(folder.glob("step-*")) if (m := _STEP.fullmatch(p.name)) and p.is_dir()}
    shown = spread(sorted(steps), STEPS, keep=best)
    films: dict[str, list[Shot]] = {}
    for step in shown:
        files = [(int(m[1]), m[0], p) for p in steps[step].iterdir() if (m := _FILE.fullmatch(p.name))]
        for _, name, path in sorted(files)[:SAMPLES]:
            films.setdefault(name, []).append(_shot(path, step, best=step == best))
    named = ((_FILE.fullmatch(file), shots) for file, shots in films.items())
    return tuple(Film(m[2], tuple(shots)) for m, shots in named if m), len(steps)


def _shot(path: Path, step: int, *, best: bool) -> Shot:
    """Raises DatasetError for a file that is no picture: it goes into the page as it is."""
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            width, height = picture.size
    except (OSError, ValueError) as e:
        raise DatasetError(f"{path} is no picture ({e})", hint="delete it, or leave out --run") from None
    return Shot(step, "data:image/jpeg;base64," + base64.b64encode(data).decode(), width, height, best)


def spread(steps: Sequence[int], number: int, *, keep: int | None = None) -> list[int]:
    """At most `number` of the steps: the first, the last, `keep` if it is one of them, the rest evenly between."""
    if len(steps) <= number:
        return list(steps)
    chosen = {steps[round(i * (len(steps) - 1) / (number - 1))] for i in range(number)}
    if keep is not None and keep in steps and keep not in chosen:
        nearest = min(chosen - {steps[0], steps[-1]}, key=lambda step: (abs(step - keep), step))
        chosen = (chosen - {nearest}) | {keep}
    return sorted(chosen)
