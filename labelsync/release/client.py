"""The only importer of the Segments.ai SDK: a release's file by name.

The SDK is used as it is, through a session of ours (`transport.Session`), because its own has no timeouts and sleeps
as long as any Retry-After says. What it raises is sorted by HTTP status: its own sorting goes by words in the body.
"""

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import pydantic
import requests
from segments import SegmentsClient
from segments import exceptions as sdk
from tqdm import tqdm

from labelsync.errors import (
    AssetError,
    AuthError,
    LabelsyncError,
    OptionError,
    ReleaseNotFound,
    ReleaseNotReady,
    ServiceError,
)
from labelsync.release.transport import FetchError, Session, failure_of, fetch, status_text
from labelsync.release.urls import asset_key, shown

DEFAULT_URL = "https://api.segments.ai/"

_POLL_SECONDS = (0.5, 10.0)  # the first pause and the longest
_SIGNED_AT_ONCE = 4  # calls to the API, which limits them
_KEY_HINT = "make a key at https://segments.ai/account and set SEGMENTS_API_KEY to it"

# The SDK logs an error on its way to raising it; without a handler that would be a second line on stderr.
logging.getLogger("segments").addHandler(logging.NullHandler())


class _Client(SegmentsClient):
    """The SDK's client on bounded sessions; nothing else differs."""

    def __setattr__(self, name: str, value: Any) -> None:
        bounded = Session(connections=_SIGNED_AT_ONCE) if isinstance(value, requests.Session) else value
        super().__setattr__(name, bounded)


def fetch_release(dataset: str, release: str, *, wait: float) -> bytes:
    """The release file of "owner/name" at `release`; a PENDING release is waited for at most `wait` seconds.

    Reads SEGMENTS_API_KEY, and SEGMENTS_API_URL for another deployment than segments.ai.

    Raises:
        AuthError: no key, or one that is refused.
        ReleaseNotFound: no such dataset or release (the releases there are named).
        ReleaseNotReady: still PENDING after `wait`, or FAILED.
        ServiceError: the server cannot be reached, fails, or does not speak the API.
    """
    url = _api_url()
    client = _connect(url)
    try:
        attributes = _wait_until_ready(client, dataset, release, wait=wait, url=url)
    finally:
        client.close()
    location = getattr(attributes, "signed_url", None) or getattr(attributes, "url", None)
    if not location:
        raise ServiceError(f"release {release!r} of {dataset} is ready but has no file", hint="make a new release")
    with Session() as session:  # a session of its own: the storage host never sees the key
        try:
            return fetch(session, str(location))
        except FetchError as e:
            raise ServiceError(
                f"the file of release {release!r} of {dataset} at {shown(str(location))}: {e.reason}",
                hint="run it again in a minute",
            ) from None


def newest_release(dataset: str) -> str:
    """The name of the release of "owner/name" that was made last; one that FAILED is passed over.

    Raises:
        AuthError, ServiceError: as `fetch_release`.
        ReleaseNotFound: no such dataset, or it has no release.
    """
    url = _api_url()
    client = _connect(url)
    try:
        found = [r for r in _get_releases(client, dataset, url=url) if r.status != "FAILED"]
    finally:
        client.close()
    if not found:
        raise ReleaseNotFound(f"dataset {dataset} has no release", hint="make one on Segments.ai")
    return str(max(found, key=lambda r: str(r.created_at)).name)


class SignedUrls:
    """Signs the image URLs of a customer's private bucket, by asking Segments.ai for the sample: `signed(url)`.

    One call per image, or per sequence, and a few at a time; the API's 429s are waited for as everywhere. It connects
    when first asked.
    The bitmaps of labels need none: they lie in the bucket of Segments.ai.
    """

    def __init__(self, samples: Mapping[str, str]) -> None:
        """`samples` = URL of each image -> uuid of its sample."""
        self._samples = samples
        self._images = Counter(samples.values())
        self._asking = {uuid: threading.Lock() for uuid in self._images}
        self._answers: dict[str, Any] = {}  # of sequences
        self._url = _api_url()
        self._client: _Client | None = None
        self._connecting = threading.Lock()
        self._calls = threading.BoundedSemaphore(_SIGNED_AT_ONCE)

    def __enter__(self) -> "SignedUrls":
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def __call__(self, url: str) -> str:
        """A URL that opens the image at `url` for some hours. It is a secret.

        Raises:
            LabelsyncError: there is none, or the platform does not answer.
        """
        if url not in self._samples:
            raise AssetError("it is the image of no sample")
        uuid = self._samples[url]
        with self._asking[uuid]:  # the frames of a sequence wait for one answer
            if uuid not in self._answers:
                attributes = self._ask(uuid)
                if self._images[uuid] > 1:
                    self._answers[uuid] = attributes
            else:
                attributes = self._answers[uuid]
        signed = _signed(attributes, asset_key(url))
        if signed is None or urlsplit(signed).scheme not in ("http", "https"):
            raise AssetError("its sample has none")
        return signed

    def _ask(self, uuid: str) -> Any:
        """The attributes of a sample as plain data, each url with its signed_url beside it."""
        with self._calls:
            try:
                sample: Any = self._connected().get_sample(quote(uuid, safe=""), include_signed_url=True)
            except LabelsyncError:
                raise
            except Exception as e:  # noqa: BLE001
                raise _sorted(e, self._url) from None
        return None if sample.attributes is None else sample.attributes.model_dump()

    def _connected(self) -> "_Client":
        with self._connecting:
            if self._client is None:
                self._client = _connect(self._url)
            return self._client


