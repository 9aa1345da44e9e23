"""The files of a release where the work is done: in the release folder, or from their URLs on a machine without it."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from labelsync.dataset.sample import File, read_file
from labelsync.errors import BitmapError
from labelsync.release.urls import shown
from labelsync.store.files import sha256

if TYPE_CHECKING:
    from labelsync.release.transport import Session


class Assets:
    """Reads files of a release; `with` closes its connections.

    A file is fetched only where the release folder is not there at all: a file that is missing in a folder that exists
    was deleted, which is told. Whatever a URL answers must have the digest that the pull recorded.
    """

    def __init__(self) -> None:
        self._session: Session | None = None  # imported where it is needed: a worker starts sooner by a third

    def __enter__(self) -> "Assets":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._session is not None:
            self._session.close()

    def read(self, file: File, kind: str) -> bytes:
        """The bytes that were pulled. Raises BitmapError, with a reason that reads after the sample's name."""
        if not file.url or Path(file.path).parent.is_dir():
            return read_file(file, kind)
        from labelsync.release.transport import FetchError, Session, fetch

        self._session = self._session or Session()

        def check(data: bytes) -> None:
            if sha256(data) != file.sha256:
                raise BitmapError("what comes is not what was pulled")

        try:
            return fetch(self._session, file.url, check=check)
        except FetchError as e:
            raise BitmapError(f"its {kind} is not on this machine, and {shown(file.url)}: {e.reason}") from None
