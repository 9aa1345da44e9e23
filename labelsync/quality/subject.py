"""What is checked: the samples of a release folder or of a dataset, read one at a time, with whatever is wrong in them.

A file that cannot be read is told, not raised: to find it is what a check is for.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from labelsync.dataset.load import load
from labelsync.dataset.source import LEDGER, DatasetFiles, find_dataset
from labelsync.errors import DatasetNotFound
from labelsync.labels import LabelMap, from_categories
from labelsync.quality.plain import PlainRows
from labelsync.records.findings import Finding
from labelsync.records.release import Annotation, Ledger, LedgerRow, Row, Sample
from labelsync.records.text import from_json
from labelsync.release.folder import ReleaseFolder, open_release
from labelsync.store.files import sha256
from labelsync.store.manifest import read_manifest

ALL = "all"  # the one split of a release


@dataclass(frozen=True)
class Content:
    """One sample, read. `image` and `label` are file bytes, or why there are none in words that read after "its image"
    or "its bitmap"; a `label` of None was never drawn. `annotations` are None in a dataset, which knows of none."""

    split: str
    name: str
    uuid: str
    image: bytes | str
    label: bytes | str | None
    annotations: tuple[Annotation, ...] | None = None


@dataclass(frozen=True)
class Subject:
    """A release or a dataset.

    Attributes:
        splits: split -> number of samples to look at; sample indices run through them in order.
        left_out: why not -> number of the other samples; those that were `lost` on the way are findings.
        read: index -> that sample; safe in threads.
        has_bitmaps: False for a release of polygons, boxes and the like.
        group_by: the rule that the splits were made by, "" for a release.
    """

    source: str
    stage: Literal["pull", "convert"]
    dataset: str
    release: str
    labels: LabelMap
    splits: dict[str, int]
    left_out: dict[str, int]
    lost: tuple[Finding, ...]
    read: Callable[[int], Content] = field(repr=False)
    has_bitmaps: bool = True
    group_by: str = ""

    @property
    def count(self) -> int:
        """Number of samples to look at."""
        return sum(self.splits.values())


def open_subject(source: str | Path, *, status: Collection[str]) -> Subject:
    """The release folder, dataset folder or Hub dataset at `source`; `status` chooses labels of a release.

    Raises:
        DatasetNotFound: no finished folder of `pull` or `convert` there, or no such repo.
        ReleaseError, DatasetError: one that was edited or damaged as a whole.
        TaxonomyError: categories of a release that cannot be told apart.
        AuthError, ServiceError: the Hub does not show it, or does not answer.
    """
    path = Path(source).expanduser()
    if path.is_file():
        raise DatasetNotFound(
            f"{source} is a file, and a check looks at images and bitmaps too",
            hint="pull it first: labelsync pull FILE --out DIR, then check DIR",
        )
    if path.is_dir() and read_manifest(path).stage == "pull":
        return _of_release(open_release(path), status)
    try:
        return _of_dataset(find_dataset(source))
    except DatasetNotFound as e:
        if path.exists():
            raise
        raise DatasetNotFound(e.message, hint=f"{e.hint}; a release on Segments.ai is pulled first") from None


# -------------------------------------------------------------------- a release folder


def _of_release(folder: ReleaseFolder, status: Collection[str]) -> Subject:
    release = folder.release
    taken: list[Sample] = []
    left_out: list[LedgerRow] = []
    for sample, row in zip(release.samples, folder.ledger.rows, strict=True):
        unwanted = sample.label is not None and sample.label.status not in status and not sample.problem
        if unwanted or row.outcome != "pulled":
            left_out.append(LedgerRow(row.uuid, row.name, "filtered" if unwanted else row.outcome, row.reason))
        else:
            taken.append(sample)

    def read(index: int) -> Content:
        sample = taken[index]
        label = sample.label
        image, bitmap = folder.image(sample), folder.bitmap(sample)
        drawn = None if label is None or label.bitmap_url is None else _file(bitmap, folder)
        annotations = label.annotations if label else ()
        return Content(ALL, sample.name, sample.uuid, _file(image, folder), drawn, annotations)

    return Subject(
        source=str(folder.path),
        stage="pull",
        dataset=release.dataset,
        release=release.name,
        labels=from_categories(release.categories),
        splits={ALL: len(taken)},
        left_out=_counted(left_out),
        lost=_lost(left_out),
        read=read,
        has_bitmaps="segmentation" in release.task_type or any(s.label and s.label.bitmap_url for s in taken),
    )


def _file(path: Path | None, folder: ReleaseFolder) -> bytes | str:
    """The bytes that were pulled, or what is wrong with them."""
    if path is None:
        return "is not in the release folder"
    try:
        data = path.read_bytes()
    except OSError as e:
        return f"cannot be read ({e.strerror})"
    is_same = sha256(data) == folder.manifest.files[path.relative_to(folder.path).as_posix()].sha256
    return data if is_same else "was changed after the pull"


# -------------------------------------------------------------------- a dataset


def _of_dataset(files: DatasetFiles) -> Subject:
    splits = _rows(files)
    ledger = from_json(Ledger, files.path(LEDGER).read_bytes(), where=f"{LEDGER} of {files.name}")
    left_out = [row for row in ledger.rows if row.outcome != "converted"]
    places = [(split, i) for split, rows in splits.items() for i in range(len(rows))]

    def read(index: int) -> Content:
        split, i = places[index]
        row = splits[split][i]
        return Content(split, row.name, row.uuid, row.image, row.label)

    return Subject(
        source=files.name,
        stage="convert",
        dataset=files.manifest.summary["dataset"],
        release=files.manifest.summary["release"],
        labels=files.labels,
        splits={split: len(rows) for split, rows in splits.items()},
        left_out=_counted(left_out),
        lost=_lost(left_out),
        read=read,
        group_by=files.assignment.group_by,
    )


def _rows(files: DatasetFiles) -> Mapping[str, Sequence[Row]]:
    if files.manifest.settings["format"] == "bitmaps":
        return PlainRows.of(files)
    return load(f"{files.repo}@{files.revision}" if files.repo else files.folder).splits


# -------------------------------------------------------------------- both


def _counted(rows: Sequence[LedgerRow]) -> dict[str, int]:
    return {outcome: n for outcome, n in Ledger(tuple(rows)).totals.items() if n}


def _lost(rows: Sequence[LedgerRow]) -> tuple[Finding, ...]:
    return tuple(
        Finding("lost-sample", "warning", f"was lost on the way here: {row.reason}", name=row.name, uuid=row.uuid)
        for row in rows
        if row.outcome == "failed"
    )
