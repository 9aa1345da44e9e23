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
@click.option("--private", is_flag=True, help="Make a new repo private.")
@click.option("--message", help="First line of the commit; default: release and digest.")
@json_option
def push(path: Path, as_json: bool, **options: Any) -> None:
    """Publish a dataset or model folder: one commit on the Hub and a tag on it.

    PATH is a folder of labelsync convert or labelsync train. The token is taken from HF_TOKEN or `hf auth login`. The
    same folder again makes no commit, and an interrupted push is finished by running it again.
    """
    from labelsync.hub.push import push as verb

    show(verb(path, **options), as_json=as_json, text=_text)


def _text(record: PushRecord) -> str:
    name = f"{record.repo_id}@{record.tag}" if record.tag else record.repo_id
    if record.unchanged:
        return f"{name} already holds all of it, commit {record.commit[:8]}\n{record.url}"
    files = f"{record.added} files sent ({record.uploaded / 1e6:.1f} MB), {record.deleted} deleted, {record.kept} kept"
    return f"{name}: {files}, commit {record.commit[:8]}\n{record.url}"
