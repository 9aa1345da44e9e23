"""`labelsync prelabel`."""

from pathlib import Path
from typing import Any

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import amount, batch_size_option, device_option, json_option, out_option
from labelsync.records.prelabels import PrelabelRecord


@click.command(short_help="Predict unlabeled samples on Segments.ai as a first draft.")
@click.argument("model", default="", metavar="MODEL")
@click.argument("dataset", default="", metavar="OWNER/DATASET")
@click.option("--labelset", default="ground-truth", show_default=True, help="The labelset the labels go to.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many samples.")
@click.option(
    "--min-size",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    metavar="PIXELS",
    help="Smaller connected parts get the class around them.",
)
@click.option(
    "--strategy",
    default="margin",
    show_default=True,
    metavar="NAME",
    help="What people see first, by the samples' priority: margin, entropy, low-confidence, flip (what the model is "
    "unsure of), diverse (what looks new), one of the four with +diverse, or none.",
)
@click.option(
    "--labels/--no-labels", default=True, show_default=True, help="Write labels, or only order the labeling queue."
)
@out_option("Folder of the record.  [default: prelabels-<dataset>-<model>]", required=False)
@batch_size_option
@device_option
@click.option("--dry-run", is_flag=True, help="Predict, and write nothing.")
@click.option(
    "--undo",
    type=click.Path(path_type=Path),
    metavar="RECORD",
    help="Take back the labels and priorities of that record that nobody has touched; needs no MODEL.",
)
@json_option
def prelabel(model: str, dataset: str, as_json: bool, **options: Any) -> None:
    """Predict the unlabeled samples of OWNER/DATASET with MODEL, and upload labels with status PRELABELED.

    What the model is least sure of comes first in the labeling queue. What anybody has touched is left alone. The same
    command again goes on after an interruption. The key is in SEGMENTS_API_KEY, another server in SEGMENTS_API_URL.
    """
    from labelsync.deploy.prelabel import prelabel as verb

    show(verb(model, dataset=dataset, **options), as_json=as_json, text=_text)


def _text(record: PrelabelRecord) -> str:
    if record.undo:
        return _undone(record)
    would = "would be " if record.dry_run else ""
    done = record.outcomes.get("prelabeled", 0)
    parts = {k: n for k, n in record.outcomes.items() if k not in ("prelabeled", "ordered")}
    rest = ", ".join(f"{n} {_SAID.get(k, k)}" for k, n in parts.items())
    lines = []
    if record.labels:
        with_ = f"with {amount(record.annotations, 'annotation')}"
        lines.append(f"{amount(done, 'sample')} of {record.dataset} {would}prelabeled {with_}")
    if record.strategy:
        lines.append(f"{amount(record.ordered, 'sample')} {would}put into the labeling queue by {record.strategy}")
    lines += [_theirs(record)] if record.theirs else []
    lines += [f"of {record.samples} samples: {rest}"] if rest else []
    lines += [f"class {old} is drawn as category {new}" for old, new in record.renamed]
    lines += [f"left unlabeled, without a category: {', '.join(record.undrawn)}"] if record.undrawn else []
    lines += [f"lost race: {row.name!r}: {row.reason}" for row in record.races]
    if record.path:
        lines.append(f"{record.path}: the record; take it back with labelsync prelabel --undo {record.path}")
    return "\n".join(lines)


_SAID = {
    "there": "prelabeled before",
    "labeled": "had a label",
    "touched": "touched meanwhile",
    "lost": "lost to somebody who wrote in the same moment",
    "empty": "without any class",
    "left": "beyond the limit",
    "gone": "as it was already",
}


def _theirs(record: PrelabelRecord) -> str:
    return f"{amount(record.theirs, 'sample')} with a priority that somebody has set, left alone"


def _undone(record: PrelabelRecord) -> str:
    done = record.outcomes.get("undone", 0)
    verb = "would be taken back" if record.dry_run else "taken back"
    rest = ", ".join(f"{n} {_SAID.get(k, k)}" for k, n in record.outcomes.items() if k != "undone")
    lines = [f"{amount(done, 'sample')} of {record.dataset} {verb}" + (f"; {rest}" if rest else "")]
    lines += [_theirs(record)] if record.theirs else []
    lines += [f"lost race: {row.name!r}: {row.reason}" for row in record.races]
    return "\n".join(lines)
