"""The release folder: what `pull` leaves and `convert` reads.

    release.json            the release file, byte for byte
    images/<stem>.<ext>     one per pulled sample, original bytes
    bitmaps/<stem>.png      its instance bitmap, original bytes; none where nothing was drawn, or shapes say what
    ledger.json             one row per sample
    manifest.json           written last

`<stem>` is the sample's uuid, made harmless. Samples without a label are rows in the ledger and nothing else.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from labelsync.errors import ReleaseError, ReleaseFormatError
from labelsync.records.release import Ledger, Release, Sample
from labelsync.records.text import from_json
from labelsync.release.cache import asset_key
from labelsync.release.parse import load_document, parse_release
from labelsync.store import Manifest, digest_of, read_manifest, sha256

RELEASE = "release.json"
LEDGER = "ledger.json"
IMAGES = "images"
BITMAPS = "bitmaps"

# Lower case, so that no two differ in case alone; five characters or more, so that none is a device name of Windows.
_HARMLESS = re.compile(r"[a-z0-9][a-z0-9_-]{4,63}")


@dataclass(frozen=True)
class ReleaseFolder:
    """A finished release folder. `ledger.rows` are in the order of `release.samples`."""

    path: Path
    release: Release
    ledger: Ledger
    manifest: Manifest

    def image(self, sample: Sample) -> Path | None:
        """The image file of a sample, None if it was not pulled."""
        return self._files.get((IMAGES, file_stem(sample.uuid)))

    def bitmap(self, sample: Sample) -> Path | None:
        """The instance bitmap of a sample, None if it was not pulled or nothing was drawn."""
        return self._files.get((BITMAPS, file_stem(sample.uuid)))

    @cached_property
    def _files(self) -> dict[tuple[str, str], Path]:
        """(folder, stem) -> file, as the manifest lists them: a stray file is no sample's."""
        names = [PurePosixPath(name) for name in self.manifest.files]
        return {(p.parts[0], p.stem): self.path / p for p in names if len(p.parts) == 2}


def open_release(path: str | Path) -> ReleaseFolder:
    """The release folder at `path`.

    Raises:
        DatasetNotFound: no folder of a finished `pull`.
        ReleaseError: its release.json is another than the one that was pulled.
    """
    folder = Path(path)
    manifest = read_manifest(folder, "pull")
    where = folder / RELEASE
    try:
        data = where.read_bytes()
        ledger = from_json(Ledger, (folder / LEDGER).read_bytes(), where=str(folder / LEDGER))
    except FileNotFoundError as e:
        raise ReleaseError(f"{e.filename} is gone", hint="pull the release again") from None
    if release_digest(data, where=str(where)) != manifest.inputs["release"]:
        raise ReleaseError(f"{where} was changed after the pull", hint="pull the release again")
    release = parse_release(data, where=str(where), labelset=manifest.settings["labelset"])
    ledger.require_complete(release.samples)
    return ReleaseFolder(folder, release, ledger, manifest)


def file_stem(uuid: str) -> str:
    """A file name for a sample's uuid: itself if it is harmless, else made so, and different for every uuid."""
    if _HARMLESS.fullmatch(uuid):
        return uuid
    start = re.sub(r"[^a-z0-9_-]+", "-", uuid.lower())[:32].strip("-")
    return f"{start or 'sample'}.{sha256(uuid.encode())[:16]}"  # a harmless uuid has no dot, so these never meet


def release_digest(data: bytes, *, where: str) -> str:
    """Digest of a release file's content: blind to layout, key order and the signatures of URLs."""
    try:
        return digest_of(_unsigned(load_document(data, where=where)))
    except RecursionError:
        raise ReleaseFormatError(f"{where} is nested too deeply to be a release") from None


def _unsigned(value: Any) -> Any:
    """Plain data with every http(s) URL without its signature."""
    if isinstance(value, dict):
        return {k: _unsigned(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_unsigned(v) for v in value]
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        try:
            return asset_key(value)
        except ValueError:  # no URL after all
            return value
    return value
