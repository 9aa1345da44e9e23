"""Checkpoints that are whole or not used: a mark written last, strict reading, keeping the newest and the best.

transformers holds SegFormer and BEiT in memory under other names than on disk. The Trainer's own loader matches names
without that mapping and is not strict: of SegFormer's 124 tensors it restores 8 and says so in a log line. Reading here
goes through `from_pretrained` and is then checked against the file, tensor by tensor.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from labelsync.errors import ModelError
from labelsync.model.load import quiet, read_weights
from labelsync.store.files import sha256_file, write_text
from labelsync.training.process import rank

MARK = "complete.json"
STATE = "trainer_state.json"
RAW = "raw"  # of averaged weights: those that the optimiser moves
_NAME = re.compile(r"checkpoint-(\d+)")


def step_of(folder: Path) -> int:
    """Optimiser step of a checkpoint folder."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else -1


def checkpoints(root: Path) -> list[Path]:
    """Checkpoint folders below `root`, whole or not, oldest first."""
    found = [p for p in root.iterdir() if p.is_dir() and _NAME.fullmatch(p.name)] if root.is_dir() else []
    return sorted(found, key=step_of)


def mark_complete(folder: Path) -> None:
    """Write the mark: size and digest of every file that lies there now."""
    files = {
        p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": sha256_file(p)}
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MARK
    }
    write_text(folder / MARK, json.dumps(files, indent=1) + "\n")


def problem(folder: Path) -> str:
    """What is wrong with a checkpoint, "" if nothing: the mark is there and every file is what it was."""
    try:
        files = json.loads((folder / MARK).read_bytes())
    except (OSError, ValueError):
        return "it was cut short while being written"
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"] or sha256_file(path) != entry["sha256"]:
            return f"{name} is not what was written"
    return ""


def last_complete(root: Path) -> Path | None:
    """The newest checkpoint that is whole; None if there is none.

    Newer ones that are not whole are deleted: the resumed run writes under the same names.
    """
    for folder in reversed(checkpoints(root)):
        if not problem(folder):
            return folder
        shutil.rmtree(folder)
    return None


def rotate(root: Path, *, keep: int, best: int | None) -> None:
    """Delete all but the newest `keep` checkpoints and the one of step `best`.

    Called after the newest is whole, so that at no moment there is none.
    """
    for folder in checkpoints(root)[:-keep]:
        if step_of(folder) != best:
            shutil.rmtree(folder)


def read_into(model: PreTrainedModel, folder: Path, *, part: str = "") -> None:
    """Give `model` the weights of a checkpoint (or of `part`, a folder in it), every tensor of it.

    Raises:
        ModelError: the checkpoint is not whole, of another model, or not what ends up in `model`.
    """
    if wrong := problem(folder):
        raise ModelError(f"checkpoint {folder} cannot be used: {wrong}", hint="train again with --overwrite")
    folder = folder / part
    read, own = read_weights(folder).state_dict(), model.state_dict()
    other = sorted(
        k for k in read.keys() | own.keys() if k not in own or k not in read or own[k].shape != read[k].shape
    )
    if other:
        raise ModelError(f"checkpoint {folder} is of another model ({other[0]})", hint="train again with --overwrite")
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(read[key])
    if rank() == 0:  # transformers writes in the first process only; the others have read the same file as strictly
        with tempfile.TemporaryDirectory() as written, quiet():
            model.save_pretrained(written)
            require_same_weights(Path(written), folder)


def require_same_weights(written: Path, expected: Path) -> None:
    """Raises ModelError unless two folders hold the same tensors under the same names, bit for bit."""
    have, want = dict(_tensors(written)), dict(_tensors(expected))
    differ = sorted(
        k for k in have.keys() | want.keys() if k not in have or k not in want or not _same(have[k], want[k])
    )
    if differ or not want:
        raise ModelError(
            f"{len(differ)} of {len(want)} tensors are not those of {expected} ({', '.join(differ[:1])})",
            hint="this is a fault of labelsync or of the installed transformers; please report it",
        )


def _tensors(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - it is no mapping
                yield key, file.get_tensor(key)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bits; torch.equal would call a NaN unlike itself."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
