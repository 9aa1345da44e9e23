"""What `check` returns."""

from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning", "info"]

Kind = Literal[
    "lost-sample",
    "broken-image",
    "broken-bitmap",
    "unknown-id",
    "bad-annotation",
    "undrawn-annotation",
    "shapes-only",
    "empty-label",
    "tiny-label",
    "tiny-instance",
    "duplicate",
    "near-duplicate",
    "unused-class",
    "class-in-split",
    "exif-orientation",
    "odd-size",
    "odd-format",
    "contradicted-label",
]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth a look.

    Attributes:
        message: one sentence, which reads after the sample's name where there is one.
        split: "train", "validation" or "test"; "" where there is none, or where all are meant.
        name, uuid: of the sample; "" for what is about a class or the whole.
        class_name: the class it is about, "" if none.
        instances: annotation ids that it is about, the first few where there are many.
        others: uuids of the samples it has to do with, the nearest first.
        region: left, top, width and height of where it is, in pixels; () where it is nowhere in particular.
        score: how bad, among findings of one kind; what is measured differs from kind to kind.
    """

    kind: Kind
    severity: Severity
    message: str
    split: str = ""
    name: str = ""
    uuid: str = ""
    class_name: str = ""
    instances: tuple[int, ...] = ()
    others: tuple[str, ...] = ()
    region: tuple[int, ...] = ()
    score: float = 0.0


@dataclass(frozen=True)
class KindSummary:
    """All findings of one kind, listed or not.

    `samples` = split -> samples that have one ("all" for a release); `advice` = the next move.
    """

    errors: int
    warnings: int
    infos: int
    samples: dict[str, int]
    advice: str


@dataclass(frozen=True)
class ClassBalance:
    """Pixels of one class, and images that show it, per split ("all" for a release)."""

    pixels: dict[str, int]
    images: dict[str, int]


@dataclass(frozen=True)
class IssueRow:
    """An issue at one sample on Segments.ai.

    `outcome` is "opened", "there" (an open one of an earlier check) or "failed", with its reason; `regions` = how many
    it is about, `issue` = its uuid.
    """

    uuid: str
    name: str
    outcome: Literal["opened", "there", "failed"]
    regions: int
    issue: str = ""
    reason: str = ""


@dataclass(frozen=True)
class DoubtedSample:
    """A sample whose label the model contradicts.

    `score` is that of its worst region, and `regions` counts those that the check found in it, listed or not.
    """

    split: str
    name: str
    uuid: str
    score: float
    regions: int


@dataclass(frozen=True)
class CheckRecord:
    """`check`: what is wrong in a release or a dataset.

    Attributes:
        stage: "pull" for a release folder, "convert" for a dataset.
        samples: those that were looked at; `left_out` = why not -> number, of the others.
        splits: split -> samples that were looked at; a release has one, called "all".
        classes: class name -> its balance; unlabeled pixels are in none.
        kinds: what was found, kinds without a finding left out.
        errors, warnings, infos: number of findings.
        findings: of each kind the worst, as many as `limit` allows.
        doubted: samples whose label a model contradicts, that of the worst region first, as many as `limit` allows.
        issues: those that were opened, or would be (`dry_run`), a row for each sample.
    """

    source: str
    stage: Literal["pull", "convert"]
    dataset: str
    release: str
    samples: int
    left_out: dict[str, int]
    splits: dict[str, int]
    errors: int
    warnings: int
    infos: int
    kinds: dict[str, KindSummary]
    classes: dict[str, ClassBalance] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    doubted: tuple[DoubtedSample, ...] = ()
    issues: tuple[IssueRow, ...] = ()
    dry_run: bool = False
