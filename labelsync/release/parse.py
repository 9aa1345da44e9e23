"""A release file's bytes -> a Release. Pure: no network, no disk.

The envelope must be a release (else `ReleaseFormatError`); inside it, everything that occurs in real files is taken:
labels null or missing, attributes null, `tasks` in place of `labelsets` (before 2021), float and RGBA colours, extra
keys, files trimmed by hand. A sample that cannot be used keeps its place with a `problem`, so no ledger loses it.
"""

import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from labelsync.errors import OptionError, ReleaseFormatError
from labelsync.records.release import Annotation, Label, Release, Sample
from labelsync.taxonomy import Category, Color

SUPPORTED = ("segmentation-bitmap", "segmentation-bitmap-highres")

STATUSES = (
    "PRELABELED",
    "LABELING_IN_PROGRESS",
    "LABELED",
    "REVIEWING_IN_PROGRESS",
    "REVIEWED",
    "VERIFIED",
    "REJECTED",
    "SKIPPED",
)

_EXPORT = "give the JSON file of a release (Releases > Download on Segments.ai)"


def parse_release(data: bytes, *, where: str, labelset: str = "ground-truth") -> Release:
    """The release in `data`; `where` names it in errors. Every sample of the file is in it, in the file's order.

    Sample uuids are unique in the result: an entry without one is called "#<its position>", a second entry under one
    uuid "<uuid>#<its position>", both with a `problem`.

    Raises:
        ReleaseFormatError: not JSON, not a release, a broken taxonomy, or a task type without bitmaps.
        OptionError: the release has no labelset of that name.
    """
    document = load_document(data, where=where)
    dataset = document["dataset"]
    task_type = _text(dataset.get("task_type")) or SUPPORTED[0]  # files trimmed by hand have none
    if task_type not in SUPPORTED:
        raise ReleaseFormatError(
            f"{where} is of task type {task_type!r}", hint=f"labelsync converts {' and '.join(SUPPORTED)}"
        )
    entries = dataset["samples"]
    _require_labelset(labelset, dataset, entries, where=where)
    return Release(
        name=_text(document.get("name")),
        dataset=_full_name(dataset),
        task_type=task_type,
        labelset=labelset,
        categories=_categories(dataset, where=where),
        samples=_samples(entries, labelset=labelset),
        description=_text(document.get("description")),
        created_at=_text(document.get("created_at")),
    )


def load_document(data: bytes, *, where: str) -> dict[str, Any]:
    """The JSON object of a release file: a dict whose "dataset" is a dict with a list "samples"."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as e:  # UnicodeDecodeError is a ValueError
        page = data[:256].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<error"))
        what = "is an HTML or XML page, not JSON" if page else f"is not JSON ({_first_line(e)})"
        raise ReleaseFormatError(f"{where} {what}", hint=_EXPORT) from None
    dataset = document.get("dataset") if isinstance(document, dict) else None
    if not isinstance(dataset, dict) or not isinstance(dataset.get("samples"), list):
        raise ReleaseFormatError(f"{where} is JSON, but no release: it has no list dataset.samples", hint=_EXPORT)
    return document  # type: ignore[no-any-return]  # json.loads is untyped; the line above made sure


def check_status(status: Iterable[str]) -> tuple[str, ...]:
    """Statuses in the platform's order, each once. Raises OptionError for one it does not have."""
    wanted = {s.strip().upper() for s in status}
    unknown = sorted(wanted - set(STATUSES))
    if unknown or not wanted:
        raise OptionError(f"no status is called {', '.join(unknown)!r}", hint=f"there are: {', '.join(STATUSES)}")
    return tuple(s for s in STATUSES if s in wanted)


# -------------------------------------------------------------------- the envelope


def _full_name(dataset: dict[str, Any]) -> str:
    owner = dataset.get("owner")
    if isinstance(owner, dict):  # the API's form
        owner = owner.get("username")
    return "/".join(part for part in (_text(owner), _text(dataset.get("name"))) if part)


def _require_labelset(labelset: str, dataset: dict[str, Any], entries: list[Any], *, where: str) -> None:
    """An unknown labelset would make every sample look unlabeled."""
    listed = dataset.get("labelsets")
    known = {_text(x.get("name")) for x in listed if isinstance(x, dict)} if isinstance(listed, list) else set()
    tasks = dataset.get("tasks")
    known |= {str(k) for k in tasks} if isinstance(tasks, dict) else set()
    labels = [e["labels"] for e in entries if isinstance(e, dict) and isinstance(e.get("labels"), dict)]
    known |= {str(k) for every in labels for k in every}
    known.discard("")
    if known and labelset not in known:
        raise OptionError(f"{where} has no labelset {labelset!r}", hint=f"pass --labelset {' or '.join(sorted(known))}")


