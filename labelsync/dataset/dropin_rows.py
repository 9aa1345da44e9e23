"""The rows of `release2dataset`, in the columns that the Segments.ai SDK gave them: one per sample, none invented.

Files come through the asset cache that `pull` shares. A sample that cannot be a whole row is a reason in a list, never
a row of placeholders.
"""

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from labelsync.errors import AssetError, BitmapError
from labelsync.labels import LabelMap
from labelsync.pixels.image import encode_png, require_whole
from labelsync.pixels.instance import decode_instance_bitmap
from labelsync.pixels.semantic import instance_classes, to_semantic
from labelsync.records.release import Label, Release, Sample
from labelsync.release.assets import Asset, Fetched, fetch_assets
from labelsync.release.cache import AssetCache
from labelsync.release.sources import ReleaseFile

Failed = Callable[[Sample, str], None]

AHEAD = 16  # samples whose files are in memory at a time
_INT64 = 1 << 63


def file_features() -> "datasets.Features":
    """Of `file_rows`."""
    text, image = datasets.Value("string"), datasets.Image()
    head = {"name": text, "uuid": text, "status": text, "image": image}
    return datasets.Features(head | {"label.annotations": _annotations(), "label.segmentation_bitmap": image})


def url_features() -> "datasets.Features":
    """Of `url_rows`."""
    text = datasets.Value("string")
    head = {"name": text, "uuid": text, "image.url": text, "status": text}
    return datasets.Features(head | {"label.annotations": _annotations(), "label.segmentation_bitmap.url": text})


def _annotations() -> Any:
    number = datasets.Value("int64")  # ids from 2^31 occur, which the SDK's int32 did not hold
    return datasets.List({"id": number, "category_id": number})


def url_rows(release: Release, failed: Failed) -> Iterator[dict[str, Any]]:
    """Rows with URLs as the release has them; nothing is fetched. `failed` is told each sample that is no row."""
    for sample in release.samples:
        problem = sample.problem or _unstorable(sample.label)
        if problem:
            failed(sample, problem)
            continue
        bitmap = sample.label.bitmap_url if sample.label else None
        yield _head(sample) | {"image.url": sample.image_url, "label.segmentation_bitmap.url": bitmap}


def file_rows(
    release: Release, labels: LabelMap, file: ReleaseFile, failed: Failed, *, workers: int
) -> Iterator[dict[str, Any]]:
    """Rows with the image's own bytes and the instance bitmap as a one-channel image of ids.

    A sample without label has status "UNLABELED", no annotations and no bitmap (None).

    Args:
        labels: its `category_table` is what annotations may name; pixels of its `unlabeled_ids` become 0.
        file: where the release's URLs lead.
        failed: is told each sample that is no row, and why.
        workers: downloads at the same time.
    """
    plans = [_plan(sample, file) for sample in release.samples]
    fetched, problems = fetch_assets([a for p in plans for a in p.assets], cache=AssetCache(), workers=workers)
    make = partial(_outcome, labels=labels, fetched=fetched, problems=problems)
    with (
        ThreadPoolExecutor(min(AHEAD, os.cpu_count() or 1), thread_name_prefix="rows") as pool,
        tqdm(total=len(plans), desc="rows", unit="row", disable=None, file=sys.stderr) as bar,
    ):
        for start in range(0, len(plans), AHEAD):
            group = plans[start : start + AHEAD]
            for plan, row in zip(group, pool.map(make, group), strict=True):
                bar.update()
                if isinstance(row, str):
                    failed(plan.sample, row)
                else:
                    yield row


# -------------------------------------------------------------------- one sample


@dataclass(frozen=True)
class _Plan:
    """One sample and the files of its row; `problem` = why there is none."""

    sample: Sample
    assets: tuple[Asset, ...] = ()
    problem: str = ""


