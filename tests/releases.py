"""Drawn Segments.ai releases for tests: seeded, small, and learnable (a class has its own colour).

`draw_release` writes `release.json`, `images/*.jpg` and `bitmaps/*.png`, with relative asset URLs, as a hand-exported
release has them. Sample i depends on (seed, i) alone, so a release of 12 samples starts with the release of 6.
"""

import json
import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from labelsync.pixels.image import encode_png
from labelsync.pixels.instance import encode_instance_bitmap
from labelsync.taxonomy import palette

_NAMESPACE = uuid.UUID("5f0c8d3e-0000-4000-8000-1ab31579c000")


def draw_release(
    folder: Path,
    *,
    samples: int = 12,
    size: tuple[int, int] = (48, 64),
    classes: int = 3,
    seed: int = 0,
    name: str = "v1.0",
    dataset: str = "acme/sidewalk",
    category_ids: Sequence[int] = (),
    groups: int = 0,
    unlabeled: Collection[int] = (),
    skipped: Collection[int] = (),
    reviewed: Collection[int] = (),
    prelabeled: Collection[int] = (),
    empty: Collection[int] = (),
    wrong_size: Collection[int] = (),
    unknown_instance: Collection[int] = (),
    unknown_category: Collection[int] = (),
    base_url: str = "",
) -> Path:
    """Draw a release into `folder` and return the path of its release.json.

    Args:
        size: (height, width) of the images.
        category_ids: Segments.ai ids of the classes, in place of 1..classes.
        groups: number of sequences; `metadata.sequence` is then "seq-0".. in turn.
        unlabeled .. unknown_category: indices of samples of that kind; `skipped` are SKIPPED with an all-zero bitmap
            and no annotation, `empty` the same with status LABELED, `wrong_size` have a bitmap two pixels lower than
            the image, `unknown_instance` a drawn id without annotation, `unknown_category` a category outside the
            taxonomy.
        base_url: put before "images/.." and "bitmaps/.."; empty = relative URLs.
    """
    ids = tuple(category_ids) or tuple(range(1, classes + 1))
    for sub in ("images", "bitmaps"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    entries = []
    for i in range(samples):
        image, instances, annotations = draw_scene(size, category_ids=ids, seed=(seed, i))
        entry = sample_entry(i, annotations, seed=seed, base_url=base_url, group=f"seq-{i % groups}" if groups else "")
        label = entry["labels"]["ground-truth"]
        if i in skipped or i in empty:
            instances, label["attributes"]["annotations"] = np.zeros_like(instances), []
        if i in wrong_size:
            instances = instances[:-2]
        if i in unknown_instance:
            instances[:2, :3] = 999
        if i in unknown_category:
            annotations[0]["category_id"] = 60000
        for status, which in (("SKIPPED", skipped), ("REVIEWED", reviewed), ("PRELABELED", prelabeled)):
            if i in which:
                label["label_status"] = status
        write_image(folder / "images" / entry["name"], image)
        if i in unlabeled:
            entry["labels"]["ground-truth"] = None
        else:
            (folder / "bitmaps" / f"{entry['uuid']}.png").write_bytes(encode_instance_bitmap(instances))
        entries.append(entry)
    return write_release(folder, release_document(entries, name=name, dataset=dataset, category_ids=ids))


def draw_scene(
    size: tuple[int, int], *, category_ids: Sequence[int], seed: int | Sequence[int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32], list[dict[str, Any]]]:
    """Rectangles on an unlabeled ground: (H, W, 3) uint8 image, (H, W) uint32 instance ids, annotations.

    The first rectangle takes the upper half, so no scene is without a label.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    instances = np.zeros(size, np.uint32)
    image = np.full((height, width, 3), 24, np.float64)
    annotations: list[dict[str, Any]] = []
    for instance in range(1, 6):
        category = int(rng.integers(len(category_ids)))
        top, left = int(rng.integers(height // 2)), int(rng.integers(width // 2))
        bottom = top + int(rng.integers(height // 4, height // 2))
        right = left + int(rng.integers(width // 4, width // 2))
        box = np.s_[: height // 2, :] if instance == 1 else np.s_[top:bottom, left:right]
        instances[box] = instance
        image[box] = palette(category + 1)
        annotations.append({"id": instance, "category_id": int(category_ids[category]), "attributes": {}})
    drawn = set(np.unique(instances).tolist())
    image += rng.normal(0, 8, (height, width, 3))
    return image.clip(0, 255).astype(np.uint8), instances, [a for a in annotations if a["id"] in drawn]


def write_image(path: Path, image: npt.NDArray[np.uint8]) -> None:
    """(H, W, 3) uint8 to a .jpg or .png file."""
    if path.suffix == ".png":
        path.write_bytes(encode_png(image))
    else:
        Image.fromarray(image).save(path, "JPEG", quality=92)


def sample_uuid(index: int, *, seed: int = 0) -> str:
    """The uuid that `draw_release` gives sample `index`."""
    return str(uuid.uuid5(_NAMESPACE, f"{seed}/{index}"))


def sample_entry(
    index: int, annotations: list[dict[str, Any]], *, seed: int = 0, base_url: str = "", group: str = ""
) -> dict[str, Any]:
    """One labelled sample as a release file lists it."""
    key, name = sample_uuid(index, seed=seed), f"frame_{index:04d}.jpg"
    return {
        "uuid": key,
        "name": name,
        "attributes": {"image": {"url": f"{base_url}images/{name}"}},
        "metadata": {"sequence": group} if group else {},
        "labels": {
            "ground-truth": {
                "label_status": "LABELED",
                "attributes": {
                    "format_version": "0.1",
                    "annotations": annotations,
                    "segmentation_bitmap": {"url": f"{base_url}bitmaps/{key}.png"},
                },
            }
        },
    }


def release_document(
    entries: list[dict[str, Any]],
    *,
    name: str = "v1.0",
    dataset: str = "acme/sidewalk",
    category_ids: Sequence[int] = (1, 2, 3),
    task_type: str = "segmentation-bitmap",
) -> dict[str, Any]:
    """The whole release file around its samples; category i is named "class-<its id>"."""
    owner, _, short = dataset.partition("/")
    when = "2024-01-04 00:08:18.046049+00:00"
    categories = [
        {"name": f"class-{c}", "id": c, "color": list(palette(i)), "has_instances": True, "attributes": []}
        for i, c in enumerate(category_ids, 1)
    ]
    return {
        "name": name,
        "description": "",
        "created_at": when,
        "dataset": {
            "name": short,
            "description": "",
            "category": "Other / mixed",
            "created_at": when,
            "owner": owner,
            "task_type": task_type,
            "task_attributes": {"format_version": "0.1", "categories": categories},
            "tasks": {"ground-truth": {"description": "", "task_type": "", "attributes": {}}},
            "labelsets": [{"name": "ground-truth", "description": "", "is_groundtruth": True, "created_at": when}],
            "samples": entries,
        },
    }


def write_release(folder: Path, document: dict[str, Any]) -> Path:
    """`document` as folder/release.json."""
    path = folder / "release.json"
    path.write_text(json.dumps(document, indent=1))
    return path


def edit_release(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Apply `change` to the document of a release file, in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document, indent=1))
    return path
