"""`load`: a dataset folder, one published on the Hub, or somebody else's dataset, as rows and their label map."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from labelsync.dataset.foreign import Choices, open_foreign
from labelsync.dataset.rows import Rows
from labelsync.dataset.source import DatasetFiles, NotOurs, find_dataset
from labelsync.dataset.split import SPLITS
from labelsync.errors import DatasetError, OptionError
from labelsync.labels import LabelMap
from labelsync.records.release import Row


class Splits(Mapping[str, Sequence[Row]]):
    """Split -> rows. A split that is not there is a DatasetError that lists those that are."""

    def __init__(self, rows: Mapping[str, Sequence[Row]], *, source: str) -> None:
        self._rows = dict(rows)
        self._source = source

    def __getitem__(self, split: str) -> Sequence[Row]:
        if split not in self._rows:
            raise DatasetError(
                f"{self._source} has no split {split!r}", hint=f"there are: {', '.join(self._rows) or 'none'}"
            )
        return self._rows[split]

    def __contains__(self, split: object) -> bool:
        return split in self._rows

    def get(self, split: str, default: Any = None) -> Any:
        """Mapping's own waits for a KeyError."""
        return self._rows.get(split, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"Splits({', '.join(f'{name}: {len(rows)}' for name, rows in self._rows.items())})"


@dataclass(frozen=True)
class LabeledDataset:
    """A dataset to train on or to score with.

    Attributes:
        source: what it was asked for by.
        labels: class of every disk id.
        splits: "train", "validation", "test", as far as there are -> rows, read when they are asked for. A foreign
            dataset may have others besides.
        digest: of the manifest, or of a foreign dataset's files and how they are read: the same content, wherever it
            lies.
        release: name of the Segments.ai release; "" for a foreign dataset.
        revision: the commit on the Hub; "" for a folder.
        files: where its other files are (splits.json, metadata.json); None for rows from elsewhere.
    """

    source: str
    labels: LabelMap
    splits: Mapping[str, Sequence[Row]]
    digest: str
    release: str
    revision: str
    files: DatasetFiles | None = field(default=None, repr=False)


def load(
    source: str | Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    id2label: str | Path | None = None,
    keep_zero: bool = False,
    config: str | None = None,
) -> LabeledDataset:
    """A dataset folder of `convert`, or "user/name[@revision]" on the Hub (HF_ENDPOINT, HF_TOKEN), or a foreign one.

    From the Hub only the shards whose rows are asked for are fetched, at the commit that the revision names now.

    A foreign dataset is one that labelsync did not make: Parquet files on the Hub (where a repo holds only a loading
    script, those that the Hub made of it) or in a folder, images named by metadata.csv or metadata.jsonl, or folders
    such as images/ and labels/. Its labels are image files of class numbers. Its own splits are used; "val", "dev" and
    the like are called validation. Where it has no validation split, train is dealt out by a stable hash. What was
    decided that way is said on stderr.

    Args:
        source: a folder or a Hub id.
        image_column, label_column: of a foreign dataset, where its features and names do not tell; folders, where there
            are no columns.
        id2label: class names of a foreign dataset: a JSON file, a Hub dataset repo "user/name[@revision][:file]", or a
            column that lists ClassLabels; None = its own id2label.json. Its numbers are those in the labels if its
            0 is "unlabeled", else one less, as in ADE20K's: 0 in a label is then unlabeled, and so is 255.
        keep_zero: 0 in the labels is the class that id2label calls 0; unlabeled is 255.
        config: the configuration (subset) of a foreign dataset that has several.

    Raises:
        DatasetNotFound: no dataset there, or no id2label where it should be.
        DatasetError: one that is damaged, edited, or of plain bitmaps; or it is not clear how to read it.
        TaxonomyError: the id2label of a foreign dataset names no proper classes.
        OptionError: something was said of a foreign dataset, and this is one of labelsync.
        AuthError, ServiceError: the Hub does not show it, or does not answer.
    """
    choices = Choices(image_column, label_column, id2label, keep_zero, config)
    try:
        files = find_dataset(source)
    except NotOurs:
        return _foreign(source, choices)
    if choices.given:
        raise OptionError(
            f"{source} was made by labelsync, and its manifest says what its columns and classes are",
            hint=f"leave out {', '.join(choices.given)}",
        )
    manifest = files.manifest
    if manifest.settings["format"] != "parquet":
        raise DatasetError(
            f"{source} holds plain bitmaps", hint="convert the release with --format parquet to train or evaluate"
        )
    return LabeledDataset(
        source=str(source),
        labels=files.labels,
        splits=Splits(_rows(files), source=str(source)),
        digest=manifest.digest,
        release=manifest.summary["release"],
        revision=files.revision,
        files=files,
    )


def _foreign(source: str | Path, choices: Choices) -> LabeledDataset:
    found = open_foreign(source, choices)
    if os.environ.get("RANK", "0") == "0":  # of several processes that train together, one speaks
        for note in found.notes:
            tqdm.write(f"labelsync: {note}", file=sys.stderr)
    splits = Splits(found.splits, source=str(source))
    return LabeledDataset(str(source), found.labels, splits, found.digest, "", found.revision)


def _rows(files: DatasetFiles) -> dict[str, Rows]:
    image, label = files.manifest.settings["columns"].split(",")
    counts: dict[str, int] = files.manifest.summary["rows"]
    if not files.repo:
        for name in counts:
            files.path(name)  # a folder that is damaged is refused now, not in the middle of an epoch
    shards = {split: [(n, c) for n, c in sorted(counts.items()) if _split_of(n) == split] for split in SPLITS}
    return {
        split: Rows(shards[split], columns=(image, label), locate=partial(DatasetFiles.path, files))
        for split in SPLITS
        if shards[split]
    }


def _split_of(path: str) -> str:
    """data/train-00000-of-00001.parquet -> train."""
    return Path(path).name.partition("-")[0]
