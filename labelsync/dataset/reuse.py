"""What a later round takes over from an earlier one: whole shards, and rows of shards, without decoding a pixel.

rows.json, beside the shards, has a key for every row: a digest of all that the row's bytes depend on. A row whose key
is the same would be converted to the same bytes, so it is copied; a shard whose rows are all the same is linked. The
digests of the earlier manifest say that nothing there was damaged; where it was, the samples are converted again.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelsync.dataset.rows import Rows
from labelsync.dataset.sample import File, LabelledSample
from labelsync.dataset.source import DatasetFiles, fetch_file
from labelsync.errors import DatasetError, LabelsyncError
from labelsync.labels import LabelMap
from labelsync.records.release import LedgerRow, Row
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


# -------------------------------------------------------------------- keys


def row_key(sample: LabelledSample, labels: LabelMap) -> str:
    """Digest of everything that the bytes of a sample's row depend on; "" for a sample that cannot be converted.

    Annotations count by the disk ids they are drawn as: a category may be renamed or move in the taxonomy. A field that
    this function does not know counts as it is, with the disk ids of the categories that may occur in it.
    """
    table = labels.category_table(sample.dataset)
    used = {category: table.get(category) for _, category in sample.annotations}
    if None in used.values():
        return ""
    others = {name: _plain(getattr(sample, name)) for name in sample.__dataclass_fields__.keys() - _KNOWN}
    value = {
        "format": ROW_FORMAT,
        "uuid": sample.uuid,
        "name": sample.name,
        "image": [sample.image.sha256, sample.extension],
        "bitmap": None if sample.bitmap is None else sample.bitmap.sha256,
        "classes": sorted((annotation, used[category]) for annotation, category in sample.annotations),
        "dtype": np.dtype(labels.dtype).name,
        "background": labels.background_id,
        "others": [others, sorted(used.items())] if any(others.values()) else None,
    }
    return digest_of(value)[:_KEY]


_KNOWN = {"uuid", "name", "status", "stem", "dataset", "image", "bitmap", "annotations"}


def notes_of(row: LedgerRow) -> dict[str, Any]:
    """What a ledger row says of a conversion besides its outcome and reason."""
    return {f.name: getattr(row, f.name) for f in dataclasses.fields(row)[_ROW_FIELDS:] if getattr(row, f.name)}


_ROW_FIELDS = 5  # uuid, name, outcome, reason, status


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


class KeptRows:
    """Rows of an earlier shard by their keys. The file is read a row group at a time, each once if asked in order."""

    def __init__(self, shard: OldShard, path: Path) -> None:
        self._pixels = [pixels for _, _, pixels in shard.index.rows]
        self._at = {key: i for i, (_, key, _) in enumerate(shard.index.rows)}
        # not mapped: every page of a large shard would count as memory of this process until the shard is done
        self._rows = Rows(
            [(shard.path, len(self._pixels))], columns=shard.columns, locate=lambda _: path, memory_map=False
        )

    def find(self, key: str, sample: LabelledSample) -> tuple[Row, Pixels] | None:
        """The row of a sample, None if it is not there."""
        at = self._at.get(key)
        if at is None or not key:
            return None
        try:
            row = self._rows[at]
        except DatasetError:  # its digest was right a moment ago: somebody is replacing it
            return None
        return (row, self._pixels[at]) if row.uuid == sample.uuid else None
