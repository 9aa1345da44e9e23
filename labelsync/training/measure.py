"""Evaluation in training: what a process counts, in which precision, and the names of the scores."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from labelsync.evaluation.scores import Scores
from labelsync.labels import LabelMap
from labelsync.records.release import Row


def named(result: Scores, labels: LabelMap) -> dict[str, float]:
    """Scores under the names that trackers and metrics.jsonl show."""
    per_class = {f"iou_{n}": float(v) for n, v in zip(labels.names, result.per_category_iou, strict=True)}
    per_class |= {f"accuracy_{n}": float(v) for n, v in zip(labels.names, result.per_category_accuracy, strict=True)}
    return {
        "mean_iou": result.mean_iou,
        "mean_accuracy": result.mean_accuracy,
        "overall_accuracy": result.overall_accuracy,
        **per_class,
    }


@contextmanager
def in_full_precision(model: torch.nn.Module) -> Iterator[None]:
    """Without the autocast that accelerate puts around `forward`, as an attribute of the object."""
    cast = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if cast is not None:
            model.__dict__["forward"] = cast


class Every(Sequence[Row]):
    """Rows `start`, `start + step`, ... of a sequence, none of them read before it is asked for."""

    def __init__(self, rows: Sequence[Row], start: int, step: int) -> None:
        self.rows = rows
        self.at = range(start, len(rows), step)

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.rows[i] for i in self.at[index]]
        return self.rows[self.at[index]]
