"""Manifests: what a stage folder is, made from what, holding which files.

A stage folder is finished when its manifest.json exists; the manifest is written last.
"""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsync.errors import DatasetNotFound, LabelsyncError
from labelsync.labels import LabelMap
from labelsync.records.text import from_json, to_json
from labelsync.store.files import digest_of, sha256_file, write_text

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class FileEntry:
    """One file of a stage folder."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a stage folder is, made from what, holding which files.

    Attributes:
        stage: the verb that made it ("pull", "convert", "train", ...).
        digest: over everything but `created` and `version`: same input, same digest.
        fingerprint: over the inputs and settings alone; a stage with the same fingerprint need not run again.
        inputs: what it was made from, names to digests.
        settings: the parameters that shaped it.
        labels: the label map, where the stage has one.
        summary: the numbers of the stage's record.
        files: path relative to the folder, with "/" -> digest and size; the manifest itself is not in it.
    """

    stage: str
    digest: str
    fingerprint: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    summary: dict[str, Any]
    files: dict[str, FileEntry]
    labels: LabelMap | None = None
    format: int = FORMAT
    version: str = ""
    created: str = ""


def fingerprint(stage: str, inputs: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Digest of what a stage is asked to do, known before it starts."""
    return digest_of({"stage": stage, "inputs": dict(inputs), "settings": dict(settings), "format": FORMAT})


def write_manifest(
    folder: Path,
    stage: str,
    *,
    inputs: Mapping[str, str],
    settings: Mapping[str, Any],
    summary: Mapping[str, Any],
    labels: LabelMap | None = None,
    exclude: tuple[str, ...] = (),
    known: Mapping[str, FileEntry] | None = None,
) -> Manifest:
    """Digest every file below `folder` (not those in `exclude`, at its top, nor `known` ones), write it last."""
    files = dict(known or {})
    for name in sorted({p.relative_to(folder).as_posix() for p in folder.rglob("*")} - files.keys()):
        if name.split("/")[0] not in (MANIFEST, *exclude) and (path := folder / name).is_file():
            files[name] = FileEntry(sha256_file(path), path.stat().st_size)
    body = {
        "stage": stage,
        "inputs": dict(inputs),
        "settings": dict(settings),
        "summary": dict(summary),
        "files": {k: [e.sha256, e.size] for k, e in files.items()},
        "labels": None if labels is None else json.loads(to_json(labels)),
    }
    manifest = Manifest(
        stage=stage,
        digest=digest_of(body),
        fingerprint=fingerprint(stage, inputs, settings),
        inputs=dict(inputs),
        settings=dict(settings),
        summary=dict(summary),
        files=dict(sorted(files.items())),
        labels=labels,
        version=_version(),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    write_text(folder / MANIFEST, to_json(manifest) + "\n")
    return manifest


def read_manifest(folder: Path, stage: str = "") -> Manifest:
    """The manifest of a finished stage folder.

    Raises:
        DatasetNotFound: no folder, no manifest (the stage did not finish), or a folder of another stage.
        LabelsyncError: written by a newer labelsync.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "has no manifest.json, so nothing finished there" if folder.is_dir() else "does not exist"
        raise DatasetNotFound(f"{folder} {what}", hint=f"run labelsync {stage or 'on it'} first")
    return manifest_of(path.read_bytes(), folder=str(folder), stage=stage)


def manifest_of(text: bytes, *, folder: str, stage: str = "") -> Manifest:
    """The manifest whose text was read from `folder`, a path or a URL; see `read_manifest`."""
    _refuse_newer(folder, text)
    manifest = from_json(Manifest, text, where=f"{folder}/{MANIFEST}")
    outside = [name for name in manifest.files if not _is_below(name)]
    if outside:
        raise LabelsyncError(f"{folder}/{MANIFEST} names {outside[0]!r}, which is not below it", hint="make it again")
    if stage and manifest.stage != stage:
        raise DatasetNotFound(
            f"{folder} was made by labelsync {manifest.stage}, not {stage}", hint=f"give a folder of labelsync {stage}"
        )
    return manifest


def _refuse_newer(folder: str, text: bytes) -> None:
    try:
        head = json.loads(text)
        newer = head["format"] > FORMAT
    except (ValueError, KeyError, TypeError):
        return  # not a manifest at all, which from_json says better
    if newer:
        by = f"labelsync {head.get('version', '')}".strip()
        raise LabelsyncError(f"{folder} was written by {by}, which is newer", hint="upgrade labelsync")


def _is_below(name: str) -> bool:
    """Whether a manifest's file name stays inside its folder: a manifest can come from somebody else's repo."""
    return not name.startswith("/") and ".." not in name.split("/") and "\\" not in name and ":" not in name[:2]


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether every file is there with its size; `verify_files` reads them too."""
    files = ((folder / name, entry.size) for name, entry in manifest.files.items())
    return all(path.is_file() and path.stat().st_size == size for path, size in files)


def verify_files(folder: Path, manifest: Manifest) -> list[str]:
    """Names of the manifest's files that are missing or changed."""
    return [
        name
        for name, entry in manifest.files.items()
        if not (folder / name).is_file() or sha256_file(folder / name) != entry.sha256
    ]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("labelsync")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return ""
