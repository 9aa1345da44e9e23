"""`labelsync predict`."""

from pathlib import Path

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import batch_size_option, device_option, json_option, out_option, overwrite_option
from labelsync.records.results import PredictRecord


@click.command(short_help="Segment images with a model.")
@click.argument("model")
@click.argument("images", nargs=-1, required=True)
@out_option("Folder to leave.", required=False, default=Path("predictions"))
@click.option("--overlays/--no-overlays", default=True, show_default=True, help="Also write pictures with a legend.")
@batch_size_option
@device_option
@overwrite_option
@json_option
def predict(
    *,
    model: str,
    images: tuple[str, ...],
    out: Path,
    overlays: bool,
    batch_size: int,
    device: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Segment IMAGES (files, folders, globs) with MODEL (a folder or a Hub id).

    Leaves bitmaps of class ids at the images' own size, overlays and id2label.json.
    """
    from labelsync.deploy.predict import predict as verb

    record = verb(
        model,
        images=images,
        out=out,
        overlays=overlays,
        batch_size=batch_size,
        device=device,
        overwrite=overwrite,
    )
    show(record, as_json=as_json, text=as_text)


def as_text(record: PredictRecord) -> str:
    """Where the predictions are."""
    return (
        f"{record.images} images in {record.seconds:.1f} s\n{record.path}{' (unchanged)' if record.unchanged else ''}"
    )
