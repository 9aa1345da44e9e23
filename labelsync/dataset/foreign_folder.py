"""Images and labels as plain files: named by a metadata file as `imagefolder` has it, or in two parallel folders."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from labelsync.dataset.foreign_columns import pick
from labelsync.dataset.foreign_files import ForeignFiles, is_image
from labelsync.dataset.foreign_layout import split_of
from labelsync.errors import DatasetError

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

_FILE = "file_name"  # of the image; the file of another column is <column>_file_name

Pairs = dict[str, list[tuple[str, str]]]  # split as its folder is called -> (image file, label file or "")


@dataclass(frozen=True)
class Found:
    """Pairs by split, and which columns or folders they come from."""

    pairs: Pairs
    columns: tuple[str, str]

    @property
    def without(self) -> int:
        """Number of images that have no label."""
        return sum(not label for pairs in self.pairs.values() for _, label in pairs)


def find_pairs(files: ForeignFiles, image: str | None, label: str | None) -> Found | None:
    """The pairs of a dataset of plain files; None if it has no images.

    Args:
        image, label: names of the columns in metadata files, or of the two folders.

    Raises:
        DatasetError: it is not clear which column or folder is which, or a file that is named is not there.
    """
    metadata = [f for f in files.files if PurePosixPath(f).name in METADATA]
    if metadata:
        return _by_metadata(files, metadata, image, label)
    images = [f for f in files.files if is_image(f) and "/" in f]
    return _by_folders(images, image, label, name=files.name) if images else None


def _by_metadata(files: ForeignFiles, metadata: list[str], image: str | None, label: str | None) -> Found:
    lines = [(file, line) for file in metadata for line in _lines(files, file)]
    columns = dict.fromkeys(_column(key) for _, line in lines for key in line if _column(key))
    chosen = pick(list(columns), image, label, name=files.name)
    pairs: Pairs = {}
    for file, line in lines:
        folder = PurePosixPath(file).parent
        paths = [_below(folder, line.get(_key(c))) for c in chosen]
        if lost := [p for p in paths if p and p not in files.files]:
            raise DatasetError(f"{file} of {files.name} names {lost[0]}, which is not there", hint="fetch it again")
        if paths[0]:
            split = split_of(str(PurePosixPath(paths[0]).parent)) or split_of(str(folder)) or "train"
            pairs.setdefault(split, []).append((paths[0], paths[1]))
    return Found({s: sorted(p) for s, p in pairs.items()}, chosen)


def _lines(files: ForeignFiles, file: str) -> Iterator[dict[str, Any]]:
    """The rows of a metadata file."""
    path = files.path(file)
    try:
        if file.endswith(".parquet"):
            yield from pq.read_table(path).to_pylist()
        elif file.endswith(".csv"):
            yield from csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig")))
        else:
            yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (ValueError, csv.Error, pa.ArrowException):
        raise DatasetError(f"{file} of {files.name} cannot be read", hint="correct or fetch it again") from None


def _column(key: str | None) -> str:
    """file_name -> image, label_file_name -> label, as `datasets` names them; "" for a key that names no file."""
    return "image" if key == _FILE else (key or "").removesuffix(f"_{_FILE}") if str(key).endswith(f"_{_FILE}") else ""


def _key(column: str) -> str:
    return _FILE if column == "image" else f"{column}_{_FILE}"


def _below(folder: PurePosixPath, name: Any) -> str:
    """The path of a file that a metadata file names; "" where it names none."""
    if not name or not isinstance(name, str):
        return ""
    parts: list[str] = []
    for part in (folder / name).parts:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/".join(parts)


def _by_folders(images: list[str], image: str | None, label: str | None, *, name: str) -> Found | None:
    """images/train/a.jpg with labels/train/a.png, or train/images/a.jpg with train/labels/a.png."""
    every = [PurePosixPath(f).parts[:-1] for f in images]
    shared = set(every[0]).intersection(*every)
    folders = sorted({part for parts in every for part in parts if part not in shared and not split_of(part)})
    if len(folders) < 2:
        return None
    chosen = pick(folders, image, label, name=name, what="folder")
    labels = {_place(f, chosen[1]): f for f in images if chosen[1] in PurePosixPath(f).parts[:-1]}
    pairs: Pairs = {}
    for file in sorted(images):
        if chosen[0] in PurePosixPath(file).parts[:-1]:
            split = split_of(str(PurePosixPath(file).parent)) or "train"
            pairs.setdefault(split, []).append((file, labels.get(_place(file, chosen[0]), "")))
    if not any(found for split in pairs.values() for _, found in split):
        raise DatasetError(
            f"no file in {chosen[1]} of {name} is called like one in {chosen[0]}",
            hint="choose the folders with --image-column and --label-column",
        )
    return Found(pairs, chosen)


def _place(file: str, folder: str) -> tuple[str, ...]:
    """What an image and its label have in common: the path without `folder` and without suffix."""
    path = PurePosixPath(file)
    parts = list(path.parts[:-1])
    del parts[len(parts) - 1 - parts[::-1].index(folder)]
    return (*parts, path.stem)
