"""The release folder: what `pull` leaves and `convert` reads.

    release.json            the release file, byte for byte
    images/<stem>.<ext>     one per pulled sample, original bytes
    bitmaps/<stem>.png      its instance bitmap, original bytes; none where nothing was drawn, or shapes say what
    ledger.json             one row per sample
    manifest.json           written last

`<stem>` is the sample's uuid, made harmless. Samples without a label are rows in the ledger and nothing else.
"""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from labelsync.errors import ReleaseError, ReleaseFormatError
from labelsync.records.release import Ledger, Release, Sample
from labelsync.records.text import canonical, from_json
from labelsync.release.parse import load_document, release_of
from labelsync.release.urls import asset_key
from labelsync.store.files import sha256
from labelsync.store.manifest import Manifest, read_manifest

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
        parts = {name: name.split("/") for name in self.manifest.files}
        return {(p[0], p[1].rpartition(".")[0]): self.path / name for name, p in parts.items() if len(p) == 2}


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
    document = load_document(data, where=str(where))
    if release_digest(document, where=str(where)) != manifest.inputs["release"]:
        raise ReleaseError(f"{where} was changed after the pull", hint="pull the release again")
    release = release_of(document, where=str(where), labelset=manifest.settings["labelset"])
    ledger.require_complete(release.samples)
    return ReleaseFolder(folder, release, ledger, manifest)


def file_stem(uuid: str) -> str:
    """A file name for a sample's uuid: itself if it is harmless, else made so, and different for every uuid."""
    if _HARMLESS.fullmatch(uuid):
        return uuid
    start = re.sub(r"[^a-z0-9_-]+", "-", uuid.lower())[:32].strip("-")
    return f"{start or 'sample'}.{sha256(uuid.encode())[:16]}"  # a harmless uuid has no dot, so these never meet


# A string value of canonical JSON that is an http(s) URL. A quote inside a string has a backslash before it, so one
# after ":", "," or "[" begins or ends a string, and "http" never follows one that ends it; a key has a colon behind it.
_URL = re.compile(r'(?<=[:,\[])"https?://(?:[^"\\]|\\.)*"(?!:)')


def release_digest(document: dict[str, Any], *, where: str) -> str:
    """Digest of a release file's content: blind to layout, key order and the signatures of URLs.

    Args:
        document: as `load_document` gives it.
        where: what errors call it.
    """
    try:
        text = canonical(document)
    except RecursionError:
        raise ReleaseFormatError(f"{where} is nested too deeply to be a release") from None
    return sha256(_URL.sub(_unsigned, text).encode())


def _unsigned(quoted: re.Match[str]) -> str:
    """A URL as it stands in JSON, without its signature."""
    try:
        return json.dumps(asset_key(json.loads(quoted[0])))
    except ValueError:  # no URL after all
        return quoted[0]
