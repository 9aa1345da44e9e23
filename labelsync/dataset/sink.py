"""Where the files of a dataset go from whatever process or machine they are made on: a folder, or an fsspec URL.

A file arrives whole in both: it is written beside its place, or on this machine's disk, and then moved or sent.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from labelsync.errors import OptionError, OutputError, first_line
from labelsync.store.files import link_or_copy, replacing, sha256_file
from labelsync.store.manifest import FileEntry

T = TypeVar("T")

_URL = re.compile(r"[a-z][a-z0-9+.-]+://.*|[a-z0-9+:.-]+::.*", re.IGNORECASE | re.DOTALL)
_READ_ONLY = ("http", "https", "hf", "data", "github", "zip", "tar")


class Sink(Protocol):
    """Takes the files of a dataset, in whatever process or on whatever machine they are made."""

    def file(self, path: str) -> AbstractContextManager[Path]:
        """A temporary path on this machine; what is there when the block ends becomes `path` of the dataset, whole."""
        ...

    def link(self, source: Path, path: str) -> None:
        """`source`, of another dataset, as `path` of this one."""
        ...

    def missing(self, files: Mapping[str, FileEntry]) -> list[str]:
        """Those of the files that are not there, or not as said: by digest in a folder, by size in a storage."""
        ...


def sink_of(data: str) -> Sink:
    """The sink that `Stage.data` names."""
    if not is_url(data):
        return _FolderSink(Path(data))
    fs, root = opened_url(data)
    return _BucketSink(data, fs, root.rstrip("/"))


def is_url(out: object) -> bool:
    """Whether `--out` names a URL (s3://.., memory://..) and no path."""
    return isinstance(out, str) and _URL.fullmatch(out) is not None


def opened_url(url: str) -> tuple[Any, str]:
    """(fsspec file system, path in it) of a URL; OptionError for one that cannot be written to."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() in _READ_ONLY:
        hint = "labelsync push publishes a folder" if scheme == "hf" else "give a folder, or s3://.., gs://.., az://.."
        raise OptionError(f"--out {scheme}://.. cannot be written to", hint=hint)
    if re.match(r"[^/@]*:[^/@]*@", rest):
        raise OptionError("--out has a password in its URL", hint="put it where the storage's own client looks for it")
    import fsspec  # 0.1 s, and a folder needs none of it

    try:
        fs, root = fsspec.core.url_to_fs(url)
    except ImportError as e:
        raise OptionError(f"--out {url} needs a package that is not here: {e}", hint="pip install it") from None
    except ValueError as e:
        raise OptionError(f"--out {url}: {first_line(e)}", hint="give a folder, or a URL that fsspec knows") from None
    return fs, str(root)


@dataclass(frozen=True)
class _FolderSink:
    folder: Path

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        with replacing(self._target(path)) as temporary:
            yield temporary

    def link(self, source: Path, path: str) -> None:
        link_or_copy(source, self._target(path))

    def missing(self, files: Mapping[str, FileEntry]) -> list[str]:
        return [name for name, entry in files.items() if not self._is_there(self.folder / name, entry)]

    def _is_there(self, path: Path, entry: FileEntry) -> bool:
        return path.is_file() and path.stat().st_size == entry.size and sha256_file(path) == entry.sha256

    def _target(self, path: str) -> Path:
        if not self.folder.is_dir():  # never make one where nobody looks
            raise OutputError(
                f"{self.folder} is not on the machine that should write to it",
                hint="give an --out on a file system that all workers share, or a URL such as s3://..",
            )
        return self.folder / path


@dataclass(frozen=True)
class _BucketSink:
    url: str
    fs: Any
    root: str

    @contextmanager
    def file(self, path: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="labelsync-") as folder:
            local = Path(folder) / "file"
            yield local
            self.link(local, path)

    def link(self, source: Path, path: str) -> None:
        target = f"{self.root}/{path}"
        asked(self.url, lambda: make_parent(self.fs, target))
        asked(self.url, lambda: self.fs.put_file(str(source), target))

    def missing(self, files: Mapping[str, FileEntry]) -> list[str]:
        self.fs.invalidate_cache()
        return [name for name, entry in files.items() if self._size(name) != entry.size]

    def _size(self, name: str) -> int:
        path = f"{self.root}/{name}"
        return int(asked(self.url, lambda: self.fs.size(path) if self.fs.exists(path) else -1) or 0)


def make_parent(fs: Any, path: str) -> None:
    """Make the folder of a file, where the storage has folders."""
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)


def asked(name: str, question: Callable[[], T]) -> T:
    """What a storage answers. Each has errors of its own; here they are OutputErrors that name `name`."""
    try:
        return question()
    except FileNotFoundError:
        raise OutputError(f"{name}: the bucket or a file is not there", hint="make the bucket first") from None
    except PermissionError:
        raise OutputError(f"{name} may not be written to", hint="check the credentials of that storage") from None
    except Exception as e:  # noqa: BLE001 - botocore's, google's, paramiko's, ..
        raise OutputError(f"{name}: {type(e).__name__}: {first_line(e)}", hint="run it again") from None