def _categories(dataset: dict[str, Any], *, where: str) -> tuple[Category, ...]:
    attributes = dataset.get("task_attributes")
    listed = attributes.get("categories") if isinstance(attributes, dict) else None
    if not isinstance(listed, list):
        raise ReleaseFormatError(f"{where} has no categories (dataset.task_attributes.categories)", hint=_EXPORT)
    categories = []
    for position, entry in enumerate(listed, 1):
        number = _integer(entry.get("id")) if isinstance(entry, dict) else None
        if number is None or not _text(entry.get("name")):
            raise ReleaseFormatError(
                f"{where}: category {position} of {len(listed)} has no number or no name",
                hint="repair the taxonomy on Segments.ai and make a new release",
            )
        categories.append(
            Category(number, _text(entry["name"]), _color(entry.get("color")), entry.get("has_instances") is True)
        )
    return tuple(categories)


def _color(value: Any) -> Color | None:
    """[r, g, b] or [r, g, b, a], ints or floats of 0-255; anything else is no colour."""
    if not isinstance(value, list) or len(value) not in (3, 4):
        return None
    if not all(isinstance(c, int | float) and 0 <= c <= 255 for c in value[:3]):
        return None
    r, g, b = (round(c) for c in value[:3])
    return r, g, b


# -------------------------------------------------------------------- samples


class _UnusableError(Exception):
    """Why one label cannot be used, in words that become its sample's `problem`."""


def _samples(entries: Iterable[Any], *, labelset: str) -> tuple[Sample, ...]:
    samples: list[Sample] = []
    first: dict[str, str] = {}
    for position, entry in enumerate(entries, 1):
        sample = _sample(entry, position, labelset=labelset)
        if sample.uuid in first:
            problem = sample.problem or f"its uuid {sample.uuid} is that of sample {first[sample.uuid]!r} too"
            sample = Sample(f"{sample.uuid}#{position}", sample.name, None, problem=problem)
        while sample.uuid in first:  # only in a file made to confuse
            sample = Sample(f"{sample.uuid}#", sample.name, None, problem=sample.problem)
        first[sample.uuid] = sample.name
        samples.append(sample)
    return tuple(samples)


def _sample(entry: Any, position: int, *, labelset: str) -> Sample:
    """One entry; whatever is wrong with it becomes its `problem`, said so that it reads after the sample's name."""
    if not isinstance(entry, dict):
        return Sample(f"#{position}", f"entry {position}", None, problem="the entry is not an object")
    uuid, problem = _text(entry.get("uuid")), ""
    if not uuid:
        uuid, problem = f"#{position}", "it has no uuid"
    labels = entry.get("labels")
    found = labels.get(labelset) if isinstance(labels, dict) else None
    label: Label | None = None
    try:
        label = None if found is None else _label(found)
    except _UnusableError as e:
        problem = problem or str(e)
    metadata = entry.get("metadata")
    return Sample(
        uuid=uuid,
        name=_text(entry.get("name")) or uuid,
        image_url=_url(_within(entry, "attributes", "image")),
        label=label,
        metadata=metadata if isinstance(metadata, dict) else {},
        problem=problem,
    )


def _label(found: Any) -> Label:
    """One label object. Raises _UnusableError with the reason if it cannot be used."""
    if not isinstance(found, dict):
        raise _UnusableError(f"its label is a {type(found).__name__}, not an object")
    status = _text(found.get("label_status"))
    if not status:
        raise _UnusableError("its label has no label_status")
    attributes = found.get("attributes")
    listed = attributes.get("annotations") if isinstance(attributes, dict) else None
    if listed is not None and not isinstance(listed, list):
        raise _UnusableError("its annotations are not a list")
    annotations = tuple(_annotation(a, i) for i, a in enumerate(listed or (), 1))
    return Label(status, annotations, _url(_within(found, "attributes", "segmentation_bitmap")))


def _annotation(entry: Any, position: int) -> Annotation:
    if not isinstance(entry, dict):
        raise _UnusableError(f"its annotation {position} is not an object")
    number = _integer(entry.get("id", entry.get("track_id")))  # the newest API calls it track_id
    if number is None:
        raise _UnusableError(f"its annotation {position} has no id")
    category = _integer(entry.get("category_id"))
    if category is None:
        raise _UnusableError(f"its annotation {number} has no category_id")
    return Annotation(number, category)


# -------------------------------------------------------------------- values


def _within(entry: dict[str, Any], *keys: str) -> Any:
    """entry[key][key].. or None where any of it is missing or null."""
    value: Any = entry
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _url(holder: Any) -> str | None:
    """The `url` of {"url": ..}; null and "" are no URL."""
    url = holder.get("url") if isinstance(holder, dict) else None
    return _text(url).strip() or None


def _integer(value: Any) -> int | None:
    """An int, also if it was written 3.0 by another program; True is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str:
    """A string that can be written as UTF-8 (a lone surrogate becomes "?"); "" for anything but a string."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__


def default_name(release: Release, *, where: str) -> str:
    """A folder name for a release: "<dataset>-<release>", else the stem of the file it came from."""
    parts = [release.dataset.rpartition("/")[2], release.name]
    name = "-".join(p for p in parts if p) or PurePosixPath(where).stem
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip(".-")[:120] or "release"
