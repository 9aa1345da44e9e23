"""Confusion counts: which class was said how often where which class was meant. Integers, so that they add up."""

from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.errors import BitmapError

Counts = npt.NDArray[np.int64]

_BLOCK = 1 << 18  # pixels whose codes stay in a core's own cache


def confusion(label: npt.NDArray[Any], prediction: npt.NDArray[Any], num_labels: int) -> Counts:
    """(K, K + 1) int64: entry [i, j] = pixels labelled with disk id i + 1 and predicted as disk id j.

    Pixels labelled 0 (unlabeled) count nowhere. Column 0 holds labelled pixels for which the prediction has no class.

    Args:
        label, prediction: (H, W) integer disk ids of one shape.
        num_labels: K.

    Raises:
        BitmapError: two shapes, or an id outside 0..K.
    """
    if label.shape != prediction.shape:
        raise BitmapError(f"the label is {_size(label)} and the prediction {_size(prediction)}")
    _require_ids(label, num_labels, "label")
    _require_ids(prediction, num_labels, "prediction")
    return pair_counts(label, prediction, num_labels + 1)[1:]


def zeros(num_labels: int) -> Counts:
    """(K, K + 1) int64 of nothing counted yet."""
    return np.zeros((num_labels, num_labels + 1), np.int64)


def areas(counts: Counts) -> Counts:
    """(3, K) int64 from (K, K + 1) confusion counts: pixels per class in the intersection, prediction and label.

    Only labelled pixels are in it: what a model says where nothing is labelled is neither right nor wrong.
    """
    return np.stack([np.diagonal(counts, offset=1), counts[:, 1:].sum(0), counts.sum(1)])


def pair_counts(rows: npt.NDArray[Any], columns: npt.NDArray[Any], size: int) -> Counts:
    """(size, size) int64 counts of value pairs, all below `size`.

    One number stands for a pair, in 16 bits where that holds it. Maps of classes have long runs of equal pairs, and
    runs are counted faster than pixels: 2 ms for a 1080p image of 35 classes, 3 ms where neighbours differ, and 20 by
    the counts of a masked copy. In blocks, so that a large image needs no more memory than a small one.
    """
    dtype = np.uint16 if size * size <= 1 << 16 else np.uint32 if size * size <= 1 << 32 else np.uint64
    rows, columns, bins = rows.reshape(-1), columns.reshape(-1), size * size
    counts = np.zeros(bins, np.int64)
    block = max(_BLOCK, 8 * bins)
    for start in range(0, rows.size, block):
        code = np.multiply(rows[start : start + block], size, dtype=dtype, casting="unsafe")
        np.add(code, columns[start : start + block], out=code, casting="unsafe")
        counts += _bincount(code, bins)
    return counts.reshape(size, size)


def _bincount(code: npt.NDArray[Any], bins: int) -> Counts:
    """`np.bincount` of a row of numbers, at least one, by runs where there are few."""
    changes = code[1:] != code[:-1]
    if np.count_nonzero(changes) > code.size // 8:
        return np.bincount(code, minlength=bins).astype(np.int64, copy=False)
    ends = np.append(np.flatnonzero(changes), code.size - 1)
    lengths = np.diff(ends, prepend=-1)
    return np.bincount(code[ends], weights=lengths, minlength=bins).astype(np.int64)  # as float64: exact up to 2**53


def _require_ids(bitmap: npt.NDArray[Any], num_labels: int, what: str) -> None:
    if not np.issubdtype(bitmap.dtype, np.integer):
        raise BitmapError(f"the {what} holds {bitmap.dtype} values, class ids are integers")
    low, high = int(bitmap.min(initial=0)), int(bitmap.max(initial=0))
    if low < 0 or high > num_labels:
        raise BitmapError(f"the {what} has class id {low if low < 0 else high}, the classes are 0 to {num_labels}")


def _size(bitmap: npt.NDArray[Any]) -> str:
    return "x".join(map(str, reversed(bitmap.shape)))
