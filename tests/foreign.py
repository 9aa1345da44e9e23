"""Small stand-ins for datasets that labelsync did not make: same ids, columns, features, splits and file names as on
the Hub, with drawn pixels. The Parquet files are written by `datasets`, as those are.
"""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value, disable_progress_bars
from PIL import Image as PILImage

from labelsync.pixels.image import encode_png
from tests.loopback.hub import LoopbackHub

CONVERTED = "refs/convert/parquet"
SCENES = "zhoubolei/scene_parse_150"
LABEL_FILES = "huggingface/label-files"
ADE20K = "ade20k-id2label.json"
PETS = "dpdl-benchmark/oxford_iiit_pet"

SCENE_NAMES = ("wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed ")  # the first of the 150
BREEDS = ("Abyssinian", "american_bulldog", "american_pit_bull_terrier")

disable_progress_bars()


def drawn(seed: int, values: Sequence[int], *, size_hw: tuple[int, int] = (48, 64)) -> tuple[Any, Any]:
    """An image and its label: three stripes and a box of `values`, every value with a colour of its own."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    label = np.zeros(size_hw, np.uint8)
    for i, value in enumerate(rng.choice(values, 3)):
        label[i * height // 3 : (i + 1) * height // 3] = value
    y, x = rng.integers(0, height // 2), rng.integers(0, width // 2)
    label[y : y + height // 3, x : x + width // 3] = rng.choice(values)
    colors = np.random.default_rng(7).integers(0, 255, (256, 3))
    image = np.clip(colors[label] + rng.normal(0, 9, (*size_hw, 3)), 0, 255).astype(np.uint8)
    return image, label


def jpeg(image: Any) -> bytes:
    """An image as JPEG bytes."""
    out = io.BytesIO()
    PILImage.fromarray(image).save(out, "JPEG", quality=92)
    return out.getvalue()


def pair(seed: int, values: Sequence[int], name: str = "", **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two cells of a row as `datasets` stores them."""
    image, label = drawn(seed, values, **kwargs)
    return {"bytes": jpeg(image), "path": f"{name}.jpg" if name else None}, {
        "bytes": encode_png(label),
        "path": f"{name}.png" if name else None,
    }


def parquet(rows: Sequence[Mapping[str, Any]], features: Features) -> bytes:
    """The rows as one Parquet file."""
    out = io.BytesIO()
    Dataset.from_list([dict(r) for r in rows], features=features).to_parquet(out)
    return out.getvalue()


TWO_IMAGES = Features({"image": Image(), "label": Image()})


def plain_rows(number: int, values: Sequence[int] = (0, 1, 2, 3), *, start: int = 0) -> list[dict[str, Any]]:
    """Rows with columns image and label, named a0, a1, ..."""
    cells = [pair(i, values, f"a{i}") for i in range(start, start + number)]
    return [{"image": image, "label": label} for image, label in cells]


def scene_parse(hub: LoopbackHub, *, train: int = 10, validation: int = 4, test: int = 2) -> str:
    """SceneParse150: a loading script on main, Parquet by the Hub on its own branch, a test split without labels."""
    card = "---\ndataset_info:\n- config_name: scene_parsing\n- config_name: instance_segmentation\n---\n"
    hub.add_repo(SCENES, {"README.md": card, "scene_parse_150.py": "import datasets\n"})
    category = ClassLabel(names=["airport_terminal", "art_gallery", "badlands"])
    features = Features({"image": Image(), "annotation": Image(), "scene_category": category})
    instances = Features({"image": Image(), "annotation": Image()})
    files = {}
    start = 0
    for split, number in (("train", train), ("test", test), ("validation", validation)):
        rows, others = [], []
        for i in range(start, start + number):
            image, label = pair(i, range(len(SCENE_NAMES) + 1), f"ADE_{split}_{i:08}")
            known = split != "test"
            rows.append(
                {"image": image, "annotation": label if known else None, "scene_category": i % 3 if known else None}
            )
            others.append({"image": image, "annotation": {"bytes": image["bytes"], "path": "x.png"}})
        files[f"scene_parsing/{split}/0000.parquet"] = parquet(rows, features)
        files[f"instance_segmentation/{split}/0000.parquet"] = parquet(others, instances)
        start += number
    return hub.add_repo(SCENES, files, ref=CONVERTED)


