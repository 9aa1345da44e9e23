"""summary.md of a round: one page that tells people what came of it, made of the records that its stages left."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from labelsync.dataset.card import cell
from labelsync.errors import LabelsyncError
from labelsync.pipeline.baseline import COMPARISON, score
from labelsync.records.changes import DiffRecord
from labelsync.records.rounds import RoundRecord
from labelsync.records.scores import CompareRecord, Delta
from labelsync.records.text import from_json
from labelsync.store.files import write_text
from labelsync.store.manifest import read_manifest

T = TypeVar("T")

SUMMARY = "summary.md"
_LISTED = 10  # images that newly fail


def write_summary(record: RoundRecord) -> None:
    """Write summary.md into the round's folder."""
    folder = Path(record.path)
    comparison = _read(CompareRecord, folder / COMPARISON) if record.baseline_mean_iou is not None else None
    diff = _read(DiffRecord, folder / "diff.json")
    parts = [
        _head(record, comparison),
        _stages(record),
        _changes(diff),
        _scores(folder, comparison),
        _images(comparison),
    ]
    write_text(folder / SUMMARY, "\n\n".join(part for part in parts if part) + "\n")


def _read(kind: type[T], path: Path) -> T | None:
    """A record that a stage left, None where it did not."""
    return from_json(kind, path.read_bytes(), where=str(path)) if path.is_file() else None


def _head(record: RoundRecord, comparison: CompareRecord | None) -> str:
    lines = [f"# Round {cell(record.name)}", ""]
    lines += [f"* {cell(dataset)}: release {cell(release)}" for dataset, release in record.releases.items()]
    if record.mean_iou is not None:
        change = f", {_change(comparison.figures['mean_iou'])} against the last model" if comparison else ""
        lines.append(f"* mean IoU **{score(record.mean_iou)}**{change}")
    lines += [f"* gate not met: {cell(gate)}" for gate in record.failed_gates]
    if record.production:
        lines.append("* its model is in **production**")
    lines += [f"* published: <{url}>" for url in (record.dataset_url, record.model_url) if url]
    return "\n".join(lines)


def _stages(record: RoundRecord) -> str:
    rows = [(s.stage, s.outcome, f"{s.seconds:.1f}", cell(s.note)) for s in record.stages]
    return "## Stages\n\n" + _table(("stage", "outcome", "seconds", "what came of it"), rows)


def _changes(diff: DiffRecord | None) -> str:
    """Pixels of each class that labels gained and lost since the round before."""
    if diff is None:
        return ""
    rows = [
        (cell(name), *(f"{n:,}" for n in (c.gained, c.lost, c.new, c.gone)))
        for name, c in diff.classes.items()
        if name != "unlabeled"
    ]
    renamed = [f"* {cell(old)} is now called {cell(new)}" for old, new in diff.categories.renamed]
    table = _table(("class", "pixels gained", "lost", "in new labels", "in labels that went"), rows) if rows else ""
    body = "\n\n".join(part for part in ("\n".join(renamed), table) if part)
    return f"## Labels that changed\n\n{body}" if body else ""


def _scores(folder: Path, comparison: CompareRecord | None) -> str:
    try:
        scored = read_manifest(folder / "evaluation", "evaluate").summary["per_category_iou"]
    except LabelsyncError:  # not evaluated yet
        return ""
    deltas: Mapping[str, Delta] = {} if comparison is None else comparison.figures
    rows = []
    for name, iou in scored.items():
        delta = deltas.get(f"iou.{name}")
        last, change = ("-", "-") if delta is None else (score(delta.baseline), _change(delta))
        rows.append((cell(name), score(iou), last, change))
    return "## Scores\n\n" + _table(("class", "IoU", "last model", "change"), rows)


def _images(comparison: CompareRecord | None) -> str:
    if comparison is None or not (comparison.newly_failed or comparison.newly_fixed):
        return ""
    lines = [
        f"{len(comparison.newly_failed)} images fail now that did not (mean IoU below {comparison.fail_below:g}), "
        f"{len(comparison.newly_fixed)} fail no more.",
        "",
    ]
    lines += [
        f"* {cell(image.name)}: {score(image.baseline)} -> {score(image.new)}"
        for image in comparison.newly_failed[:_LISTED]
    ]
    return "## Images\n\n" + "\n".join(lines).rstrip()


def _change(delta: Delta) -> str:
    if delta.delta is None:
        return "-"
    return f"{delta.delta:+.4f}" + ("" if delta.low is None else f" [{delta.low:+.4f}, {delta.high:+.4f}]")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
