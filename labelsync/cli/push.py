"""`labelsync push`."""

from pathlib import Path
from typing import Any

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import json_option
from labelsync.records.results import PushRecord


@click.command(short_help="Publish a dataset or model folder on the Hub.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--repo-id", required=True, help="The repo on the Hub, OWNER/NAME; made if it is missing.")
@click.option("--tag", help="Tag of the commit; default: the release's name. An empty one for no tag.")
@click.option("--move-tag", is_flag=True, help="Move the tag if it names another commit.")
@click.option("--private", is_flag=True, help="Make a new repo private.")
@click.option("--revision", default="main", show_default=True, metavar="BRANCH", help="Made if it is missing.")
@click.option("--create-pr", is_flag=True, help="Leave a pull request for others to merge; no tag.")
@click.option("--license", metavar="NAME", help="Licence for the card's metadata, e.g. cc-by-4.0.")
@click.option(
    "--evaluation", type=click.Path(path_type=Path), help="The model's evaluation folder: its scores go into the card."
)
@click.option("--message", help="First line of the commit; default: release and digest.")
@click.option("--dry-run", is_flag=True, help="Tell what would be sent and deleted; change nothing.")
@json_option
def push(path: Path, as_json: bool, **options: Any) -> None:
    """Publish a dataset or model folder: one commit on the Hub, read back, and a tag on it.

    PATH is a folder of labelsync convert or labelsync train. The token is taken from HF_TOKEN or `hf auth login`. The
    same folder again makes no commit, and an interrupted push is finished by running it again.
    """
    from labelsync.hub.push import push as verb

    show(verb(path, **options), as_json=as_json, text=_text)


def _text(record: PushRecord) -> str:
    name = f"{record.repo_id}@{record.tag}" if record.tag else record.repo_id
    if record.dry_run:
        return _plan(record, name)
    if record.unchanged and not record.request:
        return f"{name} already holds all of it, commit {record.commit[:8]}\n{record.url}"
    files = f"{record.added} files of {record.uploaded / 1e6:.1f} MB sent, {record.deleted} deleted, {record.kept} kept"
    if record.request:
        return f"{name}: {files}; the pull request waits to be merged\n{record.request}"
    read = ", ".join(f"{split} {n}" for split, n in record.rows.items())
    return f"{name}: {files}, commit {record.commit[:8]}{f'; rows read back: {read}' if read else ''}\n{record.url}"


def _plan(record: PushRecord, name: str) -> str:
    """What would happen to each file; those that stay are only counted."""
    if record.unchanged:
        return f"{name} holds all of it, nothing would be sent\n{record.url}"
    lines = [f"{fate:8} {path}" for path, fate in record.files.items() if fate != "kept"]
    what = f"{record.added} files of {record.uploaded:,} bytes to send, {record.deleted} to delete, {record.kept} kept"
    return "\n".join([*lines, f"{name}: {what}; nothing was changed", record.url])
