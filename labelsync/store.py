"""Files that are either whole or not there: atomic writes, digests, manifests, stage folders, locks.

A stage folder is finished when its manifest.json exists; the manifest is written last. A stage builds its folder under
a temporary name beside the target and renames it, so a kill leaves nothing that a later stage would take for done.
"""

import datetime
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from labelsync.errors import DatasetNotFound, LabelsyncError, OutputError, OutputExists, OutputLocked
from labelsync.labels import LabelMap
from labelsync.records.text import canonical, from_json, to_json

MANIFEST = "manifest.json"
FORMAT = 1


def sha256(data: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Hex digest of plain data (dicts, lists, numbers, strings), independent of key order."""
    return sha256(canonical(value).encode())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` on success and vanishes on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_bytes(path, text.encode())


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link `source` at `target`, or copy it where the file system cannot link (or not once more)."""
    with suppress(OSError):  # there is a file, or no folder yet
        return os.link(source, target)
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


# -------------------------------------------------------------------- manifests


@dataclass(frozen=True)
class FileEntry:
    """One file of a stage folder."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a stage folder is, made from what, holding which files.

    Attributes:
        stage: the verb that made it ("pull", "convert", "train", "evaluate", "predict").
        digest: over everything but `created` and `version`: same input, same digest.
        fingerprint: over the inputs and settings alone; a stage with the same fingerprint need not run again.
        inputs: what it was made from, names to digests.
        settings: the parameters that shaped it.
        labels: the label map, where the stage has one.
        summary: the numbers of the stage's record.
        files: path relative to the folder, with "/" -> digest and size; the manifest itself is not in it.
    """

    stage: str
    digest: str
    fingerprint: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    summary: dict[str, Any]
    files: dict[str, FileEntry]
    labels: LabelMap | None = None
    format: int = FORMAT
    version: str = ""
    created: str = ""


def fingerprint(stage: str, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Digest of what a stage is asked to do, known before it starts."""
    return digest_of({"stage": stage, "inputs": dict(inputs), "settings": dict(settings), "format": FORMAT})


def write_manifest(
    folder: Path,
    stage: str,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    summary: Mapping[str, Any],
    labels: LabelMap | None = None,
    exclude: tuple[str, ...] = (),
    known: Mapping[str, FileEntry] | None = None,
) -> Manifest:
    """Digest every file below `folder` (not those in `exclude`, at its top, nor `known` ones), write it last."""
    files = dict(known or {})
    for name in sorted({p.relative_to(folder).as_posix() for p in folder.rglob("*")} - files.keys()):
        if name.split("/")[0] not in (MANIFEST, *exclude) and (path := folder / name).is_file():
            files[name] = FileEntry(sha256_file(path), path.stat().st_size)
    body = {
        "stage": stage,
        "inputs": dict(inputs),
        "settings": dict(settings),
        "summary": dict(summary),
        "files": {k: [e.sha256, e.size] for k, e in files.items()},
        "labels": None if labels is None else json.loads(to_json(labels)),
    }
    manifest = Manifest(
        stage=stage,
        digest=digest_of(body),
        fingerprint=fingerprint(stage, inputs, settings),
        inputs=dict(inputs),
        settings=dict(settings),
        summary=dict(summary),
        files=dict(sorted(files.items())),
        labels=labels,
        version=_version(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    write_text(folder / MANIFEST, to_json(manifest) + "\n")
    return manifest


def read_manifest(folder: Path, stage: str = "") -> Manifest:
    """The manifest of a finished stage folder.

    Raises:
        DatasetNotFound: no folder, no manifest (the stage did not finish), or a folder of another stage.
        LabelsyncError: written by a newer labelsync.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "has no manifest.json, so nothing finished there" if folder.is_dir() else "does not exist"
        raise DatasetNotFound(f"{folder} {what}", hint=f"run labelsync {stage or 'on it'} first")
    return manifest_of(path.read_bytes(), folder=str(folder), stage=stage)


def manifest_of(text: bytes, *, folder: str, stage: str = "") -> Manifest:
    """The manifest whose text was read from `folder`, a path or a URL; see `read_manifest`."""
    _refuse_newer(folder, text)
    manifest = from_json(Manifest, text, where=f"{folder}/{MANIFEST}")
    outside = [name for name in manifest.files if not _is_below(name)]
    if outside:
        raise LabelsyncError(f"{folder}/{MANIFEST} names {outside[0]!r}, which is not below it", hint="make it again")
    if stage and manifest.stage != stage:
        raise DatasetNotFound(
            f"{folder} was made by labelsync {manifest.stage}, not {stage}", hint=f"give a folder of labelsync {stage}"
        )
    return manifest


def _refuse_newer(folder: str, text: bytes) -> None:
    try:
        head = json.loads(text)
        newer = head["format"] > FORMAT
    except (ValueError, KeyError, TypeError):
        return  # not a manifest at all, which from_json says better
    if newer:
        by = f"labelsync {head.get('version', '')}".strip()
        raise LabelsyncError(f"{folder} was written by {by}, which is newer", hint="upgrade labelsync")


def _is_below(name: str) -> bool:
    """Whether a manifest's file name stays inside its folder: a manifest can come from somebody else's repo."""
    return not name.startswith("/") and ".." not in name.split("/") and "\\" not in name and ":" not in name[:2]


def verify_files(folder: Path, manifest: Manifest) -> list[str]:
    """Names of the manifest's files that are missing or changed."""
    return [
        name
        for name, entry in manifest.files.items()
        if not (folder / name).is_file() or sha256_file(folder / name) != entry.sha256
    ]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("labelsync")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return ""


# -------------------------------------------------------------------- stage folders


@contextmanager
def stage_folder(out: str | Path, *, stage: str, overwrite: bool = False) -> Iterator[Path]:
    """A working folder beside `out` that becomes `out` on success; nothing is left of it on failure.

    Args:
        out: the folder to leave; a link is followed.
        stage: the verb that makes it; `overwrite` replaces only what the same verb left.
        overwrite: replace a finished folder. It is whole until the new one is.

    Raises:
        OutputExists: `out` exists and is not an empty folder, and `overwrite` is False or it is not that stage's work:
            `--out .` must never delete somebody's files.
        OutputLocked: another labelsync is making `out` right now.
    """
    out = Path(out).resolve()
    with locked(out):
        _recover(out)
        _require_replaceable(out, stage, overwrite=overwrite)
        work = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
        work.mkdir()
        try:
            yield work
            _swap(work, out)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def lock_file(out: Path) -> Path:
    """The file that `locked` holds for `out`."""
    return out.parent / f".{out.name}.lock"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock file beside `out`; another holder is an OutputLocked at once, not a wait.

    Raises:
        OutputLocked: another labelsync holds it.
        OutputError: no file can be made there at all, as in /proc; filelock takes that for a holder too.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(lock_file(out))
    try:
        with lock.acquire(blocking=False):
            yield
    except filelock.Timeout:
        if not lock_file(out).exists():  # whoever holds a lock has made its file
            raise OutputError(f"{out.parent} is no place for files", hint="choose another --out") from None
        raise OutputLocked(f"another labelsync is writing {out}", hint="wait for it, or choose another --out") from None


def _require_replaceable(out: Path, stage: str, *, overwrite: bool) -> None:
    if out.is_mount():
        raise OutputExists(f"{out} is a mount point, which cannot be replaced", hint="give a new folder below it")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise OutputExists(f"{out} exists", hint="choose another --out or pass --overwrite")
    try:
        read_manifest(out, stage)
    except LabelsyncError as e:
        raise OutputExists(f"{out} is not replaced: {e.message}", hint="choose another --out, or delete it") from None


def _recover(out: Path) -> None:
    """Undo what killed runs left for this `out`; the lock is held, so none of it is in use."""
    old = _old(out)
    if old.exists() and not out.exists():  # killed between the two renames of _swap
        old.rename(out)
    left = re.compile(rf"\.{re.escape(out.name)}\.([0-9a-f]{{8}}|old)\.partial")  # "v1" must not match ".v1.0.*"
    for path in out.parent.iterdir():
        if left.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _swap(work: Path, out: Path) -> None:
    """Rename `work` to `out`, an old `out` out of the way first and deleted last."""
    if not out.exists():
        work.rename(out)
        return
    old = _old(out)
    out.rename(old)
    try:
        work.rename(out)
    except BaseException:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _old(out: Path) -> Path:
    return out.with_name(f".{out.name}.old.partial")
