"""`status`: the rounds so far."""

from pathlib import Path

from labelsync.errors import LabelsyncError
from labelsync.pipeline.config import NAME, Config, read_config
from labelsync.pipeline.rounds import production_history, read_rounds
from labelsync.pipeline.stages import STAGES
from labelsync.records.rounds import RoundRecord, RoundSummary, StatusRecord
from labelsync.store.manifest import read_manifest


def status(config: str | Path = Path(NAME)) -> StatusRecord:
    """The rounds so far: sizes, scores, where each is published, which model is in production. Asks no server.

    Args:
        config: a labelsync.toml.

    Raises:
        OptionError: no such file, or one that cannot be used.
    """
    read = read_config(config)
    history = production_history(read)
    return StatusRecord(
        path=str(read.path),
        rounds=tuple(_summary(read, record) for record in read_rounds(read)),
        production=history[-1] if history else "",
    )


def _summary(config: Config, record: RoundRecord) -> RoundSummary:
    try:
        dataset = read_manifest(Path(record.path) / "dataset", "convert").summary
    except LabelsyncError:  # not converted yet
        dataset = {}
    ended = {s.stage for s in record.stages if s.outcome in ("done", "unchanged", "skipped")}
    return RoundSummary(
        name=record.name,
        number=record.number,
        samples=sum(dataset.get("splits", {}).values()),
        classes=dataset.get("num_labels", 0),
        mean_iou=record.mean_iou,
        dataset_url=record.dataset_url,
        model_url=record.model_url,
        production=record.name == (production_history(config) or ("",))[-1],
        stopped_at=next((name for name in STAGES if name not in ended), ""),
    )
