"""The entries of a release file -> Samples, by task type. Pure.

A sample is an image with its label, so an entry of a sequence is one sample per frame, and one of a multisensor
release one per frame of its image-segmentation sensors. What cannot be used keeps its place with a `problem`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from labelsync.records.release import SHAPE_TYPES, Annotation, Label, Sample
from labelsync.release.values import integer, number, text, url_of, within

BITMAP, SENSORS, CAMERA = "segmentation-bitmap", "multisensor-sequence", "image-segmentation-sequence"

SHAPES = {"vector": "", "image-vector-sequence": "", "bboxes": "bbox"}  # task type -> type of an annotation without one

SUPPORTED = (BITMAP, f"{BITMAP}-highres", CAMERA, SENSORS, *SHAPES)


def samples_of(entries: Iterable[Any], *, task_type: str, labelset: str) -> tuple[Sample, ...]:
    """Every image that `entries` name, in their order, with uuids that are unique.

    A frame is called "<uuid of the entry>.<index>", or "<uuid>.<sensor>.<index>", counted from 00000, and its
    `sequence` is the entry's uuid. An entry without a uuid is called "#<its position>", a second sample under one uuid
    "<uuid>#<position>", both with a `problem`.

    Args:
        task_type: one of `SUPPORTED`.
    """
    samples: list[Sample] = []
    first: dict[str, str] = {}
    for position, entry in enumerate(entries, 1):
        for sample in _of_entry(entry, position, task_type, labelset):
            unique = sample
            if sample.uuid in first:
                problem = sample.problem or f"its uuid {sample.uuid} is that of sample {first[sample.uuid]!r} too"
                unique = Sample(f"{sample.uuid}#{position}", sample.name, None, problem=problem)
            while unique.uuid in first:  # only in a file made to confuse
                unique = Sample(f"{unique.uuid}#", unique.name, None, problem=unique.problem)
            first[unique.uuid] = unique.name
            samples.append(unique)
    return tuple(samples)


def sensor_types(entries: Iterable[Any]) -> set[str]:
    """The task types of all sensors in the entries of a multisensor release."""
    every = (s for e in entries for s in _list(within(e, "attributes", "sensors")))
    return {text(within(s, "task_type")) for s in every} - {""}


# -------------------------------------------------------------------- an entry


class _UnusableError(Exception):
    """Why one label cannot be used, in words that become its sample's `problem`."""


@dataclass(frozen=True)
class _Entry:
    """What the samples of one entry have in common. `label` = the object of the labelset, None = unlabeled."""

    uuid: str
    name: str
    attributes: Any
    metadata: dict[str, Any]
    label: Any
    status: str
    problem: str

    def sample(self, uuid: str, name: str, image: Any, label: Callable[[], Label | None]) -> Sample:
        """A sample whose `label` may raise _UnusableError."""
        found, problem = None, self.problem
        if not problem:
            try:
                found = label()
            except _UnusableError as e:
                problem = str(e)
        sequence = "" if uuid == self.uuid else self.uuid
        return Sample(uuid, name, url_of(image), found, self.metadata, problem, sequence)


def _of_entry(entry: Any, position: int, task_type: str, labelset: str) -> list[Sample]:
    if not isinstance(entry, dict):
        return [Sample(f"#{position}", f"entry {position}", None, problem="the entry is not an object")]
    known = _read(entry, position, labelset)
    if task_type == SENSORS:
        return _of_sensors(known) or [_without_frames(known)]
    if task_type.endswith("-sequence"):
        frames = _of_frames(known, within(known.attributes, "frames"), within(known.label, "attributes"), task_type)
        return frames or [_without_frames(known)]
    label = known.label
    image = within(known.attributes, "image")
    return [known.sample(known.uuid, known.name, image, lambda: _whole_label(known, label, task_type))]


def _read(entry: dict[str, Any], position: int, labelset: str) -> _Entry:
    uuid, problem = text(entry.get("uuid")), ""
    if not uuid:
        uuid, problem = f"#{position}", "it has no uuid"
    label, status = within(entry, "labels", labelset), ""
    if label is not None:
        status = text(within(label, "label_status"))
        if not isinstance(label, dict):
            problem = problem or f"its label is a {type(label).__name__}, not an object"
        elif not status:
            problem = problem or "its label has no label_status"
    metadata = entry.get("metadata")
    return _Entry(
        uuid=uuid,
        name=text(entry.get("name")) or uuid,
        attributes=entry.get("attributes"),
        metadata=metadata if isinstance(metadata, dict) else {},
        label=label,
        status=status,
        problem=problem,
    )


def _without_frames(entry: _Entry) -> Sample:
    """The row of an entry that names no image; it is lost if it has a label."""
    problem = entry.problem or ("" if entry.label is None else "it has a label and no frames of images")
    return Sample(entry.uuid, entry.name, None, None, entry.metadata, problem)


# -------------------------------------------------------------------- frames and sensors


