"""What differs between two releases, as far as arithmetic goes: no network, no disk.

First by the entries of the release files: a label whose bitmap and whose classes per instance are the same has the same
pixels, so nothing of it is read. Then by pixels: (H, W) disk ids against (H, W) disk ids.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from labelsync.errors import BitmapError
from labelsync.labels import LabelMap, from_categories
from labelsync.pixels.semantic import instance_classes, to_semantic
from labelsync.records.changes import Change, ClassChange, Flow, SampleChange
from labelsync.records.release import Annotation, Sample
from labelsync.release.side import Drawn, Side
from labelsync.taxonomy import Category, TaxonomyChanges

IdFlow = Mapping[tuple[int, int], int]  # (old disk id, new disk id) -> pixels, of different ids only

_COUNTED = 1 << 20  # pairs of ids up to here are counted in an array, above by sorting


# -------------------------------------------------------------------- classes


@dataclass(frozen=True)
class Taxonomy:
    """The classes of both releases on one axis, `labels`; `old` and `new` = category id -> disk id on it."""

    labels: LabelMap
    old: dict[int, int]
    new: dict[int, int]
    changes: TaxonomyChanges


def join_categories(old: Iterable[Category], new: Iterable[Category]) -> Taxonomy:
    """Both taxonomies as one map, under the label contract.

    A class is followed by its name, and where the name is new, by its number: a rename changes no pixel, nor does a
    renumbering whose annotations were renumbered too. Raises TaxonomyError for a name or number that occurs twice.
    """
    first = from_categories(old)
    labels, changes = first.extended(new, allow_renumbering=True)
    return Taxonomy(labels, first.category_table(), labels.category_table(), changes)


# -------------------------------------------------------------------- samples


@dataclass(frozen=True)
class Compared:
    """One sample of either release and what its entries tell. `old`, `new` = the labels whose pixels tell more."""

    uuid: str
    name: str
    change: Change
    old_status: str
    new_status: str
    old: Drawn | None = None
    new: Drawn | None = None
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Whether pixels have to be looked at."""
        return self.old is not None or self.new is not None


def compare_entries(old: Side, new: Side, taxonomy: Taxonomy, *, status: Collection[str]) -> list[Compared]:
    """Every sample of either side once: in the newer release's order, then those that it lacks."""
    before, after = ({s.uuid: s for s in side.release.samples} for side in (old, new))
    found = []
    for uuid in (*after, *(u for u in before if u not in after)):
        was, now = before.get(uuid), after.get(uuid)
        found.append(_compared(was, now, _drawn(was, old, status), _drawn(now, new, status), taxonomy))
    return found


def _compared(
    before: Sample | None, after: Sample | None, was: Drawn | None, now: Drawn | None, taxonomy: Taxonomy
) -> Compared:
    known = after or before
    assert known is not None  # noqa: S101 - it comes from one of the two
    found = Compared(known.uuid, known.name, "unchanged", _status(before), _status(after))
    problems = [f"{which} release: {s.problem}" for s, which in ((before, "old"), (after, "new")) if s and s.problem]
    if problems:
        return replace(found, change="failed", reason="; ".join(problems))
    change: Change = "unchanged" if found.old_status == found.new_status else "status"
    if before is None or after is None:
        change = "added" if before is None else "removed"
    elif was and now:
        if _is_same(was, now, taxonomy):
            return replace(found, change=change)
        change = "relabelled"
    elif was or now:
        change = "labelled" if now else "unlabelled"
    return replace(found, change=change, old=was, new=now)


def _status(sample: Sample | None) -> str:
    if sample is None:
        return ""
    return sample.label.status if sample.label else "UNLABELED"


def _drawn(sample: Sample | None, side: Side, status: Collection[str]) -> Drawn | None:
    """The label of a sample if it counts."""
    if sample is None or sample.label is None or sample.label.status not in status:
        return None
    return side.drawn(sample, sample.label)


def _is_same(was: Drawn, now: Drawn, taxonomy: Taxonomy) -> bool:
    """Whether the entries alone say that two labels have the same pixels."""
    if was.is_shapes or now.is_shapes:
        return _strokes(was.annotations, taxonomy.old) == _strokes(now.annotations, taxonomy.new)
    return was.has_bitmap_of(now) and _classes(was.annotations, taxonomy.old) == _classes(now.annotations, taxonomy.new)


def _strokes(annotations: Iterable[Annotation], table: Mapping[int, int]) -> list[tuple[Any, ...]]:
    """What shapes draw, in the order they draw it."""
    return [(a.type, a.points, table.get(a.category_id, -1 - a.category_id)) for a in annotations]


