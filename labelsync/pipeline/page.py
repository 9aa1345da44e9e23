"""report.html of a round: its evaluation beside that of the last model, as one file to hand around."""

import contextlib
from pathlib import Path

from labelsync import store
from labelsync.errors import GateFailed
from labelsync.pipeline.rounds import Round

PAGE = "report.html"


def write_page(round: Round) -> None:
    """Write report.html into the folder of a round that was compared; nothing is drawn where nothing has changed."""
    folder = Path(round.record.path)
    from labelsync.evaluation.report import report

    compared = round.record.baseline_mean_iou is not None and (folder / "baseline" / store.MANIFEST).is_file()
    gates = round.config.gates.require
    if not compared:  # those on a difference say nothing yet
        gates = tuple(gate for gate in gates if not gate.strip().startswith(("delta.", "baseline.")))
    with contextlib.suppress(GateFailed):  # the round says so itself
        report(
            folder / "evaluation",
            baseline=folder / "baseline" if compared else None,
            on_common=True,
            run=folder / "model",
            dataset=folder / "dataset",
            gate=gates,
            out=folder / PAGE,
            overwrite=True,
        )
