"""What a push has to send, keep and delete: pure, from what lies here and what lies there."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from labelsync.records.results import Fate


@dataclass(frozen=True)
class RemoteFile:
    """A file of a commit: `sha256` for one in LFS or Xet storage, else `git_oid` counts (git's blob sha1)."""

    size: int
    git_oid: str
    sha256: str = ""


@dataclass(frozen=True)
class LocalFile:
    """A file to publish: `source` is where it lies, or its content."""

    source: Path | bytes
    size: int
    sha256: str

    @cached_property
    def git_oid(self) -> str:
        """git's name of the content: sha1 of "blob <size>", a zero byte and the content."""
        digest = hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)
        if isinstance(self.source, bytes):
            digest.update(self.source)
        else:
            with self.source.open("rb") as f:
                while block := f.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def is_same(self, remote: RemoteFile | None) -> bool:
        """Whether the content is there already."""
        if remote is None or remote.size != self.size:
            return False
        return remote.sha256 == self.sha256 if remote.sha256 else remote.git_oid == self.git_oid


@dataclass(frozen=True)
class Plan:
    """Paths by what happens to them, each sorted; `size` = bytes of the files in `add`."""

    add: tuple[str, ...]
    delete: tuple[str, ...]
    keep: tuple[str, ...]
    size: int

    def __bool__(self) -> bool:
        return bool(self.add or self.delete)

    @property
    def changes(self) -> int:
        """Files that a commit of it changes."""
        return len(self.add) + len(self.delete)

    def first(self, most: int) -> "Plan":
        """The part of at most `most` changes that comes first; its `size` is still that of the whole."""
        return replace(self, add=self.add[:most], delete=self.delete[: max(0, most - len(self.add))])

    def fates(self, there: Collection[str]) -> dict[str, Fate]:
        """Path -> what happens to it, sorted; `there` = the paths that the plan was made against."""
        fates: dict[str, Fate] = {p: "changed" if p in there else "new" for p in self.add}
        fates |= dict.fromkeys(self.delete, "deleted")
        fates |= dict.fromkeys(self.keep, "kept")
        return dict(sorted(fates.items()))


def make_plan(target: Mapping[str, LocalFile], there: Mapping[str, RemoteFile], *, owned: Collection[str]) -> Plan:
    """The changes that turn the files `there` into `target`.

    Args:
        owned: paths that may be deleted; every other file that is not in `target` stays as it is.
    """
    add = sorted(p for p, file in target.items() if not file.is_same(there.get(p)))
    return Plan(
        add=tuple(add),
        delete=tuple(sorted(p for p in owned if p in there and p not in target)),
        keep=tuple(sorted(set(target) - set(add))),
        size=sum(target[p].size for p in add),
    )
