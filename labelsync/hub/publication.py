"""A finished dataset or model folder as the files to publish, and what of it a commit on the Hub already holds."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsync.errors import DatasetError, LabelsyncError, ModelError, OptionError
from labelsync.hub.plan import LocalFile, RemoteFile, make_plan
from labelsync.hub.readme import addressed, merged, with_license
from labelsync.hub.scores import read_scores, with_scores
from labelsync.records.text import from_json
from labelsync.store.files import sha256, sha256_file
from labelsync.store.manifest import MANIFEST, Manifest, read_manifest, verify_files

README = "README.md"
KINDS = {"convert": "dataset", "train": "model"}

# Pickles run code when they are loaded, and transformers writes its whole TrainingArguments, tokens too, into one.
_NEVER = (
    "*training_args.bin",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.pkl",
    "*.pickle",
    "*.ckpt",
    "checkpoints/*",
    "checkpoint-*",
)
_WEIGHTS = "*.safetensors"


@dataclass(frozen=True)
class Snapshot:
    """One commit: its files, and the two that a push has to read."""

    commit: str
    tree: Mapping[str, RemoteFile]
    readme: str | None = None
    manifest: Manifest | None = None
    manifest_bytes: bytes = b""


@dataclass(frozen=True)
class Publication:
    """What a folder publishes: its manifest's files, README.md and manifest.json.

    `license` is what the card's metadata is to say, "" = what it says already; `repo_id` is where the card will stand;
    `scores` = evaluation.json of an evaluation that the card of a model is to tell of.
    """

    kind: str
    manifest: Manifest
    files: Mapping[str, LocalFile]
    license: str = ""
    repo_id: str = ""
    scores: Mapping[str, Any] | None = None

    @property
    def release(self) -> str:
        """Name of the release it was made from, "" if the manifest names none."""
        return str(self.manifest.summary.get("release") or "")

    @property
    def title(self) -> str:
        """The first line of its commit."""
        what = f"{self.kind.capitalize()} of release {self.release}" if self.release else self.kind.capitalize()
        return f"{what} ({self.manifest.digest[:12]})"

    @property
    def description(self) -> str:
        """What it was made from, one line per input."""
        inputs = [f"{name}: {digest}" for name, digest in sorted(self.manifest.inputs.items())]
        return "\n".join([f"labelsync {self.manifest.stage} {self.manifest.digest}", *inputs])

    def target(self, there: Snapshot) -> dict[str, LocalFile]:
        """The files a commit on top of `there` should hold.

        README.md keeps the text that people wrote there. A manifest of the same digest is kept as it is there: it
        differs in the hour it was written alone.
        """
        files = dict(self.files)
        if README in files:
            ours = _text(files[README])
            ours = with_scores(ours, self.scores) if self.scores else ours
            card = merged(there.readme, addressed(ours, self.repo_id) if self.repo_id else ours)
            files[README] = in_memory((with_license(card, self.license) if self.license else card).encode())
        if there.manifest is not None and there.manifest.digest == self.manifest.digest:
            files[MANIFEST] = in_memory(there.manifest_bytes)
        return files

    def owned(self, there: Snapshot) -> set[str]:
        """Files there that are labelsync's to delete: those of the manifest there and, for a dataset, data/."""
        ours = {*there.manifest.files, MANIFEST} if there.manifest is not None else set()
        return ours | {path for path in there.tree if self.kind == "dataset" and path.startswith("data/")}

    def is_content_of(self, there: Snapshot) -> bool:
        """Whether a commit holds the same data or model; the card and the manifest may be of another day."""
        plan = make_plan(self.target(there), there.tree, owned=self.owned(there))
        return not {*plan.add, *plan.delete} - {README, MANIFEST}


def read_publication(
    folder: Path, *, repo_id: str = "", license: str = "", evaluation: Path | None = None
) -> Publication:
    """The publication of a folder that `convert` or `train` finished; its files are read once and compared.

    Raises:
        DatasetNotFound: no finished folder.
        DatasetError, ModelError: a folder of another stage, files changed since, or files that are never published; or
            an evaluation of another model.
    """
    _require_finished(folder)
    manifest = read_manifest(folder)
    if manifest.stage not in KINDS:
        raise DatasetError(
            f"{folder} was made by labelsync {manifest.stage}", hint="push takes a folder of convert or train"
        )
    kind = KINDS[manifest.stage]
    if evaluation is not None and kind != "model":
        raise OptionError(f"{folder} is no model", hint="leave out --evaluation: it is for a model's card")
    failure = DatasetError if kind == "dataset" else ModelError
    again = f"run labelsync {manifest.stage} again"
    for path in manifest.files:
        if any(fnmatch.fnmatch(path, pattern) for pattern in _NEVER):
            raise failure(f"{folder} lists {path}, which is never published", hint=again)
    if manifest.settings.get("format") == "bitmaps":
        raise failure(
            f"{folder} holds plain bitmaps, which load_dataset does not read as one dataset",
            hint="convert the release with --format parquet and push that",
        )
    if kind == "model" and not any(fnmatch.fnmatch(path, _WEIGHTS) for path in manifest.files):
        raise failure(f"{folder} has no weights in safetensors", hint=again)
    changed = sorted(set(verify_files(folder, manifest)) - {README})  # the card is there to be edited
    if changed:
        raise failure(f"{folder / changed[0]} is not what labelsync {manifest.stage} wrote", hint=again)
    folder = folder.absolute()  # the client would take a name that begins with "~" for a home
    files = {p: LocalFile(folder / p, e.size, e.sha256) for p, e in manifest.files.items() if p != README}
    files |= {p: _on_disk(folder / p) for p in (README, MANIFEST) if (folder / p).is_file()}
    scores = None if evaluation is None else read_scores(evaluation, manifest)
    return Publication(kind, manifest, dict(sorted(files.items())), license, repo_id, scores)


def _require_finished(folder: Path) -> None:
    """Say what to do with a model that another tool has saved; every other folder is `read_manifest`'s."""
    if (folder / MANIFEST).is_file() or not (folder / "config.json").is_file():
        return
    pickles = sorted(p.name for p in folder.glob("*.bin"))
    what = f"holds pickled weights ({pickles[0]})" if pickles else "was not made by labelsync train"
    raise ModelError(
        f"{folder} {what}", hint=f"labelsync train --model {folder} starts from it and leaves a folder to push"
    )


def manifest_of(data: bytes) -> Manifest | None:
    """The manifest.json of a commit, or None if it is somebody else's file of that name."""
    try:
        return from_json(Manifest, data)
    except LabelsyncError:
        return None


def in_memory(data: bytes) -> LocalFile:
    """A file that lies on no disk."""
    return LocalFile(data, len(data), sha256(data))


def _on_disk(path: Path) -> LocalFile:
    return LocalFile(path, path.stat().st_size, sha256_file(path))


def _text(file: LocalFile) -> str:
    return (file.source if isinstance(file.source, bytes) else file.source.read_bytes()).decode()
