"""What a later round takes over from an earlier one: whole shards, and rows of shards, without decoding a pixel.

rows.json, beside the shards, has a key for every row: a digest of all that the row's bytes depend on. A row whose key
is the same would be converted to the same bytes, so it is copied; a shard whose rows are all the same is linked. The
digests of the earlier manifest say that nothing there was damaged; where it was, the samples are converted again.
"""

import dataclasses
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelsync.dataset.rows import Shard
from labelsync.dataset.sample import File, LabelledSample
from labelsync.dataset.source import DatasetFiles, fetch_file
from labelsync.errors import DatasetError, LabelsyncError
from labelsync.labels import LabelMap
from labelsync.records.release import LedgerRow
from labelsync.records.text import from_json
from labelsync.store.files import digest_of, sha256, sha256_file
from labelsync.store.manifest import FileEntry

ROWS = "rows.json"

# Part of every key. Raise the first when the bytes of a label or image change for the same sample (another encoder, or
# other settings of it), the second when a shard's bytes change for the same rows (columns, Parquet options).
ROW_FORMAT = 1
SHARD_FORMAT = 1
ROWS_FORMAT = 2  # of rows.json itself; the first did not say where a sample's row is

_KEY = 32  # hex digits: 128 bits tell any number of rows apart

Pixels = dict[int, int]
"""Disk id -> number of pixels, of the ids that occur."""


@dataclass(frozen=True)
class ShardRows:
    """What rows.json says of one shard.

    Attributes:
        key: over its rows and whatever else its bytes depend on.
        size: bytes of its images and labels.
        rows: (uuid, key, pixels) of each row, in the order of the file.
        groups: the number of rows in each row group.
        empty: key -> reason, of the samples that are in no row because nothing in them is labelled.
        notes: key -> what else the ledger says of a sample, where it does.
    """

    key: str
    size: int
    rows: tuple[tuple[str, str, Pixels], ...]
    groups: tuple[int, ...]
    empty: dict[str, str]
    notes: dict[str, dict[str, Any]]

    @property
    def known(self) -> frozenset[str]:
        """Keys of all samples that need no look any more."""
        return frozenset([key for _, key, _ in self.rows if key]) | self.empty.keys()


@dataclass(frozen=True)
class RowIndex:
    """rows.json: path of a shard -> its rows."""

    shards: dict[str, ShardRows]
    format: int = ROWS_FORMAT


def keys_by_uuid(shards: Iterable[ShardRows]) -> dict[str, str]:
    """uuid -> key of every row."""
    return {uuid: key for shard in shards for uuid, key, _ in shard.rows}


# -------------------------------------------------------------------- keys


def row_key(sample: LabelledSample, labels: LabelMap) -> str:
    """Digest of everything that the bytes of a sample's row depend on; "" for a sample that cannot be converted.

    Annotations count by the disk ids they are drawn as: a category may be renamed or move in the taxonomy. A field that
    this function does not know counts as it is, with the disk ids of the categories that may occur in it.
    """
    return row_keys([sample], labels)[0]


def row_keys(samples: Iterable[LabelledSample], labels: LabelMap) -> tuple[str, ...]:
    """`row_key` of each."""
    dtype, background = np.dtype(labels.dtype).name, labels.background_id
    table_of = cache(labels.category_table)

    def key(sample: LabelledSample) -> str:
        table = table_of(sample.dataset)
        used = {category: table.get(category) for _, category in sample.annotations}
        if None in used.values():
            return ""
        kind: Any = type(sample)
        others = {name: _plain(getattr(sample, name)) for name in _unknown_fields(kind)}
        value = {
            "format": ROW_FORMAT,
            "uuid": sample.uuid,
            "name": sample.name,
            "image": [sample.image.sha256, sample.extension],
            "bitmap": None if sample.bitmap is None else sample.bitmap.sha256,
            "classes": sorted([(annotation, used[category]) for annotation, category in sample.annotations]),
            "dtype": dtype,
            "background": background,
            "others": [others, sorted(used.items())] if any(others.values()) else None,
        }
        return digest_of(value)[:_KEY]

    return tuple(map(key, samples))


@cache
def _unknown_fields(cls: Any) -> tuple[str, ...]:
    return tuple(sorted(cls.__dataclass_fields__.keys() - _KNOWN))


_KNOWN = {"uuid", "name", "status", "stem", "dataset", "image", "bitmap", "annotations"}


def notes_of(row: LedgerRow) -> dict[str, Any]:
    """What a ledger row says of a conversion besides its outcome and reason."""
    return {name: value for name in _NOTES if (value := getattr(row, name))}


_NOTES = tuple(f.name for f in dataclasses.fields(LedgerRow)[5:])  # behind uuid, name, outcome, reason, status


def shard_key(keys: Sequence[str], groups: Sequence[int], schema: pa.Schema) -> str:
    """Digest of everything that a shard's bytes depend on: the keys of its rows, its row groups, its columns."""
    columns = sha256(schema.serialize().to_pybytes())
    return digest_of([SHARD_FORMAT, list(groups), columns, list(keys)])[:_KEY]


