"""What a commit on the Hub really holds, read from there: rows, images, weights, card.

Digests are compared first, from the listing (`verify.compare`); here formats are read, by ranges of bytes, so that a
publication of gigabytes costs a few footers, one row group per split and the headers of the weights.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import RepoCard

from labelsync.errors import BitmapError, PublishError
from labelsync.hub.client import HubRepo
from labelsync.hub.plan import RemoteFile
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic
from labelsync.store.manifest import Manifest

AT_ONCE = 8  # files opened at the same time
_LONGEST_HEADER = 100_000_000  # bytes; what the safetensors library allows

Tree = Mapping[str, RemoteFile]


@dataclass(frozen=True)
class ReadBack:
    """What was read: see `VerifyRecord`."""

    rows: dict[str, int] = field(default_factory=dict)
    decoded: int = 0
    tensors: int = 0
    parameters: int = 0
    fetched: int = 0


def read_back(repo: HubRepo, commit: str, tree: Tree, manifest: Manifest) -> ReadBack:
    """Open what a publication is made of.

    Raises:
        PublishError: it cannot be used, or holds other numbers than its manifest says; the file is named.
        ServiceError: the Hub or its storage does not answer.
    """
    read = _dataset if repo.kind == "dataset" else _model
    return read(_Commit(repo, commit, tree), manifest)


@dataclass(frozen=True)
class _Commit:
    repo: HubRepo
    commit: str
    tree: Tree

    def wrong(self, path: str, what: str) -> PublishError:
        return PublishError(
            f"{path} of {self.repo.repo_id} at {self.commit[:8]} {what}", hint="push the folder that it was made from"
        )

    def text(self, path: str) -> str:
        try:
            return self.repo.read(path, self.commit).decode()
        except UnicodeDecodeError:
            raise self.wrong(path, "is not UTF-8") from None


# -------------------------------------------------------------------- datasets


def _dataset(there: _Commit, manifest: Manifest) -> ReadBack:
    shards = sorted(p for p in manifest.files if p.startswith("data/") and p.endswith(".parquet"))
    firsts: dict[str, str] = {}
    for path in shards:
        if manifest.summary.get("rows", {}).get(path, 1):
            firsts.setdefault(_split_of(path), path)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="read-back") as pool:
        opened = list(pool.map(lambda p: _shard(there, p, manifest, decode=p in firsts.values()), shards))
    rows: Counter[str] = Counter()
    for path, shard in zip(shards, opened, strict=True):
        rows[_split_of(path)] += shard.rows
    _require_card(there, rows)
    return ReadBack(rows=dict(rows), decoded=sum(s.decoded for s in opened), fetched=sum(s.fetched for s in opened))


@dataclass(frozen=True)
class _Shard:
    rows: int
    decoded: int
    fetched: int


def _shard(there: _Commit, path: str, manifest: Manifest, *, decode: bool) -> _Shard:
    """The number of rows in the footer, and with `decode` the first image and its label."""
    file = there.repo.open(path, there.commit, size=there.tree[path].size)
    try:
        parquet = pq.ParquetFile(cast("IO[bytes]", file), pre_buffer=False)
        rows = parquet.metadata.num_rows
        expected = manifest.summary.get("rows", {}).get(path, rows)
        if rows != expected:
            raise there.wrong(path, f"has {rows} rows and its manifest says {expected}")
        decoded = decode and rows > 0
        if decoded:
            _require_image(parquet, manifest)
    except (pa.ArrowException, BitmapError, KeyError) as e:
        reason = " ".join(str(e).split()) or type(e).__name__
        raise there.wrong(path, f"cannot be read ({reason[:200]})") from None
    return _Shard(rows, int(decoded), file.fetched)


def _require_image(parquet: pq.ParquetFile, manifest: Manifest) -> None:
    """The first row's image and label decode, have one size, and hold classes that exist."""
    image, label = str(manifest.settings.get("columns", "pixel_values,label")).split(",")
    table = parquet.read_row_group(0, columns=[image, label], use_threads=False)
    row = table.slice(0, 1).to_pylist()[0]
    picture, classes = decode_image(row[image]["bytes"]), decode_semantic(row[label]["bytes"])
    if picture.shape[:2] != classes.shape:
        raise BitmapError(f"the first label is {classes.shape} pixels and its image {picture.shape[:2]}")
    if manifest.labels is not None and int(classes.max(initial=0)) > manifest.labels.num_labels:
        raise BitmapError(f"the first label holds class {int(classes.max())} of {manifest.labels.num_labels}")


