"""HTTP with bounds, for the API and for assets alike: timeouts, few retries, a cap on Retry-After and on sizes.

No error text here carries a query string: that is where storage services put signatures.
"""

import io
import random
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3.exceptions import ProtocolError, ReadTimeoutError
from urllib3.util.retry import Retry

from labelsync.errors import BitmapError

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # without a byte
TOTAL_SECONDS = 900.0  # for one file, however slowly it drips
RETRIES = 4
BACKOFF_SECONDS = 0.5  # 0, 1, 2, 4 s, each with up to as much jitter
RETRY_AFTER_CAP = 30
TRANSFERS = 3  # times a file is fetched anew that arrived cut short or broken
MAX_BYTES = 1 << 30
MAX_REDIRECTS = 5

RETRIED = (408, 413, 429, 500, 502, 503, 504)
_BLOCK = 1 << 18


class FetchError(Exception):
    """Why a file could not be fetched, in words that read after its URL.

    Attributes:
        status: the HTTP status, 0 if there was none.
        unreachable: the host gave no answer at all, or only 5xx: the next file there will fare no better.
        cut: the file arrived incomplete or broken, so another try may help.
        denied: we may not read it; somebody who signs a URL for us may.
    """

    def __init__(
        self, reason: str, *, status: int = 0, unreachable: bool = False, cut: bool = False, denied: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.status, self.unreachable, self.cut = reason, status, unreachable, cut
        self.denied = denied


class SchemeChangedError(requests.RequestException):
    """A redirect from http(s) to another scheme."""


class Session(requests.Session):
    """A requests session whose every call is bounded, whatever its user forgets to say.

    Safe to share between threads for GETs. `mount` has no effect: the SDK mounts an adapter that sleeps as long as a
    Retry-After says and has no backoff.
    """

    def __init__(self, *, connections: int = 1) -> None:
        super().__init__()
        self.max_redirects = MAX_REDIRECTS
        self._bounded = HTTPAdapter(max_retries=_retries(), pool_maxsize=connections)
        self._settings: dict[tuple[Any, ...], Any] = {}

    def get_adapter(self, url: str) -> BaseAdapter:
        """The bounded adapter; InvalidSchema for anything but http and https."""
        super().get_adapter(url)
        return self._bounded

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """As in requests, with a timeout."""
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (CONNECT_SECONDS, READ_SECONDS)
        return super().request(method, url, *args, **kwargs)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """As in requests, but the environment is searched for proxies once for a host: it took a sixth of a request."""
        key = (*urlsplit(url)[:2], *sorted((proxies or {}).items()), stream, verify, cert)
        if key not in self._settings:
            self._settings[key] = super().merge_environment_settings(url, proxies, stream, verify, cert)
        return dict(self._settings[key])

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """As in requests, but a large body goes out in blocks.

        The time limit of a socket holds for everything that is given to it at once: with a whole file, for the upload.
        """
        if isinstance(request.body, bytes) and len(request.body) > _BLOCK:
            request.body = io.BytesIO(request.body)  # type: ignore[assignment] # read block by block; the length is set
            # where a redirect that wants the body once more (307, 308) begins again
            request._body_position = 0  # type: ignore[attr-defined] # requests' own, as it has for any file
        return super().send(request, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """As in requests, but a redirect never changes the scheme (not to file:, not from https to http)."""
        target = super().get_redirect_target(resp)
        if target is not None:
            try:
                scheme = urlsplit(urljoin(resp.url, target)).scheme
            except ValueError:
                scheme = "an unreadable URL"
            if scheme != urlsplit(resp.url).scheme:
                resp.close()
                raise SchemeChangedError(f"it redirects to another scheme ({scheme})", response=resp)
        return target

    def close(self) -> None:
        """Close all connections."""
        super().close()
        self._bounded.close()


def fetch(session: Session, url: str, *, check: Callable[[bytes], None] | None = None) -> bytes:
    """The body at `url`, whole. `check` raises BitmapError for bytes that are not what they should be.

    Raises:
        FetchError: after the retries.
    """
    return attempts(lambda: _fetch_once(session, url), check=check)


def attempts(once: Callable[[], bytes], *, check: Callable[[bytes], None] | None = None) -> bytes:
    """What `once` brings, called anew when it arrived cut short or `check` finds it broken, `TRANSFERS` times at most.

    Raises:
        FetchError: that of `once`, or the one that `check` gives the reason for.
    """
    for again in reversed(range(TRANSFERS)):
        try:
            data = once()
            if check is not None:
                check(data)
        except BitmapError as e:
            failure = FetchError(e.message, cut=True)
        except FetchError as e:
            failure = e
        else:
            return data
        if not (failure.cut and again):
            raise failure
        time.sleep(BACKOFF_SECONDS * (1 + random.random()))  # noqa: S311 - jitter, no secret
    raise AssertionError("unreachable")


def status_text(status: int) -> str:
    """ "403 Forbidden": the standard's words, not the server's."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


# -------------------------------------------------------------------- one request


def _retries() -> Retry:
    return Retry(
        total=RETRIES,
        connect=3,
        read=2,  # a host that hangs costs READ_SECONDS each time
        redirect=0,  # requests follows redirects itself, through `get_redirect_target`
        status_forcelist=RETRIED,
        allowed_methods=("GET", "HEAD"),
        backoff_factor=BACKOFF_SECONDS,
        backoff_jitter=BACKOFF_SECONDS,
        retry_after_max=RETRY_AFTER_CAP,
        raise_on_status=False,  # the last answer says more than "too many retries"
    )


def _fetch_once(session: Session, url: str) -> bytes:
    try:
        # identity: images do not shrink, and the length on the wire is then the length of the file
        with session.get(url, stream=True, headers={"Accept-Encoding": "identity"}) as response:
            status = response.status_code
            if status != HTTPStatus.OK:
                denied = status in (401, 403)
                raise FetchError(_refusal(status), status=status, unreachable=status >= 500, denied=denied)
            return _body(response)
    except SchemeChangedError as e:
        raise FetchError(str(e)) from None
    except (requests.RequestException, UnicodeError) as e:  # UnicodeError: a host name that no resolver takes
        raise failure_of(e) from None


def _refusal(status: int) -> str:
    if status in (401, 403):
        return f"{status_text(status)} (signed URLs expire: a fresh release file may help)"
    return status_text(status)


def _body(response: requests.Response) -> bytes:
    """The whole body; urllib3 holds it to Content-Length."""
    deadline = time.monotonic() + TOTAL_SECONDS
    data = bytearray()
    for block in response.iter_content(_BLOCK):
        data += block
        if len(data) > MAX_BYTES:
            raise FetchError(f"larger than {MAX_BYTES >> 20} MiB")
        if time.monotonic() > deadline:
            raise FetchError(f"not complete after {TOTAL_SECONDS:.0f} s", unreachable=True)
    return bytes(data)


def failure_of(error: Exception) -> FetchError:
    """What an exception of requests means. Its own text is not used: it holds the URL with its signature."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)  # below a MaxRetryError
    if isinstance(reason, ReadTimeoutError) or "Read timed out" in str(error):  # a plain ConnectionError by then
        error = requests.exceptions.Timeout()
    if isinstance(reason, ProtocolError):
        return FetchError("the host hangs up", unreachable=True, cut=True)
    for kind, reason, what in _FAILURES:
        if isinstance(error, kind):
            return FetchError(reason, unreachable=what == "unreachable", cut=what == "cut")
    return FetchError(f"the request failed ({type(error).__name__})")


_Kinds = type[Exception] | tuple[type[Exception], ...]
_FAILURES: tuple[tuple[_Kinds, str, str], ...] = (  # the first that fits; requests' own classes overlap
    ((requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError), "it was cut short", "cut"),
    (requests.exceptions.TooManyRedirects, f"more than {MAX_REDIRECTS} redirects", ""),
    (
        (requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema, requests.exceptions.InvalidURL),
        "not a URL that can be fetched",
        "",
    ),
    (UnicodeError, "not a URL that can be fetched", ""),
    (requests.exceptions.SSLError, "its certificate is not trusted", "unreachable"),
    (requests.exceptions.ProxyError, "the proxy does not let it through", "unreachable"),
    (requests.exceptions.Timeout, f"no answer within {READ_SECONDS:.0f} s", "unreachable"),
    (requests.exceptions.ConnectionError, "the host cannot be reached", "unreachable"),
)
