"""`labelsync verify`."""

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import json_option
from labelsync.records.results import VerifyRecord


@click.command(short_help="Compare a publication on the Hub with its manifest.")
@click.argument("repo")
@click.option(
    "--repo-type", type=click.Choice(["dataset", "model"]), help="Of two repos of that name; default: the one there is."
)
@json_option
def verify(repo: str, repo_type: str | None, as_json: bool) -> None:
    """Check that a published dataset or model is what its manifest says.

    REPO is OWNER/NAME[@TAG]. Compares every digest, counts the rows of every shard, decodes one image per split, reads
    the headers of weights. Exit code 1 and one line with the first file that differs.
    """
    from labelsync.hub.verify import verify as verb

    show(verb(repo, repo_type=repo_type), as_json=as_json, text=_text)


def _text(record: VerifyRecord) -> str:
    what = f"{record.repo_type} {record.repo_id}@{record.revision}, commit {record.commit[:8]}"
    if record.repo_type == "dataset":
        rows = ", ".join(f"{split} {n}" for split, n in record.rows.items()) or "none"
        read = f"rows: {rows}; images decoded: {record.decoded}"
    else:
        read = f"{record.tensors} tensors, {record.parameters:,} parameters"
    return (
        f"{what}: as its manifest says ({record.digest[:12]})\n"
        f"{record.files} files of {record.bytes / 1e6:.1f} MB compared, {record.fetched / 1e6:.1f} MB fetched\n{read}"
    )
