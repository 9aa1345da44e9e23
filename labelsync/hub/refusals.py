"""From an exception of the Hub client to one of labelsync's: one line, the next move, and never a token.

What the client raises, and when, is not one tree: an error status is an HfHubHTTPError (which is an OSError), no answer
is a TransportError (which is not), a failed upload is a RuntimeError with the real error as its cause, a page of HTML
where JSON was due is a JSONDecodeError, and Xet has builtin and own exceptions.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx  # type: ignore[attr-defined] # theirs for us, but loaded lazily

from labelsync.errors import AuthError, LabelsyncError, OptionError, PublishError, ServiceError

_LONGEST_QUOTE = 240
_TOKEN = re.compile(r"\b(hf|api)_\w{8,}")
_AGAIN = "try again later: what was sent is not sent twice"


class RepoMissing(PublishError):
    """There is no such repo, or the token may not see it; the Hub answers the same for both."""


class RevisionMissing(PublishError):
    """There is no such branch, tag or commit in the repo."""


class HeadMoved(PublishError):
    """The branch is not where the commit wanted it: somebody committed, or our own commit landed unanswered."""


class Busy(ServiceError):
    """The Hub limits the rate of requests; `seconds` is how long it wants to be left alone."""

    def __init__(self, message: str, *, seconds: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.seconds = seconds


class SessionClosed(ServiceError):
    """The client closed the session that all its threads share, because one of them was refused a connection."""


# What a thread of the client meets whose session another one has closed: it is closed, or gone already.
_CLOSED = ("client has been closed", "'NoneType' object has no attribute 'request'")


class Silent(ServiceError):
    """A host has not answered for so long that asking once more would only take longer."""


def refusal(  # noqa: PLR0911 - one line per kind of failure, in the order that tells them apart
    error: BaseException, *, repo: str, endpoint: str
) -> LabelsyncError | None:
    """The labelsync error that says what `error` means for `repo`, or None if it is no error of the Hub's.

    Args:
        repo: "owner/name", for the line.
        endpoint: url of the Hub; every other host is the storage behind it.
    """
    if isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, LabelsyncError):
        return error  # a request that was given up
    if isinstance(error, RuntimeError | AttributeError) and any(said in str(error) for said in _CLOSED):
        return SessionClosed(f"no connection to the storage behind {_netloc(endpoint)}", hint=_AGAIN)
    if isinstance(error, HfHubHTTPError):
        return _of_status(error, repo, endpoint)
    if isinstance(error, httpx.HTTPError | httpx.InvalidURL):
        return _unreachable(_host_of(error) or endpoint, error)
    if isinstance(error, OfflineModeIsEnabled):
        return ServiceError("HF_HUB_OFFLINE is set, so the Hub is not asked", hint="unset it")
    if isinstance(error, LocalTokenNotFoundError) or type(error).__name__ == "OIDCError":  # the second since 1.20
        return no_token()
    if isinstance(error, HFValidationError):
        return OptionError(_one_line(str(error)), hint="give the repo as owner/name")
    if isinstance(error, LocalEntryNotFoundError):
        return _unreachable(endpoint, error)
    if isinstance(error, ConnectionError | TimeoutError) or _is_xet(error):
        return _unreachable(f"the storage behind {_netloc(endpoint)}", error)
    if isinstance(error, json.JSONDecodeError):
        return ServiceError(f"{endpoint} answers with something that is not the Hub's API", hint=_AGAIN)
    if isinstance(error, ValueError):
        return PublishError(f"{repo} was not taken: {_one_line(str(error))}", hint="correct it and push again")
    return None


def rate_limit(headers: Mapping[str, str]) -> Busy:
    """What an answer 429 asks for in its headers."""
    reset = re.search(r"\bt=(\d+)", headers.get("ratelimit", ""))
    stated = reset.group(1) if reset else headers.get("retry-after", "")
    seconds = float(stated) if stated.isdigit() else 0.0
    wait = f"in {seconds:.0f} s" if seconds else "later"
    return Busy("the Hub limits the rate of requests", seconds=seconds, hint=f"try again {wait}")


def no_token() -> AuthError:
    """Nobody is logged in."""
    return AuthError("no Hugging Face token", hint="set HF_TOKEN to one with write access, or run: hf auth login")


def _of_status(  # noqa: PLR0911 - one line per answer
    error: HfHubHTTPError, repo: str, endpoint: str
) -> LabelsyncError:
    status, host, said = error.response.status_code, _host_of(error), _said(error)
    owner = repo.partition("/")[0]
    if host and host != _netloc(endpoint):
        return ServiceError(f"the storage {host} of the Hub answers {status}{said}", hint=_AGAIN)
    if isinstance(error, GatedRepoError):
        return AuthError(f"{repo} is gated", hint="ask for access on its page, then try again")
    if isinstance(error, RepositoryNotFoundError):
        return RepoMissing(f"{repo} does not exist, or the token may not see it", hint="check the name and the token")
    if isinstance(error, RevisionNotFoundError):
        return RevisionMissing(f"{repo} has no such revision{said}", hint="look at its branches and tags")
    if status == 401:
        return AuthError("the Hub does not accept this token", hint="check HF_TOKEN, or run: hf auth login")
    if status == 402 or (status in (403, 413) and re.search(r"quota|storage|limit", said, re.IGNORECASE)):
        return PublishError(f"the Hub has no room for {repo}{said}", hint="make room there, then push again")
    if status == 403:
        return AuthError(f"the token may not write to {repo}{said}", hint=f"use a token with write access to {owner}")
    if status in (409, 412):
        return HeadMoved(f"{repo} changed while this push ran{said}", hint="push again")
    if status == 429:
        return rate_limit(error.response.headers)
    if status == 408 or status >= 500:
        return ServiceError(f"the Hub answers {status}{said}", hint=_AGAIN)
    return PublishError(f"the Hub refuses the push to {repo} ({status}{said})", hint="correct it and push again")


def _unreachable(where: str, error: BaseException) -> ServiceError:
    reason = _one_line(str(error)) or type(error).__name__
    hint = "check the network and HF_ENDPOINT, then try again: what was sent is not sent twice"
    return ServiceError(f"no connection to {_netloc(where)}: {reason}", hint=hint)


def _is_xet(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "hf_xet"


def _host_of(error: Any) -> str:
    try:
        asked = error.response if isinstance(error, HfHubHTTPError) else error  # the client's own `request` is lost
        return _netloc(str(asked.request.url))
    except (AttributeError, RuntimeError):  # httpx raises RuntimeError for an error that belongs to no request
        return ""


def _netloc(url: str) -> str:
    """host:port, a default port left out; urllib would raise for a url that is the error itself."""
    return re.sub(r":(80|443)$", "", re.sub(r"^\w+://", "", url).partition("/")[0])


def _said(error: HfHubHTTPError) -> str:
    """ ": what the server says", or nothing; pages of HTML are not quoted."""
    text = _one_line(error.server_message or "")
    return f": {text}" if text else ""


def _one_line(text: str) -> str:
    return _TOKEN.sub("***", " ".join(text.split()))[:_LONGEST_QUOTE]
