"""`MeanIoU`: a replacement for `evaluate.load("mean_iou")` that needs no Hub and keeps no image.

The same arguments and the same numbers (to 1e-12), from counts that are added up as batches come in. evaluate's own
stores every map on disk until `compute`: 50 s for 40 maps of 512x512 (evaluate issue 513), memory with every image.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import evaluate
import numpy as np
import numpy.typing as npt

from labelsync.errors import BitmapError, OptionError
from labelsync.evaluation.confusion import Counts, pair_counts, runs
from labelsync.evaluation.scores import scores_of_areas
from labelsync.labels import MAX_UINT8_CLASSES

_DESCRIPTION = "Mean intersection over union, pooled over all pixels that are not ignored."
_INPUTS = """
Args:
    predictions: (H, W) integer maps of class ids 0..num_labels-1, one per image, of any sizes.
    references: (H, W) integer maps of the same shapes; `ignore_index` counts nowhere.
"""


class MeanIoU(evaluate.Metric):  # type: ignore[misc] # evaluate has no type information
    """evaluate's mean_iou, streaming.

    Class ids here are those of the maps that are given, as in evaluate: 0..num_labels-1 after `reduce_labels`.

    Args:
        num_labels: number of classes. May instead be given to `compute` together with all maps, as evaluate wants it.
        ignore_index: reference value that counts nowhere.
        label_map: reference value -> reference value, applied before anything else.
        reduce_labels: references are disk ids: 0 becomes ignored, every other id one less. Up to 254 classes exactly
            evaluate's rule (0 -> 255, 255 stays); above, where evaluate's collides with class 255, 0 -> `ignore_index`.

    Example:
        >>> metric = MeanIoU(num_labels=2)
        >>> metric.add_batch(predictions=[[[0, 1], [1, 1]]], references=[[[0, 0], [1, 255]]])
        >>> metric.compute()["mean_iou"]
        0.5
    """

    def __init__(
        self,
        num_labels: int | None = None,
        *,
        ignore_index: int = 255,
        label_map: Mapping[int, int] | None = None,
        reduce_labels: bool = False,
        **kwargs: Any,
    ) -> None:
        self.num_labels = num_labels
        self.ignore_index = ignore_index
        self.label_map = label_map
        self.reduce_labels = reduce_labels
        self._areas: Counts | None = None
        super().__init__(**kwargs)

    def add_batch(self, *, predictions: Iterable[Any], references: Iterable[Any], **_: Any) -> None:
        """Count a batch of maps.

        Raises:
            OptionError: `num_labels` is not known yet.
            BitmapError: a prediction and its reference differ in shape, or one of the two lists is longer.
        """
        if not self.num_labels:
            raise OptionError("MeanIoU does not know num_labels", hint="write MeanIoU(num_labels=...)")
        try:
            for prediction, reference in zip(predictions, references, strict=True):
                self.add(prediction=prediction, reference=reference)
        except ValueError as e:
            if isinstance(e, BitmapError):
                raise
            raise BitmapError(f"predictions and references do not pair up ({e})") from None

    def add(self, *, prediction: Any, reference: Any, **_: Any) -> None:
        """Count one map. Raises as `add_batch`."""
        if not self.num_labels:
            raise OptionError("MeanIoU does not know num_labels", hint="write MeanIoU(num_labels=...)")
        said, meant = np.asarray(prediction), np.asarray(reference)
        if said.shape != meant.shape:
            raise BitmapError(f"a prediction has shape {said.shape} and its reference {meant.shape}")
        for ids in (said, meant):
            if not np.issubdtype(ids.dtype, np.integer):
                raise BitmapError(f"maps of class ids hold integers, not {ids.dtype}")
        counts = np.zeros((3, self.num_labels), np.int64)
        for values, answers, pixels in runs(meant, said, bins=(self.num_labels + 2) ** 2):
            counts += _areas(answers, self._references(values), pixels, self.num_labels, ignored=self.ignore_index)
        self._areas = counts if self._areas is None else self._areas + counts

    def compute(
        self,
        *,
        predictions: Iterable[Any] | None = None,
        references: Iterable[Any] | None = None,
        nan_to_num: float | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """Scores of all maps counted since the last `compute`, and of those given here.

        Args:
            nan_to_num: number in place of NaN (absent classes), after the means.
            settings: `num_labels`, `ignore_index`, `label_map`, `reduce_labels`, as evaluate takes them here; they
                cannot differ from those that maps were already counted with.

        Returns:
            mean_iou, mean_accuracy, overall_accuracy (float), per_category_iou, per_category_accuracy ((K,) float64).
        """
        self._set(settings)
        if predictions is not None and references is not None:
            self.add_batch(predictions=predictions, references=references)
        if not self.num_labels:
            raise OptionError("MeanIoU does not know num_labels", hint="write MeanIoU(num_labels=...)")
        found = scores_of_areas(np.zeros((3, self.num_labels), np.int64) if self._areas is None else self._areas)
        self._areas = None
        results: dict[str, Any] = {
            "mean_iou": found.mean_iou,
            "mean_accuracy": found.mean_accuracy,
            "overall_accuracy": found.overall_accuracy,
            "per_category_iou": found.per_category_iou,
            "per_category_accuracy": found.per_category_accuracy,
        }
        if nan_to_num is not None:
            results = {name: np.nan_to_num(value, nan=nan_to_num) for name, value in results.items()}
        return results

    def _set(self, settings: Mapping[str, Any]) -> None:
        for name, value in settings.items():
            if name not in ("num_labels", "ignore_index", "label_map", "reduce_labels"):
                raise OptionError(f"MeanIoU.compute has no setting {name!r}", hint="see its docstring")
            if self._areas is not None and value != getattr(self, name):
                raise OptionError(f"maps were counted with {name}={getattr(self, name)!r}, not {value!r}")
            setattr(self, name, value)

    def _references(self, reference: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """References as class ids, by evaluate's rules."""
        if not self.label_map and not self.reduce_labels:
            return reference
        meant = reference.astype(np.int64)
        for old, new in (self.label_map or {}).items():
            meant[reference == old] = new
        if self.reduce_labels:
            narrow = (self.num_labels or 0) <= MAX_UINT8_CLASSES
            void = (meant == 0) | (meant == 255) if narrow else meant == 0
            meant -= 1
            meant[void] = 255 if narrow else self.ignore_index
        return meant

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            # evaluate reads the names only; the types would shape a store that is never written
            features={"predictions": "maps", "references": "maps"},
        )

    def _build_data_dir(self) -> str:
        return ""  # evaluate would make a cache folder here


