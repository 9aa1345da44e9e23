"""Rows of a dataset of plain files (`convert --format bitmaps`)."""

import json
from collections.abc import Sequence
from typing import Any, overload

from labelsync.dataset.source import DatasetFiles
from labelsync.dataset.split import SPLITS
from labelsync.errors import DatasetError
from labelsync.records.release import Row

LISTING = "samples.json"


class PlainRows(Sequence[Row]):
    """One split; a row's two files are read when it is asked for. One that is gone is empty bytes."""

    def __init__(self, files: DatasetFiles, entries: Sequence[dict[str, str]]) -> None:
        self._files = files
        self._entries = entries

    @staticmethod
    def of(files: DatasetFiles) -> dict[str, "PlainRows"]:
        """Split -> its rows, as samples.json lists them. Raises DatasetError where it is no such list."""
        text = files.path(LISTING).read_bytes()
        try:
            entries = json.loads(text)
            split_of = [entry["image"].split("/")[1] for entry in entries]  # images/<split>/<file>
        except (ValueError, TypeError, KeyError, IndexError):
            raise DatasetError(f"{LISTING} of {files.name} is not what convert wrote", hint="convert again") from None
        found = {s: [e for e, of in zip(entries, split_of, strict=True) if of == s] for s in SPLITS}
        return {split: PlainRows(files, part) for split, part in found.items() if part}

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "PlainRows": ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return PlainRows(self._files, self._entries[index])
        entry = self._entries[index]
        return Row(entry["name"], entry["uuid"], self._bytes(entry["image"]), self._bytes(entry["label"]))

    def _bytes(self, file: str) -> bytes:
        try:
            return self._files.path(file).read_bytes()
        except (DatasetError, FileNotFoundError):
            return b""
