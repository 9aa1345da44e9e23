"""Samples -> labels on Segments.ai: images fetched, predicted in batches, and written a few at a time meanwhile."""

import threading
from collections import deque
from collections.abc import Generator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync.deploy.categories import Placement
from labelsync.deploy.instances import instances, merge_specks
from labelsync.deploy.journal import Journal, Past
from labelsync.deploy.ordering import set_priority, with_theirs
from labelsync.deploy.strategy import Judgement, Strategy, judge, priorities
from labelsync.deploy.writing import WRITERS, write_label
from labelsync.errors import AuthError, BitmapError, LabelsyncError, ServiceError
from labelsync.model.ahead import load_ahead
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from labelsync.pixels.instance import encode_instance_bitmap
from labelsync.records.prelabels import PrelabelRow
from labelsync.release.assets import Asset, Fetched, stream_assets
from labelsync.release.cache import AssetCache
from labelsync.release.current import AHEAD, DOWNLOADS
from labelsync.release.labeling import Labeling, NewLabel, SampleState
from labelsync.release.signed_urls import SignedUrls

GIVE_UP_AFTER = 4  # labels in a row that the server did not take, each with its retries; then the run ends


@dataclass(frozen=True)
class Job:
    """What every sample needs; without a journal nothing is written, without a strategy nothing is ordered."""

    platform: Labeling
    journal: Journal | None
    past: Past
    segmenter: Segmenter
    placement: Placement
    min_size: int
    user: str
    strategy: Strategy | None


def draft(
    job: Job, samples: Sequence[SampleState], keep: Mapping[str, PrelabelRow], rows: MutableMapping[str, PrelabelRow]
) -> None:
    """Fetch the image of every sample, predict, write and order it; some images ahead, so the first need not wait.

    Args:
        keep: rows of samples that only get a priority.
        rows: gets a row for each, as soon as it is known what became of it: whatever ends this, they are right.

    Raises:
        AuthError: the key may not write; what was under way is finished, the rest never starts.
        ModelError: as `Segmenter`.
    """
    patience = _Patience()
    placed: list[_Drafted] = []
    with closing(_written(job, samples, keep, patience, rows)) as drafted:
        for one in drafted:
            placed += [one] if one.embedding is not None else []
    if placed:
        _order(job, placed, patience, rows)
    for sample in samples:
        if sample.uuid not in rows:
            rows[sample.uuid] = PrelabelRow(sample.uuid, sample.name, "failed", _given_up())


@dataclass(frozen=True, eq=False)
class _Drafted:
    """A sample's row and, if it is to be ordered once all were seen, what the model says of the image."""

    state: SampleState
    row: PrelabelRow
    unsure: float = 0.0
    embedding: npt.NDArray[np.float32] | None = None


def _written(
    job: Job,
    samples: Sequence[SampleState],
    keep: Mapping[str, PrelabelRow],
    patience: "_Patience",
    rows: MutableMapping[str, PrelabelRow],
) -> Generator[_Drafted, None, None]:
    """In the order of the samples; a batch is predicted while the one before it is written."""

    def write(sample: SampleState, found: Judgement | None, problem: str) -> _Drafted:
        try:
            made = _write(job, sample, found, problem, kept=keep.get(sample.uuid), patience=patience)
        except LabelsyncError as e:
            rows[sample.uuid] = PrelabelRow(sample.uuid, sample.name, "failed", e.message)
            raise
        if made.row.outcome != "ordered" or made.row.priority is not None:  # else its order is still to come
            rows[sample.uuid] = made.row
        return made

    waiting: deque[Future[_Drafted]] = deque()
    with (
        ThreadPoolExecutor(WRITERS, thread_name_prefix="prelabel") as pool,
        tqdm(total=len(samples), desc="prelabel", unit="image", disable=None) as bar,
        closing(_predicted(job, samples)) as predicted,
    ):
        try:
            for sample, found, problem in predicted:
                if patience.is_over:
                    break
                waiting.append(pool.submit(write, sample, found, problem))
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
    job: Job, samples: Sequence[SampleState]
) -> Generator[tuple[SampleState, Judgement | None, str], None, None]:
    """Each sample with what the model says of it, or None and the reason."""

    def load(item: tuple[SampleState, Fetched | str]) -> npt.NDArray[np.uint8]:
        if isinstance(item[1], str):
            raise BitmapError(item[1])
        try:
            return decode_image(item[1].path.read_bytes())
        except OSError as e:
            raise BitmapError(e.strerror or str(e)) from None

    with closing(_fetched(samples)) as items:
        for batch in load_ahead(items, load, batch_size=job.segmenter.batch_size):
            images = [loading.value for loading in batch if loading.value is not None]
            found = iter(judge(job.segmenter, images, job.strategy))
            for loading in batch:
                yield loading.item[0], None if loading.value is None else next(found), loading.problem


