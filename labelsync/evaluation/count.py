"""A model over rows, image by image: counts are kept, never a logit or a map."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from labelsync.errors import BitmapError, DatasetError
from labelsync.evaluation.confusion import Counts, confusion, zeros
from labelsync.evaluation.on_device import confusion_on_device
from labelsync.labels import LabelMap
from labelsync.model.ahead import load_ahead
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.image import decode_image
from labelsync.pixels.semantic import decode_semantic
from labelsync.records.release import Row

T = TypeVar("T")

Bitmap = npt.NDArray[Any]
Measure = Callable[[Row, Bitmap, Any, npt.NDArray[np.float32] | None], T]
"""(row, label, prediction, confidence or None) -> what is kept of an image; runs in threads."""


def count(segmenter: Segmenter, rows: Sequence[Row], labels: LabelMap) -> Counts:
    """(K, K + 1) confusion counts of all rows together, made where the model is. Arguments and errors as `measured`."""
    on_device = segmenter.device.type != "cpu"

    def counts_of(row: Row, label: Bitmap, prediction: Any, _: object) -> Counts:  # noqa: ARG001 - a Measure
        counted = confusion_on_device if on_device else confusion
        return counted(label, prediction, labels.num_labels)

    total = zeros(labels.num_labels)
    for counts in measured(segmenter, rows, labels, counts_of, on_device=on_device):
        total += counts
    return total


def measured(
    segmenter: Segmenter,
    rows: Sequence[Row],
    labels: LabelMap,
    measure: Measure[T],
    *,
    confidence: bool = False,
    on_device: bool = False,
    progress: str = "",
) -> Iterator[T]:
    """What `measure` keeps of every row, one after the other. It works on one batch while the model is at the next.

    Args:
        segmenter: answers in the disk ids of `labels`.
        confidence: also ask the segmenter how sure it is.
        on_device: hand predictions over as tensors, where the model is.
        progress: title of a progress bar; empty = none.

    Raises:
        DatasetError: rows that cannot be scored, all of them in `details`: no image, no label, a label of another
            size than its image, or one with ids that `labels` does not have.
    """
    waiting: list[Future[T]] = []
    problems: list[str] = []
    with (
        tqdm(total=len(rows), desc=progress, unit="image", disable=None if progress else True) as bar,
        ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="labelsync-measure") as pool,
    ):
        for batch in load_ahead(rows, lambda row: _decode(row, labels), batch_size=segmenter.batch_size):
            problems += [f"{loading.item.name}: {loading.problem}" for loading in batch if loading.problem]
            if not problems:  # with a problem the rest is only looked through, to name all problems at once
                pairs = [loading.value for loading in batch if loading.value]
                said = _segmented(segmenter, [image for image, _ in pairs], confidence=confidence, on_device=on_device)
                yield from (future.result() for future in waiting)  # never more than two batches in memory
                waiting = [
                    pool.submit(measure, loading.item, label, *answer)
                    for loading, (_, label), answer in zip(batch, pairs, said, strict=True)
                ]
            bar.update(len(batch))
        yield from (future.result() for future in waiting)
    if problems:
        more = f" (and {len(problems) - 1} more samples)" if len(problems) > 1 else ""
        raise DatasetError(
            f"cannot score sample {problems[0]}{more}",
            hint="correct them or the id2label, or convert the release again",
            details=problems,
        )


def _segmented(
    segmenter: Segmenter, images: list[npt.NDArray[np.uint8]], *, confidence: bool, on_device: bool
) -> Iterable[tuple[Any, npt.NDArray[np.float32] | None]]:
    if confidence:
        return segmenter.segment_with_confidence(images)
    segment = segmenter.segment_on_device if on_device else segmenter.segment_batch
    return [(bitmap, None) for bitmap in segment(images)]


def _decode(row: Row, labels: LabelMap) -> tuple[npt.NDArray[np.uint8], Bitmap]:
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
