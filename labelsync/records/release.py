"""What a release holds, what became of each of its samples, and a row of a dataset."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from labelsync.errors import LabelsyncError
from labelsync.taxonomy import Category

Outcome = Literal["pulled", "converted", "unlabeled", "filtered", "empty", "failed"]

BOX, POLYGON, POLYLINE, POINT = SHAPE_TYPES = ("bbox", "polygon", "polyline", "point")

OUTCOMES: tuple[Outcome, ...] = ("pulled", "converted", "unlabeled", "filtered", "empty", "failed")


@dataclass(frozen=True)
class Annotation:
    """One object of a label: `id` is its value in the instance bitmap, `category_id` its Segments.ai category.

    Where there are no bitmaps, `type` is one of SHAPE_TYPES or another word, and `points` are its
    (x, y) in pixels of the image as it is shown; (0, 0) is the upper left corner of the upper left pixel.
    """

    id: int
    category_id: int
    type: str = ""
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Label:
    """The label of one sample in one labelset; `bitmap_url` is None where nothing was drawn."""

    status: str
    annotations: tuple[Annotation, ...] = ()
    bitmap_url: str | None = None

    @property
    def shapes(self) -> tuple[Annotation, ...]:
        """The annotations that say by themselves where they are."""
        return tuple(a for a in self.annotations if a.type)

    @property
    def lacks_bitmap(self) -> bool:
        """Whether only a bitmap could tell where its annotations are, and there is none."""
        return self.bitmap_url is None and len(self.shapes) < len(self.annotations)


@dataclass(frozen=True)
class Sample:
    """One image of a release; `label` None = unlabeled; `problem` = why the entry cannot be used at all.

    `sequence` is the uuid of the entry whose frame the image is, "" where the image is the entry.
    """

    uuid: str
    name: str
    image_url: str | None
    label: Label | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    sequence: str = ""

    @property
    def entry(self) -> str:
        """The uuid that Segments.ai knows: its own, or that of the sequence it is a frame of."""
        return self.sequence or self.uuid


@dataclass(frozen=True)
class Release:
    """A parsed release: `dataset` is "owner/name"; `samples` in the order of the file."""

    name: str
    dataset: str
    task_type: str
    labelset: str
    categories: tuple[Category, ...]
    samples: tuple[Sample, ...]
    description: str = ""
    created_at: str = ""


@dataclass(frozen=True)
class LedgerRow:
    """How one sample of a release ended; `reason` says why, except for `pulled` and `converted`.

    `undrawn` = type of shape -> number of its annotations that touch no pixel: points, lines without a width, and what
    is too thin or lies outside the image.
    """

    uuid: str
    name: str
    outcome: Outcome
    reason: str = ""
    status: str = ""
    undrawn: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ledger:
    """Exactly one row for every sample of a release, in the release's order."""

    rows: tuple[LedgerRow, ...]

    @property
    def totals(self) -> dict[Outcome, int]:
        """Number of rows per outcome, all always there; they add up to the release."""
        count = Counter(row.outcome for row in self.rows)
        return {o: count[o] for o in OUTCOMES}

    @property
    def undrawn(self) -> dict[str, int]:
        """Type of shape -> annotations that touch no pixel, over all rows, in the order of the alphabet."""
        count: Counter[str] = Counter()
        for row in self.rows:
            count.update(row.undrawn)
        return dict(sorted(count.items()))

    @property
    def failed(self) -> tuple[LedgerRow, ...]:
        """The rows of lost samples."""
        return tuple(row for row in self.rows if row.outcome == "failed")

    @property
    def statuses_left_out(self) -> dict[str, int]:
        """Label status -> samples that were left out for it, the most frequent first."""
        count = Counter(r.status for r in self.rows if r.outcome == "filtered" and r.reason == f"status {r.status}")
        return dict(sorted(count.items(), key=lambda pair: (-pair[1], pair[0])))

    def require_complete(self, samples: Iterable[Sample]) -> None:
        """Raises LabelsyncError unless every sample has exactly one row: a bug in labelsync, never the user's."""
        want, have = Counter(s.uuid for s in samples), Counter(r.uuid for r in self.rows)
        if want != have:
            lost = sorted((want - have) | (have - want))
            raise LabelsyncError(f"the ledger does not add up at sample {lost[0]}", hint="please report this")


@dataclass(frozen=True)
class Row:
    """One row of a dataset: an image file and a semantic bitmap (PNG of disk ids), both as their bytes."""

    name: str
    uuid: str
    image: bytes
    label: bytes
