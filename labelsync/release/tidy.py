"""`cache`: what the asset cache holds, which of it is damaged, and room made in it.

Release folders hold hard links, so taking a file out of the cache takes nothing from them.
"""

import contextlib
import datetime
import json
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from labelsync.errors import OptionError, OutputLocked
from labelsync.records.results import CacheRecord
from labelsync.release.cache import OBJECTS, URLS, AssetCache
from labelsync.store.files import sha256_file

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([hdw])")
_SECONDS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def cache(
    *, clean: bool = False, older_than: str | None = None, all: bool = False, verify: bool = False
) -> CacheRecord:
    """Show the asset cache at LABELSYNC_CACHE; remove from it only what is asked for.

    Files are chosen by `older_than` and `all`; without either, those that no release folder links. They are removed
    under `clean` alone, and counted otherwise. A later pull fetches again what it misses.

    Args:
        clean: remove the chosen files.
        older_than: choose only files that no pull has used for that long: "12h", "30d", "4w".
        all: choose also files that release folders link; the folders keep theirs.
        verify: read every file; what is not what was fetched is taken out, and the next pull fetches it again.

    Raises:
        OptionError: `older_than` is no time.
        OutputLocked: a pull is under way; nothing was removed.
    """
    age = None if older_than is None else _seconds(older_than)
    store = AssetCache()
    if clean and store.is_in_use():
        raise OutputLocked(f"a pull is using the cache at {store.root}", hint="run it again when the pull is done")
    files, stray = _survey(store)
    damaged = _damaged(files) if verify else []
    _remove(damaged)
    files = [f for f in files if f not in set(damaged)]
    limit = None if age is None else time.time() - age
    chosen = [f for f in files if (all or not f.linked) and (limit is None or f.used < limit)]
    if clean:
        _remove(chosen)
        _sweep(store, stray)
    return _record(store, files, chosen, clean=clean, damaged=len(damaged) if verify else None)


@dataclass(frozen=True)
class _Stored:
    """One content: `linked` = a release folder has it too, `used` = when a pull last wanted it."""

    path: Path
    size: int
    linked: bool
    used: float
    entries: tuple[Path, ...]


def _seconds(text: str) -> float:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise OptionError(f"--older-than is {text!r}, which is no time", hint="write it as 12h, 30d or 4w")
    return float(match[1]) * _SECONDS[match[2]]


# -------------------------------------------------------------------- what is there


def _survey(store: AssetCache) -> tuple[list[_Stored], list[Path]]:
    """The contents, in the order of their digests, and paths that lead nowhere: entries without content, and what
    killed pulls left."""
    entries: dict[str, list[tuple[Path, float]]] = defaultdict(list)
    stray = []
    for path, used, _, _ in _files(store.root / URLS):
        try:
            digest = json.loads(path.read_bytes())["sha256"]
            entries[digest].append((path, used))
        except (ValueError, KeyError, TypeError, OSError):
            stray.append(path)
    found = []
    for path, changed, size, links in _files(store.root / OBJECTS):
        if path.name.startswith("."):  # a write that never ended
            stray.append(path)
            continue
        mine = entries.pop(path.name, [])
        used = max((when for _, when in mine), default=changed)
        found.append(_Stored(path, size, links > 1, used, tuple(entry for entry, _ in mine)))
    return found, stray + [entry for left in entries.values() for entry, _ in left]


def _files(folder: Path) -> Iterator[tuple[Path, float, int, int]]:
    """(path, mtime, size, hard links) of every file below a folder, sorted; what vanishes meanwhile is not there."""
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(OSError):
            stat = path.stat()
            if path.is_file():
                yield path, stat.st_mtime, stat.st_size, stat.st_nlink


def _damaged(files: Iterable[_Stored]) -> list[_Stored]:
    """Those whose content is not the one that their name says."""
    bad = []
    for file in tqdm(list(files), desc="verify", unit="file", disable=None, file=sys.stderr):
        try:
            if sha256_file(file.path) != file.path.name:
                bad.append(file)
        except FileNotFoundError:  # cleaned away by somebody else meanwhile
            continue
        except OSError:  # a disk that cannot read it
            bad.append(file)
    return bad


# -------------------------------------------------------------------- what goes


def _remove(files: Iterable[_Stored]) -> None:
    """Entries first: a kill in between leaves a content that nobody finds, never an entry that lies."""
    for file in files:
        for path in (*file.entries, file.path):
            path.unlink(missing_ok=True)


def _sweep(store: AssetCache, stray: Iterable[Path]) -> None:
    for path in stray:
        path.unlink(missing_ok=True)
    for folder in (*(store.root / OBJECTS).glob("*"), *(store.root / URLS).glob("*")):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


def _record(
    store: AssetCache, files: list[_Stored], chosen: list[_Stored], *, clean: bool, damaged: int | None
) -> CacheRecord:
    left = [f for f in files if f not in set(chosen)] if clean else files
    unused = [f for f in left if not f.linked]
    days = [datetime.datetime.fromtimestamp(f.used, datetime.UTC).date().isoformat() for f in left]
    return CacheRecord(
        path=str(store.root),
        files=len(left),
        bytes=sum(f.size for f in left),
        unused=len(unused),
        unused_bytes=sum(f.size for f in unused),
        oldest=min(days, default=""),
        newest=max(days, default=""),
        removable=len(chosen),
        removable_bytes=sum(f.size for f in chosen),
        removed=len(chosen) if clean else 0,
        removed_bytes=sum(f.size for f in chosen) if clean else 0,
        damaged=damaged,
    )
