"""`labelsync evaluate`."""

from pathlib import Path

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import (
    batch_size_option,
    device_option,
    json_option,
    out_option,
    overwrite_option,
    percent,
    table,
)
from labelsync.records.results import EvaluateRecord


@click.command(short_help="Score a model on the labels of a split.")
@click.argument("model")
@click.option("--dataset", required=True, help="A dataset folder or a Hub id user/name[@tag].")
@click.option("--split", default="test", show_default=True, help="The split to score.")
@out_option("Folder to leave; by default ./<model>-<split>-evaluation.", required=False)
@batch_size_option
@device_option
@click.option("--align", is_flag=True, help="Score although the classes differ, matched by name.")
@overwrite_option
@json_option
def evaluate(
    *,
    model: str,
    dataset: str,
    split: str,
    out: Path | None,
    batch_size: int,
    device: str | None,
    align: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score MODEL (a folder or a Hub id) on the labels of a split.

    Leaves evaluation.json, confusion.json, images.jsonl and pictures of the worst images.
    """
    from labelsync.evaluation.evaluate import evaluate as verb

    record = verb(
        model,
        dataset=dataset,
        split=split,
        out=out,
        batch_size=batch_size,
        device=device,
        align=align,
        overwrite=overwrite,
    )
    show(record, as_json=as_json, text=as_text)


def as_text(record: EvaluateRecord) -> str:
    """The headline, then every class with its scores."""
    rows: list[tuple[str, ...]] = [("class", "IoU", "accuracy")]
    rows += [
        (name, percent(iou), percent(record.per_category_accuracy[name]))
        for name, iou in record.per_category_iou.items()
    ]
    headline = (
        f"mean IoU {percent(record.mean_iou)}, mean accuracy {percent(record.mean_accuracy)}, "
        f"overall accuracy {percent(record.overall_accuracy)}"
    )
    scored = f"{record.images} images of {record.split}, {record.pixels:,} labelled pixels, {record.seconds:.1f} s"
    return f"{table(rows)}\n\n{headline}\n{scored}\n{record.path}"
