"""What the pixels of one label tell: counts per class, and what is wrong with it. Arithmetic only."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from labelsync.labels import LabelMap
from labelsync.records.findings import Finding
from labelsync.records.release import Annotation

_DENSE = 1 << 16  # instance ids below are counted in an array, others by sorting
_TOLD = 3  # ids in a sentence
_LISTED = 8  # ids in a finding


@dataclass(frozen=True)
class Bounds:
    """Below which share of labelled pixels a label is tiny, and below how many pixels an instance is."""

    labelled: float
    instance: int


@dataclass(frozen=True)
class LabelCounts:
    """`pixels` = (K + 1,) int64, pixels per disk id; `present` = disk ids that are in the label."""

    pixels: npt.NDArray[np.int64]
    present: frozenset[int]
    findings: tuple[Finding, ...] = field(default=())


def count_instances(
    ids: npt.NDArray[np.uint32], annotations: Sequence[Annotation], labels: LabelMap, bounds: Bounds
) -> LabelCounts:
    """(H, W) uint32 instance ids and their annotations -> counts and findings."""
    drawn = _areas(ids)
    classes = _classes(annotations, labels)
    names = labels.id2label
    pixels = np.zeros(labels.num_labels + 1, np.int64)
    for instance, area in drawn.items():
        pixels[classes.get(instance, 0)] += area
    unknown = {i: n for i, n in drawn.items() if i and i not in classes and i not in {a.id for a in annotations}}
    findings = [*_bad_annotations(annotations, labels), *_unknown(unknown)]
    if int(pixels[1:].sum()) or unknown:
        known = {i: names[c] for i, c in classes.items() if c}
        findings += _undrawn({i: name for i, name in known.items() if not drawn.get(i)}, len(known))
        findings += _tiny({i: (drawn[i], known[i]) for i in known if 0 < drawn.get(i, 0) < bounds.instance}, bounds)
    if not unknown:
        findings += scarcely_labelled(pixels, bounds, annotations=len(annotations))
    return LabelCounts(pixels, _present(pixels), tuple(findings))


def count_shapes(annotations: Sequence[Annotation], labels: LabelMap) -> LabelCounts:
    """A label of polygons, boxes or the like: which classes it has, no pixels."""
    classes = _classes(annotations, labels)
    empty = () if annotations else scarcely_labelled(np.zeros(1, np.int64), Bounds(0, 0), annotations=0)
    pixels = np.zeros(labels.num_labels + 1, np.int64)
    return LabelCounts(
        pixels, frozenset(c for c in classes.values() if c), (*_bad_annotations(annotations, labels), *empty)
    )


def count_semantic(bitmap: npt.NDArray[np.uint8 | np.uint16], labels: LabelMap, bounds: Bounds) -> LabelCounts:
    """(H, W) disk ids -> counts and findings.

    Where unlabeled pixels are a class of their own, a label without anything else is as good as any.
    """
    counts = np.bincount(bitmap.ravel(), minlength=labels.num_labels + 1).astype(np.int64)
    pixels, outside = counts[: labels.num_labels + 1], counts[labels.num_labels + 1 :]
    findings: list[Finding] = []
    if outside.any():
        worst = labels.num_labels + 1 + int(outside.nonzero()[0][-1])
        message = f"{int(outside.sum()):,} pixels have a class id up to {worst}, and the map ends at {len(pixels) - 1}"
        findings.append(Finding("broken-bitmap", "error", message, score=float(outside.sum())))
    elif labels.unlabeled == "ignore":
        findings += scarcely_labelled(pixels, bounds)
    return LabelCounts(pixels, _present(pixels), tuple(findings))


def scarcely_labelled(
    pixels: npt.NDArray[np.int64], bounds: Bounds, *, annotations: int | None = None
) -> tuple[Finding, ...]:
    """The finding of a label that has no labelled pixel, or hardly any; `pixels` are per disk id."""
    labelled, total = int(pixels[1:].sum()), int(pixels.sum())
    if not labelled:
        told = {None: "", 0: ": it has no annotations"}.get(annotations, f", though it has {annotations} annotations")
        return (Finding("empty-label", "warning", f"no pixel is labelled{told}", score=1.0),)
    share = labelled / total
    if share >= bounds.labelled:
        return ()
    message = (
        f"{percent(share)} of its pixels are labelled ({labelled:,} of {total:,}), less than {percent(bounds.labelled)}"
    )
    return (Finding("tiny-label", "warning", message, score=1 - share),)


# -------------------------------------------------------------------- instances


def _areas(ids: npt.NDArray[np.uint32]) -> dict[int, int]:
    """Instance id -> pixels, of the ids that are drawn; memory never depends on the size of an id."""
    if int(ids.max(initial=0)) < _DENSE:
        counts = np.bincount(ids.ravel())
        present = counts.nonzero()[0]
        counts = counts[present]
    else:
        present, counts = np.unique(ids, return_counts=True)
    return dict(zip(present.tolist(), counts.tolist(), strict=True))


def _classes(annotations: Sequence[Annotation], labels: LabelMap) -> dict[int, int]:
    """Instance id -> disk id, of the annotations that can be read; of two with one id the first counts."""
    table: Mapping[int, int] = labels.category_table()
    classes: dict[int, int] = {}
    for a in annotations:
        if a.category_id in table:
            classes.setdefault(a.id, table[a.category_id])
    return classes


def _bad_annotations(annotations: Sequence[Annotation], labels: LabelMap) -> list[Finding]:
    table = labels.category_table()
    strange = [a for a in annotations if a.category_id not in table]
    first: dict[int, int] = {}
    twice = [a for a in annotations if first.setdefault(a.id, a.category_id) != a.category_id]
    findings = []
    if strange:
        told = _listed(f"{a.id} (category {a.category_id})" for a in strange)
        message = f"{counted(len(strange), 'annotation')} of a category outside the taxonomy: {told}"
        ids = tuple(a.id for a in strange[:_LISTED])
        findings.append(Finding("bad-annotation", "error", message, instances=ids, score=float(len(strange))))
    if twice:
        told = _listed(f"{a.id} (categories {first[a.id]} and {a.category_id})" for a in twice)
        message = f"{counted(len(twice), 'annotation id')} with two categories: {told}"
        ids = tuple(a.id for a in twice[:_LISTED])
        findings.append(Finding("bad-annotation", "error", message, instances=ids, score=float(len(twice))))
    return findings


def _unknown(unknown: Mapping[int, int]) -> list[Finding]:
    """`unknown` = drawn ids without annotation -> pixels."""
    if not unknown:
        return []
    ranked = sorted(unknown, key=lambda i: (-unknown[i], i))
    told = _listed(f"{i} ({counted(unknown[i], 'pixel')})" for i in ranked)
    message = f"{counted(len(unknown), 'drawn id')} without annotation: {told}"
    total = float(sum(unknown.values()))
    return [Finding("unknown-id", "error", message, instances=tuple(ranked[:_LISTED]), score=total)]


def _undrawn(undrawn: Mapping[int, str], total: int) -> list[Finding]:
    """`undrawn` = ids without a pixel -> class."""
    if not undrawn:
        return []
    told = _listed(f"{i} ({name})" for i, name in undrawn.items())
    message = f"{len(undrawn)} of {counted(total, 'annotation')} touch no pixel: {told}"
    ids = tuple(undrawn)[:_LISTED]
    return [Finding("undrawn-annotation", "warning", message, instances=ids, score=float(len(undrawn)))]


def _tiny(tiny: Mapping[int, tuple[int, str]], bounds: Bounds) -> list[Finding]:
    """`tiny` = id -> (pixels, class)."""
    if not tiny:
        return []
    ranked = sorted(tiny, key=lambda i: (tiny[i][0], i))
    told = _listed(f"{i} ({tiny[i][1]}, {counted(tiny[i][0], 'pixel')})" for i in ranked)
    message = f"{counted(len(tiny), 'instance')} of fewer than {bounds.instance} pixels: {told}"
    return [Finding("tiny-instance", "info", message, instances=tuple(ranked[:_LISTED]), score=float(len(tiny)))]


# -------------------------------------------------------------------- words


def _present(pixels: npt.NDArray[np.int64]) -> frozenset[int]:
    return frozenset((pixels[1:].nonzero()[0] + 1).tolist())


def percent(share: float) -> str:
    """A share with three digits, however small: 0.0123%."""
    return f"{100 * share:.3g}%"


def counted(n: int, what: str) -> str:
    """ "1 image", "2,000 images"."""
    return f"{n:,} {what}{'s' * (n != 1)}"


def _listed(parts: Iterable[str]) -> str:
    every = list(parts)
    more = f" and {len(every) - _TOLD} more" if len(every) > _TOLD else ""
    return ", ".join(every[:_TOLD]) + more
