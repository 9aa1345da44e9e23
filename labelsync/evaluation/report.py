"""`report`: an evaluation, what it is compared with and how the model came about, as one HTML file for people."""

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from labelsync.dataset.source import DatasetFiles, find_dataset
from labelsync.errors import DatasetError, OptionError, OutputExists
from labelsync.evaluation import sections
from labelsync.evaluation.cases import DANGEROUS, UNSCORED, WRONG, Turn, turned, worst_cases
from labelsync.evaluation.changes import rows_of, seen
from labelsync.evaluation.compare import compare, gate_figures
from labelsync.evaluation.course import Course, course_files, read_course, require_run
from labelsync.evaluation.folder import figures_of, read_evaluation, read_record
from labelsync.evaluation.gates import check_gates, read_gates, require_gates
from labelsync.evaluation.latency import Export, read_export
from labelsync.evaluation.page import key_of, render
from labelsync.evaluation.side import Side, read_side
from labelsync.labels import LabelMap
from labelsync.records.results import EvaluateRecord, ReportRecord
from labelsync.records.scores import CompareRecord
from labelsync.store.files import digest_of, sha256_file, write_text
from labelsync.store.manifest import Manifest, read_manifest

_OPEN = 6  # worst images that are shown at once
_LISTED = 20  # images that changed sides
_TURNED = 6  # of them that are shown, of each kind
_VERSIONS = ("labelsync", "torch", "transformers", "datasets", "matplotlib")


def report(
    evaluation: str | Path,
    *,
    baseline: str | Path | None = None,
    on_common: bool = False,
    run: str | Path | None = None,
    dataset: str | Path | None = None,
    export: str | Path | None = None,
    gate: Sequence[str] = (),
    gates: str | Path | None = None,
    out: str | Path = Path("report.html"),
    overwrite: bool = False,
) -> ReportRecord:
    """Write one HTML file that holds everything it shows, and opens without a network.

    Headline figures with intervals and gates, scores per class, confusion, class balance, the worst images, safety and
    slices come from the evaluation; the rest from what else is given. The same report again does nothing.

    Args:
        evaluation: the folder that `evaluate` left.
        baseline: an evaluation folder that it is compared with, as `compare` does: the change of each figure.
        on_common: compare what both evaluations share; see `compare`.
        run: the folder that `train` left: learning curves, and pictures of each evaluation during training.
        dataset: the dataset folder or Hub id: class balance of all splits, where its samples went, and the images that
            fail now or fail no more, as far as they are not among the worst of either evaluation.
        export: the JSON record of an export to a robot's format, for its latency.
        gate: thresholds as "mean_iou >= 0.55", or against a baseline "delta.mean_iou >= -0.01".
        gates: a TOML file with more of them, gates = ["mean_iou >= 0.55", ..].
        out: the file to write.
        overwrite: write the file, whatever lies at `out`.

    Raises:
        DatasetNotFound: a folder that is no finished evaluation, or no such dataset.
        DatasetError: an evaluation that was edited, or two that cannot be compared.
        ModelNotFound: `run` is no run.
        OptionError: a value that cannot be used.
        OutputExists: another file lies at `out`.
        GateFailed: a gate is not met. The file is written, and the error carries the record.
    """
    out = Path(out)
    made = _sources(Path(evaluation), baseline, on_common=on_common, run=run, dataset=dataset, export=export)
    figures = figures_of(made.record) | (gate_figures(made.compared) if made.compared else {})
    results = check_gates(read_gates(gate, gates), figures)
    made = replace(made, record=replace(made.record, gates=results))
    key = _key(made)
    unchanged = not overwrite and out.is_file() and key_of(_head(out)) == key
    if not unchanged:
        if out.exists() and not (overwrite and out.is_file()):
            raise OutputExists(f"{out} exists", hint="choose another --out or pass --overwrite")
        write_text(out, render(_context(made), key=key))
    written = ReportRecord(
        path=str(out),
        evaluation=str(evaluation),
        bytes=out.stat().st_size,
        digest=sha256_file(out),
        gates=results,
        unchanged=unchanged,
    )
    require_gates(results, written)
    return written


@dataclass(frozen=True, eq=False)
class Sources:
    """All that a report is made of."""

    side: Side
    manifest: Manifest
    record: EvaluateRecord
    about: Mapping[str, Any]
    baseline: Side | None
    compared: CompareRecord | None
    run: Path | None
    dataset: DatasetFiles | None
    export: Export | None


def _sources(
    evaluation: Path,
    baseline: str | Path | None,
    *,
    on_common: bool,
    run: str | Path | None,
    dataset: str | Path | None,
    export: str | Path | None,
) -> Sources:
    side = read_side(evaluation)
    manifest = read_manifest(evaluation, "evaluate")
    compared = None
    if baseline is not None:
        resamples = manifest.settings["resamples"]
        compared = compare(evaluation, baseline=baseline, on_common=on_common, resamples=resamples)
    return Sources(
        side=side,
        manifest=manifest,
        record=read_record(evaluation, manifest, {"path": evaluation.name, "seconds": 0.0}),
        about=read_evaluation(evaluation),
        baseline=None if baseline is None else read_side(baseline),
        compared=compared,
        run=None if run is None else require_run(Path(run)),
        dataset=None if dataset is None else find_dataset(dataset),
        export=None if export is None else read_export(export),
    )