def _signed(value: Any, key: str) -> str | None:
    """The signed_url beside the url that means `key`, anywhere inside a sample's attributes.

    Another url there is another image: the sample was changed after the release.
    """
    if isinstance(value, dict):
        url, signed = value.get("url"), value.get("signed_url")
        if isinstance(url, str) and isinstance(signed, str) and asset_key(url) == key:
            return signed
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for v in inner if (found := _signed(v, key)) is not None), None)


# -------------------------------------------------------------------- steps


def _api_url() -> str:
    url = os.environ.get("SEGMENTS_API_URL") or DEFAULT_URL
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
        usable = usable and not parts.query and not parts.username and parts.port != 0
    except ValueError:
        usable = False
    if not usable:  # the SDK would silently drop a path
        raise OptionError(
            f"SEGMENTS_API_URL is not the root of a server: {shown(url)}", hint=f"write it as {DEFAULT_URL}"
        )
    return url


def _connect(url: str) -> _Client:
    key = os.environ.get("SEGMENTS_API_KEY", "").strip()
    if not key:
        raise AuthError("SEGMENTS_API_KEY is not set", hint=_KEY_HINT)
    if not (key.isascii() and key.isprintable()) or " " in key:  # requests would quote it in its error
        raise AuthError("SEGMENTS_API_KEY has characters that no key has", hint=_KEY_HINT)
    try:
        return _Client(key, url)
    except Exception as e:  # noqa: BLE001 - AttributeError and JSONDecodeError are among what it raises
        raise _sorted(e, url) from None


def _wait_until_ready(client: _Client, dataset: str, release: str, *, wait: float, url: str) -> Any:
    """The `attributes` of the release once it has SUCCEEDED."""
    deadline, pause = time.monotonic() + wait, _POLL_SECONDS[0]
    with tqdm(desc=f"waiting for {dataset}@{release}", bar_format="{desc} {elapsed}", disable=None) as bar:
        while True:
            found = _get_release(client, dataset, release, url=url)
            if found.status == "SUCCEEDED":
                return found.attributes
            if found.status != "PENDING":
                raise ReleaseNotReady(
                    f"release {release!r} of {dataset} is {found.status} on the server",
                    hint="delete it there and make a new one",
                )
            left = deadline - time.monotonic()
            if left <= 0:
                raise ReleaseNotReady(
                    f"release {release!r} of {dataset} is still PENDING after {wait:g} s",
                    hint="run it again later, or raise --wait",
                )
            bar.update()
            time.sleep(min(pause, left))
            pause = min(2 * pause, _POLL_SECONDS[1])


def _get_release(client: _Client, dataset: str, release: str, *, url: str) -> Any:
    try:
        return client.get_release(_quoted(dataset), quote(release, safe=""))  # the SDK quotes nothing
    except Exception as e:  # noqa: BLE001
        if not _is_missing(e):
            raise _sorted(e, url) from None
    names = [r.name for r in _get_releases(client, dataset, url=url)]
    has = ", ".join(repr(n) for n in names[-10:]) or "none"
    raise ReleaseNotFound(f"dataset {dataset} has no release {release!r}", hint=f"its releases: {has}") from None


def _get_releases(client: _Client, dataset: str, *, url: str) -> list[Any]:
    try:
        return list(client.get_releases(_quoted(dataset)))
    except Exception as e:  # noqa: BLE001
        if not _is_missing(e):
            raise _sorted(e, url) from None
        raise ReleaseNotFound(
            f"no dataset {dataset} on {shown(url)}, or the key may not see it", hint="check owner and name"
        ) from None


def _quoted(dataset: str) -> str:
    return "/".join(quote(part, safe="") for part in dataset.split("/"))


# -------------------------------------------------------------------- what the SDK raises


def _status_of(error: BaseException | None) -> int:
    """The HTTP status behind an SDK exception, 0 if there is none; the constructor hides it in the context."""
    while error is not None:
        response = getattr(getattr(error, "cause", None), "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__ or error.__context__
    return 0


def _is_missing(error: Exception) -> bool:
    return _status_of(error) == 404 or (isinstance(error, sdk.NotFoundError) and _status_of(error) in (0, 400))


def _sorted(error: Exception, url: str) -> LabelsyncError:
    """The error of ours that an exception out of the SDK stands for."""
    status, server = _status_of(error), shown(url)
    if status in (401, 403) or (status == 0 and isinstance(error, sdk.AuthenticationError | sdk.AuthorizationError)):
        return AuthError(f"{server} refuses the key in SEGMENTS_API_KEY ({status_text(status)})", hint=_KEY_HINT)
    if status == 429 or isinstance(error, sdk.APILimitError):
        return ServiceError(f"{server} limits the number of requests", hint="run it again in a few minutes")
    if status == 404:
        return ServiceError(f"{server} is no Segments.ai server ({status_text(status)})", hint="check SEGMENTS_API_URL")
    if status:
        return ServiceError(f"{server} answers {status_text(status)}", hint="run it again in a few minutes")
    cause = _network_cause(error)
    if cause is not None:
        return ServiceError(f"{server}: {failure_of(cause).reason}", hint="check the network and SEGMENTS_API_URL")
    if isinstance(error, sdk.SegmentsError | pydantic.ValidationError | AttributeError | TypeError | ValueError):
        return ServiceError(
            f"{server} answers something that is not the Segments.ai API", hint="check SEGMENTS_API_URL"
        )
    raise error  # not the SDK's, not the network's: a bug to be seen


def _network_cause(error: BaseException | None) -> requests.RequestException | None:
    """The exception of requests below an SDK exception, unless it is about the body (then the answer was no JSON)."""
    while error is not None:
        for candidate in (error, getattr(error, "cause", None)):
            if isinstance(candidate, requests.exceptions.JSONDecodeError):
                return None
            if isinstance(candidate, requests.RequestException):
                return candidate
        error = error.__cause__ or error.__context__
    return None
