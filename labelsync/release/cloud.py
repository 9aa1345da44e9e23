"""Assets in buckets (s3://, gs://, az://), read through fsspec with the bounds that HTTP has in `transport`.

Who may read a bucket is decided by the environment or the login of the cloud's own tools; a release only says which
object. The error texts of these libraries are not used: they hold URLs, accounts and request ids.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from labelsync.release import transport
from labelsync.release.transport import CONNECT_SECONDS, MAX_BYTES, READ_SECONDS, RETRIES, TOTAL_SECONDS, FetchError

SCHEMES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}

_S3_BOUNDS = {
    "connect_timeout": CONNECT_SECONDS,
    "read_timeout": READ_SECONDS,
    "retries": {"total_max_attempts": 1},  # tried again here, alike for all clouds
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3fs": {"config_kwargs": _S3_BOUNDS},
    "gcsfs": {},  # no option bounds its reads alone; `_call` bounds the whole
    "adlfs": {"connection_timeout": int(CONNECT_SECONDS), "read_timeout": int(READ_SECONDS)},
}
_DENIED = (401, 403)

# They warn of what becomes an error of ours; without a handler that would be more lines on stderr.
for _name in ("s3fs", "gcsfs", "azure", "aiobotocore", "botocore", "google"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
_NO_LOGIN = (  # by name: the libraries may not be there
    *("NoCredentialsError", "PartialCredentialsError", "ClientAuthenticationError", "CredentialUnavailableError"),
    *("DefaultCredentialsError", "RefreshError", "TokenRetrievalError", "UnauthorizedSSOTokenError"),
)


def require_object(url: str) -> str:
    """`url`, if it names an object in a bucket and nothing else. Raises ValueError.

    "::" chains file systems in fsspec, so "s3://b/x::file:///etc/passwd" would be a local file.
    """
    parts = urlsplit(url)
    _, _, account = parts.netloc.rpartition("@") if "@" in parts.netloc else ("", "", "")
    if not parts.netloc or not parts.path.strip("/") or "::" in url or not url.isprintable():
        raise ValueError(url)
    if account and (SCHEMES[parts.scheme] != "adlfs" or _is_foreign(account)):
        raise ValueError(url)  # credentials go to the account of the user, not to one that a release names
    return url


class _SilentError(FetchError):
    """The whole time of one call has passed, with the tries that the library makes itself: that is patience enough."""


class Buckets:
    """The buckets of one pull. Safe to share between threads."""

    def __init__(self) -> None:
        self._systems: dict[str, Any] = {}
        self._lock = threading.Lock()

    def fetch(self, url: str, *, check: Callable[[bytes], None] | None = None) -> bytes:
        """The object at `url`, whole. `check` raises BitmapError for bytes that are not what they should be.

        Raises:
            FetchError: after the retries; `denied` if there is no login, no right, or no library for it.
        """
        return transport.attempts(lambda: self._fetch_patiently(url), check=check)

    def _fetch_patiently(self, url: str) -> bytes:
        for again in reversed(range(RETRIES + 1)):
            try:
                return self._fetch_once(url)
            except FetchError as e:
                if isinstance(e, _SilentError) or not (e.unreachable and again):
                    raise
            pause = transport.BACKOFF_SECONDS * 2 ** (RETRIES - again)
            time.sleep(pause * (1 + random.random()))  # noqa: S311 - jitter, no secret
        raise AssertionError("unreachable")

    def _fetch_once(self, url: str) -> bytes:
        try:
            system = self._system(url)
            path = system._strip_protocol(url)
            size = _checked_size(_call(system, "info", path, seconds=2 * READ_SECONDS))
            data = bytes(_call(system, "cat_file", path, seconds=TOTAL_SECONDS)) if size else b""
        except FetchError:
            raise
        except Exception as e:  # noqa: BLE001 - each cloud's library has a tree of its own
            raise _failure(e) from None
        if len(data) != size:
            raise FetchError("it was cut short", cut=True)
        return data

    def _system(self, url: str) -> Any:
        """The file system of the URL's scheme and account, made once."""
        scheme, host = urlsplit(url).scheme, urlsplit(url).netloc
        key = f"{scheme} {host.rpartition('@')[2] if '@' in host else ''}"
        with self._lock:
            if key not in self._systems:
                self._systems[key] = _open(scheme, url)
            return self._systems[key]


def _checked_size(info: dict[str, Any]) -> int:
    """Bytes of an object, before any of them is asked for."""
    size = info.get("size")
    if size is None or info.get("type") == "directory":
        raise FetchError("no such object")
    if size > MAX_BYTES:
        raise FetchError(f"larger than {MAX_BYTES >> 20} MiB")
    return int(size)


def _open(scheme: str, url: str) -> Any:
    """A file system of its own (`skip_instance_cache`): the bounds are ours, not those of another user of fsspec."""
    import fsspec  # 0.1 s with asyncio, and most releases need no bucket

    library = SCHEMES[scheme]
    try:
        kind: Any = fsspec.get_filesystem_class(scheme)
    except ImportError:
        broken = "cannot be imported" if find_spec(library) else "is not installed"
        reason = f"{scheme} URLs are read with {library}, which {broken}: pip install 'labelsync[cloud]'"
        raise FetchError(reason, denied=True) from None
    options = _OPTIONS[library] if kind.__module__.partition(".")[0] == library else {}
    account = kind._get_kwargs_from_urls(url).get("account_name") if library == "adlfs" else None
    system = kind(**options, **({"account_name": account} if account else {}), skip_instance_cache=True)
    if library == "s3fs":
        system.retries = 1
    return system


def _call(system: Any, method: str, path: str, *, seconds: float) -> Any:
    """A method of a file system, with a bound on its time where it is asynchronous inside."""
    from fsspec.asyn import AsyncFileSystem, sync

    if isinstance(system, AsyncFileSystem):
        return sync(system.loop, getattr(system, f"_{method}"), path, timeout=seconds)
    return getattr(system, method)(path)


def _is_foreign(account: str) -> bool:
    """Whether a host such as "acme.dfs.core.windows.net" is another account than the environment's."""
    own = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    name, _, domain = account.partition(".")
    return domain not in ("dfs.core.windows.net", "blob.core.windows.net") or own not in ("", name)


def _failure(error: Exception) -> FetchError:
    """What an exception of a cloud's library means, in words of ours."""
    status = next((v for n in ("status_code", "status", "code") if isinstance(v := getattr(error, n, 0), int) and v), 0)
    if isinstance(error, FileNotFoundError | IsADirectoryError) or status == 404:
        return FetchError("no such object")
    no_login = type(error).__name__ in _NO_LOGIN or (isinstance(error, ValueError) and "credential" in str(error))
    if no_login:
        return FetchError("no login for this bucket in the environment", denied=True)
    if isinstance(error, PermissionError) or status in _DENIED or str(error).startswith("Forbidden"):
        return FetchError("the bucket refuses to show it", denied=True)
    if isinstance(error, TimeoutError):
        return _SilentError("no answer in time", unreachable=True)
    return FetchError(f"the bucket cannot be reached ({type(error).__name__})", unreachable=True)