def _plain(value: Any) -> Any:
    """A field as plain data; a file is its content, wherever it lies."""
    if isinstance(value, File):
        return value.sha256
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return sorted([_plain(k), _plain(v)] for k, v in value.items())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value


# -------------------------------------------------------------------- the earlier round


@dataclass(frozen=True)
class OldShard:
    """A shard of the earlier round, as plain data: where it lies (a folder, or a repo at a commit), and what is in it.

    Attributes:
        entry: its digest and size in the manifest.
        columns: names of its image and label column.
    """

    folder: str
    repo: str
    revision: str
    path: str
    entry: FileEntry
    columns: tuple[str, str]
    index: ShardRows

    def whole(self) -> Path | None:
        """The file on this machine, fetched from the Hub if need be; None unless it is there byte for byte."""
        try:
            path = (
                fetch_file(self.repo, self.revision, self.path) if self.repo else Path(self.folder, self.path)
            ).resolve()
            is_whole = path.stat().st_size == self.entry.size and sha256_file(path) == self.entry.sha256
        except (OSError, LabelsyncError):
            return None
        return path if is_whole else None


def old_shards(files: DatasetFiles | None) -> dict[str, OldShard]:
    """Path -> shard of an earlier dataset; nothing for one without rows.json, or with one that is not whole."""
    if files is None or ROWS not in files.manifest.files or files.manifest.settings["format"] != "parquet":
        return {}
    manifest = files.manifest
    try:
        data = files.path(ROWS).read_bytes()
        if sha256(data) != manifest.files[ROWS].sha256:
            return {}
        index = from_json(RowIndex, data, where=ROWS)
    except (OSError, LabelsyncError):
        return {}
    image, label = manifest.settings["columns"].split(",")
    return {
        path: OldShard(
            "" if files.repo else str(files.folder.absolute()),
            files.repo,
            files.revision,
            path,
            manifest.files[path],
            (image, label),
            rows,
        )
        for path, rows in index.shards.items()
        if index.format == ROWS_FORMAT and path in manifest.files
    }


@dataclass(frozen=True, eq=False)
class Kept:
    """A row of an earlier shard where it lies: row `at` of the row group `table`, whose image and label have `size`
    bytes."""

    table: pa.Table
    at: int
    size: int
    pixels: Pixels


class KeptRows:
    """Rows of an earlier shard by their keys. The file is read a row group at a time, each once if asked in order.

    What depends on a row's key alone needs no look: no image, label, path or text becomes an object of Python.
    """

    def __init__(self, shard: OldShard, path: Path, schema: pa.Schema) -> None:
        self._shard, self._path, self._schema = shard, path, schema
        self._at = {key: i for i, (_, key, _) in enumerate(shard.index.rows)}
        self._file: Shard | None = None
        self._group: tuple[int, pa.Table, Any, list[str]] = (-1, pa.table({}), None, [])  # what was read last

    def find(self, key: str, sample: LabelledSample) -> Kept | None:
        """The row of a sample, None if it is not there."""
        at = self._at.get(key)
        if at is None or not key:
            return None
        try:
            table, first, sizes, uuids = self._group_of(at)
        except (pa.ArrowException, OSError, DatasetError):  # its digest was right a moment ago: it is being replaced
            return None
        if uuids[at - first] != sample.uuid:
            return None
        return Kept(table, at - first, int(sizes[at - first]), self._shard.index.rows[at][2])

    def _group_of(self, at: int) -> tuple[pa.Table, int, Any, list[str]]:
        """(row group, number of its first row, bytes of its rows, their uuids) that row `at` is in."""
        if self._file is None:
            # not mapped: every page of a large shard would count as memory of this process until the shard is done
            self._file = Shard(pq.ParquetFile(self._path, memory_map=False, pre_buffer=False))
            if self._file.count != len(self._shard.index.rows):
                raise DatasetError(f"{self._path} has {self._file.count} rows")
        group = bisect_right(self._file.ends, at)
        if self._group[0] != group:
            read = self._file.file.read_row_group(group, use_threads=False)
            columns = [read.column(name) for name in (*self._shard.columns, "name", "uuid")]
            table = pa.Table.from_arrays(columns, schema=self._schema).combine_chunks()
            sizes = sum(_lengths(table.column(i)) for i in (0, 1))
            self._group = group, table, sizes, [str(uuid) for uuid in table.column("uuid").to_pylist()]
        return self._group[1], self._file.ends[group - 1] if group else 0, self._group[2], self._group[3]


def _lengths(files: Any) -> Any:
    """Bytes of each file in a column of {bytes, path} without nulls."""
    (chunk,) = files.chunks
    content = chunk.field("bytes")
    offsets = np.frombuffer(content.buffers()[1], np.int32)[content.offset :][: len(chunk) + 1]
    return np.diff(offsets)
