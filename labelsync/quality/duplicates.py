"""Images that are there twice: the same file, the same pixels in another file, or nearly the same across splits."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from labelsync.dataset.split import SPLITS
from labelsync.errors import BitmapError
from labelsync.quality.labelled import counted, percent
from labelsync.quality.likeness import BITS, Hashes, nearest
from labelsync.quality.look import Seen, pixel_digest, semantic
from labelsync.quality.subject import ALL, Subject
from labelsync.records.findings import Finding

T = TypeVar("T")
U = TypeVar("U")

Spread = Callable[[Callable[[T], U], Sequence[T]], list[U]]  # a map over samples, in parallel

_SAME = 32  # bits; the same pixels differ in fewer, if a JPEG was hashed at a reduced size and a PNG was not

_ORDER = {ALL: 0} | {split: i for i, split in enumerate(SPLITS)}


def duplicates(subject: Subject, seen: Sequence[Seen], spread: "Spread[Any, Any]") -> list[Finding]:
    """A finding for every sample whose image is there already: an error across splits, or where labels differ."""
    pairs = _pairs(_same_pixels(subject, seen, spread))
    changed = spread(lambda pair: _changed(subject, *pair.both), pairs)
    return [_duplicate(pair, share) for pair, share in zip(pairs, changed, strict=True)]


def near_duplicates(seen: Sequence[Seen], *, within: int, known: Iterable[Finding], is_split: bool) -> list[Finding]:
    """A finding for every sample that looks like one of a split before its own (train, validation, test).

    Only across splits: neighbours in one split do no harm. Where nothing is split yet, one finding says how many
    samples look like another. `known` = duplicates; a sample that is one across splits is not told twice.
    """
    splits = {s.uuid: s.split for s in seen}
    told = {f.uuid for f in known if splits[f.uuid] != splits[f.others[0]]}
    images = [s for s in seen if s.image is not None]
    if not is_split:
        return _alike(images, within=within)
    findings = []
    for later in SPLITS[1:]:
        before = [s for s in images if _ORDER[s.split] < _ORDER[later]]
        asked = [s for s in images if s.split == later and s.uuid not in told]
        found = nearest(_bits(asked), _bits(before), within=within)
        for i, s in enumerate(asked):
            if found.count[i]:
                other = before[int(found.index[i])]
                findings.append(_near(s, other, int(found.distance[i]), int(found.count[i])))
    return findings


# -------------------------------------------------------------------- the very same


@dataclass(frozen=True)
class _Pair:
    """`one` is there already as `other`; `copies` = how many there are in all."""

    one: Seen
    other: Seen
    copies: int

    @property
    def both(self) -> tuple[int, int]:
        return self.one.index, self.other.index


def _same_pixels(subject: Subject, seen: Sequence[Seen], spread: "Spread[Any, Any]") -> list[list[Seen]]:
    """Groups of samples whose images are the same; pixels are compared where the hashes are."""
    files: dict[str, list[Seen]] = defaultdict(list)
    for s in seen:
        if s.image is not None:
            files[s.image.digest].append(s)
    suspects = _suspects([same[0] for same in files.values()])
    digests = spread(lambda s: _pixels_or_nothing(subject, s.index), suspects)
    pixels: dict[str, list[Seen]] = defaultdict(list)
    shown = {s.index: digest for s, digest in zip(suspects, digests, strict=True) if digest}
    for digest, same in files.items():
        pixels[shown.get(same[0].index, digest)] += same
    return [sorted(same, key=lambda s: (_ORDER[s.split], s.name, s.uuid)) for same in pixels.values() if len(same) > 1]


def _suspects(seen: Sequence[Seen]) -> list[Seen]:
    """Samples whose image could be another's: of one size, and of one hash if they were hashed alike."""
    sizes: dict[tuple[int, int], list[Seen]] = defaultdict(list)
    for s in seen:
        if s.image is not None:
            sizes[s.image.size_hw].append(s)
    found = []
    for same in sizes.values():
        bits = _bits(same)
        if len({s.image.is_reduced for s in same if s.image}) == 1:
            _, which, counts = np.unique(bits, axis=0, return_inverse=True, return_counts=True)
            count = counts[which.ravel()]
        else:
            count = nearest(bits, bits, within=_SAME).count
        found += [s for s, n in zip(same, count, strict=True) if n > 1]  # one of them is itself
    return found


def _pixels_or_nothing(subject: Subject, index: int) -> str:
    try:
        return pixel_digest(subject, index)
    except BitmapError:  # it could be read a moment ago
        return ""


def _pairs(groups: Iterable[Sequence[Seen]]) -> list[_Pair]:
    """Every sample of a group but the first, with the first of another split, else with the first."""
    pairs = []
    for group in groups:
        for s in group[1:]:
            elsewhere = next((o for o in group if _ORDER[o.split] < _ORDER[s.split]), None)
            pairs.append(_Pair(s, elsewhere or group[0], len(group)))
    return pairs


def _changed(subject: Subject, one: int, other: int) -> float | None:
    """Share of the pixels that two labels of one image disagree on; None where that cannot be said."""
    a, b = semantic(subject, one), semantic(subject, other)
    if a is None or b is None or a.shape != b.shape:
        return None
    return float(np.mean(a != b))


def _duplicate(pair: _Pair, changed: float | None) -> Finding:
    one, other = pair.one, pair.other
    across = one.split != other.split
    is_file = one.image is not None and other.image is not None and one.image.digest == other.image.digest
    what = "is the same image file" if is_file else "has the same pixels, in another file,"
    more = f" and {pair.copies - 2} more" if pair.copies > 2 else ""
    labels = {None: "", 0.0: "; the labels agree"}.get(changed)
    if labels is None:
        labels = f"; the labels differ in {percent(changed or 0)} of the pixels"
    return Finding(
        "duplicate",
        "error" if across or changed else "warning",
        f"{what} as {_called(other)}{more}{labels}",
        split="" if one.split == ALL else one.split,
        name=one.name,
        uuid=one.uuid,
        others=(other.uuid,),
        score=across + (changed or 0.0),
    )


# -------------------------------------------------------------------- nearly the same


def _near(one: Seen, other: Seen, distance: int, count: int) -> Finding:
    more = f" and {count - 1} more" if count > 1 else ""
    return Finding(
        "near-duplicate",
        "warning",
        f"looks like {_called(other)}{more} ({distance} of {BITS} bits differ)",
        split=one.split,
        name=one.name,
        uuid=one.uuid,
        others=(other.uuid,),
        score=float(BITS - distance),
    )


def _alike(images: Sequence[Seen], *, within: int) -> list[Finding]:
    count = nearest(_bits(images), _bits(images), within=within).count
    alike = int((count > 1).sum())
    if not alike:
        return []
    message = f"{alike} of {counted(len(images), 'image')} look like another one here, as frames of one drive do"
    return [Finding("near-duplicate", "info", message, score=float(alike))]


def _bits(seen: Sequence[Seen]) -> Hashes:
    found = [s.image.bits for s in seen if s.image is not None]
    return np.array(found, np.uint64).reshape(-1, BITS // 64)


def _called(seen: Seen) -> str:
    return f"{seen.name!r}" + (f" of {seen.split}" if seen.split != ALL else "")
