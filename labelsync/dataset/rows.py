"""Rows of one split, read from Parquet when they are asked for."""

import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import pyarrow as pa
import pyarrow.parquet as pq

from labelsync.errors import DatasetError, LabelsyncError, first_line
from labelsync.records.release import Row


class Rows(Sequence[Row]):
    """A split as a sequence: `len`, `rows[i]`, slices and iteration, none of which decodes a pixel.

    The files are memory-mapped where they are first read. An index reads one row group (about 4 MiB), and the last one
    stays at hand, so going through in order reads each once. It can be sent to other processes and used in threads.

    Args:
        files: (path, number of rows) of each shard, in order.
        columns: names of the image and the label column.
        locate: path of a shard -> the file on this machine; asked once per shard, when it is first read.
        memory_map: whether the files are mapped; else they are read a row group at a time.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, int]],
        *,
        columns: tuple[str, str],
        locate: Callable[[str], Path],
        select: range | None = None,
        memory_map: bool = True,
    ) -> None:
        self._files = tuple(files)
        self._columns = columns
        self._locate = locate
        self._memory_map = memory_map
        self._ends = list(accumulate(n for _, n in self._files))
        self._select = range(self._ends[-1] if self._ends else 0) if select is None else select
        self._opened = OpenShards()

    def __len__(self) -> int:
        return len(self._select)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Rows": ...
    def __getitem__(self, index: int | slice) -> "Row | Rows":
        if isinstance(index, slice):
            return Rows(
                self._files,
                columns=self._columns,
                locate=self._locate,
                select=self._select[index],
                memory_map=self._memory_map,
            )
        at = self._select[index]  # IndexError for an index past the end, as of a list
        shard = bisect_right(self._ends, at)
        return self._read(shard, at - (self._ends[shard - 1] if shard else 0))

    def __iter__(self) -> Iterator[Row]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Rows({len(self)} of {len(self._files)} shards)"

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_opened"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._opened = OpenShards()

    def _read(self, shard: int, at: int) -> Row:
        name, _ = self._files[shard]
        try:
            found = self._opened.row(shard, at, lambda: self._open(shard), (*self._columns, "name", "uuid"))
        except LabelsyncError:  # some of them are OSErrors
            raise
        except (pa.ArrowException, OSError) as e:
            raise DatasetError(
                f"{name} cannot be read ({first_line(e)})", hint="convert or download it again"
            ) from None
        image, label = (found[c]["bytes"] for c in self._columns)
        return Row(found["name"], found["uuid"], image, label)

    def _open(self, shard: int) -> "Shard":
        name, count = self._files[shard]
        opened = Shard(pq.ParquetFile(self._locate(name), memory_map=self._memory_map, pre_buffer=False))
        if opened.count != count:
            raise DatasetError(
                f"{name} has {opened.count} rows and its manifest says {count}", hint="convert or download it again"
            )
        return opened


class Shard:
    """One open Parquet file."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self.file = file
        metadata = file.metadata
        self.ends = list(accumulate(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)))

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.ends[-1] if self.ends else 0


class OpenShards(threading.local):
    """Open shards, and the row group read last, of this thread in this process.

    Neither threads nor forked processes share a reader. One row group for all shards, not one each: training reads at
    random, and would soon hold as many as there are shards.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._shards: dict[int, Shard] = {}
        self._last: tuple[int, int] = (-1, -1)
        self._table = pa.table({})

    def row(self, index: int, at: int, opened: Callable[[], Shard], columns: Sequence[str]) -> dict[str, Any]:
        """Row `at` of shard `index`, which `opened` opens if it is not open yet."""
        if self._process != os.getpid():
            self.__init__()  # type: ignore[misc] # everything anew
        if index not in self._shards:
            self._shards[index] = opened()
        shard = self._shards[index]
        group = bisect_right(shard.ends, at)
        if self._last != (index, group):
            self._table = shard.file.read_row_group(group, columns=list(columns), use_threads=False)
            self._last = (index, group)
        found: dict[str, Any] = self._table.slice(at - (shard.ends[group - 1] if group else 0), 1).to_pylist()[0]
        return found
