"""A file of a commit, read from the Hub itself: by ranges, and never from a cache that may be older or edited."""

import io
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub import hf_hub_url
from huggingface_hub.utils import (  # type: ignore[attr-defined] # loaded lazily
    build_hf_headers,
    hf_raise_for_status,
    http_backoff,
)

T = TypeVar("T")
Asked = Callable[[Callable[[], T]], T]  # does a request again where that helps, and says what its failure means

BLOCK = 1 << 16  # bytes of one request at least: the footer of a Parquet file, the header of most weights


class RemoteFile(io.RawIOBase):
    """A seekable file for readers of formats; every read that its last block does not hold is one request.

    Args:
        url: of the file at a commit.
        size: its bytes, as the listing of the commit says.
        asked: see `Asked`.

    Attributes:
        fetched: bytes that came over the network so far.
    """

    def __init__(self, url: str, *, size: int, asked: Asked[bytes]) -> None:
        super().__init__()
        self.url, self.size, self.fetched = url, size, 0
        self._asked = asked
        self._at = 0
        self._start, self._block = 0, b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Where the next read begins from now on."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        return self._at

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override] # any writable buffer
        """Fill as much of `buffer` as the file has."""
        stop = min(self._at + len(buffer), self.size)
        if stop <= self._at:
            return 0
        data = self._range(self._at, stop)
        memoryview(buffer).cast("B")[: len(data)] = data
        self._at = stop
        return len(data)

    def _range(self, start: int, stop: int) -> bytes:
        if not self._start <= start <= stop <= self._start + len(self._block):
            # at the end of a file the block before it, as readers go backwards there
            first = max(0, min(start, self.size - BLOCK))
            last = min(self.size, max(stop, first + BLOCK))
            self._block = self._asked(lambda: get(self.url, first, last))
            self._start = first
            self.fetched += len(self._block)
        return self._block[start - self._start : stop - self._start]


def url_of(repo_id: str, kind: str, path: str, *, commit: str, endpoint: str) -> str:
    """Where a file of a commit can be read."""
    return hf_hub_url(repo_id, path, repo_type=kind, revision=commit, endpoint=endpoint)


def get(url: str, start: int = 0, stop: int | None = None) -> bytes:
    """Bytes [start, stop) of a file on the Hub; of all of it without `stop`.

    The Hub sends large files from its storage, another host: the client follows without the token.

    Raises:
        HfHubHTTPError, httpx.HTTPError: as the client does.
        ConnectionError: other bytes than asked for came.
    """
    wanted = {} if stop is None else {"Range": f"bytes={start}-{stop - 1}"}
    answer = http_backoff("GET", url, headers=build_hf_headers(library_name="labelsync") | wanted)
    hf_raise_for_status(answer)
    data: bytes = answer.content
    if stop is None:
        return data
    if answer.status_code != 206:
        data = data[start:stop]  # a server or proxy that knows no ranges
    if len(data) != stop - start:
        raise ConnectionError(f"{len(data)} of {stop - start} bytes came")
    return data
