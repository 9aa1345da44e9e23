"""One side of a diff: a release, wherever it is, and where the bitmaps of its labels are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from labelsync.errors import AssetError
from labelsync.records.release import Annotation, Label, Release, Sample
from labelsync.release.assets import Asset
from labelsync.release.cache import asset_key
from labelsync.release.folder import ReleaseFolder, open_release
from labelsync.release.parse import parse_release
from labelsync.release.sources import ReleaseFile, read_source


@dataclass(frozen=True)
class Drawn:
    """A label and its bitmap, not yet fetched.

    Attributes:
        asset: the bitmap; None if nothing was drawn, or if there is a `problem`.
        key: what the bitmap is called, whatever signature its URL carries: equal keys are equal bitmaps.
        sha256: its digest, where a release folder knows it.
        problem: why it cannot be had, in words that read after the sample's name.
    """

    annotations: tuple[Annotation, ...]
    asset: Asset | None = None
    key: str = ""
    sha256: str = ""
    problem: str = ""

    def has_bitmap_of(self, other: "Drawn") -> bool:
        """Whether both have the very same bitmap, as far as can be told without reading them."""
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        return self.key == other.key


@dataclass(frozen=True)
class Side:
    """A release; `drawn` tells of a sample's label where its bitmap is. `source` holds no secret."""

    source: str
    release: Release
    drawn: Callable[[Sample, Label], Drawn]


def open_side(source: str | Path, *, labelset: str, wait: float) -> Side:
    """The release at `source`: a folder of `pull` (with the labelset it was pulled with), or as in `read_source`.

    Raises:
        DatasetNotFound, ReleaseError: a folder that no finished `pull` left.
        OptionError, AuthError, ServiceError, ReleaseNotFound, ReleaseNotReady, ReleaseFormatError: no release.
    """
    if Path(source).is_dir():
        return _of_folder(open_release(source))
    file = read_source(source, wait=wait)
    return _of_file(file, parse_release(file.data, where=file.where, labelset=labelset))


def shared(old: Drawn, new: Drawn) -> Asset | None:
    """The asset to read where both have the same bitmap: a file that is there, else under the newer signature."""
    if old.asset is not None and isinstance(old.asset.location, Path):
        return old.asset
    return new.asset or old.asset


# -------------------------------------------------------------------- a release file


def _of_file(file: ReleaseFile, release: Release) -> Side:
    def drawn(_: Sample, label: Label) -> Drawn:
        if label.bitmap_url is None:
            return _without_bitmap(label)
        try:
            location = file.locate(label.bitmap_url)
        except AssetError as e:
            key = _web_key(label.bitmap_url) or f"{file.where} {label.bitmap_url}"
            return Drawn(label.annotations, key=key, problem=f"bitmap {e.message}")
        key = str(location) if isinstance(location, Path) else asset_key(location)
        return Drawn(label.annotations, Asset(location, "bitmap"), key)

    return Side(file.where, release, drawn)


def _without_bitmap(label: Label) -> Drawn:
    count = len(label.annotations)
    problem = f"its label has {count} annotations and no bitmap URL" if count else ""
    return Drawn(label.annotations, problem=problem)


def _web_key(url: str) -> str:
    """`asset_key` of a URL that means the same wherever the release file lies, else ""."""
    try:
        return asset_key(url) if urlsplit(url).netloc else ""
    except ValueError:
        return ""


# -------------------------------------------------------------------- a release folder


def _of_folder(folder: ReleaseFolder) -> Side:
    reasons = {row.uuid: row.reason for row in folder.ledger.rows}

    def drawn(sample: Sample, label: Label) -> Drawn:
        if label.bitmap_url is None:
            return _without_bitmap(label)
        path = folder.bitmap(sample)
        if path is None:
            reason = reasons[sample.uuid]
            key = _web_key(label.bitmap_url) or f"{folder.path} {label.bitmap_url}"
            return Drawn(label.annotations, key=key, problem=f"it was not pulled ({reason})")
        digest = folder.manifest.files[path.relative_to(folder.path).as_posix()].sha256
        key = _web_key(label.bitmap_url) or str(path.absolute())
        return Drawn(label.annotations, Asset(path, "bitmap"), key, digest)

    return Side(str(folder.path), folder.release, drawn)
