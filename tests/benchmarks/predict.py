"""`predict` beside `pipeline("image-segmentation")`: a SegFormer-B0 at 512, 1080p JPEGs, on one core.

Both sides get the same files and end with the class of every pixel. `labelsync.predict` also writes them as PNGs, and
where it says so overlays. CPU time, since other programs may run meanwhile. The weights are random; "same" is the share
of pixels of one class on both sides.
"""

import io
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers
from PIL import Image
from transformers.utils import logging as transformers_logging

import labelsync
from labelsync.labels import Category, from_categories
from labelsync.model.load import new_model, save_model
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.semantic import decode_semantic
from tests.benchmarks import scenes
from tests.benchmarks.measure import ROUNDS, Line, median, say, table, workplace

IMAGES = 6
SIZE = 512
AIM, SAME = 2, 0.999
LABELS = from_categories(Category(i, f"class-{i}") for i in range(1, scenes.CLASSES + 1))

Maps = list[npt.NDArray[Any]]


def run(
    folder: Path,
    *,
    images: int = IMAGES,
    rounds: int = ROUNDS,
    size: tuple[int, int] = scenes.FULL_HD,
    side: int = SIZE,
    config: dict[str, Any] | None = None,
) -> str:
    """Measure all sides in turn; the table. `config` = of a smaller SegFormer than B0."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        say(f"predict: drawing {images} pictures")
        files = [draw(folder / "images" / f"{i}.jpg", i, size=size) for i in range(images)]
        model = segformer(folder / "model", files, side=side, config=config or {})
        sides = sides_of(model, files, folder / "out")
        spent: dict[str, list[float]] = {name: [] for name in sides}
        found: dict[str, Maps] = {name: work() for name, work in sides.items()}  # imports, the first call
        for i in range(rounds):
            say(f"predict: round {i + 1}")
            for name, work in sides.items():
                start = time.process_time()
                work()
                spent[name].append((time.process_time() - start) / images)
        return report({name: median(values) for name, values in spent.items()}, found, size, side)
    finally:
        torch.set_num_threads(threads)


def draw(path: Path, index: int, *, size: tuple[int, int]) -> Path:
    """A drawn picture as a camera's JPEG."""
    path.parent.mkdir(exist_ok=True)
    picture, _, _ = scenes.draw(index, size=size)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=88)
    path.write_bytes(file.getvalue())
    return path


def segformer(folder: Path, files: list[Path], *, side: int, config: dict[str, Any]) -> Path:
    """A SegFormer of random weights (B0, unless `config` says otherwise) of which all classes win somewhere.

    The bias of each class takes away the mean of its outputs: else one class would win everywhere. The head listens to
    the coarse stages more than to the fine ones, as a trained one does: else every pixel would be a border.
    """
    transformers.SegformerConfig(**config, architectures=["SegformerForSemanticSegmentation"]).save_pretrained(folder)
    loaded = new_model(folder, LABELS, image_size=(side, side), seed=0)
    classifier, fuse = loaded.model.decode_head.classifier, loaded.model.decode_head.linear_fuse.weight
    with torch.no_grad():
        for part, weight in zip(fuse.chunk(4, dim=1), (1, 0.5, 0.1, 0.05), strict=True):  # the coarsest stage first
            part.mul_(weight)
    save_model(loaded, folder)
    means: list[torch.Tensor] = []
    hook = classifier.register_forward_hook(lambda *call: means.append(call[2].mean((0, 2, 3))))
    Segmenter(loaded).segment_batch(files)
    hook.remove()
    with torch.no_grad():
        classifier.bias -= torch.stack(means).mean(0)
        classifier.weight.mul_(20)
        classifier.bias.mul_(20)
    save_model(loaded, folder)
    return folder


def sides_of(model: Path, files: list[Path], out: Path) -> dict[str, Callable[[], Maps]]:
    """Name -> what gives the (H, W) disk ids of every file."""
    transformers_logging.disable_progress_bar()
    pipe = transformers.pipeline("image-segmentation", model=str(model), device="cpu")
    segmenter = Segmenter(model, device="cpu")

    def theirs() -> Maps:
        found = []
        for file in files:
            parts = pipe(str(file))
            classes = np.zeros(np.asarray(parts[0]["mask"]).shape, np.uint8)
            for part in parts:
                classes[np.asarray(part["mask"]) > 0] = LABELS.id_of(part["label"])
            found.append(classes)
        return found

    def predicted(overlays: bool) -> Maps:
        shutil.rmtree(out, ignore_errors=True)
        labelsync.predict(model, images=[str(file) for file in files], out=out, overlays=overlays, device="cpu")
        return [decode_semantic((out / "bitmaps" / f"{file.stem}.png").read_bytes()) for file in files]

    return {
        "pipeline": theirs,
        "Segmenter.segment": lambda: [segmenter.segment(file) for file in files],
        "predict, bitmaps": lambda: predicted(False),
        "predict, bitmaps and overlays": lambda: predicted(True),
    }


def report(spent: dict[str, float], found: dict[str, Maps], size: tuple[int, int], side: int) -> str:
    """A line for each way, beside the pipeline's. Loading the model is in the time of `predict`."""
    there, lines = spent["pipeline"], []
    for name, here in spent.items():
        if name == "pipeline":
            continue
        pairs = zip(found[name], found["pipeline"], strict=True)
        same = float(np.mean([(ours == theirs).mean() for ours, theirs in pairs]))
        aim = AIM if name != "predict, bitmaps and overlays" else None
        result = f"{there / here:.1f} times, {same:.5%} of the pixels the same"
        met = None if aim is None else there / here >= aim and same >= SAME
        lines.append(Line(name, f"{1 / here:.2f}", f"{1 / there:.2f}", result, f"{aim} times" if aim else "", met))
    classes = np.mean([len(np.unique(m)) for m in found["pipeline"]])
    borders = np.mean([(m[1:] != m[:-1]).mean() for m in found["pipeline"]])
    about = f"{classes:.0f} classes an image, {borders:.1%} of the pixels other than the one above"
    title = f"Prediction, {size[1]}x{size[0]} at {side}, {about}; images per CPU second on one core"
    return table(title, lines, sides=("labelsync", "pipeline"))


if __name__ == "__main__":
    with workplace() as folder:
        print(run(folder))
