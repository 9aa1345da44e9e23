"""`labelsync pull`."""

from pathlib import Path
from typing import Any

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import CommaList, counts, json_option, lost, out_option, overwrite_option
from labelsync.records.results import PullRecord


@click.command()
@click.argument("source")
@out_option("Folder to make.  [default: <dataset>-<release>]", required=False)
@click.option("--labelset", default="ground-truth", show_default=True, help="The labelset to take labels from.")
@click.option(
    "--status",
    type=CommaList("a,b", str),
    help="Label statuses to take; images of other labels are not fetched.  [default: every label]",
)
@click.option("--wait", default=600.0, show_default=True, metavar="SECONDS", help="For a release that is PENDING.")
@click.option("--workers", default=16, show_default=True, help="Downloads at the same time.")
@click.option("--allow-failed", default=0, show_default=True, metavar="N", help="Samples that may be lost.")
@overwrite_option
@json_option
def pull(source: str, out: Path | None, as_json: bool, **options: Any) -> None:
    """Fetch a release: its file, images and instance bitmaps.

    SOURCE is OWNER/DATASET@RELEASE (the key in SEGMENTS_API_KEY, another server in SEGMENTS_API_URL), or a release
    file by path or URL. Files are cached for all rounds (see `labelsync cache`); what is there is not fetched again.
    """
    from labelsync.release.pull import pull as verb

    show(verb(source, out=out, **options), as_json=as_json, text=_text)


def _text(record: PullRecord) -> str:
    if record.unchanged:
        return f"{record.path}: {record.release or 'the release'} is there already, nothing to fetch"
    lines = [
        f"{record.path}: {record.samples} samples of {record.dataset} {record.release} ({counts(record.outcomes)})",
        *lost(record.path),
        f"{record.fetched} files fetched ({record.bytes_fetched / 1e6:.1f} MB), {record.reused} from the cache",
    ]
    return "\n".join(lines)
