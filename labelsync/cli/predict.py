"""`labelsync predict`."""

from pathlib import Path

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import (
    amount,
    batch_size_option,
    device_option,
    foreign_options,
    json_option,
    out_option,
    overwrite_option,
    percent,
    ways_options,
)
from labelsync.records.results import PredictRecord


@click.command(short_help="Segment images and videos with a model.")
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@out_option("Folder to leave.", required=False, default=Path("predictions"))
@click.option("--split", metavar="SPLIT", help="IMAGES are datasets (folders or Hub ids); segment this split of them.")
@click.option("--overlays/--no-overlays", default=True, show_default=True, help="Also write pictures with a legend.")
@click.option("--entropy", is_flag=True, help="Also write how unsure the model is: 8-bit PNG, 255 = all classes alike.")
@click.option(
    "--probabilities", is_flag=True, help="Also write the probability of every class, in 255ths, as .npz. Large."
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="auto: mixed precision (fp16) on an NVIDIA GPU, fp32 elsewhere. An .onnx file has its own.",
)
@batch_size_option
@device_option
@ways_options
@foreign_options
@overwrite_option
@json_option
def predict(
    *,
    model: str,
    images: tuple[str, ...],
    out: Path,
    split: str | None,
    overlays: bool,
    entropy: bool,
    probabilities: bool,
    precision: str,
    batch_size: int,
    device: str | None,
    flip: bool,
    scales: tuple[float, ...],
    window: str | None,
    image_column: str | None,
    label_column: str | None,
    id2label: str | None,
    keep_zero: bool,
    config: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Segment IMAGES with MODEL (a folder, a Hub id or an .onnx file).

    IMAGES are files, folders, globs and videos; with --split, datasets in folders or on the Hub; and owner/name, where
    no such path is here, is a dataset on Segments.ai. Leaves bitmaps of class ids at the images' own size, overlays and
    id2label.json; of a video also an overlay video and how much its classes flicker. An interrupted run goes on where
    it was.
    """
    from labelsync.deploy.predict import predict as verb

    record = verb(
        model,
        images=images,
        out=out,
        split=split,
        overlays=overlays,
        entropy=entropy,
        probabilities=probabilities,
        precision=precision,
        batch_size=batch_size,
        device=device,
        flip=flip,
        scales=scales,
        window=window,
        image_column=image_column,
        label_column=label_column,
        id2label=id2label,
        keep_zero=keep_zero,
        config=config,
        overwrite=overwrite,
    )
    show(record, as_json=as_json, text=as_text)


def as_text(record: PredictRecord) -> str:
    """Where the predictions are, and how much videos flicker."""
    resumed = f", {record.resumed} of them by the interrupted run" if record.resumed else ""
    lines = [f"{amount(record.images, 'image')} in {record.seconds:.1f} s{resumed}"]
    for name, video in record.videos.items():
        shares = f"flicker {percent(video.flicker)}, changed {percent(video.changed)} (shares of pixels)"
        lines.append(f"{name}: {amount(video.frames, 'frame')}, {shares}")
    return "\n".join([*lines, f"{record.path}{' (unchanged)' if record.unchanged else ''}"])
