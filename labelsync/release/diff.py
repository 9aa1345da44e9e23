"""`diff`: what changed from one release to the next, in samples, categories and pixels."""

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync.errors import BitmapError, OptionError, SamplesFailed
from labelsync.pixels.image import image_size
from labelsync.pixels.instance import decode_instance_bitmap
from labelsync.pixels.shapes import draw_shapes
from labelsync.records.changes import DiffRecord, DiffSide
from labelsync.release import compare
from labelsync.release.assets import Asset, Fetched, fetch_assets
from labelsync.release.cache import AssetCache
from labelsync.release.compare import Compared, IdFlow, Taxonomy
from labelsync.release.parse import check_status
from labelsync.release.side import Drawn, Side, open_side, shared
from labelsync.store.files import sha256


def diff(
    old: str | Path,
    new: str | Path,
    *,
    labelset: str = "ground-truth",
    status: Sequence[str] = ("LABELED", "REVIEWED"),
    line_width: float = 0.0,
    wait: float = 600.0,
    workers: int = 16,
    allow_failed: int = 0,
) -> DiffRecord:
    """Compare two releases: their samples, labels and categories, and the pixels that went from class to class.

    Samples are matched by uuid, frames of a sequence by their number in it. Classes are followed by name, and where a
    name is new, by the category's number. Only bitmaps of labels that differ are fetched and decoded (of labels made of
    shapes, the images, which say where shapes are cut off): neither a new signature in a URL nor a new status is a
    difference in pixels.

    Args:
        old: the earlier release: "owner/dataset@release", a release file by path or http(s) URL, or a folder of `pull`.
        new: the later one, likewise.
        labelset: whose labels to compare; a folder has the one that it was pulled with.
        status: label statuses that count; labels of other statuses are as good as none.
        line_width: pixels that polylines are wide, 0 = they have no pixels.
        wait: seconds to wait for a release that is PENDING.
        workers: downloads at the same time.
        allow_failed: number of samples that may fail; they are in the record, with the reason.

    Raises:
        OptionError, AuthError, ServiceError, ReleaseNotFound, ReleaseNotReady, ReleaseFormatError: no release.
        DatasetNotFound: a folder that no finished `pull` left.
        TaxonomyError: categories of which two have one name or one number.
        SamplesFailed: more than `allow_failed` samples could not be compared.
    """
    for flag, value, least in (
        ("--workers", workers, 1),
        ("--allow-failed", allow_failed, 0),
        ("--wait", wait, 0),
        ("--line-width", line_width, 0),
    ):
        if not value >= least:  # a NaN is refused too
            raise OptionError(f"{flag} is {value}, which is out of range", hint=f"give {least} or more")
    wanted = check_status(status)
    before, after = (open_side(source, labelset=labelset, wait=wait) for source in (old, new))
    taxonomy = compare.join_categories(before.release.categories, after.release.categories)
    found = [_merged(c) for c in compare.compare_entries(before, after, taxonomy, status=wanted)]
    assets = [d.asset for c in found for d in (c.old, c.new) if d is not None and d.asset is not None]
    fetched, missing = fetch_assets(assets, cache=AssetCache(), workers=workers) if assets else ({}, {})
    reading = _Reading(taxonomy, fetched, missing, line_width)
    counted = _count([c for c in found if c.is_open], reading, workers=workers)
    done = [counted[c.uuid].compared if c.uuid in counted else c for c in found]
    _refuse_losses(done, allow_failed)
    return _record((before, after), taxonomy, done, counted, list(fetched.values()), status=wanted)


def _merged(compared: Compared) -> Compared:
    """One bitmap that both labels have is one asset, though its URL was signed twice."""
    old, new = compared.old, compared.new
    if old is None or new is None or not old.has_bitmap_of(new) or old.problem or new.problem:
        return compared
    asset = shared(old, new)
    return replace(compared, old=replace(old, asset=asset), new=replace(new, asset=asset))


# -------------------------------------------------------------------- pixels


@dataclass(frozen=True)
class _Counted:
    """A sample whose pixels were looked at; a `failed` one has no flow."""

    compared: Compared
    flow: IdFlow
    decoded: int


@dataclass(frozen=True)
class _Reading:
    """What it takes to read labels."""

    taxonomy: Taxonomy
    fetched: Mapping[Asset, Fetched]
    missing: Mapping[Asset, str]
    line_width: float

    def bytes_of(self, drawn: Drawn | None) -> bytes | None:
        """The bitmap's bytes, None where nothing was drawn. Raises BitmapError with the reason."""
        if drawn is None or drawn.asset is None:
            if drawn is not None and drawn.problem:
                raise BitmapError(drawn.problem)
            return None
        if drawn.asset in self.missing:
            raise BitmapError(f"{drawn.asset.kind} {self.missing[drawn.asset]}")
        path = self.fetched[drawn.asset].path
        try:
            data = path.read_bytes()
        except OSError as e:
            raise BitmapError(f"its {drawn.asset.kind} cannot be read ({e.strerror}): {path.name}") from None
        if drawn.sha256 and sha256(data) != drawn.sha256:
            raise BitmapError(f"its {drawn.asset.kind} was changed after the pull: {path.name}")
        return data


