"""What `prelabel` returns, and what became of every sample of the dataset."""

from dataclasses import dataclass, field
from typing import Literal

PrelabelOutcome = Literal[
    "prelabeled", "ordered", "there", "labeled", "touched", "lost", "empty", "left", "undone", "gone", "failed"
]

PRELABEL_OUTCOMES: tuple[PrelabelOutcome, ...] = (
    *("prelabeled", "ordered", "there", "labeled", "touched", "lost", "empty", "left", "undone", "gone", "failed"),
)


@dataclass(frozen=True)
class PrelabelRow:
    """How one sample ended.

    `outcome` is "prelabeled" (written and read back), "ordered" (got its priority alone, as was asked), "there" (by an
    earlier run of this record), "labeled" (it had a label when the dataset was listed), "touched" (somebody came to it
    since: left alone), "lost" (somebody wrote at the same moment, `reason` says whose label stands), "empty" (the model
    sees no class there), "left" (beyond the limit, or a Ctrl-C came first) or "failed"; of an undo "undone", "touched",
    "gone" (it had no label or priority any more), "left", "lost" or "failed".
    `status` = that of the label which was met, `annotations` = how many were written, `priority` = that the sample got,
    `theirs` = that somebody had given it, and which was left alone.
    """

    uuid: str
    name: str
    outcome: PrelabelOutcome
    reason: str = ""
    status: str = ""
    annotations: int = 0
    priority: float | None = None
    theirs: float | None = None


@dataclass(frozen=True)
class PrelabelLedger:
    """Exactly one row for every sample of the dataset, in the order of the labeling queue; of an undo, for every sample
    whose label or priority it was to take back."""

    rows: tuple[PrelabelRow, ...]

    @property
    def totals(self) -> dict[str, int]:
        """Number of rows per outcome, those that occur."""
        return {o: n for o in PRELABEL_OUTCOMES if (n := sum(row.outcome == o for row in self.rows))}

    @property
    def failed(self) -> tuple[PrelabelRow, ...]:
        """The rows of lost samples."""
        return tuple(row for row in self.rows if row.outcome == "failed")


@dataclass(frozen=True)
class PrelabelRecord:
    """`prelabel`: labels that were written, or would be (`dry_run`), or were taken back (`undo`).

    `path` = folder with the record and the ledger, "" in a dry run; `samples` = rows of the ledger, `outcomes` = how
    many ended how; `annotations` = how many the labels have in all; `renamed` = (class, name of its category);
    `undrawn` = classes without a category; `races` = rows of labels that somebody else wrote at the same moment;
    `labels` = whether labels were asked for; `strategy` = what the queue is ordered by, "" for nothing; `ordered` =
    samples whose priority was written, or taken back; `theirs` = those that keep a priority which somebody has set.
    """

    path: str
    dataset: str
    labelset: str
    model: str
    samples: int
    outcomes: dict[str, int]
    annotations: int
    renamed: tuple[tuple[str, str], ...] = ()
    undrawn: tuple[str, ...] = ()
    races: tuple[PrelabelRow, ...] = field(default=())
    dry_run: bool = False
    undo: bool = False
    labels: bool = True
    strategy: str = ""
    ordered: int = 0
    theirs: int = 0
