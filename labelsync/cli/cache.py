"""`labelsync cache`."""

from typing import Any

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import json_option
from labelsync.records.results import CacheRecord


@click.command()
@click.option("--clean", is_flag=True, help="Remove the chosen files; without it they are only counted.")
@click.option("--older-than", metavar="AGE", help="Choose only files that no pull has used for 12h, 30d, 4w, ...")
@click.option("--all", is_flag=True, help="Choose also files that release folders link; the folders keep theirs.")
@click.option("--verify", is_flag=True, help="Read every file; take out damaged ones, for the next pull to fetch.")
@json_option
def cache(as_json: bool, **options: Any) -> None:
    """Show and clean the cache of images and bitmaps.

    It is at LABELSYNC_CACHE, else in the user's cache folder, and shared by all rounds and datasets. Chosen for
    --clean are the files that no release folder links. Release folders never lose a file by it.
    """
    from labelsync.release.tidy import cache as verb

    show(verb(**options), as_json=as_json, text=_text)


def _text(record: CacheRecord) -> str:
    days = f", last used {record.oldest} to {record.newest}" if record.files else ""
    lines = [f"{record.path}: {_files(record.files, record.bytes)}{days}"]
    if record.damaged is not None:
        lines.append(f"{record.damaged} damaged" + (", taken out: pull again to fetch them" if record.damaged else ""))
    lines.append(f"{_files(record.unused, record.unused_bytes)} linked by no release folder")
    if record.removed:
        lines.append(f"{_files(record.removed, record.removed_bytes)} removed")
    elif record.removable:
        lines.append(f"{_files(record.removable, record.removable_bytes)} would go with --clean")
    return "\n".join(lines)


def _files(number: int, size: int) -> str:
    return f"{number:,} file{'' if number == 1 else 's'} ({size / 1e6:,.1f} MB)"
