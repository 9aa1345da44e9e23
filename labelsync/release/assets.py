"""Images and bitmaps into the asset cache: in parallel, checked before they count, never twice.

A file counts when it opens as an image and ends where its format says; only then is it cached under its URL. So an
interrupted pull goes on where it was, and a broken file never hides behind a good name.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tqdm import tqdm

from labelsync.errors import AssetError, BitmapError, LabelsyncError
from labelsync.pixels.opening import opened
from labelsync.release import cloud
from labelsync.release.cache import AssetCache
from labelsync.release.cloud import Buckets
from labelsync.release.parse import uncollected
from labelsync.release.transport import FetchError, Session, fetch
from labelsync.release.urls import shown
from labelsync.store.manifest import FileEntry

Kind = Literal["image", "bitmap"]

GIVE_UP_AFTER = 8  # files in a row that a host did not answer for, each with its retries

_EXTENSIONS = (
    (b"\xff\xd8\xff", "jpg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}


@dataclass(frozen=True)
class Asset:
    """One file that a release needs: an http(s) URL, an object in a bucket (s3://, gs://, az://), or a path beside a
    release file named by path."""

    location: str | Path
    kind: Kind


@dataclass(frozen=True)
class Fetched:
    """A checked asset.

    Attributes:
        path: where it lies.
        extension: of its format, without a dot.
        origin: where it was found.
        downloaded: bytes that came over the network for it, 0 if it was there.
        entry: its digest and size, where the cache knows them.
    """

    path: Path
    extension: str
    origin: Literal["network", "cache", "folder"]
    downloaded: int = 0
    entry: FileEntry | None = None


def fetch_assets(
    assets: Collection[Asset], *, cache: AssetCache, workers: int, sign: Callable[[str], str] | None = None
) -> tuple[dict[Asset, Fetched], dict[Asset, str]]:
    """Every asset once: what was fetched, and for the others the reason that reads after "image" or "bitmap".

    A host that leaves `GIVE_UP_AFTER` files in a row unanswered is not asked for the rest. An image that we may not
    read is asked for once more at the URL that `sign` gives for it, and cached under its own.
    """
    failed: dict[Asset, str] = {}
    unique = dict.fromkeys(assets)
    # here, since thousands of looks at small files take longer in threads that wait for each other
    with uncollected():
        fetched = {a: known for a in unique if (known := _cached(a, cache)) is not None}
    with (
        Session(connections=workers) as session,
        ThreadPoolExecutor(workers, thread_name_prefix="pull") as pool,
        tqdm(total=len(unique), initial=len(fetched), desc="assets", unit="file", disable=None, file=sys.stderr) as bar,
    ):
        ways = _Ways(session, Buckets(), _Hosts(), sign)
        futures = {pool.submit(_fetch_one, a, cache, ways): a for a in unique if a not in fetched}
        try:
            for future in as_completed(futures):
                try:
                    fetched[futures[future]] = future.result()
                except AssetError as e:
                    failed[futures[future]] = e.message
                bar.update()
        except BaseException:  # Ctrl-C, a full disk: what is under way may end, the rest never starts
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return fetched, failed


def stream_assets(
    assets: Iterable[Asset], *, cache: AssetCache, workers: int, ahead: int, sign: Callable[[str], str] | None = None
) -> Generator[Fetched | str, None, None]:
    """Every asset in its order, as `fetch_assets` gets it: what was fetched, or the reason why it was not.

    At most `ahead` of them are fetched, or under way, before they are taken: whoever looks at them one by one need not
    wait for all.
    """
    with (
        Session(connections=workers) as session,
        ThreadPoolExecutor(workers, thread_name_prefix="fetch") as pool,
    ):
        ways = _Ways(session, Buckets(), _Hosts(), sign)
        waiting: deque[Future[Fetched | str]] = deque()
        try:
            for asset in assets:
                waiting.append(pool.submit(_fetch_or_reason, asset, cache, ways))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # Ctrl-C, a full disk, or nobody wants the rest: what is under way may end
            for future in waiting:
                future.cancel()


def check_asset(data: bytes, *, kind: Kind) -> None:
    """Raises BitmapError with the reason unless `data` is a whole image file (a whole PNG, for a bitmap).

    The end marker is the quick proof. Some cameras write on behind it, so a file without one is decoded to tell.
    """
    with opened(data) as image:
        if kind == "bitmap" and image.format != "PNG":
            raise BitmapError(f"a bitmap is a PNG, this is {image.format}")
        end = _ENDS.get(image.format or "")
        if end is None or not data[-64:].rstrip(b"\0\r\n ").endswith(end):
            image.load()


def extension_of(head: bytes) -> str:
    """File extension for image bytes, by their first 16; neither the URL nor the sample's name is asked."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return "avif" if head[8:12] == b"avif" else "heic"
    return next((ext for magic, ext in _EXTENSIONS if head.startswith(magic)), "img")


# -------------------------------------------------------------------- one asset


class _Hosts:
    """Counts unanswered files in a row per host, so that 10,000 files of a dead host do not cost 10,000 timeouts."""

    def __init__(self) -> None:
        self._silent: dict[str, int] = {}
        self._lock = threading.Lock()

    def require(self, host: str) -> None:
        """Raises FetchError if the host has been given up."""
        with self._lock:
            if self._silent.get(host, 0) >= GIVE_UP_AFTER:
                raise FetchError(f"not tried, {host} left {GIVE_UP_AFTER} files in a row unanswered")

    def report(self, host: str, *, answered: bool) -> None:
        """One file more."""
        with self._lock:
            self._silent[host] = 0 if answered else self._silent.get(host, 0) + 1


@dataclass(frozen=True)
class _Ways:
    """The ways to an asset that all threads of a pull share."""

    session: Session
    buckets: Buckets
    hosts: _Hosts
    sign: Callable[[str], str] | None

    def fetch(self, asset: Asset, url: str) -> bytes:
        """Checked bytes, signed for if need be. Raises AssetError with the reason, which holds no signature."""
        try:
            return self._direct(asset, url)
        except FetchError as e:
            if not e.denied or self.sign is None or asset.kind != "image":
                raise AssetError(f"{shown(url)}: {e.reason}") from None
            refused = e.reason
        try:
            return self._direct(asset, self.sign(url))
        except LabelsyncError as e:
            raise AssetError(f"{shown(url)}: {refused}, and no signed URL: {e.message}") from None
        except FetchError as e:
            raise AssetError(f"{shown(url)}: by its signed URL: {e.reason}") from None

    def _direct(self, asset: Asset, url: str) -> bytes:
        def check(data: bytes) -> None:
            check_asset(data, kind=asset.kind)

        scheme, host = urlsplit(url).scheme, urlsplit(url).netloc.rpartition("@")[2]
        self.hosts.require(host)
        try:
            if scheme in cloud.SCHEMES:
                data = self.buckets.fetch(url, check=check)
            else:
                data = fetch(self.session, url, check=check)
        except FetchError as e:
            self.hosts.report(host, answered=not e.unreachable)
            raise
        self.hosts.report(host, answered=True)
        return data


def _fetch_one(asset: Asset, cache: AssetCache, ways: _Ways) -> Fetched:
    if isinstance(asset.location, Path):
        return _read_local(asset.location, asset.kind)
    data = ways.fetch(asset, asset.location)
    added = cache.add(asset.location, data)
    return Fetched(added.path, extension_of(added.head), "network", len(data), added.entry)


def _fetch_or_reason(asset: Asset, cache: AssetCache, ways: _Ways) -> Fetched | str:
    try:
        return _cached(asset, cache) or _fetch_one(asset, cache, ways)
    except AssetError as e:
        return e.message


def _cached(asset: Asset, cache: AssetCache) -> Fetched | None:
    known = None if isinstance(asset.location, Path) else cache.find(asset.location)
    if known is None:
        return None
    extension = extension_of(known.head)
    if asset.kind == "bitmap" and extension != "png":  # it was checked as an image once
        return None
    return Fetched(known.path, extension, "cache", entry=known.entry)


def _read_local(path: Path, kind: Kind) -> Fetched:
    try:
        data = path.read_bytes()
        check_asset(data, kind=kind)
    except BitmapError as e:
        raise AssetError(f"{path.name}: {e.message}") from None
    except OSError as e:
        raise AssetError(f"{path.name}: {e.strerror}") from None
    return Fetched(path, extension_of(data[:16]), "folder")
