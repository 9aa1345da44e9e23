"""Folders as `convert` and `train` leave them, small, drawn from a few bytes, and what a push of them says."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import Result

from labelsync.labels import LabelClass, LabelMap
from labelsync.pixels.image import encode_png
from labelsync.store.manifest import write_manifest
from tests.loopback.hub import WRITE_TOKEN

LABELS = LabelMap((LabelClass("road", (1,)), LabelClass("sidewalk", (2,))))
CARD = "---\ntags:\n- labelsync\n---\n# Sidewalk\nMade of {}.\n"

Cli = Callable[..., Result]


def shard(seed: bytes, *, rows: int = 2) -> bytes:
    """A Parquet file of drawn images and labels; other seeds, other pixels."""
    rng = np.random.default_rng(list(hashlib.sha256(seed).digest()))
    images = [encode_png(rng.integers(0, 256, (8, 12, 3), np.uint8)) for _ in range(rows)]
    labels = [encode_png(rng.integers(0, 3, (8, 12), np.uint8)) for _ in range(rows)]
    names = [f"{seed[:6].decode()}-{i}.png" for i in range(rows)]
    columns = {
        "pixel_values": [{"bytes": b, "path": None} for b in images],
        "label": [{"bytes": b, "path": None} for b in labels],
        "name": names,
        "uuid": names,
    }
    file = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("pixel_values", file), ("label", file), ("name", pa.string()), ("uuid", pa.string())])
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pydict(columns, schema=schema), out, compression="none")
    return out.getvalue()


def dataset_folder(
    path: Path, *, release: str = "v1.0", rows: dict[str, int] | None = None, shards: int = 0, **seeds: bytes
) -> Path:
    """A folder as `convert` leaves it.

    Args:
        rows: what the manifest says of a shard's rows where that is not the truth.
        shards: so many more train shards.
        seeds: replace or add shards by name without "data/" and ".parquet"; the split is what stands before "-".
    """
    drawn = {"train-0": b"train", "test-0": b"test"} | seeds
    drawn |= {f"train-{i:05d}-of-{shards:05d}": f"{release} {i}".encode() for i in range(shards)}
    (path / "data").mkdir(parents=True, exist_ok=True)
    for name, seed in drawn.items():
        (path / "data" / f"{name}.parquet").write_bytes(shard(seed))
    (path / "README.md").write_text(CARD.format(release))
    (path / "id2label.json").write_text(LABELS.id2label_json())
    counts = {f"data/{name}.parquet": 2 for name in drawn} | (rows or {})
    summary = {"release": release, "dataset": "acme/sidewalk", "rows": counts}
    settings = {"format": "parquet", "columns": "pixel_values,label"}
    write_manifest(path, "convert", inputs={"release": release}, settings=settings, summary=summary, labels=LABELS)
    return path


def weights(**tensors: Any) -> bytes:
    """A safetensors file."""
    from safetensors.numpy import save

    return bytes(save({"head": np.arange(6, dtype=np.float32).reshape(2, 3)} | tensors))


def model_folder(path: Path, **files: bytes) -> Path:
    """A folder as `train` leaves it, with what it must never publish lying beside."""
    path.mkdir()
    names = {str(i): name for i, name in LABELS.model_id2label.items()}
    (path / "config.json").write_text(json.dumps({"model_type": "segformer", "id2label": names}))
    (path / "model.safetensors").write_bytes(weights())
    for name, data in files.items():
        (path / name).write_bytes(data)
    write_manifest(path, "train", inputs={"dataset": "d" * 64}, settings={}, summary={}, labels=LABELS)
    (path / "training_args.bin").write_bytes(b"pickled " + WRITE_TOKEN.encode())
    (path / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (path / "checkpoints" / "checkpoint-1" / "optimizer.pt").write_bytes(b"state")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def pushed(cli: Cli, folder: Path, *options: str, repo_id: str = "acme/sidewalk") -> dict[str, Any]:
    """The record of a push that succeeds."""
    record: dict[str, Any] = json.loads(cli("push", folder, "--repo-id", repo_id, *options, "--json").stdout)
    return record


def refused(cli: Cli, folder: Path, *options: str, repo_id: str = "acme/sidewalk", code: int = 1) -> str:
    """The last line of a push that fails."""
    return str(cli("push", folder, "--repo-id", repo_id, *options, code=code).stderr.strip().splitlines()[-1])


def without_card(files: dict[str, bytes]) -> dict[str, bytes]:
    """All but README.md, which people write into too."""
    return {path: data for path, data in files.items() if path != "README.md"}
