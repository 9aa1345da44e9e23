"""`evaluate`: a model against the labels of a split. Streams: counts are kept, never a logit or a map."""

import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync import store
from labelsync.dataset.load import load
from labelsync.errors import BitmapError, DatasetError, ModelError
from labelsync.evaluation.confusion import Counts, areas, confusion, zeros
from labelsync.evaluation.on_device import confusion_on_device
from labelsync.evaluation.scores import Scores, scores, scores_of_areas
from labelsync.evaluation.worst import write_worst
from labelsync.labels import LabelMap
from labelsync.model.ahead import load_ahead
from labelsync.model.load import load_model
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row
from labelsync.records.results import EvaluateRecord

Pair = tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]  # image and label


@dataclass(frozen=True, eq=False)
class ImageScores:
    """Scores of one image.

    Attributes:
        pixels: labelled pixels.
        areas: (3, K) int64 pixel counts per class (intersection, predicted, labelled): any score of any set of images
            can be had from their sum.
    """

    name: str
    uuid: str
    pixels: int
    areas: Counts
    mean_iou: float
    overall_accuracy: float


def evaluate(
    model: str | Path,
    *,
    dataset: str | Path,
    split: str = "test",
    out: str | Path | None = None,
    batch_size: int = 8,
    device: str | None = None,
    align: bool = False,
    overwrite: bool = False,
) -> EvaluateRecord:
    """Score a model on the labels of a split, at their own resolution.

    Leaves a folder with evaluation.json (scores and classes), confusion.json, images.jsonl (one line per image) and
    worst/ (pictures of the images with the lowest mean IoU).

    Args:
        model: a model folder or a Hub id "user/name[@revision]".
        dataset: a dataset folder or a Hub id.
        split: name of the split.
        out: folder to leave; None = ./<model>-<split>-evaluation.
        batch_size: images run through the model at once.
        device: "cuda", "cpu", ...; None = a GPU if there is one.
        align: score although model and dataset do not have the same classes, matched by name. Classes that the model
            lacks then count as missed, and what it says beyond the dataset's classes as wrong.
        overwrite: replace an evaluation that lies at `out`.

    Raises:
        ModelNotFound, ModelError, DatasetNotFound, DatasetError: something is missing or does not fit.
        OutputExists: `out` is not empty.
    """
    started = time.perf_counter()
    data = load(dataset)
    rows = data.splits[split]
    with store.stage_folder(out or default_out(model, split), stage="evaluate", overwrite=overwrite) as work:
        loaded = load_model(model, device=device)
        _require_classes(loaded.labels, data.labels, align=align, names=(loaded.source, data.source))
        segmenter = Segmenter(loaded, batch_size=batch_size, labels=data.labels)
        total, images = count(segmenter, rows, data.labels, progress=f"evaluate {split}")
        found = scores(total)
        summary = _summary(found, data.labels, images)
        about = {
            "model": short_name(model),
            "model_digest": loaded.digest,
            "dataset": short_name(dataset),
            "dataset_digest": data.digest,
            "dataset_revision": data.revision,
            "release": data.release,
            "split": split,
        }
        _write(work, about | summary, total, images, data.labels)
        write_worst(work / "worst", segmenter, rows, images, data.labels)
        manifest = store.write_manifest(
            work,
            "evaluate",
            inputs={"model": loaded.digest, "dataset": data.digest},
            settings={"split": split, "align": align},
            summary=summary,
            labels=data.labels,
        )
    return EvaluateRecord(
        path=str(out or default_out(model, split)),
        model=str(model),
        dataset=str(dataset),
        dataset_digest=data.digest,
        split=split,
        **summary,
        seconds=round(time.perf_counter() - started, 1),
        digest=manifest.digest,
    )


def count(
    segmenter: Segmenter, rows: Sequence[Row], labels: LabelMap, *, progress: str = ""
) -> tuple[Counts, list[ImageScores]]:
    """Confusion counts of all rows, and the scores of each, in order.

    Args:
        segmenter: answers in the disk ids of `labels`.
        progress: title of a progress bar; empty = none.

    Raises:
        DatasetError: rows that cannot be scored, all of them in `details`: no image, no label, a label of another
            size than its image, or one with ids that `labels` does not have.
    """
    total = zeros(labels.num_labels)
    images: list[ImageScores] = []
    problems: list[str] = []
    with tqdm(total=len(rows), desc=progress, unit="image", disable=None if progress else True) as bar:
        for batch in load_ahead(rows, lambda row: _decode(row, labels), batch_size=segmenter.batch_size):
            problems += [f"{loading.item.name}: {loading.problem}" for loading in batch if loading.problem]
            if not problems:  # with a problem the rest is only looked through, to name all problems at once
                pairs = [loading.value for loading in batch if loading.value]
                found = _counts(segmenter, pairs, labels, on_device=segmenter.device.type != "cpu")
                for loading, counts in zip(batch, found, strict=True):
                    total += counts
                    images.append(_image_scores(loading.item, counts))
            bar.update(len(batch))
    if problems:
        more = f" (and {len(problems) - 1} more samples)" if len(problems) > 1 else ""
        raise DatasetError(
            f"cannot score sample {problems[0]}{more}", hint="convert the release again", details=problems
        )
    return total, images


