"""Drawn releases of task types that are not one bitmap per image: sequences, multisensor cameras, shapes.

Each function writes a release as `tests.releases.draw_release` does and returns a `Drawn`: the path of its
release.json, and what every image should become, (H, W) category ids with -1 where nothing is, counted out one pixel
and one annotation at a time.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.pixels.instance import encode_instance_bitmap
from tests.releases import draw_scene, release_document, sample_uuid, write_image, write_release

SIZE = (24, 32)
Point = tuple[float, float]


@dataclass
class Drawn:
    """`categories` = uuid of an image -> (H, W) category ids, -1 = unlabeled; `images` = uuid -> its file."""

    path: Path
    categories: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)


# -------------------------------------------------------------------- frames


def draw_sequences(
    folder: Path,
    *,
    sequences: int = 4,
    frames: int = 3,
    seed: int = 0,
    name: str = "v1.0",
    undrawn: Collection[tuple[int, int]] = (),
    unlabeled: Collection[int] = (),
    extra: int = 0,
) -> Drawn:
    """image-segmentation-sequence. `undrawn` = (sequence, frame) without a bitmap, `extra` = frames past the label."""
    drawn = Drawn(folder / "release.json")
    entries = []
    for s in range(sequences):
        key = sample_uuid(s, seed=seed)
        images, labels = _camera(folder, drawn, key, (seed, s), frames + extra, skip={f for q, f in undrawn if q == s})
        found = {"label_status": "LABELED", "attributes": {"format_version": "0.2", "frames": labels[:frames]}}
        for f in range(frames, frames + extra):
            drawn.categories.pop(f"{key}.{f:05d}", None)
        if s in unlabeled:
            found = None
            for f in range(frames):
                drawn.categories.pop(f"{key}.{f:05d}", None)
        entries.append(_entry(key, f"drive_{s}", {"frames": images}, found))
    _write(folder, entries, name, "image-segmentation-sequence")
    return drawn


def draw_multisensor(folder: Path, *, samples: int = 4, frames: int = 2, seed: int = 0) -> Drawn:
    """multisensor-sequence: a lidar and two cameras, whose labels stand in the opposite order."""
    drawn = Drawn(folder / "release.json")
    entries = []
    for s in range(samples):
        key = sample_uuid(s, seed=seed)
        lidar = {"frames": [{"pcd": {"url": "lidar.pcd", "type": "pcd"}}] * frames}
        sensors = [{"name": "Lidar", "task_type": "pointcloud-cuboid-sequence", "attributes": lidar}]
        labels = [{"name": "Lidar", "task_type": "pointcloud-cuboid-sequence", "attributes": []}]
        for c, (title, slug) in enumerate((("Camera 1", "camera-1"), ("REAR/left", "rear-left"))):
            images, found = _camera(folder, drawn, f"{key}.{slug}", (seed, s, c), frames)
            task = {"name": title, "task_type": "image-segmentation-sequence"}
            sensors.append(task | {"attributes": {"frames": images}})
            labels.insert(0, task | {"attributes": {"format_version": "0.2", "frames": found}})
        found = {"label_status": "REVIEWED", "attributes": {"sensors": labels}}
        entries.append(_entry(key, f"drive_{s}", {"sensors": sensors}, found))
    _write(folder, entries, "v1.0", "multisensor-sequence")
    return drawn


def _camera(
    folder: Path, drawn: Drawn, prefix: str, seed: tuple[int, ...], frames: int, skip: Collection[int] = ()
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Frames of a sample and of its label, with their files."""
    images, labels = [], []
    for sub in ("images", "bitmaps"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for f in range(frames):
        key = f"{prefix}.{f:05d}"
        pixels, instances, annotations = draw_scene(SIZE, category_ids=(1, 2, 3), seed=(*seed, f))
        drawn.images[key] = folder / "images" / f"{key}.jpg"
        write_image(drawn.images[key], pixels)
        images.append({"image": {"url": f"images/{key}.jpg"}, "name": f"frame_{f:05d}", "timestamp": str(f)})
        if f in skip:
            labels.append({"annotations": [], "segmentation_bitmap": None})
            continue
        (folder / "bitmaps" / f"{key}.png").write_bytes(encode_instance_bitmap(instances))
        tracks = [a | {"track_id": a["id"], "is_keyframe": True} for a in annotations]
        labels.append({"annotations": tracks, "segmentation_bitmap": {"url": f"bitmaps/{key}.png"}})
        categories = np.full(SIZE, -1, np.int64)
        for a in annotations:
            categories[instances == a["id"]] = a["category_id"]
        drawn.categories[key] = categories
    return images, labels


# -------------------------------------------------------------------- shapes


def draw_shapes_release(
    folder: Path, *, task_type: str = "vector", samples: int = 6, seed: int = 0, name: str = "v1.0"
) -> Drawn:
    """vector, bboxes, or image-vector-sequence (two frames each): overlapping shapes, and a point in every label.

    A point and a polyline touch no pixel here: without `--line-width` they have none.
    """
    drawn = Drawn(folder / "release.json")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries = []
    for s in range(samples):
        key = sample_uuid(s, seed=seed)
        count = 2 if task_type == "image-vector-sequence" else 1
        keys = [f"{key}.{f:05d}" for f in range(count)] if count > 1 else [key]
        labels = []
        for f, of_frame in enumerate(keys):
            shapes = random_shapes((seed, s, f), boxes_only=task_type == "bboxes")
            drawn.categories[of_frame] = painted(shapes, SIZE)
            drawn.images[of_frame] = folder / "images" / f"{of_frame}.png"
            write_image(
                drawn.images[of_frame], np.random.default_rng((seed, s, f)).integers(0, 255, (*SIZE, 3), np.uint8)
            )
            labels.append({"format_version": "0.1", "annotations": shapes})
        images = [{"image": {"url": f"images/{k}.png"}} for k in keys]
        attributes = {"frames": images} if count > 1 else images[0]
        found = {"label_status": "LABELED", "attributes": {"frames": labels} if count > 1 else labels[0]}
        entries.append(_entry(key, f"sample_{s}.png", attributes, found))
    _write(folder, entries, name, task_type)
    return drawn


def random_shapes(seed: Any, *, boxes_only: bool = False) -> list[dict[str, Any]]:
    """Annotations as Segments.ai writes them; a box may have its corners in any order, shapes may leave the image."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    shapes = []
    for i in range(1, 7):
        n = 2 if boxes_only or i % 2 else int(rng.integers(3, 7))
        points = (rng.uniform((-4, -4), (width + 4, height + 4), (n, 2)).round(2) + 0.003).tolist()  # on no centre
        shape = {"id": i, "track_id": i, "category_id": int(rng.integers(1, 4)), "points": points}
        shapes.append(shape if boxes_only else shape | {"type": "bbox" if n == 2 else "polygon"})
    if not boxes_only:
        shapes.append({"id": 7, "category_id": 1, "type": "point", "points": [[3.0, 3.0]]})
        shapes.append({"id": 8, "category_id": 2, "type": "polyline", "points": [[1.0, 1.0], [9.0, 1.0]]})
    return shapes


def painted(shapes: Iterable[dict[str, Any]], size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """(H, W) category ids of polygons and boxes, asked pixel centre by pixel centre; -1 = nothing."""
    result = np.full(size, -1, np.int64)
    for shape in shapes:
        points = [tuple(p) for p in shape["points"]]
        if shape.get("type", "bbox") == "bbox":
            (x0, y0), (x1, y1) = points
            points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        if len(points) > 2 and shape.get("type") not in ("point", "polyline"):
            for row, column in np.ndindex(*size):
                if encloses(points, column + 0.5, row + 0.5):
                    result[row, column] = shape["category_id"]
    return result


def encloses(ring: list[Point], x: float, y: float) -> bool:
    """Whether a ring goes round a point an odd number of times; by the sum of the angles it turns through."""
    ends = np.array(ring) - (x, y)
    angles = np.arctan2(ends[:, 1], ends[:, 0])
    turns = np.diff(np.append(angles, angles[0]))
    total = np.where(turns > np.pi, turns - 2 * np.pi, np.where(turns < -np.pi, turns + 2 * np.pi, turns)).sum()
    return round(float(total) / (2 * np.pi)) % 2 == 1


# -------------------------------------------------------------------- the file


def _entry(key: str, name: str, attributes: dict[str, Any], label: dict[str, Any] | None) -> dict[str, Any]:
    return {"uuid": key, "name": name, "attributes": attributes, "metadata": {}, "labels": {"ground-truth": label}}


def _write(folder: Path, entries: list[dict[str, Any]], name: str, task_type: str) -> None:
    write_release(folder, release_document(entries, name=name, dataset="acme/drives", task_type=task_type))
