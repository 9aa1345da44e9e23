"""Rows of a dataset that labelsync did not make, read when they are asked for."""

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import PurePosixPath
from typing import Any, Protocol, overload

import pyarrow as pa
import pyarrow.parquet as pq

from labelsync.dataset.foreign_files import ForeignFiles
from labelsync.dataset.foreign_labels import Numbering
from labelsync.dataset.rows import OpenShards, Shard
from labelsync.errors import DatasetError, LabelsyncError, first_line
from labelsync.records.release import Row


class Items(Protocol):
    """The samples of one split, whatever they are stored as."""

    def __len__(self) -> int:
        """Number of samples."""

    def key(self, index: int) -> str:
        """What a sample is called whatever else is there: the stable split goes by it."""

    def read(self, index: int) -> tuple[str, bytes | None, bytes | None]:
        """(file name or "", image bytes, label bytes) of a sample; None where there is none."""


class ForeignRows(Sequence[Row]):
    """A split as a sequence; no pixel is decoded but those of labels that must be renumbered.

    It can be sent to other processes and used in threads. A row's `uuid` is its key, its `name` the image's file name,
    or the key where the dataset holds none.

    Args:
        select: which items, in order; None = all.
    """

    def __init__(self, items: Items, numbering: Numbering, *, select: Sequence[int] | None = None) -> None:
        self._items = items
        self._numbering = numbering
        self._select = select

    def __len__(self) -> int:
        return len(self._items) if self._select is None else len(self._select)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "ForeignRows": ...
    def __getitem__(self, index: int | slice) -> "Row | ForeignRows":
        select = range(len(self._items)) if self._select is None else self._select
        if isinstance(index, slice):
            return ForeignRows(self._items, self._numbering, select=select[index])
        return self._row(select[index])  # IndexError for an index past the end, as of a list

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"ForeignRows({len(self)})"

    def _row(self, at: int) -> Row:
        key = self._items.key(at)
        name, image, label = self._items.read(at)
        name = name or key
        sample = f"{name} ({key})" if name != key else key
        if not image or not label:
            what = "label" if image else "image"
            raise DatasetError(f"sample {sample} has no {what}", hint="use another split, or leave the sample out")
        return Row(name, key, image, self._numbering.disk_bytes(label, sample=sample))


class ParquetItems:
    """Rows of Parquet files with columns of {bytes, path}.

    How many there are is asked of the files when it is needed; on the Hub, a whole file is fetched when a row of it is.
    `name` is the column of file names, for images that were stored without theirs.
    """

    def __init__(
        self,
        source: ForeignFiles,
        files: Sequence[str],
        *,
        split: str,
        columns: tuple[str, str],
        name: str | None = None,
    ) -> None:
        self._source = source
        self._files = tuple(files)
        self._split = split
        self._columns = columns
        self._name = name
        self._ends: list[int] = []
        self._lock = threading.Lock()
        self._opened = OpenShards()

    def __len__(self) -> int:
        with self._lock:
            if not self._ends:
                counted = self._source.all_metadata(self._files)
                self._ends = list(accumulate(m.num_rows for m in counted))
        return self._ends[-1]

    def key(self, index: int) -> str:
        """Split and number of the row; rows that come behind it change nothing."""
        return f"{self._split}/{index}"

    def read(self, index: int) -> tuple[str, bytes | None, bytes | None]:
        """The bytes as they are stored, or of the file beside that a row names."""
        len(self)
        shard = bisect_right(self._ends, index)
        file = self._files[shard]
        at = index - (self._ends[shard - 1] if shard else 0)
        try:
            columns = [*self._columns, *([self._name] if self._name else ())]
            found = self._opened.row(shard, at, partial(self._open, file), columns)
        except LabelsyncError:
            raise
        except (pa.ArrowException, OSError) as e:
            raise DatasetError(
                f"{file} of {self._source.name} cannot be read ({first_line(e)})", hint="fetch it again"
            ) from None
        image, label = (found[c] or {} for c in self._columns)
        name = PurePosixPath(str(image.get("path") or "")).name or (self._name and found[self._name])
        return name or "", self._bytes(image), self._bytes(label)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_opened", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._opened = OpenShards()

    def _open(self, file: str) -> Shard:
        return Shard(pq.ParquetFile(self._source.path(file), memory_map=True, pre_buffer=False))

    def _bytes(self, cell: dict[str, Any]) -> bytes | None:
        data: bytes | None = cell.get("bytes")
        path = str(cell.get("path"))
        if data is None and path in self._source.files:
            return self._source.path(path).read_bytes()
        return data


@dataclass(frozen=True)
class FileItems:
    """Pairs of an image file and a label file. `pairs` are paths in `source`, the label "" where there is none."""

    source: ForeignFiles
    pairs: tuple[tuple[str, str], ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.pairs)

    def key(self, index: int) -> str:
        """The image's path."""
        return self.pairs[index][0]

    def read(self, index: int) -> tuple[str, bytes | None, bytes | None]:
        """The two files' bytes."""
        image, label = self.pairs[index]
        labelled = self.source.path(label).read_bytes() if label else None
        return PurePosixPath(image).name, self.source.path(image).read_bytes(), labelled
