"""The unit of work: one shard. Plain data in, files out, ledger rows and counts back.

A sample's shard follows from its uuid and the split's number of shards, which is pinned; rows are in order of name and
uuid. So a later round writes every shard that nothing happened to byte for byte as before.
"""

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from labelsync.dataset.arrays import table_of
from labelsync.dataset.sample import Converted, LabelledSample, convert_sample
from labelsync.labels import LabelMap
from labelsync.records.release import LedgerRow
from labelsync.store import write_bytes

MAX_SHARDS = 90  # of all splits together: one Hub commit should change no more than 100 files
SHARD_ROWS = 32  # many small shards in a first round: they are what runs in parallel, and later rounds fill them
SHARD_BYTES = 32 << 20
ROW_GROUP_BYTES = 4 << 20  # a row is read with its group: half a millisecond at this size, 4 ms at 32 MiB

DATA = "data"


@dataclass(frozen=True)
class Shard:
    """One shard to write.

    Attributes:
        path: the Parquet file, relative to the folder; for bitmaps only its number counts.
        schema: of the Parquet file, its metadata with the features for `datasets` included.
        names: uuid -> file name without extension, for `--format bitmaps`; None = write Parquet.
    """

    folder: str
    split: str
    path: str
    samples: tuple[LabelledSample, ...]
    labels: LabelMap
    schema: pa.Schema | None = None
    names: dict[str, str] | None = None


@dataclass(frozen=True)
class ShardResult:
    """What came of a shard: a ledger row per sample, the number of rows written, pixels per disk id, bytes."""

    split: str
    path: str
    ledger: tuple[LedgerRow, ...]
    rows: int
    pixels: tuple[int, ...]
    images: tuple[int, ...]
    size: int


# -------------------------------------------------------------------- which sample, which shard


def shard_counts(samples: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """split -> number of shards of a first round, from the number of samples and bytes of each split."""
    wanted = {
        split: max(1, math.ceil(n / SHARD_ROWS), math.ceil(sizes[split] / SHARD_BYTES)) for split, n in samples.items()
    }
    total = sum(wanted.values())
    if total <= MAX_SHARDS:
        return wanted
    room = MAX_SHARDS - len(wanted)  # rounding up to one shard at least cannot push the sum over the limit
    return {split: max(1, n * room // total) for split, n in wanted.items()}


def shard_of(uuid: str, count: int) -> int:
    """The shard of a sample among `count`: the first 8 bytes of the SHA-256 of its uuid."""
    return int.from_bytes(hashlib.sha256(f"labelsync shard 1\0{uuid}".encode()).digest()[:8], "big") % count


def shard_path(split: str, index: int, count: int) -> str:
    """data/train-00000-of-00003.parquet, the name `datasets` gives and finds."""
    return f"{DATA}/{split}-{index:05d}-of-{count:05d}.parquet"


def dealt(samples: Iterable[LabelledSample], count: int) -> list[tuple[LabelledSample, ...]]:
    """The samples of a split by shard, each in order of name and uuid."""
    shards: list[list[LabelledSample]] = [[] for _ in range(count)]
    for s in sorted(samples, key=lambda s: (s.name, s.uuid)):
        shards[shard_of(s.uuid, count)].append(s)
    return [tuple(s) for s in shards]


# -------------------------------------------------------------------- the work


class _Writer(Protocol):
    def add(self, row: Converted) -> int: ...


def write_shard(shard: Shard, stopped: Callable[[], bool] = lambda: False) -> ShardResult:
    """Convert a shard's samples one by one and write those that are converted; `stopped` is asked before each.

    Raises:
        OSError: the disk is full, or the like. What is wrong with a sample is a ledger row instead.
    """
    ledger: list[LedgerRow] = []
    pixels = np.zeros(shard.labels.num_labels + 1, np.int64)
    images = np.zeros_like(pixels)
    size = 0
    with ExitStack() as stack:
        writer: _Writer
        writer = _BitmapWriter(shard) if shard.schema is None else stack.enter_context(_ParquetWriter(shard))
        for sample in shard.samples:
            if stopped():
                raise InterruptedError("stopped")
            row, converted = convert_sample(sample, shard.labels)
            ledger.append(row)
            if converted is not None:
                size += writer.add(converted)
                pixels += converted.pixels
                images += converted.pixels > 0
    rows = sum(r.outcome == "converted" for r in ledger)
    return ShardResult(
        shard.split, shard.path, tuple(ledger), rows, tuple(pixels.tolist()), tuple(images.tolist()), size
    )


class _ParquetWriter:
    """Rows into one Parquet file, a row group at a time; nothing compressed, as JPEG and PNG already are."""

    def __init__(self, shard: Shard) -> None:
        assert shard.schema is not None  # noqa: S101 - `write_shard` asked
        path = Path(shard.folder) / shard.path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._schema = shard.schema
        self._rows: list[tuple[Any, ...]] = []
        self._size = 0
        self._file = pq.ParquetWriter(
            path, shard.schema, compression="none", use_dictionary=False, write_statistics=False, write_page_index=True
        )

    def __enter__(self) -> "_ParquetWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
            self._file.close()
            return
        with contextlib.suppress(OSError):  # the error on its way out is the one that counts
            self._file.close()

    def add(self, row: Converted) -> int:
        """Buffer one row; bytes of its image and label."""
        s = row.sample
        # `datasets` drops the bytes of an image whose path exists where the program runs, so no folder of labelsync
        # holds files named like these
        image = {"bytes": row.image, "path": f"{s.stem}.image{row.extension}"}
        label = {"bytes": row.label, "path": f"{s.stem}.label.png"}
        self._rows.append((image, label, s.name, s.uuid))
        size = len(row.image) + len(row.label)
        self._size += size
        if self._size >= ROW_GROUP_BYTES:
            self._flush()
        return size

    def _flush(self) -> None:
        if self._rows:
            self._file.write_table(table_of(self._rows, self._schema), row_group_size=len(self._rows))
        self._rows, self._size = [], 0


class _BitmapWriter:
    """Rows as plain files: images/<split>/<name>.<ext> and labels/<split>/<name>.png."""

    def __init__(self, shard: Shard) -> None:
        assert shard.names is not None  # noqa: S101 - `write_shard` asked
        self._folder, self._split, self._names = Path(shard.folder), shard.split, shard.names

    def add(self, row: Converted) -> int:
        name = self._names[row.sample.uuid]
        write_bytes(self._folder / "images" / self._split / f"{name}{row.extension}", row.image)
        write_bytes(self._folder / "labels" / self._split / f"{name}.png", row.label)
        return len(row.image) + len(row.label)
