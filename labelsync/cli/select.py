"""`labelsync select`."""

from pathlib import Path
from typing import Any

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import amount, batch_size_option, device_option, json_option, out_option, overwrite_option
from labelsync.records.selection import SelectRecord


@click.command(short_help="Choose the images that are worth labeling.")
@click.argument("images", nargs=-1, required=True)
@click.option("--model", required=True, metavar="MODEL", help="A folder, or USER/NAME[@TAG] on the Hub.")
@click.option("--count", required=True, type=int, metavar="N", help="How many images to choose.")
@click.option(
    "--strategy",
    default="entropy+diverse",
    show_default=True,
    metavar="NAME",
    help="What makes an image worth it: entropy, margin, low-confidence, flip (what the model is unsure of), diverse "
    "(what looks new), or one of the four with +diverse.",
)
@click.option("--every", default=10, show_default=True, metavar="N", help="Of a video, look at one frame in so many.")
@out_option("Folder to leave, with the chosen images and their list.", required=False)
@batch_size_option
@device_option
@overwrite_option
@json_option
def select(images: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Choose N of IMAGES (folders, files, videos) that MODEL would learn most from, and print their names in order.

    The names are those that labelsync add-images gives, and it takes the folder images/ that --out leaves.
    """
    from labelsync.deploy.select import select as verb

    show(verb(images, **options), as_json=as_json, text=_text)


def _text(record: SelectRecord) -> str:
    names = [chosen.name for chosen in record.chosen]
    if not record.path:
        return "\n".join(names)
    same = " (unchanged)" if record.unchanged else ""
    said = f"{amount(len(names), 'image')} of {record.images} chosen by {record.strategy}"
    return "\n".join([*names, f"{said}; labelsync add-images OWNER/DATASET {Path(record.path) / 'images'}{same}"])
