"""The HTTP answer, or the lack of one, behind an exception of the Segments.ai SDK: its status, its host, its words."""

import os
from typing import Any
from urllib.parse import urlsplit

import requests

from labelsync.release.transport import failure_of, status_text


def response_of(error: BaseException | None) -> requests.Response | None:
    """The HTTP answer behind an SDK exception, None if there was none; the constructor hides it in the context."""
    while error is not None:
        response = getattr(getattr(error, "cause", None), "response", None)
        if response is not None:
            return response  # type: ignore[no-any-return]  # the SDK says Any
        error = error.__cause__ or error.__context__
    return None


def status_of(error: BaseException | None) -> int:
    """The HTTP status behind an SDK exception, 0 if there is none."""
    response = response_of(error)
    return 0 if response is None else int(response.status_code)


def host_of(error: Exception) -> str:
    """The host and port that was asked when this went wrong; "" if that is not known."""
    asked = response_of(error)
    request = asked.request if asked is not None else getattr(network_cause(error), "request", None)
    return urlsplit(str(getattr(request, "url", ""))).netloc


def failure_text(error: Exception) -> str:
    """Why there was no answer, or what its status was; no URL, no secret."""
    if status := status_of(error):
        return status_text(status)
    cause = network_cause(error)
    return failure_of(cause).reason if cause is not None else "no proper answer"


def said(error: Exception) -> str:
    """The server's own words in an error answer, on one line; "" for a page or for nothing."""
    response = response_of(error)
    try:
        body = None if response is None else response.json()
    except ValueError:
        return ""
    text = " ".join(" ".join(_texts(body)).split())
    key = os.environ.get("SEGMENTS_API_KEY", "").strip()
    return (text.replace(key, "***") if key else text)[:200].strip()


def _texts(body: Any) -> list[str]:
    """The strings of a JSON body; those about one field say which: {"name": ["too long"]}."""
    if isinstance(body, dict):
        named = [(k, t) for k, v in body.items() for t in _texts(v)]
        return [t if k in ("detail", "error", "message", "non_field_errors") else f"{k}: {t}" for k, t in named]
    if isinstance(body, list):
        return [t for v in body for t in _texts(v)]
    return [body] if isinstance(body, str) else []


def network_cause(error: BaseException | None) -> requests.RequestException | None:
    """The exception of requests below an SDK exception, unless it is about the body (then the answer was no JSON)."""
    while error is not None:
        for candidate in (error, getattr(error, "cause", None)):
            if isinstance(candidate, requests.exceptions.JSONDecodeError):
                return None
            if isinstance(candidate, requests.RequestException):
                return candidate
        error = error.__cause__ or error.__context__
    return None
