"""`labelsync check`."""

from typing import Any

import click

from labelsync.cli.boundary import show_gated
from labelsync.cli.options import (
    CommaList,
    amount,
    batch_size_option,
    counts,
    device_option,
    json_option,
    out_option,
    overwrite_option,
    status_option,
    table,
)
from labelsync.records.findings import CheckRecord, Finding, KindSummary


@click.command(short_help="Tell what is wrong in a release or a dataset.")
@click.argument("source")
@click.option("--strict", is_flag=True, help="End with exit code 3 if there is an error or a warning.")
@click.option(
    "--ignore", type=CommaList("a,b", str), default=(), metavar="KIND,..", help="Kinds of findings to leave out."
)
@status_option
@click.option(
    "--near",
    default=64,
    show_default=True,
    metavar="BITS",
    help="Images of two splits are near-duplicates if they differ in at most so many of 256 bits.",
)
@click.option(
    "--min-labelled",
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="A label is tiny if less than this share of its pixels is labelled.",
)
@click.option(
    "--min-instance",
    default=10,
    show_default=True,
    metavar="PIXELS",
    help="An instance is tiny if it has fewer pixels.",
)
@click.option("--limit", default=10, show_default=True, metavar="N", help="Findings to list of each kind; 0 = all.")
@click.option("--workers", type=int, metavar="N", help="Threads.  [default: number of CPUs]")
@click.option("--model", metavar="MODEL", help="Ask this model too: a folder, or USER/NAME[@TAG] on the Hub.")
@click.option(
    "--min-contradicted",
    default=0.8,
    show_default=True,
    metavar="SCORE",
    help="How much less probable than usual the model must find a label, 0 to 1; 0.8 = five times less.",
)
@batch_size_option
@device_option
@out_option("Folder for the record and for pictures of what the model contradicts.", required=False)
@overwrite_option
@click.option(
    "--open-issues", is_flag=True, help="Open an issue on Segments.ai at every sample that the model contradicts."
)
@click.option("--dry-run", is_flag=True, help="With --open-issues: only tell which would be opened.")
@json_option
def check(source: str, as_json: bool, **options: Any) -> None:
    """Tell what is wrong in SOURCE: a folder of labelsync pull or convert, or a dataset USER/NAME[@TAG] on the Hub.

    Finds broken, empty and tiny labels, objects without pixels and pixels without objects, images that are there twice
    or nearly twice in two splits, classes that a split lacks, and images of odd size, kind or orientation. Shows how
    often each class is there. With --model, tells also which regions of labels a model finds far less probable than
    usual, and ranks the samples by them.
    """
    from labelsync.quality.check import check as verb

    show_gated(lambda: verb(source, **options), as_json=as_json, text=_text)


def _text(record: CheckRecord) -> str:
    parts = [_head(record), _classes(record), *_kinds(record), _doubted(record), _issues(record), _summary(record)]
    return "\n\n".join(part for part in parts if part)


def _head(record: CheckRecord) -> str:
    name = " ".join(x for x in (record.dataset, record.release) if x)
    parts = [counts(record.splits)] if record.stage == "convert" else [f"{record.samples} labels"]
    parts += [f"left out: {counts(record.left_out)}"] if record.left_out else []
    return f"{record.source}: {name}\n{'; '.join(parts)}"


def _classes(record: CheckRecord) -> str:
    """Shares of the labelled pixels and of the images, per split."""
    splits = list(record.splits)
    pixels = {s: sum(b.pixels.get(s, 0) for b in record.classes.values()) for s in splits}
    called = {s: "" if record.stage == "pull" else f" {s}" for s in splits}
    rows = [("class", *(f"pixels{called[s]}" for s in splits), *(f"images{called[s]}" for s in splits))]
    rows += [
        (
            name,
            *(_share(b.pixels.get(s, 0), pixels[s], 2) for s in splits),
            *(_share(b.images.get(s, 0), record.splits[s], 0) for s in splits),
        )
        for name, b in record.classes.items()
    ]
    return table(rows)


def _share(part: int, whole: int, digits: int) -> str:
    """A share in percent; "-" for nothing at all, "<1%" for what would look like it."""
    if not part:
        return "-"
    least = 10.0**-digits
    percent = 100 * part / whole
    return f"<{least:.{digits}f}%" if percent < least else f"{percent:.{digits}f}%"


def _kinds(record: CheckRecord) -> list[str]:
    """A paragraph per kind: where it was found, the worst, the next move."""
    return [
        "\n".join(
            [
                f"{kind}{_where(summary, record)}:",
                *(f"  {_line(f)}" for f in record.findings if f.kind == kind),
                *_more(summary, sum(f.kind == kind for f in record.findings)),
                f"  -> {summary.advice}",
            ]
        )
        for kind, summary in record.kinds.items()
    ]


def _where(summary: KindSummary, record: CheckRecord) -> str:
    if record.stage == "pull":
        return ""
    parts = [f"{n} of {record.splits[split]} {split} images" for split, n in summary.samples.items()]
    return f" ({', '.join(parts)})" if parts else ""


def _line(finding: Finding) -> str:
    if not finding.name:
        return finding.message
    split = f" ({finding.split})" if finding.split else ""
    return f"{finding.name!r}{split}: {finding.message}"


def _more(summary: KindSummary, listed: int) -> list[str]:
    left = summary.errors + summary.warnings + summary.infos - listed
    return [f"  and {left} more (--limit 0 lists all)"] if left > 0 else []


def _doubted(record: CheckRecord) -> str:
    """Samples, that which people should look at first first."""
    if not record.doubted:
        return ""
    rows = [("look at first", "split", "regions", "score")]
    rows += [(d.name, d.split, str(d.regions), f"{d.score:.3f}") for d in record.doubted]
    return table([row if record.stage == "convert" else (row[0], *row[2:]) for row in rows])


def _issues(record: CheckRecord) -> str:
    """What labelers are told."""
    if not record.issues:
        return ""
    said = {"opened": "would be opened" if record.dry_run else "opened", "there": "there already"}
    lines = [
        f"  {row.name!r}: {amount(row.regions, 'region')}, {said.get(row.outcome, row.outcome)}"
        for row in record.issues
    ]
    return "\n".join(["issues on Segments.ai:", *lines])


def _summary(record: CheckRecord) -> str:
    """How many of each kind: last, where a terminal shows it when all is told."""
    if not record.kinds:
        return "nothing found"
    rows: list[tuple[str, ...]] = [("found", "errors", "warnings", "infos")]
    rows += [(kind, *_numbers(k.errors, k.warnings, k.infos)) for kind, k in record.kinds.items()]
    return table([*rows, ("all", *_numbers(record.errors, record.warnings, record.infos))])


def _numbers(*values: int) -> tuple[str, ...]:
    return tuple(f"{n:,}" if n else "-" for n in values)