def _areas(
    said: npt.NDArray[Any], meant: npt.NDArray[Any], pixels: Counts | None, num_labels: int, *, ignored: int
) -> Counts:
    """(3, K): intersection, predicted, labelled.

    Values outside 0..K-1 are of no class: a reference so still lets its pixel count as predicted, as in evaluate.

    Args:
        pixels: how many each pair of values stands for; None = one.
    """
    rows = _capped(meant, num_labels)
    rows[meant == ignored] = num_labels + 1
    counts = pair_counts(rows, _capped(said, num_labels), num_labels + 2, pixels)
    inside = counts[: num_labels + 1, :num_labels]
    return np.stack([np.diagonal(inside), inside.sum(0), counts[:num_labels].sum(1)])


def _capped(ids: npt.NDArray[Any], num_labels: int) -> npt.NDArray[Any]:
    """Ids with K for whatever is no class; in one pass, since a negative number read as unsigned is a large one."""
    unsigned = ids.view(f"u{ids.itemsize}")
    capped = np.empty(ids.shape, np.uint8 if num_labels <= MAX_UINT8_CLASSES else np.uint32)
    top = np.full(ids.shape, min(num_labels, np.iinfo(unsigned.dtype).max), unsigned.dtype)
    np.minimum(unsigned, top, out=capped, casting="unsafe")  # not with the number itself: numpy is slow there
    return capped