def _key(made: Sources) -> str:
    """Over all that the page depends on, pictures that may have been thrown away among it."""
    dataset = made.dataset
    return digest_of(
        {
            "evaluation": [made.manifest.digest, made.manifest.created],
            "pictures": [_pictures(side) for side in (made.side, made.baseline) if side],
            "gates": [[gate.gate, gate.value] for gate in made.record.gates],
            "baseline": read_manifest(made.baseline.folder, "evaluate").digest if made.baseline else "",
            "left out": {what: list(names) for what, names in made.compared.left_out.items()} if made.compared else {},
            "run": course_files(made.run) if made.run else [],
            "dataset": [dataset.name, dataset.manifest.digest, dataset.revision] if dataset else [],
            "export": asdict(made.export) if made.export else {},
            "versions": _versions(),
        }
    )


def _pictures(side: Side) -> list[str]:
    folders = [side.folder / name for name in ("worst", "predictions")]
    files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
    return sorted(path.relative_to(side.folder).as_posix() for path in files)


def _head(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(4096)


def _versions() -> dict[str, str]:
    found = {}
    for name in _VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout that was never installed
            found[name] = ""
    return found


# -------------------------------------------------------------------- what is said


def _context(made: Sources) -> dict[str, Any]:
    """The names that the template knows."""
    tally, labels, record, compared = made.side.tally, made.manifest.labels, made.record, made.compared
    assert labels is not None  # noqa: S101 - `read_side` has looked
    course = read_course(made.run) if made.run else None
    groups = made.side.groups if made.side.settings["groups"] else None
    classes = sections.class_rows(record, labels, tally, compared)
    cases = worst_cases(made.side.folder, tally, labels, groups)
    turns = _turns(made, labels)
    old = made.baseline.tally.mean_iou if made.baseline else ()
    whole = made.dataset.manifest.summary.get("pixel_shares", {}) if made.dataset else {}
    return {
        "title": _title(made),
        "record": record,
        "about": made.about,
        "compared": compared,
        "baseline_about": read_evaluation(made.baseline.folder) if made.baseline else {},
        "headline": sections.headline(record, compared),
        "classes": classes,
        "class_chart": sections.class_chart(classes, labels),
        "confusion_chart": sections.confusion_chart(tally, labels),
        "confusion": tally.confusion,
        "confused": sections.confused(tally, labels),
        "balance_chart": sections.balance_chart(classes, record.split, whole),
        "whole_shares": whole,
        "change_chart": sections.change_chart(classes) if compared else None,
        "image_chart": sections.image_chart(tally.mean_iou, old),
        "calibration_chart": sections.calibration_chart(tally),
        "safety": sections.safety_rows(record, compared),
        "slices": sections.slice_tables(record, compared),
        "cases": cases,
        "open_cases": _OPEN,
        "most_changes": _LISTED,
        "turns": turns,
        "turn_of": {turn.change.uuid: turn.number for listed in turns for turn in listed},
        "case_of": {case.uuid: case.rank for case in cases},
        "case_named": {case.name: case.rank for case in cases},
        "error_colors": {"wrong": WRONG, "dangerous": DANGEROUS, "unscored": UNSCORED},
        "course": course,
        "export": made.export,
        "dataset": made.dataset,
        "dataset_summary": made.dataset.manifest.summary if made.dataset else {},
        "manifest": made.manifest,
        "notes": _notes(made, course),
        "versions": {name: known for name, known in _versions().items() if known},
    }


def _turns(made: Sources, labels: LabelMap) -> tuple[tuple[Turn, ...], ...]:
    """Images that fail now, and those that fail no more, as far as there is something to see."""
    if made.compared is None or made.baseline is None:
        return (), ()
    rows = None
    if made.dataset is not None:
        with contextlib.suppress(DatasetError, OptionError):  # of plain bitmaps, or of a round that is gone
            rows = rows_of(made.dataset.name, made.side, made.baseline)
    listed = (made.compared.newly_failed[:_TURNED], made.compared.newly_fixed[:_TURNED])
    numbers = itertools.count(1)
    return tuple(
        tuple(
            turned(next(numbers), change, found, labels) for change, found in seen(some, made.side, made.baseline, rows)
        )
        for some in listed
    )


def _title(made: Sources) -> str:
    """What was labelled, by the name people know: a folder's own is often no more than "dataset"."""
    name = made.dataset.manifest.summary.get("dataset") if made.dataset else ""
    release = made.about.get("release", "")
    name = name or made.about["dataset"]
    return f"{name}, release {release}" if release and release not in name else name


def _notes(made: Sources, course: Course | None) -> list[str]:
    """What a reader must know before believing the page."""
    notes = []
    trained = course.manifest if course else None
    if course and trained is None:
        notes.append("The run is not finished; its curves end where it is.")
    elif trained and trained.digest != made.about.get("model_digest"):
        notes.append("The run shown here is not the one of the evaluated model: their digests differ.")
    if made.dataset and made.dataset.manifest.digest != made.about.get("dataset_digest"):
        notes.append("The dataset shown here is not the one that was evaluated on: their digests differ.")
    if made.export and made.export.model_digest not in ("", made.about.get("model_digest")):
        notes.append("The latency shown here is not that of the evaluated model: their digests differ.")
    if made.record.lacking:
        notes.append(f"Classes that the model does not know and can only miss: {', '.join(made.record.lacking)}.")
    if left_out := made.about.get("left_out"):
        notes.append(f"Only a part of the split was scored: {left_out} of its images were left out.")
    if made.compared and made.compared.seen:
        ways = ", ".join(f"{side} {how}" for side, how in made.compared.seen.items())
        notes.append(f"The two models did not look at the images in the same way: {ways}.")
    if made.compared:
        notes += [
            f"Left out of the comparison, {what}: {', '.join(names[:5])}{' and more' if len(names) > 5 else ''}."
            for what, names in made.compared.left_out.items()
        ]
    return notes
