"""The only importer of the Segments.ai SDK: a connection, a release's file by name, and what the SDK's errors mean.

The SDK is used as it is, through a session of ours (`transport.Session`), because its own has no timeouts and sleeps
as long as any Retry-After says. What it raises is sorted by HTTP status: its own sorting goes by words in the body.
"""

import logging
import os
import time
from typing import Any
from urllib.parse import quote, urlsplit

import pydantic
import requests
from segments import SegmentsClient
from segments import exceptions as sdk
from segments.typing import TaskAttributes
from tqdm import tqdm

from labelsync.errors import (
    AuthError,
    LabelsyncError,
    OptionError,
    ReleaseNotFound,
    ReleaseNotReady,
    ServiceError,
    TaxonomyError,
)
from labelsync.release.answers import network_cause, response_of, status_of
from labelsync.release.transport import RETRIED, FetchError, Session, failure_of, fetch, status_text
from labelsync.release.urls import shown

DEFAULT_URL = "https://api.segments.ai/"

_POLL_SECONDS = (0.5, 10.0)  # the first pause and the longest
_CONNECTIONS = 16  # kept open to the API and to its storage, each
_KEY_HINT = "make a key at https://segments.ai/account and set SEGMENTS_API_KEY to it"

# The SDK logs an error on its way to raising it; without a handler that would be a second line on stderr.
logging.getLogger("segments").addHandler(logging.NullHandler())


class Refused(ServiceError):
    """The API does not want this very request; another one may fare better."""


class Missing(Refused):
    """The API says that there is no such thing."""


class Taken(Refused):
    """The API says that there is something of that name already."""


class Client(SegmentsClient):
    """The SDK's client on bounded sessions; nothing else differs."""

    def __setattr__(self, name: str, value: Any) -> None:
        bounded = Session(connections=_CONNECTIONS) if isinstance(value, requests.Session) else value
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
    url = api_url()
    client = connect(url)
    try:
        attributes = wait_until_ready(client, dataset, release, wait=wait, url=url).attributes
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
    url = api_url()
    client = connect(url)
    try:
        found = [r for r in get_releases(client, dataset, url=url) if r.status != "FAILED"]
    finally:
        client.close()
    if not found:
        raise ReleaseNotFound(f"dataset {dataset} has no release", hint="make one on Segments.ai")
    return str(max(found, key=lambda r: str(r.created_at)).name)


# -------------------------------------------------------------------- steps


def api_url() -> str:
    """The root of the API: SEGMENTS_API_URL, else that of segments.ai. Raises OptionError for what is no root."""
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


def connect(url: str) -> Client:
    """A client with the key in SEGMENTS_API_KEY.

    Raises:
        AuthError: no key, or one that is refused.
        ServiceError: no Segments.ai there.
    """
    key = os.environ.get("SEGMENTS_API_KEY", "").strip()
    if not key:
        raise AuthError("SEGMENTS_API_KEY is not set", hint=_KEY_HINT)
    if not (key.isascii() and key.isprintable()) or " " in key:  # requests would quote it in its error
        raise AuthError("SEGMENTS_API_KEY has characters that no key has", hint=_KEY_HINT)
    try:
        return Client(key, url)
    except Exception as e:  # noqa: BLE001 - AttributeError and JSONDecodeError are among what it raises
        raise sorted_error(e, url) from None


def wait_until_ready(client: Client, dataset: str, release: str, *, wait: float, url: str) -> Any:
    """The SDK's release object once it has SUCCEEDED.

    Raises:
        ReleaseNotFound, AuthError, ServiceError: as `get_release`.
        ReleaseNotReady: still PENDING after `wait` seconds, or FAILED.
    """
    deadline, pause = time.monotonic() + wait, _POLL_SECONDS[0]
    with tqdm(desc=f"waiting for {dataset}@{release}", bar_format="{desc} {elapsed}", disable=None) as bar:
        while True:
            found = get_release(client, dataset, release, url=url)
            if found.status == "SUCCEEDED":
                return found
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


