"""Images per second of whole training steps, from 1920x1080 JPEG: beside the documents' loop, transformers' official
example's way, and the same step fed from memory.

With a GPU: SegFormer B0 and B2 at 512x512, batch 16, bf16. Without one the model takes nearly all of the time and the
input little, so that the ratios say less; B0 at 256x256, batch 4 then.

The official example crops, flips and normalises the picture as PIL decodes it, on arrays (by albumentations there,
which costs nothing beside the decoding), and leaves the Trainer's other settings as they are.
"""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import ColorJitter
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from labelsync.model.load import new_model
from labelsync.records.release import Row
from labelsync.training.arguments import training_arguments
from labelsync.training.data import TrainingData
from labelsync.training.process import loaders
from labelsync.training.recipe import load_recipe
from labelsync.training.trainer import SegmentationTrainer
from tests.benchmarks import scenes
from tests.benchmarks.input import JITTER, LABELS, row_of
from tests.benchmarks.measure import ROUNDS, Line, median, say, table, workplace

IMAGES = 16  # different pictures; they come again and again
BACKBONES = {  # hidden sizes, depths and decoder width of the published ones
    "SegFormer B0": {"hidden_sizes": [32, 64, 160, 256], "depths": [2, 2, 2, 2], "decoder_hidden_size": 256},
    "SegFormer B2": {"hidden_sizes": [64, 128, 320, 512], "depths": [3, 4, 6, 3], "decoder_hidden_size": 768},
}
IGNORED = 255


@dataclass(frozen=True)
class Setting:
    """What every side does alike."""

    folder: Path
    rows: list[Row]
    model: dict[str, Any]
    size: tuple[int, int]
    batch: int
    steps: int

    @property
    def precision(self) -> dict[str, bool]:
        """bf16, on whatever device there is."""
        return {"bf16": True, "use_cpu": not torch.cuda.is_available()}


def run(
    folder: Path,
    *,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    steps: int | None = None,
    rounds: int = ROUNDS,
    picture: tuple[int, int] = scenes.FULL_HD,
    backbones: Sequence[str] | None = None,
) -> str:
    """Measure all sides in turn; a table for each backbone."""
    gpu = torch.cuda.is_available()
    say(f"training: drawing {IMAGES} pictures")
    rows = [row_of(i, size=picture) for i in range(IMAGES)]
    tables = ""
    for name in backbones or (tuple(BACKBONES) if gpu else ("SegFormer B0",)):
        setting = Setting(
            folder,
            rows,
            BACKBONES[name],
            size or ((512, 512) if gpu else (256, 256)),
            batch or (16 if gpu else 4),
            steps or (40 if gpu else 4),
        )
        found: dict[str, list[float]] = {side: [] for side in SIDES}
        for i in range(rounds):
            for side, way in SIDES.items():
                say(f"training: {name}, {side}, round {i + 1}")
                found[side].append(way(setting))
        tables += report(name, setting, {side: median(values) for side, values in found.items()})
    return tables


def report(name: str, setting: Setting, found: dict[str, float]) -> str:
    """A line for each of the other sides."""
    gpu, ours = torch.cuda.is_available(), found["labelsync"]
    lines = []
    for side, aim in (("documents", 10.0), ("official example", 1.0), ("from memory", 0.95)):
        ratio = ours / found[side]
        met = (ratio >= aim) if gpu or side != "documents" else None  # ten times what a CPU computes, nobody can feed
        goal = f"{aim:g} times" if met is not None else ""
        lines.append(Line(side, f"{ours:.2f}", f"{found[side]:.2f}", f"{ratio:.2f} times", goal, met))
    where = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    height, width = setting.size
    title = f"Training, {name}, {height}x{width}, batch {setting.batch}, bf16, images per second, {where}"
    return table(title, lines, sides=("labelsync", "beside it"))


# -------------------------------------------------------------------- the sides


class Clock(TrainerCallback):
    """When each step ended, the device's work included."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step has ended."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def images_per_second(self, batch: int) -> float:
        """Over all steps but the first, which warms up."""
        return batch * (len(self.ends) - 1) / (self.ends[-1] - self.ends[0])


class Transformed(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows through a transform, as the documents' `set_transform` does it."""

    def __init__(self, rows: list[Row], length: int, transform: Callable[[Row, int], dict[str, Any]]) -> None:
        self.rows, self.length, self.transform = rows, length, transform

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.transform(self.rows[index % len(self.rows)], index)


