"""Stage folders and their locks.

A stage builds its folder under a temporary name beside the target and renames it, so a kill leaves nothing that a later
stage would take for done; and it does nothing where the same work is finished already.
"""

import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from labelsync.errors import LabelsyncError, OutputError, OutputExists, OutputLocked
from labelsync.store.manifest import Manifest, fingerprint, is_whole, read_manifest


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


def is_vacant(out: Path) -> bool:
    """Whether nothing is there, or an empty folder."""
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def already_made(out: Path, stage: str, *, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> Manifest | None:
    """The manifest at `out` if that very work is finished there and no file of it is gone."""
    manifest = finished(out, stage, inputs=inputs, settings=settings)
    return manifest if manifest is not None and is_whole(out, manifest) else None


def finished(out: Path, stage: str, *, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> Manifest | None:
    """The manifest at `out` if that very work was finished there, whatever became of its files since."""
    try:
        manifest = read_manifest(out, stage)
    except LabelsyncError:  # nothing, or something else
        return None
    return manifest if manifest.fingerprint == fingerprint(stage, inputs, settings) else None


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
    if is_vacant(out):
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