def get_release(client: Client, dataset: str, release: str, *, url: str) -> Any:
    """The SDK's object. Raises ReleaseNotFound, AuthError, ServiceError."""
    try:
        return client.get_release(quoted(dataset), quote(release, safe=""))  # the SDK quotes nothing
    except Exception as e:  # noqa: BLE001
        if not is_missing(e):
            raise sorted_error(e, url) from None
    names = [r.name for r in get_releases(client, dataset, url=url)]
    has = ", ".join(repr(n) for n in names[-10:]) or "none"
    raise ReleaseNotFound(f"dataset {dataset} has no release {release!r}", hint=f"its releases: {has}") from None


def get_releases(client: Client, dataset: str, *, url: str) -> list[Any]:
    """The SDK's objects. Raises ReleaseNotFound for a dataset that is not there, AuthError, ServiceError."""
    try:
        return list(client.get_releases(quoted(dataset)))
    except Exception as e:  # noqa: BLE001
        if not is_missing(e):
            raise sorted_error(e, url) from None
        raise ReleaseNotFound(
            f"no dataset {dataset} on {shown(url)}, or the key may not see it", hint="check owner and name"
        ) from None


def quoted(dataset: str) -> str:
    """ "owner/name" as a path holds it; the SDK quotes nothing."""
    return "/".join(quote(part, safe="") for part in dataset.split("/"))


# -------------------------------------------------------------------- what the SDK raises


def is_missing(error: Exception) -> bool:
    """Whether the API says that there is no such thing."""
    return status_of(error) == 404 or (isinstance(error, sdk.NotFoundError) and status_of(error) in (0, 400))


def is_taken(error: Exception) -> bool:
    """Whether the API refuses to make something because it is there already."""
    return isinstance(error, sdk.AlreadyExistsError) and status_of(error) in (0, 400, 409)


def is_passing(error: Exception) -> bool:
    """Whether the same request may do better in a moment: the server is busy or gone, or its answer was lost."""
    response = response_of(error)
    if response is None:
        return network_cause(error) is not None
    # S3 calls an upload that was too slow for it a bad request
    return response.status_code in RETRIED or (response.status_code == 400 and "RequestTimeout" in response.text)


def check_task_attributes(attributes: dict[str, Any], *, where: str) -> None:
    """Raises TaxonomyError unless the SDK takes these for the attributes of a dataset; `where` is their source."""
    try:
        TaskAttributes.model_validate(attributes)
    except pydantic.ValidationError as e:
        first = e.errors()[0]
        at = ".".join(str(part) for part in first["loc"])
        raise TaxonomyError(
            f"{where}: {at} is nothing that Segments.ai takes ({first['msg']})", hint="correct it, or leave it out"
        ) from None


def sorted_error(error: Exception, url: str) -> LabelsyncError:
    """The error of ours that an exception out of the SDK stands for."""
    status, server = status_of(error), shown(url)
    if status in (401, 403) or (status == 0 and isinstance(error, sdk.AuthenticationError | sdk.AuthorizationError)):
        return AuthError(f"{server} refuses the key in SEGMENTS_API_KEY ({status_text(status)})", hint=_KEY_HINT)
    if status == 429 or isinstance(error, sdk.APILimitError):
        return ServiceError(f"{server} limits the number of requests", hint="run it again in a few minutes")
    if status == 404:
        return ServiceError(f"{server} is no Segments.ai server ({status_text(status)})", hint="check SEGMENTS_API_URL")
    if status:
        return ServiceError(f"{server} answers {status_text(status)}", hint="run it again in a few minutes")
    cause = network_cause(error)
    if cause is not None:
        return ServiceError(f"{server}: {failure_of(cause).reason}", hint="check the network and SEGMENTS_API_URL")
    if isinstance(
        error, sdk.SegmentsError | pydantic.ValidationError | AttributeError | KeyError | TypeError | ValueError
    ):
        return ServiceError(
            f"{server} answers something that is not the Segments.ai API", hint="check SEGMENTS_API_URL"
        )
    raise error  # not the SDK's, not the network's: a bug to be seen
