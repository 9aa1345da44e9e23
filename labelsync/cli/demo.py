"""`labelsync demo`."""

import os
from pathlib import Path

import click

from labelsync.cli.boundary import show
from labelsync.cli.evaluate import as_text as scores_text
from labelsync.cli.options import counts, json_option, out_option, overwrite_option
from labelsync.records.release import Ledger
from labelsync.records.results import DemoRecord
from labelsync.records.text import from_json


@click.command(short_help="The whole loop on drawn street scenes, offline.")
@out_option("Folder to leave.", required=False, default=Path("labelsync-demo"))
@click.option("--seed", default=0, show_default=True, help="Of the scenes, the weights and the training.")
@overwrite_option
@json_option
def demo(*, out: Path, seed: int, overwrite: bool, as_json: bool) -> None:
    """The whole loop on drawn street scenes: offline, no account, no GPU, two or three minutes on two cores.

    Draws a labeling round with skipped, unlabeled and broken samples, then runs pull, convert, train, evaluate,
    report and predict on it. Leaves everything in one folder to look at.
    """
    # Two OpenMP threads gain nothing on a model this small, and wait for each other for ever where anything else runs.
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded
    from labelsync.pipeline.demo import demo as verb

    show(verb(out=out, seed=seed, overwrite=overwrite), as_json=as_json, text=as_text)


def as_text(record: DemoRecord) -> str:
    """The ledger with the samples that were not converted, the splits, the scores, the time, and where to look."""
    converted = record.convert
    ledger = from_json(Ledger, (Path(converted.path) / "ledger.json").read_bytes(), where="ledger.json")
    lines = [f"{converted.samples} samples: {counts(converted.outcomes)}"]
    lines += [f"  {r.name}  {r.outcome}: {r.reason}" for r in ledger.rows if r.outcome != "converted"]
    lines += [f"splits: {counts(converted.splits)}", "", scores_text(record.evaluate), ""]
    times = ", ".join(f"{name} {seconds:.1f}" for name, seconds in record.seconds.items())
    lines.append(f"seconds: {times}; {sum(record.seconds.values()):.0f} in all")
    lines.append(
        f"open {record.report.path} in a browser; look at the overlays in {Path(record.predict.path) / 'overlays'}"
    )
    return "\n".join(lines)
