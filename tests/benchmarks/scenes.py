"""Drawn releases for the benchmarks: street-like pictures of camera size, with irregular outlines and texture.

What makes a codec work is there: JPEGs of half a megabyte to one at 1920x1080, RGBA bitmaps of 15 to 60 instances whose
outlines wander from row to row. Sample i depends on (seed, i) alone.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from labelsync.pixels.instance import encode_instance_bitmap
from tests.releases import release_document, sample_entry

CLASSES = 34
FULL_HD = (1080, 1920)
SEED = 20240817


def release_of(folder: Path, *, samples: int, size: tuple[int, int] = FULL_HD, copies: int = 1) -> Path:
    """Draw a release into `folder`, with relative URLs; every scene stands in it `copies` times. Its release.json."""
    for sub in ("images", "bitmaps"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    entries = [_write(folder, i, size=size) for i in range(samples)]
    for copy in range(1, copies):
        for i in range(samples):
            entries.append(_again(folder, entries[i], copy * samples + i))
    return _save(folder, entries, name="v1.0")


def next_round(folder: Path, out: Path, *, relabelled: Collection[int], size: tuple[int, int]) -> Path:
    """The release in `folder` with the labels of some samples drawn anew under new URLs, as `out`/release.json.

    The files of the others are links; every URL has a new query string, as signed ones do.
    """
    entries = json.loads((folder / "release.json").read_text())["dataset"]["samples"]
    for sub in ("images", "bitmaps"):
        (out / sub).mkdir(parents=True, exist_ok=True)
        for path in (folder / sub).iterdir():
            (out / sub / path.name).hardlink_to(path)
    for i in relabelled:
        _, ids, annotations = draw(i, size=size, seed=SEED + 1)
        attributes = _label(entries[i])
        url = f"bitmaps/{entries[i]['uuid']}-2.png"
        (out / url).write_bytes(encode_instance_bitmap(ids))
        attributes |= {"annotations": annotations, "segmentation_bitmap": {"url": url}}
    return _save(out, entries, name="v2.0")


def with_base_url(release: Path, url: str, out: Path, *, query: str = "") -> Path:
    """The release file with absolute URLs below `url`, as `out`."""
    document = json.loads(release.read_text())
    for entry in document["dataset"]["samples"]:
        for holder in (entry["attributes"]["image"], _label(entry)["segmentation_bitmap"]):
            holder["url"] = f"{url}/{holder['url']}{query}"
    out.write_text(json.dumps(document))
    return out


def draw(
    index: int, *, size: tuple[int, int] = FULL_HD, seed: int = SEED
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32], list[dict[str, Any]]]:
    """(H, W, 3) picture, (H, W) instance ids, annotations. A fifth of the ids are missing, as after deletions."""
    rng = np.random.default_rng((seed, index))
    height, width = size
    ids, rgb = Image.new("I", (width, height), 0), Image.new("RGB", (width, height))
    on_ids, on_rgb = ImageDraw.Draw(ids), ImageDraw.Draw(rgb)
    count = int(rng.integers(15, 61))
    numbers = np.sort(rng.choice(np.arange(1, count * 5 // 4 + 1), count, replace=False)).tolist()
    annotations = []
    for place, number in enumerate(numbers):
        outline = _outline(rng, height, width, largest=0.3 - 0.26 * place / count)  # small things in front
        on_ids.polygon(outline, fill=number)
        on_rgb.polygon(outline, fill=tuple(rng.integers(30, 226, 3).tolist()))
        annotations.append({"id": number, "category_id": int(rng.integers(1, CLASSES + 1)), "attributes": {}})
    return _textured(rng, rgb), np.asarray(ids).astype(np.uint32), annotations


def _outline(rng: np.random.Generator, height: int, width: int, *, largest: float) -> list[tuple[float, float]]:
    """A closed curve whose radius wanders: few large waves and many small ones, as a hand draws around a thing."""
    turns = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    waves = np.arange(1, 60)
    phases = rng.uniform(0, 2 * np.pi, waves.size)
    heights = rng.normal(0, 0.22, waves.size) / waves**0.9
    radius = (1 + (heights[:, None] * np.sin(waves[:, None] * turns + phases[:, None])).sum(0)).clip(0.1)
    radius *= rng.uniform(0.02, largest) * width
    x, y = rng.uniform(0, width), rng.uniform(0.2, 1) * height
    squeeze = rng.uniform(0.4, 1.2)
    return list(
        zip((x + np.cos(turns) * radius).tolist(), (y + np.sin(turns) * radius * squeeze).tolist(), strict=True)
    )


def _textured(rng: np.random.Generator, rgb: Image.Image) -> npt.NDArray[np.uint8]:
    """Soft edges, light from above, and grain on two scales, so that a JPEG has something to code."""
    width, height = rgb.size
    picture = np.asarray(rgb.filter(ImageFilter.GaussianBlur(1.5)), np.float32)
    picture = picture + np.linspace(25, -25, height, dtype=np.float32)[:, None, None]
    for scale, strength in ((1, 5), (2, 11), (16, 9)):
        grain = rng.normal(0, strength, (-(-height // scale), -(-width // scale), 1)).astype(np.float32)
        picture += grain.repeat(scale, 0).repeat(scale, 1)[:height, :width]
    return picture.round().clip(0, 255).astype(np.uint8)


# -------------------------------------------------------------------- files


def _label(entry: dict[str, Any]) -> dict[str, Any]:
    attributes: dict[str, Any] = entry["labels"]["ground-truth"]["attributes"]
    return attributes


def _write(folder: Path, index: int, *, size: tuple[int, int]) -> dict[str, Any]:
    picture, ids, annotations = draw(index, size=size)
    entry = sample_entry(index, annotations, seed=SEED)
    Image.fromarray(picture).save(folder / entry["attributes"]["image"]["url"], "JPEG", quality=88)
    (folder / _label(entry)["segmentation_bitmap"]["url"]).write_bytes(encode_instance_bitmap(ids))
    return entry


def _again(folder: Path, entry: dict[str, Any], index: int) -> dict[str, Any]:
    """Another sample with the same picture and label, in files of its own names."""
    again = sample_entry(index, _label(entry)["annotations"], seed=SEED)
    for old, new in (
        (entry["attributes"]["image"], again["attributes"]["image"]),
        (_label(entry)["segmentation_bitmap"], _label(again)["segmentation_bitmap"]),
    ):
        (folder / new["url"]).hardlink_to(folder / old["url"])
    return again


def _save(folder: Path, entries: list[dict[str, Any]], *, name: str) -> Path:
    document = release_document(entries, name=name, category_ids=range(1, CLASSES + 1))
    path = folder / "release.json"
    path.write_text(json.dumps(document))
    return path
