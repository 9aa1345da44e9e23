"""Rows into files: Parquet shards, or plain images and bitmaps."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from labelsync.dataset.arrays import table_of
from labelsync.dataset.layout import RowGroups
from labelsync.dataset.reuse import Kept
from labelsync.dataset.sample import LabelledSample
from labelsync.dataset.sink import Sink
from labelsync.store.files import sha256, sha256_file
from labelsync.store.manifest import FileEntry


class Writer(Protocol):
    """Takes rows; `files` = path -> digest and size of what was written, complete when its block has ended.

    `groups` = rows of each row group of a Parquet file.
    """

    files: dict[str, FileEntry]
    groups: list[int]

    def add(self, sample: LabelledSample, image: bytes, label: bytes) -> int:
        """One row more; the bytes of its image and label."""
        ...

    def take(self, sample: LabelledSample, kept: Kept) -> int:
        """One row more, of an earlier round; the same."""
        ...


@contextlib.contextmanager
def parquet_writer(sink: Sink, path: str, *, schema: pa.Schema, groups: RowGroups) -> Iterator[Writer]:
    """Rows into one Parquet file, a row group at a time; nothing compressed, as JPEG and PNG already are."""
    with sink.file(path) as target:
        file = pq.ParquetWriter(
            target, schema, compression="none", use_dictionary=False, write_statistics=False, write_page_index=True
        )
        writer = _ParquetRows(file, schema, groups)
        try:
            yield writer
            writer.flush()
        except BaseException:
            with contextlib.suppress(OSError):  # the error on its way out is the one that counts
                file.close()
            raise
        file.close()
        writer.files[path] = FileEntry(sha256_file(target), target.stat().st_size)


@dataclass
class _Slice:
    """Rows `first` to below `end` of a row group."""

    table: pa.Table
    first: int
    end: int


class _ParquetRows:
    def __init__(self, file: Any, schema: pa.Schema, ends: RowGroups) -> None:
        self.files: dict[str, FileEntry] = {}
        self.groups = ends.counts
        self._file, self._schema, self._ends = file, schema, ends
        self._pieces: list[list[tuple[Any, ...]] | _Slice] = []  # new rows, and slices of old ones

    def add(self, sample: LabelledSample, image: bytes, label: bytes) -> int:
        # `datasets` drops the bytes of an image whose path exists where the program runs, so no folder of labelsync
        # holds files named like these
        image_file = {"bytes": image, "path": f"{sample.stem}.image{sample.extension}"}
        label_file = {"bytes": label, "path": f"{sample.stem}.label.png"}
        row = (image_file, label_file, sample.name, sample.uuid)

        def put(last: list[tuple[Any, ...]] | _Slice | None) -> None:
            if isinstance(last, list):
                last.append(row)
            else:
                self._pieces.append([row])

        return self._placed(sample.uuid, len(image) + len(label), put)

    def take(self, sample: LabelledSample, kept: Kept) -> int:
        def put(last: list[tuple[Any, ...]] | _Slice | None) -> None:
            if isinstance(last, _Slice) and last.table is kept.table and last.end == kept.at:
                last.end += 1
            else:
                self._pieces.append(_Slice(kept.table, kept.at, kept.at + 1))

        return self._placed(sample.uuid, kept.size, put)

    def _placed(self, uuid: str, size: int, put: Callable[[list[tuple[Any, ...]] | _Slice | None], None]) -> int:
        """A row of `size` bytes in its row group, where `put` adds it to the last piece or makes another."""
        if self._ends.ends_before(uuid):
            self.flush()
        put(self._pieces[-1] if self._pieces else None)
        if self._ends.add(uuid, size):
            self.flush()
        return size

    def flush(self) -> None:
        if self._pieces:
            tables = [
                p.table.slice(p.first, p.end - p.first) if isinstance(p, _Slice) else table_of(p, self._schema)
                for p in self._pieces
            ]
            # in one piece: Parquet ends a page where a piece ends, and the bytes shall not tell where rows came from
            table = tables[0] if len(tables) == 1 else pa.concat_tables(tables).combine_chunks()
            self._file.write_table(table, row_group_size=len(table))
        self._ends.end()
        self._pieces = []


@contextlib.contextmanager
def bitmap_writer(sink: Sink, split: str, *, names: Mapping[str, str]) -> Iterator[Writer]:
    """Rows as plain files: images/<split>/<name>.<ext> and labels/<split>/<name>.png; `names` = uuid -> name."""
    yield _PlainFiles(sink, split, names)


class _PlainFiles:
    def __init__(self, sink: Sink, split: str, names: Mapping[str, str]) -> None:
        self.files: dict[str, FileEntry] = {}
        self.groups: list[int] = []
        self._sink, self._split, self._names = sink, split, names

    def add(self, sample: LabelledSample, image: bytes, label: bytes) -> int:
        name = self._names[sample.uuid]
        self._write(Path("images", self._split, f"{name}{sample.extension}"), image)
        self._write(Path("labels", self._split, f"{name}.png"), label)
        return len(image) + len(label)

    def take(self, sample: LabelledSample, kept: Kept) -> int:  # noqa: ARG002 - the protocol's
        # `write_shard` has rows to keep only where there is a schema, and so a shard of an earlier round; plain files
        # are always made anew. Whoever changes that shall hear of it here, and not find a row missing.
        raise AssertionError(f"{sample.name}: plain files have no earlier shard")

    def _write(self, path: Path, data: bytes) -> None:
        with self._sink.file(path.as_posix()) as target:
            target.write_bytes(data)
        self.files[path.as_posix()] = FileEntry(sha256(data), len(data))
