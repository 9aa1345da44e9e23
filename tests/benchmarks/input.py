"""From a JPEG and a PNG label to training tensors, on one core: beside the documents' transform, and where it goes.

The documents' transform is that of the tutorials: torchvision's ColorJitter on the whole picture as PIL gives it, then
SegformerImageProcessor. CPU time, since other programs may run meanwhile; both sides get the same bytes.
"""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import ColorJitter
from transformers import SegformerImageProcessor

from labelsync.labels import Category, from_categories
from labelsync.pixels.semantic import encode_semantic
from labelsync.records.release import Row
from labelsync.training import augment, data
from labelsync.training.data import TrainingData
from labelsync.training.kept_images import KeptImages
from labelsync.training.knobs import Augment
from labelsync.training.recipe import load_recipe
from tests.benchmarks import scenes
from tests.benchmarks.measure import ROUNDS, Line, median, say, table, timed, workplace

IMAGES, EPOCHS = 8, 6  # pictures, and how often each comes with another draw
SIZE = (512, 512)
JITTER = {"brightness": 0.25, "contrast": 0.25, "saturation": 0.25, "hue": 0.1}
LABELS = from_categories(Category(i, f"class-{i}") for i in range(1, scenes.CLASSES + 1))

# Where a part of an item's way is looked up, and what it does.
STAGES = {
    "decode the image": (data, "decode_reduced"),
    "decode and check the label": (data, "decode_label"),
    "resize": (augment, "resize_interleaved"),
    "jitter": (augment, "vary_color"),
    "label to model ids": (data, "to_model_ids"),
}


def run(folder: Path, *, images: int = IMAGES, rounds: int = ROUNDS, size: tuple[int, int] = scenes.FULL_HD) -> str:
    """Measure all sides in turn; the two tables."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        say(f"input: drawing {images} pictures")
        rows = [row_of(i, size=size) for i in range(images)]
        sides = sides_of(rows, folder / "kept")
        for side in sides.values():
            side(0)  # imports, tables, the files of the folder of kept images
        spent: dict[str, list[float]] = {name: [] for name in sides}
        for i in range(rounds):
            say(f"input: round {i + 1}")
            for name, side in sides.items():
                epochs = range(i) if name == "documents" else range(i * EPOCHS, (i + 1) * EPOCHS)
                start = time.process_time()
                for epoch in epochs or (0,):
                    side(epoch)
                spent[name].append((time.process_time() - start) / len(epochs or (0,)) / images * 1e3)
        return report({name: median(values) for name, values in spent.items()}, size) + profile(rows)
    finally:
        torch.set_num_threads(threads)


def row_of(index: int, *, size: tuple[int, int]) -> Row:
    """A drawn picture and its label, as `convert` leaves them."""
    picture, ids, annotations = scenes.draw(index, size=size)
    classes = np.zeros(int(ids.max()) + 1, np.uint8)
    for annotation in annotations:
        if annotation["id"] < len(classes):
            classes[annotation["id"]] = annotation["category_id"]
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88)
    return Row(f"{index}.jpg", f"u{index}", file.getvalue(), encode_semantic(classes[ids]))


def sides_of(rows: list[Row], kept: Path) -> dict[str, Callable[[int], None]]:
    """Name -> what makes all items of an epoch."""
    jitter, processor = ColorJitter(*JITTER.values()), SegformerImageProcessor(do_reduce_labels=True)

    def documents(epoch: int) -> None:
        del epoch
        for row in rows:
            image, label = Image.open(io.BytesIO(row.image)), Image.open(io.BytesIO(row.label))
            processor(jitter(image), label, return_tensors="pt")

    def ours(varied: Augment, keep: KeptImages | None = None) -> Callable[[int], None]:
        items = TrainingData(rows, LABELS, size_hw=SIZE, augment=varied, kept=keep)

        def epoch_of(epoch: int) -> None:
            for index in range(len(rows)):
                assert isinstance(items[(epoch, index)], tuple)

        return epoch_of

    resized, varied = Augment(**JITTER), load_recipe("sidewalk").augment
    return {
        "documents": documents,
        "resize and jitter": ours(resized),
        "recipe sidewalk (zoom, crop, flip, jitter)": ours(varied),
        "resize and jitter, --cache-images": ours(resized, KeptImages(kept)),
        "recipe sidewalk, --cache-images": ours(varied, KeptImages(kept)),
    }


def report(spent: dict[str, float], size: tuple[int, int]) -> str:
    """A line for each way, beside the documents'."""
    aims = {"resize and jitter": 8, "recipe sidewalk (zoom, crop, flip, jitter)": 5}
    there = spent["documents"]
    lines = []
    for name, here in spent.items():
        if name != "documents":
            aim = aims.get(name)
            goal = f"{aim} times" if aim else ""
            met = there / here >= aim if aim else None
            lines.append(Line(name, f"{here:.1f}", f"{there:.1f}", f"{there / here:.1f} times", goal, met))
    title = f"Input, {size[1]}x{size[0]} to {SIZE[1]}x{SIZE[0]}, CPU ms per image on one core"
    return table(title, lines, sides=("labelsync", "documents"))


# -------------------------------------------------------------------- where the time goes


def profile(rows: list[Row]) -> str:
    """A table of CPU milliseconds per image and part, for both kinds of variation."""
    columns = []
    for varied in (Augment(**JITTER), load_recipe("sidewalk").augment):
        items = TrainingData(rows, LABELS, size_hw=SIZE, augment=varied)
        with watched() as spent:
            start = time.process_time()
            for epoch in range(EPOCHS):
                for index in range(len(rows)):
                    items[(epoch, index)]
            total = time.process_time() - start
        rest = {"draw, nearest label, crop, flip": total - sum(spent.values()), "all": total}
        columns.append({name: s / EPOCHS / len(rows) * 1e3 for name, s in (spent | rest).items()})
    lines = [f"| {name} | {columns[0][name]:.2f} | {columns[1][name]:.2f} |" for name in columns[0]]
    head = ["| CPU ms per image | resize and jitter | recipe sidewalk |", "| --- | --- | --- |"]
    return "\n### Where the input's time goes\n\n" + "\n".join([*head, *lines]) + "\n"


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Stage -> CPU seconds inside its function."""
    spent = dict.fromkeys(STAGES, 0.0)

    with ExitStack() as stack:
        for stage, (holder, name) in STAGES.items():
            stack.enter_context(mock.patch.object(holder, name, timed(getattr(holder, name), spent, stage)))
        yield spent


if __name__ == "__main__":
    with workplace() as folder:
        print(run(folder))
