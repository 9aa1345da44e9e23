"""One side of a diff: a release, wherever it is, and where the bitmaps of its labels are.

Labels made of shapes have no bitmap; theirs is the image, whose size says where they are cut off.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from labelsync.errors import AssetError
from labelsync.records.release import Annotation, Label, Release, Sample
from labelsync.release.assets import Asset, Kind
from labelsync.release.folder import ReleaseFolder, open_release
from labelsync.release.parse import parse_release
from labelsync.release.sources import ReleaseFile, read_source
from labelsync.release.urls import asset_key


@dataclass(frozen=True)
class Drawn:
    """A label and its bitmap, not yet fetched; the image in place of the bitmap where the label is `shapes`.

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

    @property
    def is_shapes(self) -> bool:
        """Whether the annotations say by themselves where they are."""
        return any(a.type for a in self.annotations)

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
    def drawn(sample: Sample, label: Label) -> Drawn:
        kind, url = _wanted(sample, label)
        if url is None:
            return _without_file(label)
        try:
            location = file.locate(url)
        except AssetError as e:
            key = _web_key(url) or f"{file.where} {url}"
            return Drawn(label.annotations, key=key, problem=f"{kind} {e.message}")
        key = str(location) if isinstance(location, Path) else asset_key(location)
        return Drawn(label.annotations, Asset(location, kind), key)

    return Side(file.where, release, drawn)


def _wanted(sample: Sample, label: Label) -> tuple[Kind, str | None]:
    return ("image", sample.image_url) if label.shapes else ("bitmap", label.bitmap_url)


def _without_file(label: Label) -> Drawn:
    problem = f"its label has {len(label.annotations)} annotations and no bitmap URL" if label.lacks_bitmap else ""
    return Drawn(label.annotations, problem="its image has no URL" if label.shapes else problem)


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
        kind, url = _wanted(sample, label)
        if url is None:
            return _without_file(label)
        path = folder.image(sample) if kind == "image" else folder.bitmap(sample)
        if path is None:
            reason = reasons[sample.uuid]
            key = _web_key(url) or f"{folder.path} {url}"
            return Drawn(label.annotations, key=key, problem=f"it was not pulled ({reason})")
        digest = folder.manifest.files[path.relative_to(folder.path).as_posix()].sha256
        return Drawn(label.annotations, Asset(path, kind), _web_key(url) or str(path.absolute()), digest)

    return Side(str(folder.path), folder.release, drawn)