def documents(setting: Setting) -> float:
    """Batches of two in float32, PIL's jitter on the whole picture, then the image processor, in the main process."""
    height, width = setting.size
    jitter = ColorJitter(*JITTER.values())
    processor = SegformerImageProcessor(do_reduce_labels=True, size={"height": height, "width": width})

    def transform(row: Row, _: int) -> dict[str, Any]:
        image, label = Image.open(io.BytesIO(row.image)), Image.open(io.BytesIO(row.label))
        made = processor(jitter(image), label, return_tensors="pt")
        return {name: value[0] for name, value in made.items()}

    return plain(setting, transform, batch=2, precision={"use_cpu": setting.precision["use_cpu"]})


def official_example(setting: Setting) -> float:
    """A random crop, a flip and the normalisation of arrays, at the same batch and precision."""
    height, width = setting.size
    mean = np.array(SegformerImageProcessor().image_mean, np.float32)
    std = np.array(SegformerImageProcessor().image_std, np.float32)

    def transform(row: Row, index: int) -> dict[str, Any]:
        draw = np.random.default_rng(index)
        image = np.array(Image.open(io.BytesIO(row.image)).convert("RGB"))
        label = np.array(Image.open(io.BytesIO(row.label)))
        top, left = (
            int(draw.integers(0, have - want + 1)) for have, want in zip(label.shape, setting.size, strict=True)
        )
        image, label = (a[top : top + height, left : left + width] for a in (image, label))
        if draw.random() < 0.5:
            image, label = image[:, ::-1], label[:, ::-1]
        pixels = (image.astype(np.float32) / np.float32(255) - mean) / std
        ids = torch.from_numpy(label.astype(np.int64) - 1)
        ids[ids < 0] = IGNORED
        return {"pixel_values": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), "labels": ids}

    return plain(setting, transform, batch=setting.batch, precision=setting.precision)


def plain(
    setting: Setting, transform: Callable[[Row, int], dict[str, Any]], *, batch: int, precision: dict[str, bool]
) -> float:
    """The Trainer as it is, with its default number of loading processes: none."""
    config = SegformerConfig(**setting.model, num_labels=LABELS.num_labels, semantic_loss_ignore_index=IGNORED)
    arguments = TrainingArguments(
        output_dir=str(setting.folder / "plain"),
        per_device_train_batch_size=batch,
        max_steps=setting.steps + 1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        **precision,  # type: ignore[arg-type]
    )
    clock = Clock()
    trainer = Trainer(
        SegformerForSemanticSegmentation(config),
        arguments,
        train_dataset=Transformed(setting.rows, batch * (setting.steps + 1), transform),
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)  # stdout holds the tables
    trainer.train()
    return clock.images_per_second(batch)


def ours(setting: Setting) -> float:
    """`labelsync train` with the recipe "sidewalk", without its evaluations."""
    return stepped(setting, lambda data: data)


def from_memory(setting: Setting) -> float:
    """The same steps, where every item is there already."""

    class Kept(TrainingData):
        def __getitem__(self, key: Any) -> Any:
            return items[key[1] % len(items)]

    items: list[Any] = []

    def keep(data: TrainingData) -> TrainingData:
        items.extend(data[(0, i)] for i in range(len(setting.rows)))
        return Kept(data.rows, data.labels, size_hw=data.size_hw, augment=data.augment)

    return stepped(setting, keep)


def stepped(setting: Setting, fed: Callable[[TrainingData], TrainingData]) -> float:
    """Our Trainer over what `fed` makes of the training split."""
    height, width = setting.size
    recipe = load_recipe("sidewalk", image_size=f"{height}x{width}", batch_size=setting.batch, steps=setting.steps + 1)
    source = setting.folder / "config"
    SegformerConfig(**setting.model).save_pretrained(source)
    loaded = new_model(source, LABELS, image_size=setting.size, seed=0)
    repeated = setting.rows * (setting.batch * (setting.steps + 1) // len(setting.rows) + 1)
    data = TrainingData(repeated, LABELS, size_hw=setting.size, augment=recipe.augment)
    arguments = training_arguments(
        recipe,
        {**setting.precision, "eval_strategy": "no"},
        checkpoints=setting.folder / "ours",
        seed=0,
        loaders=loaders(),
    )
    clock = Clock()
    trainer = SegmentationTrainer(loaded, arguments, recipe=recipe, data=fed(data), validation=[], callbacks=[clock])
    try:
        trainer.train()
    finally:
        trainer.close()
    return clock.images_per_second(setting.batch)


SIDES: dict[str, Callable[[Setting], float]] = {
    "documents": documents,
    "official example": official_example,
    "from memory": from_memory,
    "labelsync": ours,
}


if __name__ == "__main__":
    with workplace() as folder:
        print(run(folder))
