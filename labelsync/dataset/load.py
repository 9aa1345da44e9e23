"""`load`: a dataset folder, or one published on the Hub, as rows and their label map."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from labelsync.dataset.rows import Rows
from labelsync.dataset.source import DatasetFiles, find_dataset
from labelsync.dataset.split import SPLITS
from labelsync.errors import DatasetError
from labelsync.labels import LabelMap


class Splits(Mapping[str, Rows]):
    """Split -> rows. A split that is not there is a DatasetError that lists those that are."""

    def __init__(self, rows: Mapping[str, Rows], *, source: str) -> None:
        self._rows = dict(rows)
        self._source = source

    def __getitem__(self, split: str) -> Rows:
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
        splits: "train", "validation", "test", as far as there are -> rows, read when they are asked for.
        digest: of the manifest: the same content, wherever it lies.
        release: name of the Segments.ai release.
        revision: the commit on the Hub; "" for a folder.
        files: where its other files are (splits.json, metadata.json); None for rows from elsewhere.
    """

    source: str
    labels: LabelMap
    splits: Mapping[str, Rows]
    digest: str
    release: str
    revision: str
    files: DatasetFiles | None = field(default=None, repr=False)


def load(source: str | Path) -> LabeledDataset:
    """A dataset folder of `convert`, or "user/name[@revision]" on the Hub (HF_ENDPOINT, HF_TOKEN).

    From the Hub only the shards whose rows are asked for are fetched, at the commit that the revision names now.

    Raises:
        DatasetNotFound: no finished dataset there.
        DatasetError: one that is damaged, edited, or of plain bitmaps.
        AuthError, ServiceError: the Hub does not show it, or does not answer.
    """
    files = find_dataset(source)
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
