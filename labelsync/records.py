"""The frozen records that pass between stages and that commands print.

Every one goes to JSON and back unchanged, but for `Row`, which holds whole files.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from labelsync.errors import LabelsyncError
from labelsync.labels import Category, TaxonomyChanges

T = TypeVar("T")

Outcome = Literal["pulled", "converted", "unlabeled", "filtered", "empty", "failed"]
Change = Literal["added", "removed", "labelled", "unlabelled", "relabelled", "redrawn", "status", "unchanged", "failed"]
Flow = dict[str, dict[str, int]]
OUTCOMES: tuple[Outcome, ...] = ("pulled", "converted", "unlabeled", "filtered", "empty", "failed")


def to_json(record: object, *, indent: int | None = 2) -> str:
    """Any record as JSON text; a NaN is null, a path its string."""
    return TypeAdapter(type(record)).dump_json(record, indent=indent).decode()


def from_json(cls: type[T], text: str | bytes, *, where: str = "record") -> T:
    """The record that `to_json` wrote. Raises LabelsyncError naming `where` if the text is another thing."""
    try:
        return TypeAdapter(cls).validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        at = ".".join(map(str, first["loc"])) or "the top"
        raise LabelsyncError(
            f"{where} is not what labelsync writes ({first['msg']} at {at})", hint="make it again"
        ) from None


# -------------------------------------------------------------------- what a release holds


@dataclass(frozen=True)
class Annotation:
    """One object of a label: `id` is its value in the instance bitmap, `category_id` its Segments.ai category."""

    id: int
    category_id: int


@dataclass(frozen=True)
class Label:
    """The label of one sample in one labelset; `bitmap_url` is None where nothing was drawn."""

    status: str
    annotations: tuple[Annotation, ...] = ()
    bitmap_url: str | None = None


@dataclass(frozen=True)
class Sample:
    """One image of a release; `label` None = unlabeled; `problem` = why the entry cannot be used at all."""

    uuid: str
    name: str
    image_url: str | None
    label: Label | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


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


# -------------------------------------------------------------------- the ledger


@dataclass(frozen=True)
class LedgerRow:
    """How one sample of a release ended; `reason` says why, except for `pulled` and `converted`."""

    uuid: str
    name: str
    outcome: Outcome
    reason: str = ""
    status: str = ""


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
    def failed(self) -> tuple[LedgerRow, ...]:
        """The rows of lost samples."""
        return tuple(row for row in self.rows if row.outcome == "failed")

    def require_complete(self, samples: Iterable[Sample]) -> None:
        """Raises LabelsyncError unless every sample has exactly one row: a bug in labelsync, never the user's."""
        want, have = Counter(s.uuid for s in samples), Counter(r.uuid for r in self.rows)
        if want != have:
            lost = sorted((want - have) | (have - want))
            raise LabelsyncError(f"the ledger does not add up at sample {lost[0]}", hint="please report this")


# -------------------------------------------------------------------- what a dataset holds


@dataclass(frozen=True)
class Row:
    """One row of a dataset: an image file and a semantic bitmap (PNG of disk ids), both as their bytes."""

    name: str
    uuid: str
    image: bytes
    label: bytes


# -------------------------------------------------------------------- what the verbs return


@dataclass(frozen=True)
class PullRecord:
    """`pull`: a release folder. `fetched`/`reused` count assets, `bytes_fetched` what came over the network."""

    path: str
    release: str
    dataset: str
    samples: int
    outcomes: dict[str, int]
    fetched: int
    reused: int
    bytes_fetched: int
    digest: str
    unchanged: bool = False


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
    `samples` = uuid -> change, without the unchanged. `fetched`, `bytes_fetched`, `decoded` = bitmaps.
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


@dataclass(frozen=True)
class ConvertRecord:
    """`convert`: a dataset folder.

    `splits` = rows per split, `bytes` = size of the data files, `pixel_shares` = class name -> its share of the
    labelled pixels.
    """

    path: str
    release: str
    dataset: str
    num_labels: int
    samples: int
    outcomes: dict[str, int]
    splits: dict[str, int]
    shards: int
    bytes: int
    pixel_shares: dict[str, float]
    digest: str
    unchanged: bool = False


@dataclass(frozen=True)
class PushRecord:
    """`push`: one commit and a tag. `uploaded` = bytes of the added files, `unchanged` = nothing to send or delete."""

    repo_id: str
    repo_type: str
    commit: str
    tag: str
    url: str
    added: int
    deleted: int
    kept: int
    uploaded: int
    unchanged: bool = False


@dataclass(frozen=True)
class TrainRecord:
    """`train`: a model folder. `mean_iou` is the kept best model's on the validation split."""

    path: str
    model: str
    dataset: str
    dataset_digest: str
    num_labels: int
    parameters: int
    steps: int
    epochs: float
    best_step: int
    mean_iou: float | None
    train_loss: float
    seconds: float
    digest: str


@dataclass(frozen=True)
class EvaluateRecord:
    """`evaluate`: an evaluation folder. Scores are pooled over all labelled pixels; None = class absent."""

    path: str
    model: str
    dataset: str
    dataset_digest: str
    split: str
    images: int
    pixels: int
    mean_iou: float | None
    mean_accuracy: float | None
    overall_accuracy: float | None
    per_category_iou: dict[str, float | None]
    per_category_accuracy: dict[str, float | None]
    seconds: float
    digest: str


@dataclass(frozen=True)
class PredictRecord:
    """`predict`: bitmaps and overlays of `images` images; `failed` = file -> reason."""

    path: str
    model: str
    images: int
    failed: dict[str, str]
    seconds: float


@dataclass(frozen=True)
class DemoRecord:
    """`demo`: the records of its stages and the seconds each took."""

    path: str
    pull: PullRecord
    convert: ConvertRecord
    train: TrainRecord
    evaluate: EvaluateRecord
    predict: PredictRecord
    seconds: dict[str, float]
