"""Faults that a loopback server makes on request: the answers a network gives on a bad day.

server.faults.status(503, path="/commit/", times=2)        two 503s, then all is well again
server.faults.drop_response(method="POST", path="/commit/")  the work is done, its answer is lost
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


@dataclass
class Fault:
    """One fault: `skip` matching requests pass first, then it hits `times` of them (None = every one).

    Attributes:
        kind: "status" (an error answer instead of the work), "drop" (no answer, no work), "drop_response" (the work,
            but no answer), "late" (the work, and its answer `seconds` later), "cut" (the answer ends after `after`
            bytes), "cut_request" (the connection ends after `after` bytes of the body), "delay" (`seconds` before the
            work), "slow" (the work, and `seconds` for each block that it reads of the body).
        method, path, server: regular expressions searched in the request; empty = any.
    """

    kind: str
    method: str = ""
    path: str = ""
    server: str = ""
    skip: int = 0
    times: int | None = 1
    code: int = 503
    html: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    message: str = "injected fault"
    after: int = 0
    seconds: float = 0.0
    hits: int = 0

    def matches(self, *, method: str, path: str, server: str) -> bool:
        """Whether a request is one of those this fault is meant for."""
        return bool(re.search(self.method, method) and re.search(self.path, path) and re.search(self.server, server))


class Faults:
    """The faults of one server; every method adds one and returns it, so that a test can read its `hits`."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def add(self, kind: str, **options: Any) -> Fault:
        """Any fault, as a manual walk sends it."""
        fault = Fault(kind, **options)
        with self._lock:
            self._faults.append(fault)
        return fault

    def status(self, code: int, **options: Any) -> Fault:
        """An error status; `html=True` for the HTML page of a proxy, `headers` for e.g. Retry-After."""
        return self.add("status", code=code, **options)

    def drop(self, **options: Any) -> Fault:
        """The connection ends before anything is done."""
        return self.add("drop", **options)

    def drop_response(self, **options: Any) -> Fault:
        """Everything is done, and the connection ends before the answer."""
        return self.add("drop_response", **options)

    def cut(self, after: int, **options: Any) -> Fault:
        """The answer ends after `after` bytes of its body."""
        return self.add("cut", after=after, **options)

    def cut_request(self, after: int, **options: Any) -> Fault:
        """The connection ends after `after` bytes of the request's body were taken."""
        return self.add("cut_request", after=after, **options)

    def delay(self, seconds: float, **options: Any) -> Fault:
        """The work begins `seconds` later."""
        return self.add("delay", seconds=seconds, **options)

    def late(self, seconds: float, **options: Any) -> Fault:
        """The work is done at once and answered `seconds` later."""
        return self.add("late", seconds=seconds, **options)

    def slow(self, seconds: float, **options: Any) -> Fault:
        """The body is taken a block at a time, `seconds` each, as through a thin line."""
        return self.add("slow", seconds=seconds, **options)

    def close(self) -> None:
        """The server stops: requests that are being delayed are dropped instead of done."""
        self._closing.set()

    def answer(self, fault: Fault, app: App, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request the way `fault` says."""
        if fault.kind == "delay":
            return _hang_up(environ) if self._closing.wait(fault.seconds) else app(environ, start_response)
        if fault.kind == "slow":
            environ["wsgi.input"] = _Thin(environ["wsgi.input"], fault.seconds)
            return app(environ, start_response)
        if fault.kind == "late":
            answer = app(environ, start_response)
            self._closing.wait(fault.seconds)
            return answer
        return _ANSWERS[fault.kind](fault, app, environ, start_response)

    def clear(self) -> None:
        """No faults any more."""
        with self._lock:
            self._faults.clear()

    def take(self, *, method: str, path: str, server: str) -> Fault | None:
        """The first fault that hits this request."""
        with self._lock:
            for fault in self._faults:
                if not fault.matches(method=method, path=path, server=server):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                elif fault.times is None or fault.hits < fault.times:
                    fault.hits += 1
                    return fault
        return None


class _Thin:
    """A request body that takes its time."""

    def __init__(self, stream: Any, seconds: float) -> None:
        self._stream, self._seconds = stream, seconds

    def read(self, size: int = -1) -> bytes:
        """At most 64 KiB, a while later."""
        time.sleep(self._seconds)
        data: bytes = self._stream.read(min(size, 1 << 16) if size >= 0 else 1 << 16)
        return data


def _error(fault: Fault, _: App, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    while environ["wsgi.input"].read(1 << 20):  # else the client meets a reset connection before it reads the status
        pass
    page = f"<html><body><h1>{fault.code}</h1>{fault.message}</body></html>"
    body = (page if fault.html else f'{{"error": "{fault.message}"}}').encode()
    kind = "text/html" if fault.html else "application/json"
    headers = {"Content-Type": kind, "Content-Length": str(len(body)), **fault.headers}
    start_response(f"{fault.code} Injected", list(headers.items()))
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def _cut(fault: Fault, app: App, environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
    chunks, left = app(environ, start_response), fault.after
    try:
        for chunk in chunks:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                _hang_up(environ)
    finally:
        _close(chunks)


def _drop(fault: Fault, _: App, environ: dict[str, Any], __: StartResponse) -> Iterable[bytes]:
    environ["wsgi.input"].read(fault.after)
    return _hang_up(environ)


def _drop_response(_: Fault, app: App, environ: dict[str, Any], __: StartResponse) -> Iterable[bytes]:
    chunks = app(environ, lambda *_: None)
    try:
        for _chunk in chunks:
            pass
    finally:
        _close(chunks)
    return _hang_up(environ)


def _close(chunks: Iterable[bytes]) -> None:
    if hasattr(chunks, "close"):
        chunks.close()  # a file behind an answer; WSGI leaves it to whoever took the answer


def _hang_up(environ: dict[str, Any]) -> Iterable[bytes]:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("injected fault")  # werkzeug takes it for a client that went away


_ANSWERS: dict[str, Callable[..., Iterable[bytes]]] = {
    "status": _error,
    "drop": _drop,
    "cut_request": _drop,
    "drop_response": _drop_response,
    "cut": _cut,
}
