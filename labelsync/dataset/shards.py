"""The unit of work: one shard. Plain data in, files out, ledger rows, digests and counts back.

A sample's shard follows from its uuid and the split's number of shards, which is pinned; rows are in order of name and
uuid in a first round, and keep their places in later ones (see layout.py). So a later round would write every shard
that nothing happened to byte for byte as before, and links it instead; in the others it copies the rows that nothing
happened to.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from labelsync.dataset.layout import LEAST_GROUP_BYTES, ROW_GROUP_BYTES, RowGroups
from labelsync.dataset.remote import Assets
from labelsync.dataset.reuse import KeptRows, OldShard, Pixels, ShardRows, notes_of, row_key, shard_key
from labelsync.dataset.sample import Converted, LabelledSample, convert_sample
from labelsync.dataset.sink import sink_of
from labelsync.dataset.writers import Writer, bitmap_writer, parquet_writer
from labelsync.labels import LabelMap
from labelsync.records.release import LedgerRow, Outcome
from labelsync.store.manifest import FileEntry

MAX_SHARDS = 90  # of all splits together: one Hub commit should change no more than 100 files
SHARD_ROWS = 32  # many small shards in a first round: they are what runs in parallel, and later rounds fill them
SHARD_BYTES = 32 << 20

DATA = "data"


@dataclass(frozen=True)
class Shard:
    """One shard to write.

    Attributes:
        folder: what `sink_of` takes: a folder or a URL.
        path: the Parquet file, relative to the folder; for bitmaps only its number counts.
        schema: of the Parquet file, its metadata with the features for `datasets` included.
        names: uuid -> file name without extension, for `--format bitmaps`; None = write Parquet.
        samples: in the order of their rows (see `layout.in_place`).
        old: the same shard of an earlier round.
        keys: of the samples, where they are known already (see `keys_of`).
    """

    folder: str
    split: str
    path: str
    samples: tuple[LabelledSample, ...]
    labels: LabelMap
    schema: pa.Schema | None = None
    names: dict[str, str] | None = None
    old: OldShard | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShardResult:
    """What came of a shard.

    Attributes:
        ledger: a row per sample.
        rows: number of rows written.
        pixels, images: by disk id, the pixels and the number of images that have some.
        size: bytes of the images and labels in it.
        files: path -> digest and size of what was written.
        index: what rows.json says of it; None for `--format bitmaps`.
        reused: rows that were taken over; all of them in a `linked` shard.
        decoded: samples whose image and label were read.
    """

    split: str
    path: str
    ledger: tuple[LedgerRow, ...]
    rows: int
    pixels: tuple[int, ...]
    images: tuple[int, ...]
    size: int
    files: dict[str, FileEntry]
    index: ShardRows | None
    reused: int
    linked: bool
    decoded: int


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


def shard_paths(split: str, count: int) -> list[str]:
    """data/train-00000-of-00003.parquet and so on, the names `datasets` gives and finds."""
    return [f"{DATA}/{split}-{index:05d}-of-{count:05d}.parquet" for index in range(count)]


def dealt(samples: Iterable[LabelledSample], count: int) -> list[tuple[LabelledSample, ...]]:
    """The samples of a split by shard, each in order of name and uuid."""
    shards: list[list[LabelledSample]] = [[] for _ in range(count)]
    for s in sorted(samples, key=lambda s: (s.name, s.uuid)):
        shards[shard_of(s.uuid, count)].append(s)
    return [tuple(s) for s in shards]


# -------------------------------------------------------------------- the work


def write_shard(shard: Shard, stopped: Callable[[], bool] = lambda: False) -> ShardResult:
    """Convert a shard's samples one by one and write those that are converted; `stopped` is asked before each.

    Raises:
        OSError: the disk is full, or the like. What is wrong with a sample is a ledger row instead.
    """
    tally = _Tally(shard)
    old = shard.old if shard.old is not None and tally.is_akin(shard.old.index) else None
    path = None if old is None else old.whole()
    if old is not None and path is not None and tally.is_unchanged(old.index):
        return _linked(shard, old, path, tally)
    kept = KeptRows(old, path) if old is not None and path is not None else None
    with Assets() as assets, _writer(shard) as writer:
        for sample, key in zip(shard.samples, tally.keys, strict=True):
            if stopped():
                raise InterruptedError("stopped")
            if tally.skip_empty(sample, key):
                continue
            found = None if kept is None else kept.find(key, sample)
            if found is not None:
                row, pixels = found
                tally.add_kept(sample, key, pixels, writer.add(sample, row.image, row.label))
            else:
                outcome, made = convert_sample(sample, shard.labels, assets.read)
                tally.add(key, outcome, made, 0 if made is None else writer.add(sample, made.image, made.label))
    return tally.result(writer.files, writer.groups)


def _writer(shard: Shard) -> AbstractContextManager[Writer]:
    sink = sink_of(shard.folder)
    if shard.schema is None:
        return bitmap_writer(sink, shard.split, names=shard.names or {})
    old = None if shard.old is None else shard.old.index
    groups = RowGroups(old, limit=ROW_GROUP_BYTES, least=LEAST_GROUP_BYTES)
    return parquet_writer(sink, shard.path, schema=shard.schema, groups=groups)


def unknown_bytes(shard: Shard) -> int:
    """Bytes of images and bitmaps of the samples that the earlier round does not have as they are now."""
    if shard.old is None:
        return sum(map(size_of, shard.samples))
    known = shard.old.index.known
    return sum(size_of(s) for s, key in zip(shard.samples, keys_of(shard), strict=True) if key not in known)


def size_of(sample: LabelledSample) -> int:
    """Bytes of its image and bitmap."""
    return sample.image.size + (sample.bitmap.size if sample.bitmap else 0)


def keys_of(shard: Shard) -> tuple[str, ...]:
    """The row key of each sample."""
    if shard.schema is None:  # plain bitmaps are not taken over
        return ("",) * len(shard.samples)
    return shard.keys or tuple(row_key(s, shard.labels) for s in shard.samples)


def _linked(shard: Shard, old: OldShard, path: Path, tally: "_Tally") -> ShardResult:
    """The whole shard of the earlier round, as it is."""
    sink_of(shard.folder).link(path, shard.path)
    counts = {key: pixels for _, key, pixels in old.index.rows}
    for sample, key in zip(shard.samples, tally.keys, strict=True):
        if not tally.skip_empty(sample, key):
            tally.add_kept(sample, key, counts[key], 0)
    tally.size, tally.linked = old.index.size, True
    return tally.result({shard.path: old.entry}, old.index.groups)


class _Tally:
    """Counts what comes of a shard's samples."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.keys = keys_of(shard)
        self.size = 0
        self.linked = False
        self._ledger: list[LedgerRow] = []
        self._rows: list[tuple[str, str, Pixels]] = []
        self._empty: dict[str, str] = {}
        self._notes: dict[str, dict[str, Any]] = {}
        self._old = None if shard.old is None else shard.old.index
        self._reused = self._decoded = 0

    def is_akin(self, old: ShardRows) -> bool:
        """Whether there is anything to take over."""
        return not old.known.isdisjoint(self.keys) or not (old.rows or self.keys)

    def is_unchanged(self, old: ShardRows) -> bool:
        """Whether every sample is as it was, none new and none gone."""
        rows = [key for key in self.keys if key not in old.empty]
        same = "" not in rows and rows == [key for _, key, _ in old.rows]
        return same and self._key(rows, old.groups) == old.key

    def skip_empty(self, sample: LabelledSample, key: str) -> bool:
        """Take the ledger row of a sample that was empty in the earlier round and is the same."""
        reason = None if self._old is None or not key else self._old.empty.get(key)
        if reason is None:
            return False
        self._note(key, self._ledger_row(sample, key, "empty", reason))
        self._empty[key] = reason
        return True

    def add_kept(self, sample: LabelledSample, key: str, pixels: Pixels, size: int) -> None:
        """A row that was taken over."""
        self._note(key, self._ledger_row(sample, key, "converted", ""))
        self._rows.append((sample.uuid, key, pixels))
        self.size += size
        self._reused += 1

    def add(self, key: str, row: LedgerRow, converted: Converted | None, size: int) -> None:
        """A sample that was converted, or could not be."""
        self._note(key, row)
        self.size += size
        self._decoded += 1
        if converted is not None:
            pixels = {int(i): int(converted.pixels[i]) for i in np.flatnonzero(converted.pixels)}
            self._rows.append((row.uuid, key, pixels))
        elif row.outcome == "empty" and key:
            self._empty[key] = row.reason

    def _ledger_row(self, sample: LabelledSample, key: str, outcome: Outcome, reason: str) -> LedgerRow:
        notes = {} if self._old is None else self._old.notes.get(key, {})
        return LedgerRow(sample.uuid, sample.name, outcome, reason, sample.status, **notes)

    def _note(self, key: str, row: LedgerRow) -> None:
        self._ledger.append(row)
        if row.outcome != "failed" and key and (notes := notes_of(row)):
            self._notes[key] = notes

    def result(self, files: dict[str, FileEntry], groups: Sequence[int]) -> ShardResult:
        """Everything together; `groups` = rows of each row group."""
        pixels = np.zeros(self.shard.labels.num_labels + 1, np.int64)
        images = np.zeros_like(pixels)
        for _, _, counts in self._rows:
            for disk, n in counts.items():
                pixels[disk] += n
                images[disk] += 1
        index = None
        if self.shard.schema is not None:
            key = self._key([k for _, k, _ in self._rows], groups)
            index = ShardRows(key, self.size, tuple(self._rows), tuple(groups), self._empty, self._notes)
        return ShardResult(
            split=self.shard.split,
            path=self.shard.path,
            ledger=tuple(self._ledger),
            rows=len(self._rows),
            pixels=tuple(pixels.tolist()),
            images=tuple(images.tolist()),
            size=self.size,
            files=files,
            index=index,
            reused=self._reused,
            linked=self.linked,
            decoded=self._decoded,
        )

    def _key(self, rows: Sequence[str], groups: Sequence[int]) -> str:
        assert self.shard.schema is not None  # noqa: S101 - plain bitmaps have no shards
        return shard_key(rows, groups, self.shard.schema)
