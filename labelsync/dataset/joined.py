"""One release or several as what one dataset is made of.

Samples, ledger rows and digests of all of them are kept; the first release says which classes come first. Category ids
mean something inside their own Segments.ai dataset only, so every sample says which one it is from.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labelsync.dataset.metadata import require_known
from labelsync.dataset.recognise import Taxonomy
from labelsync.dataset.select import Selection, select
from labelsync.errors import DatasetError, OptionError, TaxonomyError
from labelsync.records.release import Ledger, LedgerRow, Outcome, Release, Sample
from labelsync.release.folder import ReleaseFolder, open_release
from labelsync.release.parse import uncollected
from labelsync.taxonomy import Category


@dataclass(frozen=True)
class Part:
    """One of several releases, for the card: where it is from, and how its samples ended."""

    dataset: str
    release: str
    created_at: str
    labelset: str
    digest: str
    outcomes: dict[Outcome, int]

    @property
    def samples(self) -> int:
        """Of the release, whatever became of them."""
        return sum(self.outcomes.values())


@dataclass(frozen=True)
class Joined:
    """Release folders in the order given, and all of them as one release; of one folder, that is its own."""

    folders: tuple[ReleaseFolder, ...]
    release: Release

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of the folders: "release", "release 2", .."""
        return {f"release {i}" if i > 1 else "release": f.manifest.digest for i, f in enumerate(self.folders, 1)}

    @property
    def taxonomies(self) -> list[Taxonomy]:
        """The categories of every Segments.ai dataset. Raises TaxonomyError if two releases of one contradict."""
        found: dict[str, list[Category]] = {}
        for folder in self.folders:
            categories, known = folder.release.categories, found.setdefault(folder.release.dataset, [])
            for c in categories if known else ():
                _refuse_contradiction(c, known, folder)
            known += [c for c in categories if not known or c.id not in {k.id for k in known}]
        return [Taxonomy(dataset, tuple(categories)) for dataset, categories in found.items()]

    def parts(self, ledger: Ledger) -> tuple[Part, ...]:
        """Each release with its share of the ledger, whose rows are in the order of the samples."""
        rows, parts = iter(ledger.rows), []
        for folder in self.folders:
            own = Ledger(tuple(itertools.islice(rows, len(folder.release.samples))))
            r, digest = folder.release, folder.manifest.digest
            parts.append(Part(r.dataset, r.name, r.created_at, r.labelset, digest, own.totals))
        return tuple(parts)

    @uncollected()
    def select(
        self, *, status: Collection[str], metadata: Mapping[str, Collection[str]], line_width: float
    ) -> Selection:
        """`select.select` of every folder. Raises OptionError for metadata that no sample of any has."""
        require_known(self.release.samples, metadata)
        parts = [select(folder, status=status, metadata=metadata, line_width=line_width) for folder in self.folders]
        ledger: dict[str, LedgerRow] = {}
        for part in parts:
            ledger |= part.ledger
        allowed = frozenset(uuid for part in parts for uuid in part.allowed)
        return Selection(tuple(s for part in parts for s in part.samples), ledger, allowed)


def open_releases(release: str | Path | Sequence[str | Path]) -> Joined:
    """The release folder or folders at `release`.

    Raises:
        OptionError: none at all.
        DatasetNotFound, ReleaseError: see `open_release`.
        DatasetError: two releases have the same sample.
    """
    paths = [release] if isinstance(release, str | Path) else list(release)
    if not paths:
        raise OptionError("no release is given", hint="give one folder that `labelsync pull` left, or several")
    folders = [open_release(path) for path in paths]
    if len(folders) == 1:
        return Joined((folders[0],), folders[0].release)
    folders = [_with_own_uuids(folder, i) for i, folder in enumerate(folders, 1)]
    _refuse_shared(folders)
    return Joined(tuple(folders), _as_one([f.release for f in folders]))


def title(release: Release, path: Path) -> str:
    """What errors and tables call one of several releases."""
    return " ".join(x for x in (release.dataset, release.name) if x) or str(path)


def _as_one(releases: Sequence[Release]) -> Release:
    def names(attribute: str, between: str) -> str:
        return between.join(dict.fromkeys(x for r in releases if (x := getattr(r, attribute))))

    return Release(
        name=names("name", "+"),  # a tag on the Hub may be called so
        dataset=names("dataset", " + "),
        task_type=names("task_type", ", "),
        labelset=names("labelset", ", "),
        categories=releases[0].categories,
        samples=tuple(s for r in releases for s in r.samples),
    )


def _with_own_uuids(folder: ReleaseFolder, position: int) -> ReleaseFolder:
    """Entries without a uuid of their own are called "#3" in every release: here they get the release's position."""

    def renamed(sample: Sample) -> str:
        return f"{sample.uuid}@{position}" if sample.problem and "#" in sample.uuid else sample.uuid

    pairs = list(zip(folder.release.samples, folder.ledger.rows, strict=True))
    samples = tuple(replace(s, uuid=renamed(s)) for s, _ in pairs)
    rows = tuple(replace(row, uuid=renamed(s)) for s, row in pairs)
    return replace(folder, release=replace(folder.release, samples=samples), ledger=Ledger(rows))


def _refuse_shared(folders: Sequence[ReleaseFolder]) -> None:
    """A sample counts once: in two splits it would be trained on and scored, in one it would count double."""
    first: dict[str, ReleaseFolder] = {}
    for folder in folders:
        shared = [s for s in folder.release.samples if s.uuid in first]
        if shared:
            other = first[shared[0].uuid]
            a, b = title(other.release, other.path), title(folder.release, folder.path)
            more = f" ({len(shared)} such samples)" if len(shared) > 1 else ""
            raise DatasetError(f"sample {shared[0].name!r} is in {a} and in {b}{more}", hint=_leave_out(other, folder))
        first |= {s.uuid: folder for s in folder.release.samples}


def _leave_out(a: ReleaseFolder, b: ReleaseFolder) -> str:
    made = [(f.release.created_at, f) for f in (a, b)]
    if a.path.resolve() == b.path.resolve():
        return f"{a.path} is given twice: leave one out"
    if a.release.dataset == b.release.dataset and all(when for when, _ in made) and made[0][0] != made[1][0]:
        older, newer = (f for _, f in sorted(made, key=lambda pair: pair[0]))
        return f"two rounds of one dataset: leave out the older one, {older.path}, and keep {newer.path}"
    return f"leave out {a.path} or {b.path}; of two rounds of one dataset, the newer has every sample of the older"


def _refuse_contradiction(category: Category, known: Collection[Category], folder: ReleaseFolder) -> None:
    for other in known:
        if (other.id == category.id) != (other.name == category.name):
            dataset = folder.release.dataset
            raise TaxonomyError(
                f"category {category.name!r} is number {category.id} in {title(folder.release, folder.path)}, and"
                f" another release of {dataset or 'a dataset without a name'} has {other.name!r} as number {other.id}",
                hint="leave one of the two out; releases of different datasets need different dataset names in them",
            )
