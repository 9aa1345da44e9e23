"""`labelsync convert`."""

from pathlib import Path
from typing import Any

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import (
    CommaList,
    FolderOrUrl,
    amount,
    counts,
    json_option,
    lost,
    overwrite_option,
    status_option,
    table,
)
from labelsync.records.release import Ledger
from labelsync.records.results import ConvertRecord
from labelsync.records.text import from_json


@click.command(short_help="Turn a release folder into a dataset folder.")
@click.argument("release", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RELEASE...")
@click.option(
    "--out", type=FolderOrUrl(), required=True, help="Folder to make, or an fsspec URL (s3://BUCKET/PREFIX, gs://..)."
)
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="TOML that merges, renames, drops and orders categories:"
    ' drop = ["void"], then [classes], then sidewalk = ["flat-sidewalk", "flat-curb"] and so on.',
)
@click.option(
    "--splits",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='Given splits as JSON: {"train": [..], "test": [..]} or {"a.jpg": "train", ..}, by name, uuid or group.',
)
@click.option(
    "--split-by",
    metavar="metadata.KEY",
    help="Samples say it: train, validation or test in their metadata; other values are groups, as for --group-by.",
)
@click.option(
    "--fractions",
    type=CommaList("a,b,c", float),
    help="Shares of train, validation and test.  [default: those of --previous, else 80,10,10]",
)
@click.option(
    "--group-by",
    metavar="RULE",
    help="What no split tears apart: uuid (an image, or a whole sequence), name, metadata.KEY, or name:REGEX (its"
    " first group, else the whole match)."
    "  [default: that of --previous, else uuid]",
)
@status_option
@click.option(
    "--metadata",
    metavar="KEY=VALUE",
    multiple=True,
    help="Take only samples with this metadata. Repeated: of several keys all must fit, of one key's values any.",
)
@click.option(
    "--unlabeled",
    type=click.Choice(["ignore", "class"]),
    help="Pixels that nobody labelled: left out of training and scores, or a class named background."
    "  [default: that of --previous, else ignore]",
)
@click.option(
    "--previous",
    metavar="DATASET",
    help="The earlier round's folder or USER/NAME@TAG: class numbers, splits and shards stay as they are there,"
    " and only what changed is converted.",
)
@click.option(
    "--line-width",
    type=float,
    metavar="PIXELS",
    help="Draw polylines that wide; 0 leaves them out.  [default: that of --previous, else 0]",
)
@click.option(
    "--allow-renumbering", is_flag=True, help="Follow names with other numbers than there, --labels with other classes."
)
@click.option(
    "--columns",
    type=click.Choice(["pixel_values,label", "image,label"]),
    default="pixel_values,label",
    show_default=True,
    help="Names of the image and the label column.",
)
@click.option(
    "--format",
    type=click.Choice(["parquet", "bitmaps"]),
    default="parquet",
    show_default=True,
    help="Parquet shards, or plain files in images/<split> and labels/<split>.",
)
@click.option("--workers", type=int, metavar="N", help="Processes, or threads for little.  [default: number of CPUs]")
@click.option("--dask", metavar="tcp://HOST:8786", help="A Dask scheduler whose workers do the work in their place.")
@click.option("--allow-failed", default=0, show_default=True, metavar="N", help="Samples that may be lost.")
@overwrite_option
@json_option
def convert(release: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Turn RELEASE, a folder that `labelsync pull` left, into a dataset folder.

    Several RELEASEs, of different Segments.ai datasets, become one dataset: their categories are joined by name.

    Images keep their bytes, labels become PNGs of class numbers, samples go into stable splits. The folder loads with
    datasets.load_dataset and holds id2label.json, splits.json, a ledger of every sample and a card.
    """
    from labelsync.dataset.convert import convert as verb

    show(verb(release, **options), as_json=as_json, text=_text)


def _text(record: ConvertRecord) -> str:
    from labelsync.dataset.place import place_of

    ledger = place_of(record.path).read("ledger.json")
    lines = [
        f"{record.path}: {record.dataset} {record.release}" + (", unchanged" if record.unchanged else ""),
        f"{amount(record.samples, 'sample')}: {counts(record.outcomes)}",
        *lost(record.path, ledger),
        *_left_out(ledger),
        *_taken_over(record),
        f"splits: {counts(record.splits)} ({amount(record.shards, 'shard')}, {record.bytes / 1e6:.1f} MB)"
        if record.shards
        else f"splits: {counts(record.splits)} ({record.bytes / 1e6:.1f} MB)",
    ]
    if record.undrawn:
        lines.append(f"annotations that touch no pixel: {counts(record.undrawn)}{_about_lines(record)}")
    classes: list[tuple[str, ...]] = [("class", "pixels")]
    classes += [(name, f"{share:.2%}") for name, share in record.pixel_shares.items()]
    return "\n".join([*lines, table(classes)])


def _left_out(ledger: bytes) -> list[str]:
    """Which label statuses were not taken."""
    left_out = from_json(Ledger, ledger, where="ledger.json").statuses_left_out
    return [f"  left out by --status: {counts(left_out)}"] if left_out else []


def _taken_over(record: ConvertRecord) -> list[str]:
    """What an earlier round saved."""
    if not record.reused:
        return []
    return [f"{record.reused} rows as they were ({record.linked} shards linked), {record.decoded} samples decoded"]


def _about_lines(record: ConvertRecord) -> str:
    return " (--line-width N draws polylines)" if "polyline" in record.undrawn else ""
