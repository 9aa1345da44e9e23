"""How long a silent Hub or storage is waited for.

The Hub client sets no limit of its own: a host that takes the connection and never answers would hold it for ever, and
what it repeats by itself (uploads, listings) it repeats six times. Here every request has a limit, and a request that
has been tried for `LIMIT` seconds without any answer is given up whatever tries are left.
"""

import logging
import re
import threading
import time
from typing import Any

from huggingface_hub.utils import get_session  # type: ignore[attr-defined] # loaded lazily

from labelsync.hub.refusals import Silent, rate_limit

CONNECT = 10.0  # seconds for the connection, and for each block that is sent
ANSWER = 20.0  # seconds without a byte of the answer
COMMIT_ANSWER = 60.0  # the Hub writes a whole commit before it answers
LONGEST_WAIT = 60.0  # a rate limit that lasts longer is told instead of waited for
PAUSE = 1.0  # seconds between two tries to make a repo
LIMIT = 30.0  # a request first tried longer ago than this, and never answered, is not tried again

_lock = threading.Lock()
_first: dict[tuple[str, str], float] = {}  # (method, url) -> when it was first tried, until somebody answers


class _Unsigned(logging.Filter):
    """The client warns of every failed try with its whole url; a signature in it opens the file to whoever reads it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = re.sub(r"\?[^\s'\"]*", "", record.getMessage()), ()
        return True


logging.getLogger("huggingface_hub.utils._http").addFilter(_Unsigned())


def limit_waiting() -> None:
    """Before a call of the client: give its session, which is one per process and may be new, these limits.

    What earlier calls have waited is forgotten. (Another thread's too; it then waits a little longer.)
    """
    with _lock:
        _first.clear()
    session = get_session()
    hooks = session.event_hooks
    if _asked not in hooks["request"]:
        session.event_hooks = {
            "request": [*hooks["request"], _asked],
            "response": [*hooks["response"], _answered],
        }


def _asked(request: Any) -> None:
    """Before every try of every request; limits that somebody has set stay as they are."""
    path = request.url.path
    answer = COMMIT_ANSWER if "/commit/" in path or path.endswith("/merge") else ANSWER
    limits = request.extensions.get("timeout") or {}
    for name, seconds in (("connect", CONNECT), ("write", CONNECT), ("read", answer)):
        if limits.get(name) is None:
            limits[name] = seconds
    request.extensions["timeout"] = limits
    key, now = _key(request), time.monotonic()
    with _lock:
        waited = now - _first.setdefault(key, now)
    if waited <= LIMIT:
        return
    raise Silent(
        f"{request.url.netloc.decode()} has not answered for {waited:.0f} s",
        hint="try again later: what was sent is not sent twice",
    )


def _answered(response: Any) -> None:
    """After every answer. The client would sleep through any rate limit, be it an hour, and ask without end or pause
    for a repo while another one is being made."""
    key = _key(response.request)
    with _lock:
        since = _first.pop(key, time.monotonic())
    if response.status_code == 429 and (busy := rate_limit(response.headers)).seconds > LONGEST_WAIT:
        raise busy
    if response.status_code == 409 and key[1].endswith("/api/repos/create"):
        response.read()
        if "another conflicting operation" in response.text:
            _wait_for_the_other_repo(key, since)


def _wait_for_the_other_repo(key: tuple[str, str], since: float) -> None:
    if time.monotonic() - since > LIMIT / 2:
        raise Silent("the Hub is making another repo all the time", hint="try again later")
    time.sleep(PAUSE)
    with _lock:
        _first[key] = since


def _key(request: Any) -> tuple[str, str]:
    return request.method, str(request.url)
