"""The asset cache: images and bitmaps by content, shared by all rounds and datasets of a user.

objects/ab/abcd..     one file per content, read-only, because release folders hard-link it
urls/12/1234...json   one small file per URL: which content it has, written when; its time is that of its last use
users/.1234.lock      held by a pull that is under way
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from labelsync.errors import OutputLocked
from labelsync.release.urls import asset_key, shown
from labelsync.store.files import sha256, sha256_file, write_bytes, write_text
from labelsync.store.folder import lock_file, locked
from labelsync.store.manifest import FileEntry

OBJECTS, URLS, USERS = "objects", "urls", "users"


def default_cache() -> Path:
    """LABELSYNC_CACHE, else the user's cache folder."""
    if given := os.environ.get("LABELSYNC_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labelsync"


@dataclass(frozen=True)
class Cached:
    """A file of the cache, and the digest and size of its content."""

    path: Path
    entry: FileEntry


@dataclass(frozen=True)
class AssetCache:
    """Assets by content, shared by all rounds and datasets: objects/ab/abcd.. and one small file per URL."""

    root: Path = field(default_factory=default_cache)

    def find(self, url: str) -> Cached | None:
        """The cached file of a URL, or None.

        Its content is taken for what it was while its size and time are; whatever was written since is hashed.
        """
        entry = self._entry(url)
        try:
            known = json.loads(entry.read_bytes())
            blob = self._object(known["sha256"])
            there = blob.stat()
            if there.st_size != known["size"]:
                return None
            if there.st_mtime_ns != known.get("written") and sha256_file(blob) != known["sha256"]:
                return None
        except (ValueError, KeyError, TypeError, OSError):  # not what `add` writes, or gone: as good as not there
            return None
        with suppress(OSError):  # a cache that is only read is as good
            os.utime(entry)  # when it was last of use
        return Cached(blob, FileEntry(known["sha256"], known["size"]))

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this lasts, `labelsync cache --clean` leaves the cache alone; any number may use it at once."""
        marker = self.root / USERS / secrets.token_hex(8)
        with ExitStack() as held:
            with suppress(OSError):  # a cache that is only read is as good
                held.enter_context(locked(marker))
                held.callback(lock_file(marker).unlink, missing_ok=True)
            yield

    def is_in_use(self) -> bool:
        """Whether a pull uses the cache now. Markers of killed pulls go on the way."""
        for file in sorted((self.root / USERS).glob(".*.lock")):
            marker = file.with_name(file.name.removeprefix(".").removesuffix(".lock"))
            try:
                with locked(marker):
                    file.unlink(missing_ok=True)
            except OutputLocked:
                return True
        return False

    def add(self, url: str, data: bytes) -> Cached:
        """Keep checked bytes under their URL; equal bytes of other URLs are stored once."""
        digest = sha256(data)
        blob = self._object(digest)
        if not blob.is_file() or sha256_file(blob) != digest:
            write_bytes(blob, data)
            blob.chmod(0o444)  # release folders hard-link it: an edit there must not change it for all rounds
        entry = {
            "url": shown(url),  # a query we do not know may hold a secret
            "sha256": digest,
            "size": len(data),
            "written": blob.stat().st_mtime_ns,
        }
        write_text(self._entry(url), json.dumps(entry, indent=1) + "\n")
        return Cached(blob, FileEntry(digest, len(data)))

    def _entry(self, url: str) -> Path:
        key = sha256(asset_key(url).encode())
        return self.root / f"{URLS}/{key[:2]}/{key}.json"

    def _object(self, digest: str) -> Path:
        return self.root / f"{OBJECTS}/{digest[:2]}/{digest}"
