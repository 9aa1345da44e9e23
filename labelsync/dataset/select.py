"""Which samples of a release are converted, and what became of the others."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from labelsync.dataset.metadata import why_not
from labelsync.dataset.sample import File, LabelledSample
from labelsync.records.release import LedgerRow, Sample
from labelsync.release.folder import BITMAPS, IMAGES, ReleaseFolder, file_stem


@dataclass(frozen=True)
class Selection:
    """`samples` are to be converted; `ledger` has the row of each of the others, by uuid; `allowed` = uuids of those
    that failed in the pull, where their loss was allowed."""

    samples: tuple[LabelledSample, ...]
    ledger: dict[str, LedgerRow]
    allowed: frozenset[str]

    def of(self, every: Iterable[Sample]) -> list[Sample]:
        """Those of `every` that are to be converted."""
        wanted = {s.uuid for s in self.samples}
        return [s for s in every if s.uuid in wanted]


def select(
    folder: ReleaseFolder,
    *,
    status: Collection[str],
    metadata: Mapping[str, Collection[str]] | None = None,
    line_width: float = 0.0,
) -> Selection:
    """Sort the samples of a release folder: those of a wanted status and, per metadata key, of a wanted value.

    `line_width` is that of lines, where labels are shapes.
    """
    samples: list[LabelledSample] = []
    ledger: dict[str, LedgerRow] = {}
    allowed = set()
    for sample, pulled in zip(folder.release.samples, folder.ledger.rows, strict=True):
        row = _not_wanted(sample, metadata or {}) or _left_out(sample, pulled, status)
        if row is not None:
            ledger[sample.uuid] = row
            if row.outcome == "failed":
                allowed.add(sample.uuid)
            continue
        found = _labelled(sample, folder, line_width)
        if isinstance(found, LedgerRow):
            ledger[sample.uuid] = found
        else:
            samples.append(found)
    return Selection(tuple(samples), ledger, frozenset(allowed))


def _not_wanted(sample: Sample, metadata: Mapping[str, Collection[str]]) -> LedgerRow | None:
    reason = "" if sample.problem else why_not(sample, metadata)
    status = sample.label.status if sample.label else ""
    return LedgerRow(sample.uuid, sample.name, "filtered", reason, status) if reason else None


def _left_out(sample: Sample, pulled: LedgerRow, status: Collection[str]) -> LedgerRow | None:
    """The row of a sample that is not to be converted, None for the others."""
    if sample.label is not None and sample.label.status not in status and not sample.problem:
        return LedgerRow(sample.uuid, sample.name, "filtered", f"status {sample.label.status}", sample.label.status)
    return None if pulled.outcome == "pulled" else pulled


def _labelled(sample: Sample, folder: ReleaseFolder, line_width: float) -> LabelledSample | LedgerRow:
    stem, label = file_stem(sample.uuid), sample.label
    image, bitmap = folder.name(IMAGES, stem), folder.name(BITMAPS, stem)
    if label is None or not image or (not bitmap and label.bitmap_url is not None):
        what = "bitmap" if image else "image"
        status = label.status if label else ""
        return LedgerRow(sample.uuid, sample.name, "failed", f"its {what} is not in the release folder", status)
    return LabelledSample(
        uuid=sample.uuid,
        name=sample.name,
        status=label.status,
        stem=stem,
        image=_file(image, folder, sample.image_url),
        bitmap=_file(bitmap, folder, label.bitmap_url) if bitmap else None,
        annotations=tuple([_pair(a.id, a.category_id) for a in label.annotations]),
        dataset=folder.release.dataset,
        shapes=label.shapes,
        line_width=line_width if label.shapes else 0.0,
    )


@lru_cache(maxsize=1 << 14)
def _pair(annotation: int, category: int) -> tuple[int, int]:
    """The same one whenever it is the same: a release has few, each a thousand times."""
    return annotation, category


def _file(name: str, folder: ReleaseFolder, url: str | None) -> File:
    entry = folder.manifest.files[name]
    at = url if url is not None and url.startswith(("http://", "https://")) else ""
    return File(f"{folder.root}/{name}", entry.sha256, entry.size, at)


def file_names(samples: Sequence[LabelledSample]) -> dict[str, str]:
    """uuid -> file name without extension, for plain folders: made of the sample's name, harmless, and unique."""
    stems = {s.uuid: s.stem for s in samples}
    plain = {s.uuid: _harmless(s.name) or s.stem for s in samples}
    taken = Counter(n.lower() for n in plain.values())
    names = {u: n if taken[n.lower()] == 1 else f"{n}.{stems[u]}" for u, n in plain.items()}
    if len({n.lower() for n in names.values()}) < len(names):  # only where names were made to confuse
        return stems
    return names


def _harmless(name: str) -> str:
    path = PurePosixPath(name)
    return re.sub(r"[^\w.-]+", "-", str(path.with_suffix("")) if path.name else "").strip("-.")[:100].strip("-.")
