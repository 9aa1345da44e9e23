"""What labelsync makes on Segments.ai: datasets, samples, assets, releases. No SDK here, only calls of its client.

A write whose answer was lost may have been done. So before one is tried again, the platform is asked whether it was;
samples are added by the call that leaves those alone that are there already, and an asset without a sample is nothing.
"""

import io
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from labelsync.errors import AuthError, LabelsyncError, ReleaseNotFound, ServiceError
from labelsync.release import answers, client, transport
from labelsync.release.transport import status_text
from labelsync.release.urls import shown

T = TypeVar("T")

WEB = "https://segments.ai"
PER_PAGE = 1000  # the most that the API gives at once

_MAY_NOT = (401, 402, 403)


@dataclass(frozen=True)
class SampleToAdd:
    """A sample as the API takes it; `url` = where its image is."""

    name: str
    url: str
    metadata: dict[str, Any]

    def json(self) -> dict[str, Any]:
        """The API's object."""
        return {"name": self.name, "attributes": {"image": {"url": self.url}}, "metadata": self.metadata}


@dataclass(frozen=True)
class KnownSample:
    """A sample that is there; `image_url` is None for one that is not a single image."""

    uuid: str
    name: str
    image_url: str | None
    metadata: dict[str, Any]


class Platform:
    """Segments.ai with the key of the environment, for one command. Its methods may be called by several threads.

    Raises:
        OptionError, AuthError, ServiceError: as `client.connect`; the methods raise the last two as well.
    """

    def __init__(self) -> None:
        self._url = client.api_url()
        self._client = client.connect(self._url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def page_of(self, dataset: str) -> str:
        """The web page of a dataset, "" where only the API of a deployment is known."""
        return f"{WEB}/{dataset}" if self._url.rstrip("/") == client.DEFAULT_URL.rstrip("/") else ""

    # ---------------------------------------------------------------- datasets

    def find_dataset(self, dataset: str) -> Any:
        """The SDK's object for "owner/name", None if there is none that the key may see."""
        try:
            return self._client.get_dataset(client.quoted(dataset))
        except Exception as e:  # noqa: BLE001
            if client.is_missing(e):
                return None
            raise self._refusal(e, f"show {dataset}") from None

    def require_dataset(self, dataset: str) -> Any:
        """As `find_dataset`. Raises ReleaseNotFound if there is none."""
        found = self.find_dataset(dataset)
        if found is None:
            raise ReleaseNotFound(
                f"no dataset {dataset} on {shown(self._url)}, or the key may not see it",
                hint=f"check owner and name, or make it: labelsync create {dataset}",
            )
        return found

    def create_dataset(self, dataset: str, *, attributes: dict[str, Any], **settings: Any) -> Any:
        """Make "owner/name", under the key's own user or under an organization of that name.

        Args:
            attributes: the API's task attributes.
            settings: more parameters of the SDK's `add_dataset`.
        """
        owner, _, name = dataset.partition("/")
        user = str(self._surely("tell whose key this is", self._client.get_user).username)
        of: dict[str, Any] = {} if owner == user else {"organization": client.quoted(owner)}

        def make() -> Any:
            return self._client.add_dataset(name, task_attributes=attributes, **settings, **of)

        try:
            return self._once(f"make {dataset}", make, done=lambda: self.find_dataset(dataset))
        except client.Missing:
            raise AuthError(
                f"{shown(self._url)} knows no organization {owner!r}, and the key is that of user {user!r}",
                hint=f"make it as {user}/{name}, or in an organization of yours",
            ) from None
        except client.Taken:
            raise ServiceError(
                f"there is a dataset {dataset} that the key may not see", hint="choose another name"
            ) from None

    # ---------------------------------------------------------------- samples

    def samples(self, dataset: str) -> Iterator[KnownSample]:
        """Every sample of a dataset, page by page; the SDK gives one page."""
        page = 1
        while found := self._page(dataset, page):
            for sample in found:
                image = getattr(sample.attributes, "image", None)
                yield KnownSample(sample.uuid, sample.name, getattr(image, "url", None), sample.metadata or {})
            if len(found) < PER_PAGE:
                return
            page += 1

    def _page(self, dataset: str, page: int) -> list[Any]:
        try:
            return list(self._client.get_samples(client.quoted(dataset), per_page=PER_PAGE, page=page))
        except Exception as e:  # noqa: BLE001
            if page > 1 and client.is_missing(e):  # the last page was full
                return []
            raise self._refusal(e, f"list the samples of {dataset}") from None

    def upload(self, data: bytes, name: str) -> str:
        """Put a file into the storage of Segments.ai; returns its URL. Each try is a new asset, the last one counts."""

        def put() -> Any:
            return self._client.upload_asset(io.BytesIO(data), name)

        return str(self._surely(f"take {name}", put).url)

    def add_samples(self, dataset: str, samples: Sequence[SampleToAdd]) -> list[KnownSample]:
        """Add those that are not there yet; what then is there under each name, in the order given."""

        def add() -> Any:
            return self._client.add_samples(client.quoted(dataset), [s.json() for s in samples])

        found = {s.name: s for s in self._surely(f"add samples to {dataset}", add)}
        if missing := [s.name for s in samples if s.name not in found]:
            raise ServiceError(f"{shown(self._url)} has not added {missing[0]!r} to {dataset}", hint="run it again")
        return [
            KnownSample(s.uuid, s.name, getattr(getattr(s.attributes, "image", None), "url", None), s.metadata or {})
            for s in (found[sample.name] for sample in samples)
        ]

    # ---------------------------------------------------------------- releases

    def find_release(self, dataset: str, name: str) -> Any:
        """The SDK's object, None if the dataset has no release of that name. Raises ReleaseNotFound: no dataset."""
        releases = client.get_releases(self._client, dataset, url=self._url)
        return next((r for r in releases if r.name == name), None)

    def create_release(self, dataset: str, name: str, *, description: str) -> None:
        """Ask for a release; it is PENDING then, or was made by somebody else in this moment."""

        def make() -> Any:
            return self._client.add_release(client.quoted(dataset), name, description)

        try:
            self._once(f"make release {name!r} of {dataset}", make, done=lambda: self.find_release(dataset, name))
        except client.Taken:
            return

    def wait_for_release(self, dataset: str, name: str, *, wait: float) -> Any:
        """The SDK's object once it has SUCCEEDED. Raises ReleaseNotReady: not after `wait` seconds, or FAILED."""
        return client.wait_until_ready(self._client, dataset, name, wait=wait, url=self._url)

    # ---------------------------------------------------------------- one call

    def _surely(self, what: str, call: Callable[[], T]) -> T:
        """A call that may be made twice: tried again while it may still be answered."""
        return self._once(what, call, done=lambda: None)

    def _once(self, what: str, call: Callable[[], T], *, done: Callable[[], T | None]) -> T:
        """A call that must not be made twice: `done` tells, before another try, what the last one has made after all.

        Args:
            what: what the platform was asked to do, for the line of an error.
        """
        for again in reversed(range(transport.RETRIES + 1)):
            try:
                return call()
            except LabelsyncError:
                raise
            except Exception as e:  # noqa: BLE001
                if not client.is_passing(e):
                    raise self._refusal(e, what) from None
                failure = e
            if not again:
                break
            time.sleep(pause_before(failure, transport.RETRIES - again))
            if (made := done()) is not None:
                return made
        raise self._refusal(failure, what)

    def _refusal(self, error: Exception, what: str) -> LabelsyncError:
        """The error of ours for what the SDK raised while the platform was asked to do `what`."""
        words, status, host = answers.said(error), answers.status_of(error), answers.host_of(error)
        told = f": {words}" if words else ""
        if host not in ("", urlsplit(self._url).netloc):
            hint = "check the network, then run it again"
            return ServiceError(f"the storage {host} does not {what} ({answers.failure_text(error)})", hint=hint)
        if client.is_taken(error):
            return client.Taken(f"{shown(self._url)} will not {what}{told}", hint="choose another name")
        if client.is_missing(error):
            return client.Missing(f"{shown(self._url)} will not {what} ({status_text(404)}{told})")
        if status in _MAY_NOT and not _is_wrong_key(status, words):
            return AuthError(
                f"the key may not {what} ({status_text(status)}{told})", hint="ask the owner, or check the plan there"
            )
        if 400 <= status < 500 and status not in (401, *transport.RETRIED):
            return client.Refused(
                f"{shown(self._url)} will not {what} ({status_text(status)}{told})", hint="correct it"
            )
        return client.sorted_error(error, self._url)


def _is_wrong_key(status: int, words: str) -> bool:
    return status == 401 or "credentials" in words.lower() or "api key" in words.lower()


def pause_before(error: Exception, tries: int) -> float:
    """Seconds before another try: what the server asks for within bounds, else ever longer."""
    response = answers.response_of(error)
    stated = response.headers.get("Retry-After", "") if response is not None else ""
    if stated.isdigit():
        return float(min(int(stated), transport.RETRY_AFTER_CAP))
    return float(transport.BACKOFF_SECONDS * 2**tries * (1 + random.random()))  # noqa: S311 - jitter, no secret
