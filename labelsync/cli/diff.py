"""`labelsync diff`."""

from collections.abc import Iterable
from typing import Any

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import counts, json_option, status_option, table
from labelsync.records.changes import DiffRecord, DiffSide, Flow, SampleChange

_ROWS = 10  # of a list; --json has all of them


@click.command()
@click.argument("old")
@click.argument("new")
@click.option("--labelset", default="ground-truth", show_default=True, help="The labelset to compare.")
@status_option
@click.option("--line-width", default=0.0, show_default=True, metavar="PIXELS", help="Of polylines; 0 = no pixels.")
@click.option("--wait", default=600.0, show_default=True, metavar="SECONDS", help="For a release that is PENDING.")
@click.option("--workers", default=16, show_default=True, help="Downloads at the same time.")
@click.option("--allow-failed", default=0, show_default=True, metavar="N", help="Samples that may fail to compare.")
@json_option
def diff(old: str, new: str, as_json: bool, **options: Any) -> None:
    """Tell what changed from release OLD to release NEW.

    Each is OWNER/DATASET@RELEASE, a release file by path or URL, or a folder of labelsync pull. Shows samples added,
    removed and relabelled, categories, and the pixels that went from class to class. Only bitmaps of labels that differ
    are fetched.
    """
    from labelsync.release.diff import diff as verb

    show(verb(old, new, **options), as_json=as_json, text=_text)


def _text(record: DiffRecord) -> str:
    parts = [_head(record), _categories(record), _classes(record), _flow(record), _samples(record)]
    return "\n\n".join(part for part in parts if part)


def _head(record: DiffRecord) -> str:
    changed = {("status only" if name == "status" else name): n for name, n in record.totals.items()}
    old, new = record.old, record.new
    lines = [
        f"{_name(old)} -> {_name(new)}",
        f"samples: {old.samples} -> {new.samples}, labelled: {old.labelled} -> {new.labelled}",
        f"  {counts(changed)}",
    ]
    if (
        record.totals["added"] == new.samples
        and record.totals["removed"] == old.samples
        and old.samples
        and new.samples
    ):
        lines.append("  no sample is in both: are these releases of one dataset?")
    lines += [f"  {n} {a} -> {b}" for a, b, n in _pairs(record.statuses)]
    return "\n".join(lines)


def _name(side: DiffSide) -> str:
    return " ".join(x for x in (side.dataset, side.release) if x) or side.source


def _categories(record: DiffRecord) -> str:
    changes = record.categories
    lines = [f"  {name} added" for name in changes.added]
    lines += [f"  {name} removed" for name in changes.removed]
    lines += [f"  {old} renamed {new}" for old, new in changes.renamed]
    lines += [f"  {name} renumbered {old} -> {new}" for name, old, new in changes.renumbered]
    return "\n".join(["categories:", *lines]) if lines else ""


def _classes(record: DiffRecord) -> str:
    """Pixels per class; a column that would hold nothing but zeros is left out."""
    columns = {"gained": "gained", "lost": "lost", "new": "in new labels", "gone": "in labels gone"}
    shown = [c for c in columns if any(getattr(change, c) for change in record.classes.values())]
    if not shown:
        return ""
    rows = [("pixels", *(columns[c] for c in shown))]
    rows += [(name, *(f"{getattr(change, c):,}" for c in shown)) for name, change in record.classes.items()]
    return table(rows)


def _flow(record: DiffRecord) -> str:
    """Where relabelled pixels went, the largest first."""
    samples = [s.flow for s in record.samples.values() if s.change == "relabelled"]
    pairs = sorted(_pairs(record.flow), key=lambda pair: -pair[2])
    rows = [("relabelled", "pixels", "samples")]
    rows += [(f"{a} -> {b}", f"{n:,}", str(sum(b in f.get(a, {}) for f in samples))) for a, b, n in pairs[:_ROWS]]
    return "\n".join([table(rows), *_more(pairs)]) if pairs else ""


def _samples(record: DiffRecord) -> str:
    """The most relabelled samples and where most of their pixels went, and those that failed."""
    relabelled = [s for s in record.samples.values() if s.change == "relabelled"]
    relabelled.sort(key=lambda s: -s.pixels)
    lines = []
    if relabelled:
        rows = [("most relabelled", "pixels", "most of them")]
        rows += [(s.name, f"{s.pixels:,}", _largest(s)) for s in relabelled[:_ROWS]]
        lines = [table(rows), *_more(relabelled)]
    failed = [s for s in record.samples.values() if s.change == "failed"]
    lines += [f"{s.name!r} failed: {s.reason}" for s in failed[:_ROWS]]
    return "\n".join([*lines, *_more(failed)])


def _largest(sample: SampleChange) -> str:
    a, b, _ = max(_pairs(sample.flow), key=lambda pair: pair[2])
    return f"{a} -> {b}"


def _pairs(flow: Flow) -> list[tuple[str, str, int]]:
    return [(a, b, n) for a, row in flow.items() for b, n in row.items()]


def _more(rows: Iterable[object]) -> list[str]:
    left = len(list(rows)) - _ROWS
    return [f"and {left} more (--json lists all)"] if left > 0 else []