def _fetched(samples: Sequence[SampleState]) -> Generator[tuple[SampleState, Fetched | str], None, None]:
    """Each sample and its image in the asset cache, which `pull` finds there once the labels are released."""
    cache = AssetCache()
    assets = (Asset(str(s.image_url), "image") for s in samples)
    with (
        cache.in_use(),
        SignedUrls({str(s.image_url): s.uuid for s in samples}) as sign,
        closing(stream_assets(assets, cache=cache, workers=DOWNLOADS, ahead=AHEAD, sign=sign)) as images,
    ):
        yield from zip(samples, images, strict=True)


def _order(job: Job, placed: Sequence[_Drafted], patience: "_Patience", rows: MutableMapping[str, PrelabelRow]) -> None:
    """Give every sample its place among the others, once all were seen."""
    assert job.strategy is not None  # noqa: S101 - for the type
    found = priorities(
        [d.unsure for d in placed], [d.embedding for d in placed if d.embedding is not None], job.strategy
    )

    def order(one: tuple[_Drafted, float]) -> None:
        uuid = one[0].state.uuid
        try:
            rows[uuid] = _place(job, one[0].state, one[0].row, one[1], patience)
        except LabelsyncError as e:
            rows[uuid] = replace(one[0].row, outcome="failed", reason=e.message)
            raise

    every = list(zip(placed, found, strict=True))
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="prelabel") as pool:
        try:
            for _ in tqdm(pool.map(order, every), total=len(every), desc="order", unit="image", disable=None):
                pass
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


# -------------------------------------------------------------------- one sample

_WAITING = ("prelabeled", "ordered", "there", "empty")  # outcomes of samples that somebody will label


def _given_up() -> str:
    return f"not tried, the server did not take {GIVE_UP_AFTER} labels in a row"


class _Patience:
    """Ends when the server has not taken anything so often in a row that it will not the next time."""

    def __init__(self) -> None:
        self._silent, self._lock = 0, threading.Lock()

    @property
    def is_over(self) -> bool:
        return self._silent >= GIVE_UP_AFTER

    def note(self, *, failed: bool) -> None:
        with self._lock:
            self._silent = self._silent + 1 if failed else 0


def _write(
    job: Job,
    sample: SampleState,
    found: Judgement | None,
    problem: str,
    *,
    kept: PrelabelRow | None,
    patience: _Patience,
) -> _Drafted:
    """Label and priority of one sample; of a diverse strategy the priority comes later."""
    if found is None:
        return _Drafted(sample, PrelabelRow(sample.uuid, sample.name, "failed", f"image {problem}", sample.status))
    if patience.is_over:
        return _Drafted(sample, PrelabelRow(sample.uuid, sample.name, "failed", _given_up()))
    row = kept
    if row is None:
        row = _one(job, sample, found.bitmap)
        patience.note(failed=row.outcome == "failed" and not row.annotations)
    if job.strategy is None or row.outcome not in _WAITING:
        return _Drafted(sample, row)
    if job.strategy.diverse:
        return _Drafted(sample, row, found.uncertainty, found.embedding)
    (priority,) = priorities([found.uncertainty], [], job.strategy)
    return _Drafted(sample, _place(job, sample, row, priority, patience))


def _place(job: Job, sample: SampleState, row: PrelabelRow, priority: float, patience: _Patience) -> PrelabelRow:
    """Give the sample its priority, unless this is a dry run."""
    assert job.strategy is not None  # noqa: S101 - for the type
    if job.journal is None:
        is_ours = job.past.is_ours(sample.uuid, sample.priority)
        return replace(row, priority=priority) if is_ours else with_theirs(row, sample.priority)
    if patience.is_over:
        return replace(row, outcome="failed", reason="its priority was not tried: the server takes nothing")
    placed = set_priority(job.platform, job.journal, row, priority, strategy=job.strategy.name)
    patience.note(failed=placed.outcome == "failed")
    return placed


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
