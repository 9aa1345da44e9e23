"""Samples -> labels on Segments.ai: images fetched, predicted in batches, and written a few at a time meanwhile."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync.deploy.categories import Placement
from labelsync.deploy.instances import instances, merge_specks
from labelsync.deploy.journal import Journal
from labelsync.deploy.writing import write_label
from labelsync.errors import AuthError, BitmapError, ServiceError
from labelsync.model.ahead import load_ahead
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from labelsync.pixels.instance import encode_instance_bitmap
from labelsync.records.prelabels import PrelabelRow
from labelsync.release.assets import Asset, fetch_assets
from labelsync.release.cache import AssetCache
from labelsync.release.labeling import Labeling, NewLabel, SampleState
from labelsync.release.signed_urls import SignedUrls

WRITERS = 4  # labels written at the same time; each takes five requests, one after the other
GIVE_UP_AFTER = 4  # labels in a row that the server did not take, each with its retries

_DOWNLOADS = 16  # at the same time, as in `pull`


@dataclass(frozen=True)
class Job:
    """What every sample needs; without a journal nothing is written."""

    platform: Labeling
    journal: Journal | None
    segmenter: Segmenter
    placement: Placement
    min_size: int
    user: str


def draft(job: Job, samples: Sequence[SampleState]) -> Iterator[PrelabelRow]:
    """Fetch the images of all samples, predict and write them; one row for each.

    Raises:
        AuthError: the key may not write; what was under way is finished, the rest never starts.
        ModelError: as `Segmenter`.
    """
    cache = AssetCache()
    with cache.in_use(), SignedUrls({str(s.image_url): s.uuid for s in samples}) as sign:
        images = {s.uuid: Asset(str(s.image_url), "image") for s in samples}
        fetched, problems = fetch_assets(images.values(), cache=cache, workers=_DOWNLOADS, sign=sign)
        ready = []
        for sample in samples:
            if images[sample.uuid] in problems:
                reason = f"image {problems[images[sample.uuid]]}"
                yield PrelabelRow(sample.uuid, sample.name, "failed", reason, sample.status)
            else:
                ready.append(sample)
        yield from _written(job, ready, {s.uuid: fetched[images[s.uuid]].path for s in ready})


def _written(job: Job, samples: Sequence[SampleState], paths: Mapping[str, Path]) -> Iterator[PrelabelRow]:
    """The rows in the order of the samples; a batch is predicted while the one before it is written."""
    write = _giving_up(job)
    waiting: deque[Future[PrelabelRow]] = deque()
    with (
        ThreadPoolExecutor(WRITERS, thread_name_prefix="prelabel") as pool,
        tqdm(total=len(samples), desc="prelabel", unit="image", disable=None) as bar,
    ):
        try:
            for sample, bitmap, problem in _predicted(job.segmenter, samples, paths):
                waiting.append(pool.submit(write, sample, bitmap, problem))
                if len(waiting) > WRITERS + job.segmenter.batch_size:
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()
        finally:  # Ctrl-C, a refused key: what is under way comes to its end, and so into the record
            for future in waiting:
                future.cancel()


def _predicted(
    segmenter: Segmenter, samples: Sequence[SampleState], paths: Mapping[str, Path]
) -> Iterator[tuple[SampleState, npt.NDArray[Any] | None, str]]:
    """Each sample with its (H, W) disk ids, or None and the reason."""

    def load(sample: SampleState) -> npt.NDArray[np.uint8]:
        try:
            return decode_image(paths[sample.uuid].read_bytes())
        except OSError as e:
            raise BitmapError(e.strerror or str(e)) from None

    for batch in load_ahead(samples, load, batch_size=segmenter.batch_size):
        images = {loading.item.uuid: loading.value for loading in batch if loading.value is not None}
        bitmaps = dict(zip(images, segmenter.segment_batch(images.values()), strict=True))
        yield from ((loading.item, bitmaps.get(loading.item.uuid), loading.problem) for loading in batch)


# -------------------------------------------------------------------- one sample

_Write = Callable[[SampleState, npt.NDArray[Any] | None, str], PrelabelRow]


def _giving_up(job: Job) -> _Write:
    """`_one`, until the server has not answered so often in a row that it will not for the next one."""
    silent, lock = 0, threading.Lock()

    def write(sample: SampleState, bitmap: npt.NDArray[Any] | None, problem: str) -> PrelabelRow:
        nonlocal silent
        if bitmap is None:
            return PrelabelRow(sample.uuid, sample.name, "failed", f"image {problem}", sample.status)
        if silent >= GIVE_UP_AFTER:
            reason = f"not tried, the server did not take {GIVE_UP_AFTER} labels in a row"
            return PrelabelRow(sample.uuid, sample.name, "failed", reason)
        row = _one(job, sample, bitmap)
        with lock:
            silent = silent + 1 if row.outcome == "failed" and not row.annotations else 0
        return row

    return write


def _one(job: Job, sample: SampleState, bitmap: npt.NDArray[Any]) -> PrelabelRow:
    """Make the label of one sample and write it, unless this is a dry run."""
    labels = job.segmenter.labels
    merged = merge_specks(bitmap, min_size=job.min_size) if job.min_size else bitmap
    ids, classes = instances(merged, drawn=job.placement.drawn(labels.num_labels), things=job.placement.things)
    if not classes:
        return PrelabelRow(sample.uuid, sample.name, "empty", "the model sees no class there", sample.status)
    if job.journal is None:
        return PrelabelRow(sample.uuid, sample.name, "prelabeled", "", sample.status, len(classes))
    try:
        url = job.platform.upload(encode_instance_bitmap(ids), f"{sample.uuid}.png")
    except AuthError:
        raise
    except ServiceError as e:
        return PrelabelRow(sample.uuid, sample.name, "failed", f"its bitmap was not uploaded: {e.message}")
    numbered = tuple((i, job.placement.category_ids[c]) for i, c in enumerate(classes, 1))
    return write_label(job.platform, job.journal, sample, NewLabel(url, numbered), user=job.user)
