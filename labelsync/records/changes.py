"""What `diff` returns."""

from dataclasses import dataclass, field
from typing import Literal

from labelsync.taxonomy import TaxonomyChanges

Change = Literal["added", "removed", "labelled", "unlabelled", "relabelled", "redrawn", "status", "unchanged", "failed"]

Flow = dict[str, dict[str, int]]


@dataclass(frozen=True)
class DiffSide:
    """One release of a diff; `labelled` = samples whose label has one of the wanted statuses."""

    source: str
    dataset: str
    release: str
    samples: int
    labelled: int


@dataclass(frozen=True)
class SampleChange:
    """One sample of a diff. `flow` = old class -> new class -> pixels; without a label, all is "unlabeled".

    Statuses are "" where there is no sample, "UNLABELED" where it has no label. `reason` says why it `failed`.
    """

    name: str
    change: Change
    old_status: str
    new_status: str
    pixels: int = 0
    flow: Flow = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class ClassChange:
    """Pixels of one class: `gained`, `lost` in changed labels, `new` in labels that came, `gone` in those that went."""

    gained: int
    lost: int
    new: int
    gone: int


@dataclass(frozen=True)
class DiffRecord:
    """`diff`: a release against an older one.

    `totals` = samples per change, together every sample of the two, each once; `statuses` = old status -> new ->
    samples, of those in both; `classes` and `flow` hold only what changed, `flow` that of relabelled samples alone;
    `samples` = uuid -> change, without the unchanged. `fetched`, `bytes_fetched`, `decoded` = bitmaps, or
    the images of labels made of shapes.
    """

    old: DiffSide
    new: DiffSide
    totals: dict[str, int]
    statuses: Flow
    categories: TaxonomyChanges
    classes: dict[str, ClassChange]
    flow: Flow
    samples: dict[str, SampleChange]
    fetched: int
    bytes_fetched: int
    decoded: int
