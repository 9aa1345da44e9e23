"""A release file's bytes -> a Release. Pure: no network, no disk.

The envelope must be a release (else `ReleaseFormatError`); inside it, everything that occurs in real files is taken:
labels null or missing, attributes null, `tasks` in place of `labelsets` (before 2021), float and RGBA colours, extra
keys, files trimmed by hand. A sample that cannot be used keeps its place with a `problem`, so no ledger loses it.
"""

import json
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from labelsync.errors import OptionError, ReleaseFormatError, first_line
from labelsync.records.release import Release
from labelsync.release.entries import BITMAP, CAMERA, SENSORS, SUPPORTED, samples_of, sensor_types
from labelsync.release.values import integer, text
from labelsync.taxonomy import Category, Color

_OLD_NAMES = {"bbox": "bboxes"}  # the platform's documents say the one, its API the other

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
    """The release in `data`; `where` names it in errors. Every image of the file is a sample, in the file's order.

    So is each frame of a sequence; `entries.samples_of` says what it is called. Uuids are unique in the result.

    Raises:
        ReleaseFormatError: not JSON, not a release, a broken taxonomy, or a task type without labelled pixels.
        OptionError: the release has no labelset of that name.
    """
    return release_of(load_document(data, where=where), where=where, labelset=labelset)


def release_of(document: dict[str, Any], *, where: str, labelset: str) -> Release:
    """`parse_release` of what `load_document` gave; the document stays as it is."""
    dataset = document["dataset"]
    entries = dataset["samples"]
    task_type = _task_type(dataset, entries, where=where)
    _require_labelset(labelset, dataset, entries, where=where)
    return Release(
        name=text(document.get("name")),
        dataset=_full_name(dataset),
        task_type=task_type,
        labelset=labelset,
        categories=categories_of(dataset, where=where),
        samples=samples_of(entries, task_type=task_type, labelset=labelset),
        description=text(document.get("description")),
        created_at=text(document.get("created_at")),
    )


def load_document(data: bytes, *, where: str) -> dict[str, Any]:
    """The JSON object of a release file: a dict whose "dataset" is a dict with a list "samples"."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as e:  # UnicodeDecodeError is a ValueError
        page = data[:256].lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<error"))
        what = "is an HTML or XML page, not JSON" if page else f"is not JSON ({first_line(e)})"
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


def _task_type(dataset: dict[str, Any], entries: list[Any], *, where: str) -> str:
    """One of SUPPORTED. Raises ReleaseFormatError for a type whose labels are not pixels of images."""
    found = text(dataset.get("task_type")) or BITMAP  # files trimmed by hand have none
    found = _OLD_NAMES.get(found, found)
    hint = f"labelsync converts {', '.join(SUPPORTED)}; point clouds, keypoints and text have no labelled pixels"
    if found not in SUPPORTED:
        raise ReleaseFormatError(f"{where} is of task type {found!r}", hint=hint)
    if found == SENSORS and entries and CAMERA not in (types := sensor_types(entries)):
        has = f"its sensors are {', '.join(sorted(types))}" if types else "it names no sensors"
        raise ReleaseFormatError(f"{where} is a multisensor release without {CAMERA} sensors: {has}", hint=hint)
    return found


def _full_name(dataset: dict[str, Any]) -> str:
    owner = dataset.get("owner")
    if isinstance(owner, dict):  # the API's form
        owner = owner.get("username")
    return "/".join(part for part in (text(owner), text(dataset.get("name"))) if part)


def _require_labelset(labelset: str, dataset: dict[str, Any], entries: list[Any], *, where: str) -> None:
    """An unknown labelset would make every sample look unlabeled."""
    listed = dataset.get("labelsets")
    known = {text(x.get("name")) for x in listed if isinstance(x, dict)} if isinstance(listed, list) else set()
    tasks = dataset.get("tasks")
    known |= {str(k) for k in tasks} if isinstance(tasks, dict) else set()
    labels = [e["labels"] for e in entries if isinstance(e, dict) and isinstance(e.get("labels"), dict)]
    known |= {str(k) for every in labels for k in every}
    known.discard("")
    if known and labelset not in known:
        raise OptionError(f"{where} has no labelset {labelset!r}", hint=f"pass --labelset {' or '.join(sorted(known))}")


def categories_of(dataset: dict[str, Any], *, where: str) -> tuple[Category, ...]:
    """The categories of the "dataset" of a release file. Raises ReleaseFormatError for a broken taxonomy."""
    attributes = dataset.get("task_attributes")
    listed = attributes.get("categories") if isinstance(attributes, dict) else None
    if not isinstance(listed, list):
        raise ReleaseFormatError(f"{where} has no categories (dataset.task_attributes.categories)", hint=_EXPORT)
    categories = []
    for position, entry in enumerate(listed, 1):
        number = integer(entry.get("id")) if isinstance(entry, dict) else None
        if number is None or not text(entry.get("name")):
            raise ReleaseFormatError(
                f"{where}: category {position} of {len(listed)} has no number or no name",
                hint="repair the taxonomy on Segments.ai and make a new release",
            )
        categories.append(
            Category(number, text(entry["name"]), _color(entry.get("color")), entry.get("has_instances") is True)
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


def default_name(release: Release, *, where: str) -> str:
    """A folder name for a release: "<dataset>-<release>", else the stem of the file it came from."""
    parts = [release.dataset.rpartition("/")[2], release.name]
    name = "-".join(p for p in parts if p) or PurePosixPath(where).stem
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip(".-")[:120] or "release"
