"""Where a dataset is made: a folder, or an fsspec URL (s3://bucket/prefix, gs://.., memory://..).

A folder appears whole or not at all, by a rename. A bucket has no rename, so there the manifest counts: an old one is
removed first and the new one is written last, and while `unfinished.json` lies there nothing is taken for finished.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from labelsync.dataset.sink import asked, is_url, make_parent, opened_url
from labelsync.errors import DatasetNotFound, LabelsyncError, OutputError, OutputExists
from labelsync.store.folder import stage_folder
from labelsync.store.manifest import MANIFEST, FileEntry, Manifest, manifest_of, read_manifest

T = TypeVar("T")

STAGE = "convert"
UNFINISHED = "unfinished.json"
PARTS = ("data", "images", "labels")  # top-level folders of a dataset; whatever is in them is labelsync's


@dataclass(frozen=True)
class Stage:
    """A dataset that is being made: `work` takes the small files, `data` names the sink of all others."""

    work: Path
    data: str


class Place(Protocol):
    """What `convert --out` names."""

    @property
    def name(self) -> str:
        """As the record shows it."""
        ...

    @property
    def in_memory(self) -> bool:
        """Whether other processes do not see what is written there."""
        ...

    def manifest(self) -> Manifest:
        """That of the finished dataset there. Raises DatasetNotFound, LabelsyncError."""
        ...

    def sizes(self, names: Mapping[str, FileEntry]) -> dict[str, int]:
        """Sizes of those of the files that are there."""
        ...

    def read(self, name: str) -> bytes:
        """A small file."""
        ...

    def staged(self, *, overwrite: bool) -> AbstractContextManager[Stage]:
        """Make a dataset; `write_manifest` in the block comes last. Raises OutputExists, OutputLocked, OutputError."""
        ...


def place_of(out: str | Path) -> Place:
    """The place that `out` names.

    Raises:
        OptionError: a URL that cannot be written to: no such scheme, its package missing, a password in it.
    """
    if not is_url(out):
        return _Folder(Path(out))
    from fsspec.implementations.local import LocalFileSystem

    url = str(out)
    fs, root = opened_url(url)
    return _Folder(Path(root)) if isinstance(fs, LocalFileSystem) else _Bucket(url.rstrip("/"), fs, root.rstrip("/"))


def finished(place: Place, wanted: str) -> Manifest | None:
    """The manifest at `place` if the conversion of the fingerprint `wanted` is there."""
    try:
        manifest = place.manifest()
    except LabelsyncError:
        return None
    return manifest if manifest.fingerprint == wanted else None


def is_whole(place: Place, manifest: Manifest, *, but: str) -> bool:
    """Every file is there with its size; the file `but` may have been written on by hand."""
    sizes = place.sizes(manifest.files)
    return all(sizes.get(name) == entry.size for name, entry in manifest.files.items() if name != but)


# -------------------------------------------------------------------- a folder


@dataclass(frozen=True)
class _Folder:
    path: Path
    in_memory = False

    @property
    def name(self) -> str:
        return str(self.path)

    def manifest(self) -> Manifest:
        return read_manifest(self.path, STAGE)

    def sizes(self, names: Mapping[str, FileEntry]) -> dict[str, int]:
        return {n: (self.path / n).stat().st_size for n in names if (self.path / n).is_file()}

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    @contextmanager
    def staged(self, *, overwrite: bool) -> Iterator[Stage]:
        with stage_folder(self.path, stage=STAGE, overwrite=overwrite) as work:
            yield Stage(work, str(work))
            _sweep_folder(work)


def _sweep_folder(work: Path) -> None:
    """Delete what lost workers left: files in the data folders that the manifest does not list."""
    listed = read_manifest(work, STAGE).files
    for part in PARTS:
        for path in list((work / part).rglob("*")):
            if path.is_file() and path.relative_to(work).as_posix() not in listed:
                path.unlink(missing_ok=True)


# -------------------------------------------------------------------- a URL


@dataclass(frozen=True)
class _Bucket:
    """A prefix in an object store. There are no locks: two runs on one URL at once are not told apart."""

    name: str
    fs: Any
    root: str

    @property
    def in_memory(self) -> bool:
        return "memory" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))

    def manifest(self) -> Manifest:
        if not self._exists(MANIFEST) or self._exists(UNFINISHED):
            raise DatasetNotFound(f"{self.name} has no finished dataset", hint=f"run labelsync {STAGE} first")
        return manifest_of(self.read(MANIFEST), folder=self.name, stage=STAGE)

    def sizes(self, names: Mapping[str, FileEntry]) -> dict[str, int]:
        return {name: size for name, size in self._listing().items() if name in names}

    def read(self, name: str) -> bytes:
        return bytes(self._asked(lambda: self.fs.cat_file(f"{self.root}/{name}")))

    @contextmanager
    def staged(self, *, overwrite: bool) -> Iterator[Stage]:
        old = self._require_replaceable(overwrite=overwrite)
        self._asked(lambda: self.fs.makedirs(self.root, exist_ok=True))
        self._put(UNFINISHED, b'{"stage": "convert"}\n')  # first, so that whoever is killed here can go on
        if self._exists(MANIFEST):
            self._remove([MANIFEST])
        with tempfile.TemporaryDirectory(prefix="labelsync-") as folder:
            work = Path(folder)
            try:
                yield Stage(work, self.name)
                self._finish(work, old)
            except BaseException:
                self._clear(old)
                raise

    def _require_replaceable(self, *, overwrite: bool) -> set[str]:
        """Names of the files there that are labelsync's."""
        there = self._listing()
        if UNFINISHED in there:  # what a killed run left is nobody's dataset
            return {name for name in there if name in _TEXTS or name.split("/")[0] in PARTS}
        if not there:
            return set()
        if not overwrite:
            raise OutputExists(f"{self.name} exists", hint="choose another --out or pass --overwrite")
        try:
            return {*self.manifest().files}
        except LabelsyncError as e:
            raise OutputExists(
                f"{self.name} is not replaced: {e.message}", hint="choose another --out, or delete it"
            ) from None

    def _finish(self, work: Path, old: set[str]) -> None:
        """Small files, then nothing that is not of this dataset, then the manifest."""
        listed = read_manifest(work, STAGE).files
        for path in sorted(p for p in work.rglob("*") if p.is_file() and p.name != MANIFEST):
            self._put(path.relative_to(work).as_posix(), path.read_bytes())
        there = self._listing()
        wrong = [n for n, e in listed.items() if there.get(n) != e.size]
        if wrong:
            raise OutputError(f"{wrong[0]} has not arrived whole at {self.name}", hint="run it again")
        self._remove([n for n in there if n not in listed and (n in old or n.split("/")[0] in PARTS)])
        self._put(MANIFEST, (work / MANIFEST).read_bytes())
        self._remove([UNFINISHED])

    def _clear(self, old: set[str]) -> None:
        """After an error: leave nothing that is labelsync's, as far as the storage lets us."""
        try:
            there = self._listing()
            self._remove([n for n in there if n in old or n in _TEXTS or n.split("/")[0] in PARTS])
            self._remove([UNFINISHED] if UNFINISHED in there else [])
        except OutputError:
            return  # the marker stays, so nothing there is taken for finished

    def _exists(self, name: str) -> bool:
        self.fs.invalidate_cache()
        return bool(self._asked(lambda: self.fs.exists(f"{self.root}/{name}")))

    def _listing(self) -> dict[str, int]:
        """Name -> size of every file below the prefix."""
        self.fs.invalidate_cache()
        found = self._asked(lambda: self.fs.find(self.root, detail=True))
        return {
            str(path)[len(self.root) :].lstrip("/"): int(entry["size"] or 0)
            for path, entry in sorted(found.items())
            if str(path).startswith(f"{self.root}/")
        }

    def _put(self, name: str, data: bytes) -> None:
        self._asked(lambda: make_parent(self.fs, f"{self.root}/{name}"))
        self._asked(lambda: self.fs.pipe_file(f"{self.root}/{name}", data))

    def _remove(self, names: Iterable[str]) -> None:
        def remove() -> None:
            for name in names:
                self.fs.rm_file(f"{self.root}/{name}")

        self._asked(remove)

    def _asked(self, question: Callable[[], T]) -> T:
        return asked(self.name, question)


# Of a dataset, beside its data; a killed run may have left some of them.
_TEXTS = ("README.md", "id2label.json", "splits.json", "ledger.json", "rows.json", "metadata.json", "samples.json")