def _classes(annotations: Iterable[Annotation], table: Mapping[int, int]) -> set[tuple[int, int]]:
    """(instance id, disk id) pairs; a category outside the taxonomy is told from the others, not refused."""
    return {(a.id, table.get(a.category_id, -1 - a.category_id)) for a in annotations}


# -------------------------------------------------------------------- pixels


def class_map(
    instances: npt.NDArray[np.uint32], annotations: Iterable[Annotation], table: Mapping[int, int], labels: LabelMap
) -> npt.NDArray[Any]:
    """(H, W) instance ids -> (H, W) disk ids. Raises BitmapError as `instance_classes` and `to_semantic`."""
    classes = instance_classes(((a.id, a.category_id) for a in annotations), table)
    return to_semantic(instances, classes, dtype=labels.dtype)


def pixel_flow(old: npt.NDArray[Any] | None, new: npt.NDArray[Any] | None) -> dict[tuple[int, int], int]:
    """(H, W) disk ids of before and after -> (old id, new id) -> pixels, where they differ. None = all unlabeled.

    Raises:
        BitmapError: two sizes.
    """
    if old is None or new is None:
        one = new if old is None else old
        if one is None:
            return {}
        old, new = (np.zeros_like(one) if x is None else x for x in (old, new))
    if old.shape != new.shape:
        sizes = " and is ".join(f"{height}x{width}" for height, width in (old.shape, new.shape))
        raise BitmapError(f"its bitmap was {sizes} pixels high x wide")
    width = max(int(old.max(initial=0)), int(new.max(initial=0))) + 1
    pairs = old.astype(np.int64).ravel()
    pairs *= width
    pairs += new.ravel()
    if width * width <= _COUNTED:
        counts = np.bincount(pairs)
        present = counts.nonzero()[0]
        counts = counts[present]
    else:
        present, counts = np.unique(pairs, return_counts=True)
    found = zip((divmod(int(p), width) for p in present), counts.tolist(), strict=True)
    return {pair: n for pair, n in found if pair[0] != pair[1]}


# -------------------------------------------------------------------- in the end


def sample_change(compared: Compared, flow: IdFlow, taxonomy: Taxonomy) -> SampleChange:
    """The row of a sample whose pixels were looked at, or needed not be."""
    pixels = sum(flow.values())
    return SampleChange(
        name=compared.name,
        change="redrawn" if compared.change == "relabelled" and not pixels else compared.change,
        old_status=compared.old_status,
        new_status=compared.new_status,
        pixels=pixels,
        flow=named(flow, taxonomy.labels),
        reason=compared.reason,
    )


def named(flow: IdFlow, labels: LabelMap) -> Flow:
    """A flow by class names, in the order of disk ids."""
    result: Flow = {}
    names = labels.id2label
    for (a, b), n in sorted(flow.items()):
        result.setdefault(names[a], {})[names[b]] = n
    return result


def total(flows: Iterable[IdFlow]) -> Counter[tuple[int, int]]:
    """The sum of flows."""
    result: Counter[tuple[int, int]] = Counter()
    for flow in flows:
        result.update(flow)
    return result


def class_changes(relabelled: IdFlow, came: IdFlow, went: IdFlow, labels: LabelMap) -> dict[str, ClassChange]:
    """What each class gained and lost, those that did neither left out; `came` and `went` = of whole labels."""
    table = np.zeros((labels.num_labels + 1, 4), np.int64)
    for (a, b), n in relabelled.items():
        table[b, 0] += n
        table[a, 1] += n
    for (_, b), n in came.items():
        table[b, 2] += n
    for (a, _), n in went.items():
        table[a, 3] += n
    return {
        name: ClassChange(*map(int, table[i]))  # gained, lost, new, gone
        for i, name in labels.id2label.items()
        if table[i].any()
    }


def totals(changes: Iterable[Change]) -> dict[str, int]:
    """Samples per change, all changes always there."""
    count = Counter(changes)
    return {c: count[c] for c in get_args(Change)}


def status_changes(compared: Iterable[Compared]) -> Flow:
    """Old status -> new status -> samples, of the samples in both releases whose status differs."""
    count = Counter((c.old_status, c.new_status) for c in compared if c.old_status and c.new_status)
    result: Flow = {}
    for (a, b), n in sorted(count.items()):
        if a != b:
            result.setdefault(a, {})[b] = n
    return result
