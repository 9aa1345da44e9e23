"""Drawn sidewalk scenes and the Segments.ai-style release made of them, for the demo: seeded, numpy and Pillow only.

A scene shows 12 of the 35 sidewalk classes as a delivery robot sees them. Its labels are drawn by the same strokes as
its picture, and are then made as imperfect as a labeling round leaves them.
"""

import io
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from labelsync.pixels.instance import encode_instance_bitmap
from labelsync.sidewalk.canvas import Canvas
from labelsync.sidewalk.layout import cast_shadows, draw_camera, draw_light, draw_street, furnish
from labelsync.sidewalk.preset import categories
from labelsync.sidewalk.street import ID, Light, View, paint_street
from labelsync.sidewalk.things import Brush, Rng
from labelsync.store.files import write_bytes, write_text

CATEGORIES = categories(
    "flat-road", "flat-sidewalk", "flat-crosswalk", "flat-curb", "human-person", "vehicle-car", "vehicle-bicycle",
    "construction-building", "object-pole", "nature-vegetation", "nature-terrain", "sky",
)  # fmt: skip
"""The taxonomy of a drawn release: the classes that scenes contain, with their numbers among the 35."""

_COUNTED = {c.id for c in CATEGORIES if c.has_instances}

SIZE_HW = (240, 320)
_OVERSAMPLING = 2  # drawn at twice the size, so that edges are smooth
_FIRST_THING = 100  # instance ids of things while a scene is drawn; below are the categories of the ground and walls
_SPECK = 12  # pixels; people do not label less
_WALK = 5  # scenes of one walk, in the same light
_NAMESPACE = uuid.UUID("6d1f3f52-8c1a-4f0e-9a55-51d3b1d3a000")
_CREATED = "2024-05-06 08:00:00.000000+00:00"


@dataclass(frozen=True)
class Scene:
    """A picture (H, W, 3) uint8, its instance ids (H, W) uint32 (0 = unlabeled), and instance id -> category id."""

    image: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.uint32]
    annotations: dict[int, int]


def draw_scene(rng: Rng, light: Light, *, size_hw: tuple[int, int] = SIZE_HW) -> Scene:
    """One scene in a given light; the same generator state gives the same scene."""
    height, width = size_hw
    crossing = bool(rng.random() < 0.3)
    camera = draw_camera(rng, (height * _OVERSAMPLING, width * _OVERSAMPLING), crossing=crossing)
    street = draw_street(rng, crossing=crossing)
    view = View(camera, street, light)
    things = furnish(rng, street, camera)
    color, kind = paint_street(view, cast_shadows(camera, light, things))
    canvas = Canvas(camera, Image.fromarray(color), Image.fromarray(kind), light.haze, light.visibility)
    owners = {category.id: category.id for category in CATEGORIES}  # ground, walls and sky: one annotation a category
    for number, thing in enumerate(things, _FIRST_THING):
        category = ID[thing.kind.category]
        instance = number if category in _COUNTED else category
        owners[instance] = category
        lit = float(view.lit(*np.array([[thing.x], [1.0], [thing.z]], np.float32))[0])
        thing.kind.paint(Brush(canvas, thing.x, thing.z, instance, lit), rng)
    image = _photograph(rng, canvas.picture.resize((width, height), Image.Resampling.BOX), light)
    ids = np.asarray(canvas.ids)[_OVERSAMPLING // 2 :: _OVERSAMPLING, _OVERSAMPLING // 2 :: _OVERSAMPLING]
    if rng.random() < 0.5:
        image, ids = image[:, ::-1], ids[:, ::-1]
    return _labelled(rng, np.ascontiguousarray(image), ids, owners)


def _photograph(rng: Rng, picture: Image.Image, light: Light) -> npt.NDArray[np.uint8]:
    """What the camera makes of it: light, exposure, a little blur, sensor noise."""
    blurred = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.6))))
    exposed = np.asarray(blurred, np.float32) * np.array(light.tint, np.float32) * np.float32(rng.uniform(0.88, 1.12))
    exposed += rng.standard_normal(exposed.shape, np.float32) * np.float32(rng.uniform(2, 6))
    return exposed.clip(0, 255).astype(np.uint8)


def _labelled(rng: Rng, image: npt.NDArray[np.uint8], ids: npt.NDArray[Any], owners: dict[int, int]) -> Scene:
    """The label a person would leave: specks and, in every fourth scene, some patch unlabeled; ids 1..n."""
    present, counts = np.unique(ids, return_counts=True)
    kept = [int(i) for i, n in zip(present, counts, strict=True) if n >= _SPECK]
    table = np.zeros(int(present[-1]) + 1, np.uint32)
    table[kept] = np.arange(1, len(kept) + 1)
    instances = Image.fromarray(table[ids].astype(np.int32))
    height, width = ids.shape
    if rng.random() < 0.25:
        x, y = rng.uniform(0, width), rng.uniform(0.3, 0.8) * height
        corners = [(x + rng.uniform(6, 18) * np.cos(t), y + rng.uniform(4, 12) * np.sin(t)) for t in range(6)]
        ImageDraw.Draw(instances).polygon(corners, fill=0)
    labelled = np.asarray(instances).astype(np.uint32)
    left = set(np.unique(labelled).tolist())
    return Scene(image, labelled, {n: owners[i] for n, i in enumerate(kept, 1) if n in left})


