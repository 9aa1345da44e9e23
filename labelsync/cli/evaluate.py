"""`labelsync evaluate`."""

from pathlib import Path
from typing import Any

import click

from labelsync.cli.boundary import show_gated
from labelsync.cli.options import (
    CommaList,
    batch_size_option,
    device_option,
    foreign_options,
    gate_option,
    gates_option,
    interval,
    json_option,
    out_option,
    overwrite_option,
    percent,
    resamples_option,
    table,
    ways_options,
    ways_text,
)
from labelsync.records.results import EvaluateRecord
from labelsync.records.scores import GateResult, Obstacles


@click.command(short_help="Score a model on the labels of a split.")
@click.argument("model")
@click.option("--dataset", required=True, help="A dataset folder or a Hub id user/name[@tag].")
@click.option("--split", default="test", show_default=True, help="The split to score; test@v1.0 is that of a tag.")
@out_option("Folder to leave; by default ./<model>-<split>-evaluation.", required=False)
@batch_size_option
@device_option
@ways_options
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Score the first N images of the split alone.")
@click.option("--align", is_flag=True, help="Score although the classes differ, matched by name.")
@click.option(
    "--renamed",
    multiple=True,
    metavar="OLD=NEW",
    help="The dataset calls a class NEW that the model knows as OLD; to be repeated.",
)
@click.option("--by", multiple=True, metavar="KEY", help="Also score by metadata.KEY or group, to be repeated.")
@click.option(
    "--boundary",
    default=0.005,
    show_default=True,
    metavar="SHARE",
    help="Band of the boundary IoU, as a share of the image's diagonal.",
)
@resamples_option
@click.option(
    "--groups",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A TOML file with lists walkable, obstacle, road, other and curb, for the safety figures.  "
    "[default: the 35 sidewalk classes]",
)
@click.option(
    "--near-field",
    type=CommaList("a,b,c", float),
    default=(1.0, 0.4, 0.4),
    metavar="BOTTOM,TOP,HEIGHT",
    help="Trapezoid in front of the robot: its two widths and its height, as shares of the image.  "
    "[default: 1,0.4,0.4]",
)
@gate_option
@gates_option
@foreign_options
@overwrite_option
@json_option
def evaluate(model: str, as_json: bool, **options: Any) -> None:
    """Score MODEL (a folder, a Hub id or an .onnx file) on the labels of a split.

    Leaves evaluation.json, confusion.json, counts of every image and pictures of the worst images. The same evaluation
    again does nothing.
    """
    from labelsync.evaluation.evaluate import evaluate as verb

    show_gated(lambda: verb(model, **options), as_json=as_json, text=as_text)


def as_text(record: EvaluateRecord) -> str:
    """Every class with its scores, the slices, the headline, and the gates."""
    rows: list[tuple[str, ...]] = [("class", "IoU", "95 % interval", "boundary IoU", "Dice", "accuracy")]
    rows += [
        (
            name,
            percent(iou),
            interval(record.intervals.get(f"iou.{name}")),
            percent(record.per_category_boundary_iou[name]),
            percent(record.per_category_dice[name]),
            percent(record.per_category_accuracy[name]),
        )
        for name, iou in record.per_category_iou.items()
    ]
    between = interval(record.intervals.get("mean_iou"))
    headline = (
        f"mean IoU {percent(record.mean_iou)}{f' ({between})' if between else ''}, "
        f"mean accuracy {percent(record.mean_accuracy)}, overall accuracy {percent(record.overall_accuracy)}\n"
        f"frequency-weighted IoU {percent(record.frequency_weighted_iou)}, mean Dice {percent(record.mean_dice)}, "
        f"boundary IoU {percent(record.mean_boundary_iou)} (band {record.boundary_width:.2%} of the diagonal), "
        f"calibration error {percent(record.expected_calibration_error)}"
    )
    of = f" of {record.images + record.left_out}" if record.left_out else ""
    seen = ways_text(flip=record.flip, scales=record.scales, window=record.window)
    scored = (
        f"{record.images}{of} images of {record.split}{seen}, {record.pixels:,} labelled pixels, "
        f"{record.seconds:.1f} s; {record.resampled}"
    )
    place = f"{record.path}{' (unchanged)' if record.unchanged else ''}"
    parts = [table(rows), *_slices(record), _safety(record), headline, f"{scored}\n{place}", gates_text(record.gates)]
    return "\n\n".join(part for part in parts if part)


def _slices(record: EvaluateRecord) -> list[str]:
    """A table per slicing."""
    tables = []
    for by, values in record.slices.items():
        rows: list[tuple[str, ...]] = [(by, "images", "mean IoU", "95 % interval", "overall accuracy")]
        rows += [
            (
                value,
                str(found.images),
                percent(found.figures["mean_iou"]),
                interval(found.intervals.get("mean_iou")),
                percent(found.figures["overall_accuracy"]),
            )
            for value, found in values.items()
        ]
        tables.append(table(rows))
    return tables


def _safety(record: EvaluateRecord) -> str:
    """The safety figures, in the whole image and near; one line that says why there are none."""
    if record.safety is None:
        return "no safety figures: none of the sidewalk classes is here; say what yours mean with --groups FILE"
    figures = record.safety.figures
    rows: list[tuple[str, ...]] = [("safety", "image", "95 % interval", "near field", "95 % interval")]
    rows += [
        (
            name,
            percent(value),
            interval(record.intervals.get(name)),
            percent(figures[f"near.{name}"]) if f"near.{name}" in figures else "",
            interval(record.intervals.get(f"near.{name}")),
        )
        for name, value in figures.items()
        if not name.startswith(("near.", "missed."))
    ]
    lines = [f"missed: {_missed(record.safety.classes)}"]
    if record.safety.near_classes:  # an evaluation of before has none
        lines.append(f"missed in the near field: {_missed(record.safety.near_classes)}")
    if record.safety.false_free_path_image:
        lines.append(f"longest path that is not there: {record.safety.false_free_path_image}")
    return "\n".join([table(rows), *lines])


def _missed(classes: dict[str, Obstacles]) -> str:
    missed = {name: found for name, found in classes.items() if found.missed}
    return ", ".join(f"{found.missed} of {found.total} {name}" for name, found in missed.items()) or "no obstacle"


def gates_text(gates: tuple[GateResult, ...]) -> str:
    """A line per gate, "" where none was stated."""
    return "\n".join(f"{'met' if gate.passed else 'NOT MET'}  {gate.gate}" for gate in gates)
