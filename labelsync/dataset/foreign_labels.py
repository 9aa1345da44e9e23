"""What the numbers in a foreign dataset's labels mean, and its labels as disk ids."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.dataset.foreign_files import ForeignFiles
from labelsync.dataset.source import ID2LABEL, asked, fetch_file
from labelsync.errors import BitmapError, DatasetError, DatasetNotFound, TaxonomyError
from labelsync.labels import BACKGROUND, LabelMap, from_id2label
from labelsync.pixels.opening import opened
from labelsync.pixels.semantic import decode_semantic, encode_semantic

_HUB_FILE = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:]+))?(?::(?P<file>.+))?")
_SHOWN = 2
_WAYS = "give a file, or user/name:FILE on the Hub"


@dataclass(frozen=True)
class Numbering:
    """What the values of a label are.

    `keep_zero` False: 0 = unlabeled and 1..K the classes, which are the disk ids. True: 0..K-1 are the classes. 255
    (65535 above 254 classes) is unlabeled in both: transformers' `do_reduce_labels` makes it of 0, and leaves it alone.
    """

    labels: LabelMap
    keep_zero: bool = False

    def disk_bytes(self, data: bytes, *, sample: str) -> bytes:
        """A label file as a PNG of disk ids; the bytes themselves where that is what they are.

        Raises:
            DatasetError: the file is no bitmap of class numbers, or has a number that no class has.
        """
        try:
            with opened(data) as image:
                format, mode = image.format or "", image.mode
            _require_numbers(format, mode, sample=sample)
            values = decode_semantic(data)
        except BitmapError as e:
            raise DatasetError(
                f"sample {sample}: its label: {e.message}", hint="look at the file; leave the sample out"
            ) from None
        first, void = int(not self.keep_zero), self.labels.ignore_index
        last = self.labels.num_labels - 1 + first
        if not self.keep_zero and int(values.max(initial=0)) <= last:
            return data
        wrong = (values > last) & (values != void)
        if wrong.any():
            raise DatasetError(
                f"sample {sample}: its label holds the value {int(values[wrong].max())}, and the classes are {first} "
                f"to {last}{' with --keep-zero' if self.keep_zero else ''}",
                hint="give the --id2label that names every class",
            )
        disk: npt.NDArray[Any] = values.astype(self.labels.dtype)
        if not self.keep_zero:
            return encode_semantic(np.where(values == void, self.labels.dtype(0), disk))
        return encode_semantic(disk + 1)  # void is the highest number of its type, and wraps to 0

    @property
    def described(self) -> str:
        """The first numbers and what they mean, for people."""
        names = self.labels.names
        start = 0 if self.keep_zero else 1
        shown = [f"{i} = {n}" for i, n in enumerate(names[:_SHOWN], start)]
        rest = [f"{start + len(names) - 1} = {names[-1]}"] if len(names) > _SHOWN else []
        dots = ["..."] if len(names) > _SHOWN + 1 else []
        if self.keep_zero:
            return ", ".join([*shown, *dots, *rest, f"{self.labels.ignore_index} = unlabeled"])
        doubt = f" (if 0 is {names[0]}, pass --keep-zero)" if names[0].lower() in (BACKGROUND, "void", "other") else ""
        return ", ".join([f"0 and {self.labels.ignore_index} = unlabeled", *shown, *dots, *rest]) + doubt


def read_labels(
    files: ForeignFiles, id2label: str | Path | None, columns: Mapping[str, list[str]], *, keep_zero: bool
) -> tuple[LabelMap, str]:
    """The classes of a dataset, and where they are written.

    Args:
        id2label: a JSON file, a column that lists ClassLabels, or a Hub dataset repo "user/name[@revision][:file]";
            None = id2label.json of the dataset.
        columns: names of the columns that have class names -> those names.

    Raises:
        DatasetError, DatasetNotFound: there is no id2label, or it is not one.
        TaxonomyError: it does not name classes 0..n or 1..n once each.
    """
    names, where = _read(files, id2label, columns)
    if isinstance(names, Mapping) and isinstance(names.get("id2label"), Mapping):
        names = names["id2label"]  # a model's config.json
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping):
        raise DatasetError(f"{where} is no id2label", hint='it is JSON: {"0": "road", "1": "sidewalk", ...}')
    try:
        labels = from_id2label(names, keep_zero=keep_zero)
    except TaxonomyError as e:
        hint = "correct a copy of it and give that with --id2label" if "Segments.ai" in e.hint else e.hint
        raise TaxonomyError(f"{where}: {e.message}", hint=hint) from None
    if keep_zero and 0 not in {int(k) for k in names}:
        raise TaxonomyError(f"{where} names no class 0, which --keep-zero says there is", hint="leave out --keep-zero")
    return labels, where


def _read(files: ForeignFiles, id2label: str | Path | None, columns: Mapping[str, list[str]]) -> tuple[Any, str]:
    """What is written there, and a name for where."""
    if id2label is None:
        if ID2LABEL in files.files:
            return _parsed(files.path(ID2LABEL).read_bytes(), ID2LABEL), f"{ID2LABEL} of {files.name}"
        choice = f" (or a column that names classes: {', '.join(columns)})" if columns else ""
        raise DatasetError(
            f"{files.name} does not say what the numbers in its labels mean: it has no {ID2LABEL}",
            hint="pass --id2label FILE, or a Hub repo such as huggingface/label-files:ade20k-id2label.json" + choice,
        )
    path = Path(id2label).expanduser()
    if path.is_file():
        return _parsed(path.read_bytes(), path.name), path.name
    if str(id2label) in columns:
        return columns[str(id2label)], f"column {id2label}"
    found = _HUB_FILE.fullmatch(str(id2label)) if isinstance(id2label, str) else None
    if not found:
        choice = f", or a column: {', '.join(columns)}" if columns else ""
        raise DatasetNotFound(f"there is no id2label {id2label}", hint=f"{_WAYS}{choice}")
    repo, revision, file = found["repo"], found["revision"] or "main", found["file"] or ID2LABEL
    return _parsed(_from_hub(repo, revision, file).read_bytes(), file), f"{repo}:{file}"


def _from_hub(repo: str, revision: str, file: str) -> Path:
    try:
        return fetch_file(repo, revision, file)
    except DatasetNotFound:
        raise DatasetNotFound(
            f"there is no file {repo}, and no dataset {repo} on the Hub",
            hint=_WAYS,
        ) from None
    except DatasetError:
        there = asked(repo, revision, lambda: _json_files(repo, revision))
        raise DatasetNotFound(
            f"{repo} on the Hub has no {file}", hint=f"write --id2label {repo}:FILE; there are {', '.join(there[:8])}"
        ) from None


def _json_files(repo: str, revision: str) -> list[str]:
    from huggingface_hub import HfApi

    files = HfApi().list_repo_files(repo, repo_type="dataset", revision=revision)
    return [f for f in files if f.endswith(".json")] or ["no .json files"]


def _parsed(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        raise DatasetError(f"{name} is not JSON", hint='an id2label is {"0": "road", "1": "sidewalk", ...}') from None


def _require_numbers(format: str, mode: str, *, sample: str) -> None:
    """Raises DatasetError for a file whose pixels cannot be class numbers."""
    if format in ("JPEG", "WEBP"):
        raise DatasetError(
            f"sample {sample}: its label is a {format}, whose values are not those that were drawn",
            hint="labels are PNG files of class numbers; choose with --label-column",
        )
    if mode not in ("1", "L", "P") and not mode.startswith("I"):
        raise DatasetError(
            f"sample {sample}: its label has colours (mode {mode}), not class numbers",
            hint="turn every colour into its class number and save a PNG of one channel, or choose with --label-column",
        )
