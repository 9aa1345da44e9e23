"""What `init`, `run`, `status`, `promote` and `rollback` return: rounds and their stages."""

from dataclasses import dataclass, field
from typing import Literal

StageOutcome = Literal["done", "unchanged", "skipped", "failed", "planned"]


@dataclass(frozen=True)
class InitRecord:
    """`init`: the file that was written."""

    path: str
    dataset: str


@dataclass(frozen=True)
class StageRun:
    """One stage of a round.

    Attributes:
        outcome: done now; unchanged = its inputs and settings are those of the last time; skipped = not asked for, or
            nothing to do; failed; planned = it would run.
        note: one line for people: what came of it, or why not.
        key: over inputs and settings.
        path: folder or file it left, relative to the round's folder.
        figures: numbers by name.
    """

    stage: str
    outcome: StageOutcome
    note: str = ""
    seconds: float = 0.0
    key: str = ""
    path: str = ""
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RoundRecord:
    """`run`: one labeling round. `releases` = dataset (or file) -> release; `failed_gates` = what did not hold.

    `previous` is the round before, "" in a first one. `dataset_url` and `model_url` say where it is published.
    `found` = "dataset" and "model" -> "user/name@commit" that was published when this round first asked; no commit
    where nothing was.
    """

    path: str
    name: str
    number: int
    releases: dict[str, str]
    previous: str = ""
    stages: tuple[StageRun, ...] = ()
    mean_iou: float | None = None
    baseline_mean_iou: float | None = None
    failed_gates: tuple[str, ...] = ()
    dataset_url: str = ""
    model_url: str = ""
    production: bool = False
    found: dict[str, str] = field(default_factory=dict)

    def stage(self, name: str) -> StageRun | None:
        """How a stage ended last, None if it never ran."""
        return next((s for s in self.stages if s.stage == name), None)


@dataclass(frozen=True)
class RoundSummary:
    """One line of `status`. `samples` = rows of the dataset; `stopped_at` = the stage that is not done yet."""

    name: str
    number: int
    samples: int
    classes: int
    mean_iou: float | None
    dataset_url: str
    model_url: str
    production: bool
    stopped_at: str


@dataclass(frozen=True)
class StatusRecord:
    """`status`: the rounds so far, oldest first, and the round whose model is in production ("" = none)."""

    path: str
    rounds: tuple[RoundSummary, ...]
    production: str


@dataclass(frozen=True)
class ProductionRecord:
    """`promote` and `rollback`: which round's model is in production now, and which was before."""

    production: str
    before: str
    repo_id: str
    commit: str
    unchanged: bool = False