def label_files(hub: LoopbackHub) -> None:
    """huggingface/label-files with ADE20K's names, numbered from 0 = wall, to 150."""
    names = [*SCENE_NAMES, *(f"class {i}" for i in range(len(SCENE_NAMES), 150))]
    text = json.dumps({str(i): n for i, n in enumerate(names)})
    hub.add_repo(LABEL_FILES, {ADE20K: text, "imagenet-1k-id2label.json": '{"0": "tench"}'})


def pets(hub: LoopbackHub, *, train: int = 18, test: int = 6) -> str:
    """Oxford-IIIT Pet: three shards a split, trimaps of 1 = pet, 2 = background, 3 = border, no validation split."""
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=list(BREEDS)),
            "species": ClassLabel(names=["Cat", "Dog"]),
            "file_name": Value("string"),
            "segmentation_mask": Image(),
        }
    )
    files = {}
    for split, number, start in (("train", train, 0), ("test", test, 1000)):
        for shard in range(3):
            rows = [_pet(start + i) for i in range(shard * number // 3, (shard + 1) * number // 3)]
            files[f"data/{split}-{shard:05}-of-00003.parquet"] = parquet(rows, features)
    return hub.add_repo(PETS, files | {"README.md": "---\nlicense: cc-by-sa-4.0\n---\n# Oxford-IIIT Pet\n"})


def _pet(seed: int) -> dict[str, Any]:
    """A disc with a rim on a background, and its trimap."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :64]
    distance = np.hypot(y - rng.integers(16, 32), x - rng.integers(20, 44)) - rng.integers(9, 14)
    trimap = np.where(distance < -1.5, 1, np.where(distance > 1.5, 2, 3)).astype(np.uint8)
    colors = np.array([[0, 0, 0], [190, 140, 80], [60, 120, 70], [125, 130, 75]])
    image = np.clip(colors[trimap] + rng.normal(0, 14, (48, 64, 3)), 0, 255).astype(np.uint8)
    name = f"{BREEDS[seed % 3]}_{seed}"
    return {
        "image": {"bytes": encode_png(image), "path": None},
        "label": seed % 3,
        "species": seed % 2,
        "file_name": f"{name}.jpg",
        "segmentation_mask": {"bytes": encode_png(trimap), "path": None},
    }


def image_folder(folder: Path, number: int = 6, *, split: str = "train", start: int = 0) -> Path:
    """What `load_dataset("imagefolder")` reads: <split>/metadata.csv with an image and a label file a line."""
    (folder / split / "labels").mkdir(parents=True)
    lines = ["file_name,label_file_name,weather"]
    for i in range(start, start + number):
        image, label = drawn(i, (0, 1, 2, 3))
        (folder / split / f"a{i}.jpg").write_bytes(jpeg(image))
        (folder / split / f"labels/a{i}.png").write_bytes(encode_png(label))
        lines.append(f"a{i}.jpg,labels/a{i}.png,rain")
    (folder / split / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def two_folders(folder: Path, number: int = 4, *, names: tuple[str, str] = ("images", "annotations")) -> Path:
    """images/training/a0.jpg with annotations/training/a0.png, and the same for validation, as ADE20K's zip has it."""
    for split, start in (("training", 0), ("validation", 100)):
        for i in range(start, start + number):
            image, label = drawn(i, (0, 1, 2, 3))
            for name, file, data in ((names[0], f"a{i}.jpg", jpeg(image)), (names[1], f"a{i}.png", encode_png(label))):
                (folder / name / split).mkdir(parents=True, exist_ok=True)
                (folder / name / split / file).write_bytes(data)
    return folder


ID2LABEL = {"0": "unlabeled", "1": "sky", "2": "road", "3": "car"}
