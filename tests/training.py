"""What the training tests train on: drawn rows in memory, and a tiny SegFormer that uses every random layer it has."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelsync.dataset.load import LabeledDataset
from labelsync.labels import LabelMap
from labelsync.model.load import new_model
from labelsync.model.loaded import LoadedModel
from labelsync.pixels.image import encode_png
from labelsync.pixels.semantic import encode_semantic
from labelsync.records.release import Row
from labelsync.training.arguments import parse_set, training_arguments
from labelsync.training.data import TrainingData
from labelsync.training.knobs import Augment, Recipe
from labelsync.training.trainer import SegmentationTrainer
from tests.models import label_map, tiny_segformer

LABELS = label_map("sky", "road", "car")
COLORS = np.array([[0, 0, 0], [40, 90, 200], [90, 90, 90], [200, 40, 40]], np.uint8)

VARIED = Augment(flip=0.5, scale=(0.5, 2.0), aspect=(0.9, 1.1), brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)


def drawn(seed: int, *, size_hw: tuple[int, int] = (40, 56)) -> tuple[Any, Any]:
    """An image and its label: sky over road, a car somewhere, an unlabeled strip on top."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    label = np.zeros(size_hw, np.uint8)
    label[: height // 2], label[height // 2 :] = 1, 2
    y, x = rng.integers(0, height - 12), rng.integers(0, width - 16)
    label[y : y + 12, x : x + 16] = 3
    label[:3] = 0
    image = np.clip(COLORS[label] + rng.normal(0, 12, (*size_hw, 3)), 0, 255).astype(np.uint8)
    return image, label


def rows(number: int, *, start: int = 0, **kwargs: Any) -> list[Row]:
    """Drawn rows named s0.png, s1.png, ..."""
    pairs = [(i, *drawn(i, **kwargs)) for i in range(start, start + number)]
    return [Row(f"s{i}.png", f"u{i}", encode_png(image), encode_semantic(label)) for i, image, label in pairs]


def dataset(
    train: int = 13, validation: int = 4, *, labels: LabelMap = LABELS, digest: str = "d" * 64
) -> LabeledDataset:
    """A dataset of drawn rows, as `load` would give it."""
    splits: Any = {"train": rows(train), "validation": rows(validation, start=1000)}
    return LabeledDataset("acme/drawn", labels, splits, digest, "v1.0", "c" * 40)


def architecture(folder: Path, labels: LabelMap = LABELS) -> Path:
    """A tiny SegFormer without weights, with dropout and drop path, which draw from torch's generator."""
    tiny_segformer(folder, labels)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"drop_path_rate": 0.2, "hidden_dropout_prob": 0.1, "classifier_dropout_prob": 0.1}
    path.write_text(json.dumps(config))
    return folder


def recipe(**replaced: Any) -> Recipe:
    """Two epochs of seven steps for 13 rows, with every variation on."""
    values = {"image_size": "32", "epochs": 2.0, "batch_size": 2, "learning_rate": 3e-3, "warmup": 0.1}
    return Recipe(**(values | {"augment": VARIED} | replaced))


def trainer(
    folder: Path,
    *,
    model_seed: int = 0,
    seed: int = 0,
    options: tuple[str, ...] = (),
    callbacks: tuple[Any, ...] = (),
    cls: type[SegmentationTrainer] = SegmentationTrainer,
    data: LabeledDataset | None = None,
    factors: list[float] | None = None,
    **replaced: Any,
) -> SegmentationTrainer:
    """A trainer whose checkpoints go to `folder`; its model is drawn from `model_seed`."""
    data = data or dataset()
    loaded = untrained(folder.parent / "architecture", model_seed, data.labels)
    chosen = recipe(**replaced)
    return cls(
        loaded,
        training_arguments(chosen, parse_set(options), checkpoints=folder, seed=seed, loaders=0),
        recipe=chosen,
        data=TrainingData(data.splits["train"], data.labels, size_hw=chosen.size_hw, augment=chosen.augment, seed=seed),
        validation=data.splits["validation"],
        factors=factors,
        callbacks=callbacks,
    )


def untrained(folder: Path, seed: int = 0, labels: LabelMap = LABELS) -> LoadedModel:
    """The tiny model with weights drawn from `seed`."""
    return new_model(architecture(folder, labels), labels, image_size=(32, 32), seed=seed)


def different(a: torch.nn.Module, b: torch.nn.Module) -> list[str]:
    """Names of the tensors in which two models differ in any bit."""
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    return [k for k in left if not torch.equal(left[k], right[k])]
