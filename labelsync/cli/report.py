"""`labelsync report`."""

from pathlib import Path
from typing import Any

import click

from labelsync.cli.boundary import show_gated
from labelsync.cli.evaluate import gates_text
from labelsync.cli.options import gate_option, gates_option, json_option, out_option, overwrite_option
from labelsync.records.results import ReportRecord


@click.command(short_help="Write an evaluation as one HTML page.")
@click.argument("evaluation", type=click.Path(path_type=Path))
@click.option("--baseline", type=click.Path(path_type=Path), help="An evaluation folder that it is compared with.")
@click.option("--on-common", is_flag=True, help="Compare the samples, labels and classes that both have.")
@click.option("--run", type=click.Path(path_type=Path), help="The model's run folder: learning curves and pictures.")
@click.option("--dataset", help="The dataset folder or Hub id: class balance, and where its samples went.")
@click.option("--export", type=click.Path(path_type=Path), help="The JSON record of an export: latency.")
@gate_option
@gates_option
@out_option("The file to write.", required=False, default=Path("report.html"))
@overwrite_option
@json_option
def report(evaluation: Path, as_json: bool, **options: Any) -> None:
    """Write EVALUATION, the folder that evaluate left, as one HTML file that opens without a network.

    Scores with intervals and gates, confusion, the worst images, safety and slices; with the other flags what changed,
    how the model was trained, and on what.
    """
    from labelsync.evaluation.report import report as verb

    show_gated(lambda: verb(evaluation, **options), as_json=as_json, text=as_text)


def as_text(record: ReportRecord) -> str:
    """Where the page is, how large, and the gates."""
    page = f"{record.path}{' (unchanged)' if record.unchanged else ''}, {record.bytes / 1e6:.1f} MB"
    return "\n\n".join(part for part in (gates_text(record.gates), page) if part)
