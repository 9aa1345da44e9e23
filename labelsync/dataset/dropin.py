"""The dataset of `release2dataset`: its rows in one Arrow file, and its id2label."""

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from labelsync.dataset.dropin_rows import AHEAD, file_features, file_rows, url_features, url_rows
from labelsync.errors import OptionError, ReleaseFormatError, SamplesFailed, TaxonomyError
from labelsync.labels import MAX_UINT8_CLASSES, UNLABELED, LabelMap, from_categories
from labelsync.records.release import Sample
from labelsync.release.entries import SHAPES
from labelsync.release.parse import parse_release
from labelsync.release.sources import ReleaseFile

_MAX_CATEGORY = 65535
_BATCH_BYTES = 1 << 28  # of one batch of rows; Arrow's limit for a column of one is 2 GiB


def release_dataset(
    file: ReleaseFile, *, download_images: bool, labelset: str, workers: int, allow_failed: int
) -> tuple["datasets.Dataset", dict[int, str]]:
    """The dataset of a release file and its id2label; parameters and errors as `release2dataset` has them."""
    if workers < 1 or allow_failed < 0:
        raise OptionError(f"workers={workers}, allow_failed={allow_failed}: one of them is out of range")
    release = parse_release(file.data, where=file.where, labelset=labelset)
    if release.task_type in SHAPES:
        raise ReleaseFormatError(
            f"{file.where} is of task type {release.task_type!r}, whose labels are no bitmaps",
            hint="labelsync pull and convert draw them",
        )
    labels = from_categories(release.categories)
    id2label = id2label_of(labels)
    failures: list[str] = []

    def failed(sample: Sample, reason: str) -> None:
        failures.append(f"{sample.name!r} ({sample.uuid}): {reason}")

    if download_images:
        features, rows = file_features(), file_rows(release, labels, file, failed, workers=workers)
    else:
        features, rows = url_features(), url_rows(release, failed)
    path = _write(rows, features.arrow_schema)
    _report(failures, allow_failed, total=len(release.samples))
    homepage = f"https://segments.ai/{release.dataset}" if "/" in release.dataset else ""
    info = datasets.DatasetInfo(description=release.description, homepage=homepage)
    return datasets.Dataset.from_file(str(path), info=info, split=datasets.Split.TRAIN), id2label


def id2label_of(labels: LabelMap) -> dict[int, str]:
    """Number in the semantic bitmaps -> class name: int keys, 0 = "unlabeled", sorted, no gap.

    The numbers are those of `get_semantic_bitmap`: the category ids as they are, or one more each where a category 0
    makes `id_increment=1` necessary. A number that no category has is "unused-<number>", so that the length is the
    number of outputs that a model needs.

    Args:
        labels: as `from_categories` makes them.

    Raises:
        TaxonomyError: a category id that no 16-bit bitmap holds.
    """
    classes = {c.category_ids[0]: c.name for c in labels.classes}
    increment = 1 if 0 in classes else 0
    top = max(classes) + increment
    if min(classes) < 0 or top > _MAX_CATEGORY:
        wrong = min(classes) if min(classes) < 0 else max(classes)
        raise TaxonomyError(
            f"category id {wrong} fits into no bitmap", hint="labelsync pull and convert number the classes 1..K"
        )
    if top > MAX_UINT8_CLASSES:
        what = f"category ids go up to {max(classes)}, and models that ignore 255 would never learn a class 255"
        warnings.warn(f"{what}; labelsync pull and convert number the classes 1..K", stacklevel=2)
    return {0: UNLABELED} | {i: classes.get(i - increment, f"unused-{i}") for i in range(1, top + 1)}


def _report(failures: list[str], allowed: int, *, total: int) -> None:
    """Lost samples are an error, or a warning where so many may be lost."""
    if not failures:
        return
    more = f"; {len(failures) - 1} more of {total} samples failed" if len(failures) > 1 else ""
    if len(failures) > allowed:
        raise SamplesFailed(
            f"sample {failures[0]}{more}",
            hint=f"what was fetched is kept; mend it and call again, or pass allow_failed={len(failures)}",
            details=failures if more else (),
        )
    warnings.warn(f"{len(failures)} of {total} samples are left out: " + "; ".join(failures), stacklevel=4)


# -------------------------------------------------------------------- the Arrow file


@cache
def _folder() -> Path:
    """Where `datasets` keeps its own, until this process ends: what `map` makes of the dataset lies beside it."""
    root = Path(datasets.config.HF_DATASETS_CACHE)
    root.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="labelsync-", dir=root))
    atexit.register(_forget, folder, os.getpid())
    return folder


def _forget(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked process must not take its parent's rows away
        shutil.rmtree(folder, ignore_errors=True)


def _write(rows: Iterable[dict[str, Any]], schema: Any) -> Path:
    """The rows as an Arrow stream, which `datasets` maps into memory instead of reading it."""
    path = Path(tempfile.mkdtemp(dir=_folder())) / "rows.arrow"
    try:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
            for batch in _batches(rows):
                stream.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(v["bytes"]) for v in row.values() if isinstance(v, dict))
        if len(batch) >= AHEAD or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
