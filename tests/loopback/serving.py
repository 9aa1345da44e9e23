"""What the loopback servers share: a threaded HTTP server on 127.0.0.1 that logs every request and can misbehave."""

import contextlib
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from werkzeug.serving import WSGIRequestHandler, make_server

from tests.loopback.faults import App, Fault, Faults, StartResponse

HOST = "127.0.0.1"


@dataclass
class Request:
    """One request as the server saw it. No header values are kept, so no token is.

    `status` is 0 while there is no answer, and stays 0 if there never was one. `received` counts body bytes.
    """

    method: str
    path: str
    query: str
    server: str
    host: str
    authorized: bool
    status: int = 0
    received: int = 0
    fault: str = ""


class Log(list[Request]):
    """Every request in the order of arrival."""

    def find(self, method: str = "", path: str = "", server: str = "") -> list[Request]:
        """The requests whose method, path and server match the regular expressions (empty = any)."""
        return [
            r for r in self if re.search(method, r.method) and re.search(path, r.path) and re.search(server, r.server)
        ]


class Server:
    """One listener: `app` on 127.0.0.1:`port` (0 = any free one) in a thread, between `start` and `stop`."""

    def __init__(self, app: App, *, name: str, log: Log, faults: Faults, port: int = 0) -> None:
        self._recorder = _Recorder(app, name, log, faults)
        self._http = make_server(HOST, port, self._recorder, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name=name, daemon=True)
        self._faults = faults
        self.port: int = self._http.server_port
        self.url = f"http://{HOST}:{self.port}"

    def replace_faults(self, faults: Faults) -> None:
        """Make these faults from now on; before `start`."""
        self._faults = self._recorder.faults = faults

    def start(self) -> None:
        """Answer requests from now on; the port has been open since the constructor."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port. Connections made after this are refused."""
        self._faults.close()
        if self._thread.is_alive():
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()


class _Quiet(WSGIRequestHandler):
    """No line on stderr per request: the log is `Log`."""

    def log_request(self, *args: Any) -> None:
        pass


class _Recorder:
    """Middleware: logs, counts body bytes, applies faults, keeps "%2F" inside one path segment."""

    def __init__(self, app: App, name: str, log: Log, faults: Faults) -> None:
        self.app, self.name, self.log, self.faults = app, name, log, faults

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        raw = environ["REQUEST_URI"].partition("?")[0]
        # werkzeug would decode "refs%2Fpr%2F1" to three segments; here it stays one, and the route decodes it
        environ["PATH_INFO"] = "/".join(unquote(s, "latin-1").replace("/", "%2F") for s in raw.split("/"))
        request = Request(
            method=environ["REQUEST_METHOD"],
            path=raw,
            query=environ["QUERY_STRING"],
            server=self.name,
            host=environ["HTTP_HOST"],
            authorized="HTTP_AUTHORIZATION" in environ,
        )
        self.log.append(request)
        environ["wsgi.input"] = _Counted(environ["wsgi.input"], request, int(environ.get("CONTENT_LENGTH") or -1))

        def started(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            request.status = int(status.split(maxsplit=1)[0])
            return start_response(status, headers, *rest)

        fault: Fault | None = self.faults.take(method=request.method, path=raw, server=self.name)
        if fault is None:
            return self.app(environ, started)
        request.fault = fault.kind
        return self.faults.answer(fault, self.app, environ, started)


class _Counted:
    """A request body that counts what is read of it and ends where Content-Length says."""

    def __init__(self, stream: Any, request: Request, length: int) -> None:
        self._stream, self._request, self._left = stream, request, length

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; a body without length is a chunked one and ends by itself."""
        if self._left < 0 and "DechunkedInput" not in type(self._stream).__name__:
            return b""
        if self._left >= 0:
            size = self._left if size < 0 else min(size, self._left)
            self._left -= size
        data: bytes = self._stream.read(size)
        self._request.received += len(data)
        return data

    def readline(self, size: int = -1) -> bytes:
        """One line, for form parsers."""
        line = bytearray()
        while (size < 0 or len(line) < size) and (byte := self.read(1)):
            line += byte
            if byte == b"\n":
                break
        return bytes(line)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


def until_interrupted() -> None:
    """Wait until somebody presses Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
