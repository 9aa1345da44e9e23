"""The run folder: one run, its identity pinned from the start, finished when its manifest is there.

    <out>/                 the model folder, metrics.jsonl, README.md, manifest.json (last)
    <out>/pictures/        of a few validation samples after every evaluation; never published
    <out>/checkpoints/     run.json (what the run is), checkpoint-<step>/, trackers' folders; never published

It is built in place and not under a temporary name, since an interrupted run goes on in it.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsync.errors import LabelsyncError, OptionError, OutputExists
from labelsync.store.files import write_text
from labelsync.store.folder import is_vacant
from labelsync.store.manifest import MANIFEST, Manifest, read_manifest, verify_files
from labelsync.training.checkpoints import last_complete

CHECKPOINTS = "checkpoints"
RUN = "run.json"
STAGE = "train"


@dataclass(frozen=True)
class Identity:
    """What a run is: two runs of one identity leave the same model.

    Attributes:
        inputs: "dataset" and "model" to their digests.
        settings: recipe, flags and `--set` fields that change what is learned.
    """

    inputs: Mapping[str, str]
    settings: Mapping[str, Any]

    def differences(self, other: "Identity") -> list[str]:
        """Lines "recipe.epochs: 2 there, 4 now", `other` being what is there."""
        here = _flat({"inputs": self.inputs, **self.settings})
        there = _flat({"inputs": other.inputs, **other.settings})
        return [
            f"{key.removeprefix('inputs.')}: {_short(there.get(key))} there, {_short(here.get(key))} now"
            for key in sorted(here.keys() | there.keys())
            if here.get(key) != there.get(key)
        ]


@dataclass(frozen=True)
class RunFolder:
    """A run folder ready to be trained in.

    Attributes:
        resume_from: the checkpoint to go on from; None = from the beginning.
        finished: the manifest, if this very run is finished already.
    """

    path: Path
    resume_from: Path | None = None
    finished: Manifest | None = None


def require_usable(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse early, before anything is loaded, an output that no run could use.

    Raises:
        OptionError: both flags, or nothing there to resume.
        OutputExists: something else than a run lies there, or an unfinished one and neither flag says what to do.
    """
    if resume and overwrite:
        raise OptionError("--resume and --overwrite contradict each other", hint="give one of them")
    if is_vacant(out):
        if resume:
            raise OptionError(f"there is no run in {out} to resume", hint="leave out --resume to start one")
        return
    _identity_of(out)
    if not (resume or overwrite or (out / MANIFEST).is_file()):
        raise OutputExists(
            f"{out} holds a run that is not finished", hint="pass --resume, or --overwrite to start anew"
        )


def open_run(out: Path, identity: Identity, *, overwrite: bool) -> RunFolder:
    """The folder for this run; the lock on `out` is held. With `overwrite`, what lies there is deleted now.

    Raises:
        OutputExists: another run lies there; what differs is named.
    """
    if overwrite or is_vacant(out):
        _clear(out)
        text = json.dumps({"inputs": dict(identity.inputs), "settings": dict(identity.settings)}, indent=2)
        write_text(out / CHECKPOINTS / RUN, text + "\n")
        return RunFolder(out)
    there = _identity_of(out)
    if differ := identity.differences(there):
        raise OutputExists(
            f"{out} holds another run ({differ[0]}{f', and {len(differ) - 1} more' if len(differ) > 1 else ''})",
            hint="choose another --out, or pass --overwrite",
            details=differ,
        )
    if (out / MANIFEST).is_file():
        manifest = read_manifest(out, STAGE)
        if changed := verify_files(out, manifest):
            raise OutputExists(
                f"{out} is finished, but {changed[0]} is not what the run left", hint="pass --overwrite to train again"
            )
        return RunFolder(out, finished=manifest)
    return RunFolder(out, resume_from=last_complete(out / CHECKPOINTS))


def _identity_of(out: Path) -> Identity:
    """What the run in `out` is, finished or not. Raises OutputExists if it is no run."""
    try:
        if (out / MANIFEST).is_file():
            manifest = read_manifest(out, STAGE)
            return Identity(manifest.inputs, manifest.settings)
        run = json.loads((out / CHECKPOINTS / RUN).read_bytes())
        return Identity(run["inputs"], run["settings"])
    except (OSError, ValueError, KeyError, TypeError, LabelsyncError):
        raise OutputExists(f"{out} exists and is not a run of labelsync train", hint="choose another --out") from None


def _clear(out: Path) -> None:
    """Empty the folder but for run.json, in an order that a kill in between leaves a run without checkpoints.

    The manifest goes first, so that half a model never looks finished; then the checkpoints, so that none is taken for
    one of the next run.
    """
    (out / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    for path in [*(out / CHECKPOINTS).iterdir(), *out.iterdir()]:
        if path.name in (RUN, CHECKPOINTS):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat |= _flat(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) < 64 else text[:12]  # a digest
