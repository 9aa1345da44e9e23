"""`labelsync compare`."""

from pathlib import Path
from typing import Any

import click

from labelsync.cli.boundary import show_gated
from labelsync.cli.evaluate import gates_text
from labelsync.cli.options import (
    gate_option,
    gates_option,
    json_option,
    out_option,
    overwrite_option,
    percent,
    resamples_option,
    table,
)
from labelsync.records.scores import CompareRecord, Delta, ImageChange

_ROWS = 10  # of a list; --json has all of them
_PER_CLASS = ("iou", "accuracy", "dice", "boundary_iou", "missed")


@click.command(short_help="Tell what changed from one evaluation to another.")
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    type=click.Path(path_type=Path),
    required=True,
    help="The evaluation folder it is measured against.",
)
@click.option("--on-common", is_flag=True, help="Compare the samples, labels and classes that both have.")
@click.option(
    "--fail-below",
    default=0.5,
    show_default=True,
    metavar="IOU",
    help="Mean IoU of an image below which it has failed.",
)
@resamples_option
@gate_option
@gates_option
@click.option("--dataset", help="The dataset that was evaluated on, a folder or Hub id: images for the pictures.")
@out_option("Folder to leave, with pictures of the newly failed and the newly fixed images.", required=False)
@overwrite_option
@json_option
def compare(new: Path, as_json: bool, **options: Any) -> None:
    """Tell what changed from an older evaluation folder to NEW, on the same images and labels.

    Gates can be on the new figures ("mean_iou >= 0.55") and on the change ("delta.mean_iou >= -0.01"). An interval
    without 0 is marked with a *.
    """
    from labelsync.evaluation.compare import compare as verb

    show_gated(lambda: verb(new, **options), as_json=as_json, text=as_text)


def as_text(record: CompareRecord) -> str:
    """Every headline and the IoU of every class, before and after; the images that changed sides; the gates."""
    left_out = [f"left out, {what}: {', '.join(names)}" for what, names in record.left_out.items()]
    headlines = {n: d for n, d in record.figures.items() if n.removeprefix("near.").split(".")[0] not in _PER_CLASS}
    classes = {n: record.figures[f"iou.{n}"] for n in record.classes}
    scored = f"{record.images} images, {len(record.classes)} classes; {record.resampled}"
    parts = [
        "\n".join(left_out),
        _deltas("class", classes),
        _deltas("figure", headlines),
        *(
            _deltas(by, {value: figures["mean_iou"] for value, figures in values.items()})
            for by, values in record.slices.items()
        ),
        _images(f"newly failed (mean IoU below {record.fail_below:g})", record.newly_failed),
        _images("newly fixed", record.newly_fixed),
        _pictures(record),
        f"{record.baseline} -> {record.new}\n{scored}",
        f"images were looked at otherwise: {', '.join(f'{k} {v}' for k, v in record.seen.items())}" * bool(record.seen),
        gates_text(record.gates),
    ]
    return "\n\n".join(part for part in parts if part)


def _deltas(what: str, deltas: dict[str, Delta]) -> str:
    rows: list[tuple[str, ...]] = [(what, "baseline", "new", "delta", "95 % interval", "")]
    rows += [
        (name, percent(d.baseline), percent(d.new), _signed(d.delta), _between(d), "*" if _is_clear(d) else "")
        for name, d in deltas.items()
        if d.new is not None or d.baseline is not None
    ]
    return table(rows)


def _images(what: str, changes: tuple[ImageChange, ...]) -> str:
    if not changes:
        return ""
    rows: list[tuple[str, ...]] = [(what, "baseline", "new", "picture")]
    rows += [(c.name, percent(c.baseline), percent(c.new), c.picture) for c in changes[:_ROWS]]
    more = [f"  and {len(changes) - _ROWS} more"] if len(changes) > _ROWS else []
    return "\n".join([table(rows), *more])


def _pictures(record: CompareRecord) -> str:
    """Where they are, and how to get those that are missing."""
    changes = (*record.newly_failed, *record.newly_fixed)
    without = sum(not change.picture for change in changes)
    if not changes:
        return ""
    if not record.path:
        return "pictures of all of them: --out DIR --dataset DATASET" if without else ""
    more = f"; {without} without, give the dataset they were evaluated on with --dataset" if without else ""
    return f"{len(changes) - without} pictures in {record.path}{more}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"


def _between(delta: Delta) -> str:
    return "" if delta.low is None or delta.high is None else f"{delta.low:+.4f} .. {delta.high:+.4f}"


def _is_clear(delta: Delta) -> bool:
    return delta.low is not None and delta.high is not None and (delta.low > 0 or delta.high < 0)