def _require_card(there: _Commit, rows: Mapping[str, int]) -> None:
    """The card's metadata, which load_dataset goes by, names the same splits with as many rows."""
    if "README.md" not in there.tree:
        return
    text = there.text("README.md")
    try:
        info = RepoCard(text).data.get("dataset_info")
    except Exception as e:  # noqa: BLE001 - YAML's errors are of a library that is none of ours
        raise there.wrong("README.md", f"has metadata that cannot be read ({' '.join(str(e).split())[:200]})") from None
    splits = info.get("splits") if isinstance(info, dict) else None
    if not isinstance(splits, list):
        return  # a card of somebody's own, or of several configurations
    told = {str(s.get("name")): s["num_examples"] for s in splits if isinstance(s, dict) and s.get("num_examples")}
    there_are = {split: n for split, n in rows.items() if n}
    if told != there_are:
        raise there.wrong("README.md", f"tells of other rows ({_counts(told)}) than there are ({_counts(there_are)})")


def _counts(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {n}" for split, n in rows.items()) or "none"


def _split_of(path: str) -> str:
    return path.rpartition("/")[2].partition("-")[0]


# -------------------------------------------------------------------- models


def _model(there: _Commit, manifest: Manifest) -> ReadBack:
    _require_config(there, manifest)
    weights = sorted(p for p in manifest.files if p.endswith(".safetensors"))
    if not weights:
        raise there.wrong("manifest.json", "lists no weights in safetensors")
    headers = [_header(there, path) for path in weights]
    return ReadBack(
        tensors=sum(len(tensors) for tensors, _ in headers),
        parameters=sum(math.prod(t["shape"]) for tensors, _ in headers for t in tensors.values()),
        fetched=sum(fetched for _, fetched in headers),
    )


def _require_config(there: _Commit, manifest: Manifest) -> None:
    """config.json describes a model of transformers' own with the classes of the manifest."""
    if "config.json" not in there.tree:
        raise there.wrong("config.json", "is missing")
    config = _parsed(there, "config.json", lambda: json.loads(there.text("config.json")))
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise there.wrong("config.json", "names no model_type")
    if "auto_map" in config:
        raise there.wrong("config.json", "asks for code of its own (auto_map), which labelsync never runs")
    names = config.get("id2label")
    if manifest.labels is not None and names is not None:
        expected = {str(i): name for i, name in manifest.labels.model_id2label.items()}
        if names != expected:
            raise there.wrong("config.json", "has other classes than its manifest")


def _header(there: _Commit, path: str) -> tuple[dict[str, Any], int]:
    """(tensors of a safetensors file by name, bytes fetched): the header accounts for every byte of the file."""
    size = there.tree[path].size
    file = there.repo.open(path, there.commit, size=size)
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(size - 8, _LONGEST_HEADER):
        raise there.wrong(path, "is not a safetensors file")
    text = file.read(length)
    tensors = _parsed(there, path, lambda: json.loads(text))
    tensors.pop("__metadata__", None)
    spans = _parsed(there, path, lambda: sorted(tuple(t["data_offsets"]) for t in tensors.values()))
    end = 0
    for start, stop in spans:
        if start != end or stop < start:
            raise there.wrong(path, "has tensors that overlap or leave gaps")
        end = stop
    if 8 + length + end != size:
        raise there.wrong(path, f"is {size} bytes long and its tensors end at {8 + length + end}")
    return tensors, file.fetched


def _parsed(there: _Commit, path: str, parse: Callable[[], Any]) -> Any:
    try:
        return parse()
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise there.wrong(path, f"cannot be read ({' '.join(str(e).split())[:200]})") from None