# -------------------------------------------------------------------- the release


class Flaws(NamedTuple):
    """Numbers of the samples of a drawn release that are not as they should be."""

    skipped: frozenset[int]
    unlabeled: frozenset[int]
    wrong_size: frozenset[int]


def flaws(scenes: int, seed: int) -> Flaws:
    """Which samples of `draw_release(.., scenes=scenes, seed=seed)` are flawed, and how; one in ten or so."""
    order = np.random.default_rng((seed, 0)).permutation(scenes)
    ends = np.cumsum([max(1, round(scenes * share)) for share in (0.04, 0.04, 0.02)])
    return Flaws(*(frozenset(part.tolist()) for part in np.split(order, ends)[:3]))


def draw_release(folder: Path, *, scenes: int = 100, seed: int = 0) -> Path:
    """Draw a release of `scenes` samples into `folder` and return the path of its release.json.

    images/*.jpg and bitmaps/*.png lie beside it, under relative urls, as in a release exported by hand. Like a real
    round it is not clean: of 100 samples 4 are SKIPPED (their pictures are blurred), 4 have no label yet, and 2 bitmaps
    are of another size than their image. The same seed gives the same bytes.
    """
    skipped, unlabeled, wrong_size = flaws(scenes, seed)
    entries = []
    for i in range(scenes):
        walk, rng = i // _WALK, np.random.default_rng((seed, 2, i))
        light = draw_light(np.random.default_rng((seed, 1, walk)))
        scene = draw_scene(rng, light)
        name, key = f"walk{walk:02d}_{i % _WALK:02d}.jpg", str(uuid.uuid5(_NAMESPACE, f"{seed}/{i}"))
        status = "SKIPPED" if i in skipped else "REVIEWED" if rng.random() < 0.6 else "LABELED"
        bitmap, annotations = scene.instances, scene.annotations
        if i in skipped:
            bitmap, annotations = np.zeros_like(bitmap), {}
        if i in wrong_size:
            bitmap = bitmap[::2, ::2]
        write_bytes(folder / "images" / name, _jpeg(scene.image, blur=4.0 if i in skipped else 0.0))
        if i not in unlabeled:
            write_bytes(folder / "bitmaps" / f"{key}.png", encode_instance_bitmap(bitmap))
        label = None if i in unlabeled else _label(status, annotations, f"bitmaps/{key}.png")
        metadata = {"sequence": f"walk{walk:02d}", "weather": light.weather}
        entries.append(_sample(key, name, metadata, label))
    path = folder / "release.json"
    write_text(path, json.dumps(_release(entries), indent=1) + "\n")
    return path


def _jpeg(image: npt.NDArray[np.uint8], *, blur: float) -> bytes:
    picture, out = Image.fromarray(image), io.BytesIO()
    (picture.filter(ImageFilter.GaussianBlur(blur)) if blur else picture).save(out, "JPEG", quality=92)
    return out.getvalue()


def _label(status: str, annotations: dict[int, int], url: str) -> dict[str, Any]:
    return {
        "label_status": status,
        "attributes": {
            "format_version": "0.1",
            "annotations": [{"id": i, "category_id": c, "attributes": {}} for i, c in annotations.items()],
            "segmentation_bitmap": {"url": url},
        },
    }


def _sample(key: str, name: str, metadata: dict[str, str], label: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "uuid": key,
        "name": name,
        "attributes": {"image": {"url": f"images/{name}"}},
        "metadata": metadata,
        "labels": {"ground-truth": label},
    }


def _release(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The release file around its samples, key for key as Segments.ai writes one."""
    taxonomy = [
        {"name": c.name, "id": c.id, "color": list(c.color or ()), "has_instances": c.has_instances, "attributes": []}
        for c in CATEGORIES
    ]
    labelset = {"name": "ground-truth", "description": "", "is_groundtruth": True, "created_at": _CREATED}
    return {
        "name": "v1.0",
        "description": "Drawn street scenes",
        "created_at": _CREATED,
        "dataset": {
            "name": "drawn-sidewalk",
            "description": "",
            "category": "Street scenery",
            "created_at": _CREATED,
            "owner": "labelsync",
            "task_type": "segmentation-bitmap",
            "task_attributes": {"format_version": "0.1", "categories": taxonomy},
            "tasks": {"ground-truth": {"description": "", "task_type": "", "attributes": {}}},
            "labelsets": [labelset],
            "samples": entries,
        },
    }
