"""report.html of a round: its evaluation beside that of the last model, as one file to hand around."""

import contextlib
from functools import partial
from pathlib import Path

from labelsync.errors import GateFailed, OutputExists
from labelsync.pipeline.rounds import Round
from labelsync.store.manifest import MANIFEST, read_manifest

PAGE = "report.html"


def write_page(round: Round) -> None:
    """Write report.html into the folder of a round that was compared; nothing is drawn where nothing has changed."""
    folder = Path(round.record.path)
    from labelsync.evaluation.report import report

    compared = _is_compared(round, folder)
    gates = round.config.gates.require
    if not compared:  # those on a difference say nothing yet
        gates = tuple(gate for gate in gates if not gate.strip().startswith(("delta.", "baseline.")))
    write = partial(
        report,
        folder / "evaluation",
        baseline=folder / "baseline" if compared else None,
        on_common=True,
        run=folder / "model",
        dataset=folder / "dataset",
        gate=gates,
        out=folder / PAGE,
    )
    with contextlib.suppress(GateFailed):  # the round says so itself
        try:
            write()
        except OutputExists:  # of what the round was before
            write(overwrite=True)


def _is_compared(round: Round, folder: Path) -> bool:
    """Whether there is a baseline, and not the model itself: what is in production may be of this very round."""
    if round.record.baseline_mean_iou is None or not (folder / "baseline" / MANIFEST).is_file():
        return False
    models = [read_manifest(folder / name, "evaluate").inputs["model"] for name in ("baseline", "evaluation")]
    return models[0] != models[1]