def _plan(sample: Sample, file: ReleaseFile) -> _Plan:
    label = sample.label
    problem = sample.problem or _unstorable(label)
    if not problem and sample.image_url is None:
        problem = "its image has no URL"
    if not problem and label is not None and label.annotations and label.bitmap_url is None:
        problem = f"its label has {len(label.annotations)} annotations and no bitmap URL"
    if problem or sample.image_url is None:
        return _Plan(sample, problem=problem)
    try:
        assets = [Asset(file.locate(sample.image_url), "image")]
        if label is not None and label.bitmap_url is not None:
            assets.append(Asset(file.locate(label.bitmap_url), "bitmap"))
    except AssetError as e:
        return _Plan(sample, problem=e.message)
    return _Plan(sample, tuple(assets))


def _outcome(
    plan: _Plan, *, labels: LabelMap, fetched: Mapping[Asset, Fetched], problems: Mapping[Asset, str]
) -> dict[str, Any] | str:
    """The sample's row, or the reason why it has none."""
    reason = plan.problem or "; ".join(f"{a.kind} {problems[a]}" for a in plan.assets if a in problems)
    if reason:
        return reason
    try:
        image, *bitmaps = (fetched[a].path.read_bytes() for a in plan.assets)
        size_hw = _size(image)
        row = _head(plan.sample, without=labels.unlabeled_ids)
        if plan.sample.label is None:
            bitmap = None
        elif bitmaps:
            bitmap = _file(_encoded(_checked(bitmaps[0], plan.sample.label, labels, size_hw)))
        else:
            bitmap = _file(_encoded(np.zeros(size_hw, np.uint32)))
    except BitmapError as e:
        return e.message
    except OSError as e:
        return f"its files cannot be read ({e.strerror})"
    return row | {"image": _file(image), "label.segmentation_bitmap": bitmap}


def _head(sample: Sample, *, without: tuple[int, ...] = ()) -> dict[str, Any]:
    """The columns that need no file; annotations of the categories `without` are left out."""
    label = sample.label
    kept = [a for a in label.annotations if a.category_id not in without] if label else []
    return {
        "name": sample.name,
        "uuid": sample.uuid,
        "status": label.status if label else "UNLABELED",
        "label.annotations": [{"id": a.id, "category_id": a.category_id} for a in kept],
    }


def _unstorable(label: Label | None) -> str:
    numbers = [n for a in label.annotations for n in (a.id, a.category_id)] if label else []
    wrong = [n for n in numbers if not -_INT64 <= n < _INT64]
    return f"its annotations have the number {wrong[0]}" if wrong else ""


def _size(image: bytes) -> tuple[int, int]:
    try:
        return require_whole(image)
    except BitmapError as e:
        raise BitmapError(f"its image: {e.message}") from None


def _checked(data: bytes, label: Label, labels: LabelMap, size_hw: tuple[int, int]) -> npt.NDArray[np.uint32]:
    """(H, W) instance ids, each of them annotated, in the frame of the decoded image; unlabeled categories as 0."""
    try:
        ids = decode_instance_bitmap(data)
    except BitmapError as e:
        raise BitmapError(f"its bitmap: {e.message}") from None
    if ids.shape != size_hw:
        (h, w), (height, width) = ids.shape, size_hw
        raise BitmapError(f"its bitmap is {h}x{w}, its image {height}x{width} pixels high x wide")
    classes = instance_classes(((a.id, a.category_id) for a in label.annotations), labels.category_table())
    semantic = to_semantic(ids, classes, dtype=labels.dtype)
    if any(a.category_id in labels.unlabeled_ids for a in label.annotations):
        ids[semantic == 0] = 0
    return ids


def _encoded(ids: npt.NDArray[np.uint32]) -> bytes:
    """Ids as an image of one channel: PNG, or where 16 bits do not hold them a packed 32-bit TIFF."""
    top = int(ids.max(initial=0))
    if top <= np.iinfo(np.uint16).max:
        return encode_png(ids.astype(np.uint8 if top <= np.iinfo(np.uint8).max else np.uint16), level=1)
    out = io.BytesIO()
    Image.fromarray(ids.astype(np.int32)).save(out, "TIFF", compression="tiff_adobe_deflate")
    return out.getvalue()


def _file(data: bytes) -> dict[str, Any]:
    return {"bytes": data, "path": None}  # no path: a sample's name may point anywhere
