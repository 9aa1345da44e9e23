"""Where a release file comes from, and where the assets it names may come from.

A release file is somebody else's text. One that the user names by path may point at files beside it, never outside
its folder; one from a server only at http(s) URLs and at objects in buckets.
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

from labelsync.errors import AssetError, LabelsyncError, OptionError, ReleaseNotFound, ServiceError
from labelsync.release import cloud
from labelsync.release.transport import FetchError, Session, fetch
from labelsync.release.urls import is_plain, shown

_WEB = ("http", "https")
_NAMED = re.compile(r"(?P<dataset>[^/@\s]+/[^/@\s]+)@(?P<release>.+)", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters or more: "C:" is a drive
_FORMS = "give owner/dataset@release, a release file, or the URL of one"


@dataclass(frozen=True)
class ReleaseFile:
    """A release file's bytes and the place that its relative URLs are relative to.

    Attributes:
        where: how errors call it; no query, no secret.
        folder: its folder, if the user named it by path.
        url: its URL, if the user named it so.
        named: whether it came from Segments.ai by name, so that its samples can be asked for.
    """

    data: bytes
    where: str
    folder: Path | None = None
    url: str = ""
    named: bool = False

    def locate(self, url: str) -> Path | str:
        """The file, http(s) URL or object in a bucket that an asset URL of this release means.

        Raises:
            AssetError: a scheme that is not fetched, a path out of the release's folder, or no such file.
        """
        if is_plain(url):
            return url
        try:
            scheme = urlsplit(url).scheme
            if scheme in _WEB:
                return _checked(url)
            if scheme in cloud.SCHEMES:
                return cloud.require_object(url)
            if self.url and scheme == "":
                return _checked(urljoin(self.url, url))
        except ValueError:
            raise AssetError(f"{shown(url)}: not a URL that can be fetched") from None
        if self.folder is not None and (scheme in ("", "file") or len(scheme) == 1):
            return _beside(self.folder, url, is_url=scheme == "file")
        if scheme == "":
            raise AssetError(f"{shown(url)}: a relative URL, in a release that has no folder")
        if scheme == "file":
            raise AssetError(f"{shown(url)}: a file URL, in a release that came from a server")
        raise AssetError(f"{shown(url)}: {scheme} URLs are not fetched, only http(s) and buckets")


def read_source(source: str | Path, *, wait: float) -> ReleaseFile:
    """The release file that `source` names: "owner/dataset@release", a path, or an http(s) URL.

    Raises:
        OptionError: `source` is none of these.
        ReleaseNotFound, ReleaseNotReady, AuthError, ServiceError: as `client.fetch_release`.
    """
    if isinstance(source, Path):
        return _read_file(source)
    scheme = (_SCHEME.match(source) or ["", ""])[1].lower()
    if scheme in _WEB:
        return _read_url(source)
    if os.path.exists(source):  # noqa: PTH110 - False, not an error, for a text that can be no path
        return _read_file(Path(source))
    if scheme == "file":
        return _read_file(Path(url2pathname(urlsplit(source).path)))
    if scheme and "://" in source:
        raise OptionError(f"{scheme} URLs are not read: {shown(source)}", hint=_FORMS)
    if named := _NAMED.fullmatch(source):
        return _read_named(named["dataset"], named["release"], wait=wait)
    if source.endswith(".json") or source.count("/") != 1:
        raise ReleaseNotFound(f"no release file {source}", hint=_FORMS)
    raise ReleaseNotFound(f"{source} is no file, and names no release", hint=f"write {source}@RELEASE for a dataset")


# -------------------------------------------------------------------- the three kinds of source


def _read_file(path: Path) -> ReleaseFile:
    if path.is_dir():
        raise OptionError(f"{path} is a folder", hint=f"name the release file in it, as {path / 'release.json'}")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ReleaseNotFound(f"no release file {path}", hint=_FORMS) from None
    except OSError as e:
        raise LabelsyncError(f"{path} cannot be read: {e.strerror}", hint="check its permissions") from None
    return ReleaseFile(data, str(path), folder=path.parent.resolve())


def _read_url(url: str) -> ReleaseFile:
    with Session() as session:
        try:
            return ReleaseFile(fetch(session, _checked(url)), shown(url), url=url)
        except ValueError:
            raise OptionError(f"{shown(url)} is not a URL", hint=_FORMS) from None
        except FetchError as e:
            kind = ReleaseNotFound if e.status in (404, 410) else ServiceError
            raise kind(f"{shown(url)}: {e.reason}", hint="check the URL") from None


def _read_named(dataset: str, release: str, *, wait: float) -> ReleaseFile:
    if {".", ".."} & {*dataset.split("/"), release}:  # a server would take them for steps in a path
        raise OptionError(f"{dataset}@{release} names no dataset", hint=_FORMS)
    from labelsync.release.client import fetch_release

    return ReleaseFile(fetch_release(dataset, release, wait=wait), f"{dataset}@{release}", named=True)


def signing(file: ReleaseFile, images: Mapping[str, str]) -> AbstractContextManager[Callable[[str], str] | None]:
    """What signs image URLs of private buckets, where Segments.ai can be asked: for a release that came by name.

    Args:
        images: URL of each image -> uuid of its sample.
    """
    if not file.named:
        return nullcontext(None)
    from labelsync.release.signed_urls import SignedUrls

    return SignedUrls(images)


# -------------------------------------------------------------------- asset URLs


def _checked(url: str) -> str:
    """`url`, if it has a host and a port that is one. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _WEB or not parts.hostname or parts.port == 0:
        raise ValueError(url)
    return url


def _beside(folder: Path, url: str, *, is_url: bool) -> Path:
    """The file in `folder` that a relative path or file URL means, links followed."""
    parts = urlsplit(url)
    if is_url and parts.netloc not in ("", "localhost"):
        raise AssetError(f"{shown(url)}: a file on another machine")
    # A path as it was typed, else as a URL spells it ("my%20image.jpg", "x.png?v=2")
    candidates = [url2pathname(parts.path)] if is_url else [url, unquote(parts.path)]
    root = folder.resolve()
    for candidate in candidates:
        try:
            path = (root / candidate).resolve()
            inside, there = path.is_relative_to(root), path.is_file()
        except (OSError, ValueError, RuntimeError):  # a NUL, a name too long, a loop of links
            continue
        if not inside:
            raise AssetError(f"{shown(url)}: outside the folder of the release file")
        if there:
            return path
    raise AssetError(f"{shown(url)}: no such file beside the release file")