def _counts(segmenter: Segmenter, pairs: Sequence[Pair], labels: LabelMap, *, on_device: bool) -> list[Counts]:
    """Confusion counts of each image; `on_device` so that its class map never leaves a GPU."""
    images = [image for image, _ in pairs]
    if not on_device:
        maps = segmenter.segment_batch(images)
        return [confusion(label, said, labels.num_labels) for (_, label), said in zip(pairs, maps, strict=True)]
    there = segmenter.segment_on_device(images)
    return [confusion_on_device(label, said, labels.num_labels) for (_, label), said in zip(pairs, there, strict=True)]


def default_out(model: str | Path, split: str) -> Path:
    """./<model>-<split>-evaluation."""
    name = re.sub(r"[^\w.-]+", "-", short_name(model))
    return Path(f"{name}-{split}-evaluation")


def short_name(source: str | Path) -> str:
    """A folder's own name, or a Hub id as it is; no path of a machine gets into a file."""
    path = Path(source).expanduser()
    return path.resolve().name if path.exists() or isinstance(source, Path) else str(source)


# -------------------------------------------------------------------- what is scored


def _require_classes(model: LabelMap, dataset: LabelMap, *, align: bool, names: tuple[str, str]) -> None:
    """Raises ModelError unless both have the same class names, in any order, or `align` is set and some are shared."""
    ours, theirs = set(model.names), set(dataset.names)
    if ours == theirs or (align and ours & theirs):
        return
    sides = [
        f"only in {name}: {', '.join(sorted(only)) or 'nothing'}"
        for name, only in zip(names, (ours - theirs, theirs - ours), strict=True)
    ]
    raise ModelError(
        f"{names[0]} and {names[1]} do not have the same classes ({'; '.join(_shortened(s) for s in sides)})",
        hint="none is shared: it is a model for something else"
        if not ours & theirs
        else "pass --align to score the shared ones by name",
        details=sides,
    )


def _shortened(text: str, limit: int = 120) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."


def _decode(row: Row, labels: LabelMap) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any]]:
    """(H, W, 3) image and (H, W) label of one row, checked against each other and the map."""
    image = decode_image(row.image)
    try:
        label = decode_semantic(row.label)
    except BitmapError as e:
        raise BitmapError(f"its label: {e.message}") from None
    if label.shape != image.shape[:2]:
        sizes = [f"{w}x{h}" for h, w in (image.shape[:2], label.shape)]
        raise BitmapError(f"the image is {sizes[0]} and its label {sizes[1]}")
    if (top := int(label.max(initial=0))) > labels.num_labels:
        raise BitmapError(f"the label has class id {top}, the classes are 0 to {labels.num_labels}")
    return image, label


# -------------------------------------------------------------------- what is written


def _image_scores(row: Row, counts: Counts) -> ImageScores:
    pixels = areas(counts)
    found = scores_of_areas(pixels)
    return ImageScores(row.name, row.uuid, int(counts.sum()), pixels, found.mean_iou, found.overall_accuracy)


def _summary(found: Scores, labels: LabelMap, images: Sequence[ImageScores]) -> dict[str, Any]:
    """The numbers of the record, the manifest and evaluation.json; NaN is None."""
    return {
        "images": len(images),
        "pixels": sum(i.pixels for i in images),
        "mean_iou": _known(found.mean_iou),
        "mean_accuracy": _known(found.mean_accuracy),
        "overall_accuracy": _known(found.overall_accuracy),
        "per_category_iou": _by_name(labels, found.per_category_iou),
        "per_category_accuracy": _by_name(labels, found.per_category_accuracy),
    }


def _write(
    work: Path, evaluation: dict[str, Any], total: Counts, images: Sequence[ImageScores], labels: LabelMap
) -> None:
    store.write_text(work / "evaluation.json", _json(evaluation, indent=2))
    columns = list(labels.id2label.values())
    store.write_text(
        work / "confusion.json", _json({"rows": columns[1:], "columns": columns, "counts": total.tolist()})
    )
    store.write_text(work / "images.jsonl", "".join(_json(_line(image)) for image in images))


def _line(image: ImageScores) -> dict[str, Any]:
    """One image as JSON: `areas` has disk id -> [intersection, predicted, labelled] for the classes that occur."""
    return {
        "name": image.name,
        "uuid": image.uuid,
        "pixels": image.pixels,
        "mean_iou": _known(image.mean_iou),
        "overall_accuracy": _known(image.overall_accuracy),
        "areas": {str(i): column.tolist() for i, column in enumerate(image.areas.T, 1) if column.any()},
    }


def _by_name(labels: LabelMap, values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    return {name: _known(float(value)) for name, value in zip(labels.names, values, strict=True)}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _json(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