def _count(open_ones: list[Compared], reading: _Reading, *, workers: int) -> dict[str, _Counted]:
    """uuid -> what the pixels say. Decoding and counting release the interpreter's lock, so threads do."""
    counted: dict[str, _Counted] = {}
    if not open_ones:
        return counted
    with (
        ThreadPoolExecutor(min(workers, os.cpu_count() or 1), thread_name_prefix="diff") as pool,
        tqdm(total=len(open_ones), desc="labels", unit="label", disable=None, file=sys.stderr) as bar,
    ):
        futures = [pool.submit(_count_one, c, reading) for c in open_ones]
        try:
            for future in as_completed(futures):
                one = future.result()
                counted[one.compared.uuid] = one
                bar.update()
        except BaseException:  # Ctrl-C: what is under way may end, the rest never starts
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return counted


def _count_one(compared: Compared, reading: _Reading) -> _Counted:
    side, decoded = "old", 0
    try:
        before = reading.bytes_of(compared.old)
        side = "new"
        after = reading.bytes_of(compared.new)
        side = "old"
        old_ids, decoded = _decoded(before, compared.old), before is not None
        old = _classes(old_ids, compared.old, reading.taxonomy.old, reading)
        side = "new"
        is_same = after is not None and after == before
        new_ids = old_ids if is_same else _decoded(after, compared.new)
        decoded += after is not None and not is_same
        new = _classes(new_ids, compared.new, reading.taxonomy.new, reading)
        flow = compare.pixel_flow(old, new)
    except BitmapError as e:
        return _Counted(replace(compared, change="failed", reason=f"{side} release: {e.message}"), {}, decoded)
    return _Counted(compared, flow, decoded)


def _decoded(data: bytes | None, drawn: Drawn | None) -> npt.NDArray[np.uint32] | None:
    """(H, W) instance ids; of the image of a label made of shapes, zeros of its size."""
    if data is None or drawn is None:
        return None
    try:
        return np.broadcast_to(np.uint32(0), image_size(data)) if drawn.is_shapes else decode_instance_bitmap(data)
    except BitmapError as e:
        raise BitmapError(f"its {'image' if drawn.is_shapes else 'bitmap'}: {e.message}") from None


def _classes(
    instances: npt.NDArray[np.uint32] | None, drawn: Drawn | None, table: Mapping[int, int], reading: _Reading
) -> npt.NDArray[Any] | None:
    if instances is None or drawn is None:
        return None
    labels = reading.taxonomy.labels
    if drawn.is_shapes:
        width = reading.line_width
        return draw_shapes(drawn.annotations, table, instances.shape, dtype=labels.dtype, line_width=width)[0]
    return compare.class_map(instances, drawn.annotations, table, labels)


# -------------------------------------------------------------------- the record


def _refuse_losses(done: Sequence[Compared], allowed: int) -> None:
    failed = [c for c in done if c.change == "failed"]
    if len(failed) <= allowed:
        return
    more = f"; {len(failed) - 1} more of {len(done)} samples failed" if len(failed) > 1 else ""
    raise SamplesFailed(
        f"sample {failed[0].name!r} cannot be compared: {failed[0].reason}{more}",
        hint=f"mend it, or pass --allow-failed {len(failed)} to compare the others",
        details=[f"{c.name!r} ({c.uuid}): {c.reason}" for c in failed] if more else (),
    )


def _record(
    sides: Sequence[Side],
    taxonomy: Taxonomy,
    done: Sequence[Compared],
    counted: Mapping[str, _Counted],
    fetched: Sequence[Fetched],
    *,
    status: Sequence[str],
) -> DiffRecord:
    flows = {uuid: c.flow for uuid, c in counted.items()}
    rows = {c.uuid: compare.sample_change(c, flows.get(c.uuid, {}), taxonomy) for c in done}
    relabelled = compare.total(flows[c.uuid] for c in done if c.change == "relabelled")
    came = compare.total(flows.get(c.uuid, {}) for c in done if c.change in ("labelled", "added"))
    went = compare.total(flows.get(c.uuid, {}) for c in done if c.change in ("unlabelled", "removed"))
    old, new = (_side(side, status) for side in sides)
    return DiffRecord(
        old=old,
        new=new,
        totals=compare.totals(row.change for row in rows.values()),
        statuses=compare.status_changes(done),
        categories=taxonomy.changes,
        classes=compare.class_changes(relabelled, came, went, taxonomy.labels),
        flow=compare.named(relabelled, taxonomy.labels),
        samples={uuid: row for uuid, row in rows.items() if row.change != "unchanged"},
        fetched=sum(f.origin == "network" for f in fetched),
        bytes_fetched=sum(f.downloaded for f in fetched),
        decoded=sum(c.decoded for c in counted.values()),
    )


def _side(side: Side, status: Sequence[str]) -> DiffSide:
    labels = [s.label for s in side.release.samples if s.label is not None]
    return DiffSide(
        source=side.source,
        dataset=side.release.dataset,
        release=side.release.name,
        samples=len(side.release.samples),
        labelled=sum(label.status in status for label in labels),
    )
