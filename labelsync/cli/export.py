"""`labelsync export`."""

from typing import Any

import click

from labelsync.cli.boundary import show_gated
from labelsync.cli.evaluate import gates_text
from labelsync.cli.options import (
    CommaList,
    batch_size_option,
    device_option,
    foreign_options,
    gate_option,
    gates_option,
    json_option,
    out_option,
    overwrite_option,
    percent,
    table,
)
from labelsync.records.exports import ExportRecord


@click.command(short_help="Write a model as an ONNX file, and prove it.")
@click.argument("model")
@out_option("The .onnx file to leave; export.json goes beside it.")
@click.option(
    "--takes",
    type=click.Choice(["normalized", "pixels", "frames"]),
    default="normalized",
    show_default=True,
    help="Input: float32 as a model has it, resized uint8 RGB, or uint8 RGB frames (N, H, W, 3) of any size.",
)
@click.option(
    "--gives",
    type=click.Choice(["logits", "upsampled", "classes"]),
    default="logits",
    show_default=True,
    help="Output: logits, logits at the size of the input, or class ids (0 = unlabeled) at that size.",
)
@click.option(
    "--dynamic",
    type=CommaList("a,b", str),
    default=("batch",),
    metavar="AXES",
    help="What may vary: batch, size, or both as batch,size; or none.  [default: batch]",
)
@click.option("--opset", type=int, default=18, show_default=True, help="Version of ONNX's operators.")
@click.option("--quantize", type=click.Choice(["int8"]), help="8-bit integers, with ranges from real images.")
@click.option("--fp16", is_flag=True, help="16-bit floats.")
@click.option("--dataset", help="Compare and score both on this: a dataset folder or a Hub id user/name[@tag].")
@click.option("--split", default="test", show_default=True, help="Its split.")
@click.option(
    "--images",
    multiple=True,
    metavar="FILE|FOLDER|GLOB",
    help="Without a dataset, compare on these, to be repeated; by default on drawn scenes.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Images to compare on at most."
)
@click.option(
    "--tolerance",
    type=float,
    metavar="SHARE",
    help="Exit code 3 if more of the pixels get another class.  [default: 0.001, of fp16 0.005, of int8 0.02]",
)
@click.option("--runs", type=click.IntRange(min=0), default=30, show_default=True, help="Timed calls; 0 = none.")
@batch_size_option
@device_option
@gate_option
@gates_option
@foreign_options
@overwrite_option
@json_option
def export(model: str, as_json: bool, **options: Any) -> None:
    """Write MODEL (a folder or a Hub id) as an ONNX file, compare the two on images, and time both here.

    The file knows its classes: evaluate, predict and Segmenter take it as a model.
    """
    from labelsync.deploy.export import export as verb

    show_gated(lambda: verb(model, **options), as_json=as_json, text=as_text)


def as_text(record: ExportRecord) -> str:
    """The file, what was compared, the times, and the gates."""
    height, width = record.size_hw
    size = "any size" if record.takes == "frames" or "size" in record.dynamic else f"{width}x{height}"
    about = (
        f"{record.path}{' (unchanged)' if record.unchanged else ''}: {record.bytes / 1e6:.2f} MB, {record.precision}, "
        f"opset {record.opset}, {record.num_labels} classes\n"
        f"takes {record.takes} of {size}, gives {record.gives}; may vary: {', '.join(record.dynamic) or 'nothing'}"
    )
    if record.calibrated_on:
        about += f"; ranges from {record.calibrated_on}"
    same = (
        f"{record.agreement:.4%} of the pixels of {record.images} images ({record.measured_on}) get the model's class\n"
        f"worst: {record.worst_image}, {record.worst_agreement:.4%}"
    )
    if record.measured_on.startswith("the "):
        delta = (record.mean_iou or 0) - (record.torch_mean_iou or 0)
        same += f"\nmean IoU {percent(record.mean_iou)}, the model's {percent(record.torch_mean_iou)} ({delta:+.4f})"
    return "\n\n".join(part for part in (about, same, _times(record), gates_text(record.gates)) if part)


def _times(record: ExportRecord) -> str:
    """A table of both, "" if they were not timed."""
    if not record.latency:
        return ""
    rows: list[tuple[str, ...]] = [("", "p50", "p95", f"images/s, batch of {record.batch_size}")]
    rows += [
        (name, f"{t.p50_ms:.1f} ms", f"{t.p95_ms:.1f} ms", f"{t.images_per_second:.1f}")
        for name, t in record.latency.items()
    ]
    threads = f"{record.threads} thread{'s' * (record.threads != 1)}"
    return f"{table(rows)}\n{record.runs} calls each on {threads} of this machine ({record.device})"
