"""What is counted of every image, and put together as a tally."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.boundary import boundary_areas
from labelsync.evaluation.calibration import BINS, calibration
from labelsync.evaluation.confusion import Counts, confusion
from labelsync.evaluation.count import measured
from labelsync.evaluation.safety import ImageSafety, SafetyMeasure
from labelsync.evaluation.small import Bitmap, prediction_file, smaller
from labelsync.evaluation.tally import ImageFacts, Tally, sparse, stacked
from labelsync.labels import LabelMap
from labelsync.model.segmenter import Segmenter
from labelsync.pixels.semantic import encode_semantic
from labelsync.records.release import Row
from labelsync.store.files import write_bytes


@dataclass(frozen=True, eq=False)
class ImageCounts:
    """The counts of one image; the tables are those of `labelsync.evaluation.tally`, without their first column."""

    facts: ImageFacts
    confusion: Counts
    boundary: Counts
    calibration: npt.NDArray[np.float64]
    safety: ImageSafety | None = None


def tally_rows(
    segmenter: Segmenter,
    rows: Sequence[Row],
    labels: LabelMap,
    describe: Callable[[Row, Bitmap], ImageFacts],
    *,
    boundary: float,
    safety: SafetyMeasure | None = None,
    folder: Path | None = None,
    progress: str = "",
) -> Tally:
    """The tally of a model over rows, one after the other.

    Args:
        describe: row and label -> what it is called and belongs to.
        boundary: width of the band of the boundary IoU.
        safety: counts what is dangerous, where classes have a meaning.
        folder: where a small prediction of every image is left, see `prediction_file`; None = nowhere.

    Raises:
        DatasetError: rows that cannot be scored; see `measured`.
    """
    number = labels.num_labels

    def measure(
        row: Row, label: Bitmap, prediction: Bitmap, confidence: npt.NDArray[np.float32] | None
    ) -> tuple[ImageCounts, bytes]:
        counts = ImageCounts(
            describe(row, label),
            sparse(confusion(label, prediction, number)),
            boundary_areas(label, prediction, number, width=boundary),
            calibration(label, prediction, confidence) if confidence is not None else np.zeros((3, BINS)),
            safety.image(label, prediction) if safety is not None else None,
        )
        return counts, b"" if folder is None else encode_semantic(smaller(prediction))

    images: list[ImageCounts] = []
    for counts, small in measured(segmenter, rows, labels, measure, confidence=True, progress=progress):
        if folder is not None:  # written as it comes: memory must not grow with every image
            write_bytes(prediction_file(folder, len(images)), small)
        images.append(counts)
    return together(images, number)


def together(images: Sequence[ImageCounts], num_labels: int) -> Tally:
    """The counts of images, in their order, as one tally."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "confusion": stacked([image.confusion for image in images], 4),
        "boundary": np.array([image.boundary for image in images], np.int64).reshape(-1, 3, num_labels),
        "calibration": np.array([image.calibration for image in images], np.float64).reshape(-1, 3, BINS),
    }
    safeties = [image.safety for image in images if image.safety is not None]
    if safeties:
        arrays["near"] = stacked([s.near for s in safeties], 4)
        arrays["obstacles"] = stacked([s.obstacles for s in safeties], 5)
        arrays["path"] = np.array([s.path for s in safeties], np.int64)
    return Tally(tuple(image.facts for image in images), num_labels, arrays)