def _of_frames(
    entry: _Entry, listed: Any, attributes: Any, task_type: str, *, sensor: tuple[str, str] = ("", "")
) -> list[Sample]:
    """One sample per frame. Frame i of a label belongs to frame i of its entry; either may have more than the other.

    Args:
        listed: the frames of the entry or sensor.
        attributes: of its label; null and [] stand for no label.
        sensor: what the sensor is called in uuids and in names.
    """
    frames = _list(listed)
    labels = within(attributes, "frames")
    wrong = "" if labels is None or isinstance(labels, list) else "the frames of its label are not a list"
    labels = _list(labels)
    uuid, name = ".".join(filter(None, (entry.uuid, sensor[0]))), "/".join(filter(None, (entry.name, sensor[1])))

    def label(i: int) -> Label | None:
        if wrong:
            raise _UnusableError(wrong)
        found = _frame_label(entry, labels[i], task_type) if i < len(labels) else None
        if found is not None and i >= len(frames):
            raise _UnusableError(f"its label has {len(labels)} frames, and there are images of {len(frames)}")
        return found

    def sample(i: int) -> Sample:
        frame = frames[i] if i < len(frames) else None
        called = text(within(frame, "name")) or f"{i:05d}"
        return entry.sample(f"{uuid}.{i:05d}", f"{name}/{called}", within(frame, "image"), lambda: label(i))

    beyond = (sample(i) for i in range(len(frames), len(labels)))
    return [sample(i) for i in range(len(frames))] + [s for s in beyond if s.problem]


def _of_sensors(entry: _Entry) -> list[Sample]:
    """The frames of every image-segmentation sensor, sensor by sensor."""
    sensors = _list(within(entry.attributes, "sensors"))
    labels = _list(within(entry.label, "attributes", "sensors"))
    names = [text(within(s, "name")) for s in sensors]
    keys = _keys(names)
    return [
        sample
        for i, sensor in enumerate(sensors)
        if within(sensor, "task_type") == CAMERA
        for sample in _of_frames(
            entry,
            within(sensor, "attributes", "frames"),
            within(_label_of_sensor(i, names, labels), "attributes"),
            CAMERA,
            sensor=(keys[i], names[i] or keys[i]),
        )
    ]


def _label_of_sensor(index: int, names: Sequence[str], labels: Sequence[Any]) -> Any:
    """The sensor of the label that has this sensor's name, else the one at its place if no sensor has its name."""
    named = [text(within(found, "name")) for found in labels]
    if names[index] and names.count(names[index]) == named.count(names[index]) == 1:
        return labels[named.index(names[index])]
    is_free = index < len(labels) and (named[index] == names[index] or named[index] not in names)
    return labels[index] if is_free else None


def _keys(names: Sequence[str]) -> list[str]:
    """A harmless word for each sensor's name, all different: "Camera 1" -> "camera-1"."""
    keys: list[str] = []
    for position, name in enumerate(names, 1):
        key = re.sub(r"[^a-z0-9_]+", "-", name.lower())[:24].strip("-") or f"sensor-{position}"
        while key in keys:
            key = f"{key}-{position}"
        keys.append(key)
    return keys


# -------------------------------------------------------------------- labels


def _whole_label(entry: _Entry, found: Any, task_type: str) -> Label | None:
    """The label of an entry that is one image."""
    if found is None:
        return None
    attributes = within(found, "attributes")
    annotations = _annotations(attributes, task_type)
    return Label(entry.status, annotations or (), _bitmap_url(attributes, task_type))


def _frame_label(entry: _Entry, found: Any, task_type: str) -> Label | None:
    """The label of one frame, None where nobody labelled it: no bitmap, or for shapes no list of annotations."""
    if found is None:
        return None
    if not isinstance(found, dict):
        raise _UnusableError(f"its label is a {type(found).__name__}, not an object")
    annotations, url = _annotations(found, task_type), _bitmap_url(found, task_type)
    if (url if task_type not in SHAPES else annotations) is None:
        return None
    return Label(entry.status, annotations or (), url)


def _bitmap_url(attributes: Any, task_type: str) -> str | None:
    return None if task_type in SHAPES else url_of(within(attributes, "segmentation_bitmap"))


def _annotations(attributes: Any, task_type: str) -> tuple[Annotation, ...] | None:
    listed = within(attributes, "annotations")
    if listed is None:
        return None
    if not isinstance(listed, list):
        raise _UnusableError("its annotations are not a list")
    shape = SHAPES.get(task_type)
    return tuple([_annotation(a, i, shape) for i, a in enumerate(listed, 1)])


_in_bitmap = lru_cache(maxsize=1 << 14)(Annotation)  # (id, category): a release has few pairs, each a thousand times


def _annotation(entry: Any, position: int, shape: str | None) -> Annotation:
    """One annotation; `shape` = its type where it says none, None where bitmaps tell its pixels."""
    if shape is None and type(entry) is dict:
        found, category = entry.get("id"), entry.get("category_id")
        if type(found) is int and type(category) is int:  # nearly always, and there are dozens in every label
            return _in_bitmap(found, category)
    if not isinstance(entry, dict):
        raise _UnusableError(f"its annotation {position} is not an object")
    found = integer(entry.get("id", entry.get("track_id")))  # the newest API calls it track_id
    if found is None:
        raise _UnusableError(f"its annotation {position} has no id")
    category = integer(entry.get("category_id"))
    if category is None:
        raise _UnusableError(f"its annotation {found} has no category_id")
    if shape is None:
        return Annotation(found, category)
    kind = text(entry.get("type")) or shape
    if not kind:
        raise _UnusableError(f"its annotation {found} has no type")
    return Annotation(found, category, kind, _points(entry.get("points"), found) if kind in SHAPE_TYPES else ())


def _points(listed: Any, annotation: int) -> tuple[tuple[float, float], ...]:
    if not isinstance(listed, list):
        raise _UnusableError(f"its annotation {annotation} has no points")
    points = []
    for point in listed:
        x, y = map(number, point) if isinstance(point, list) and len(point) == 2 else (None, None)
        if x is None or y is None:
            raise _UnusableError(f"its annotation {annotation} has a point that is not two numbers")
        points.append((x, y))
    return tuple(points)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
