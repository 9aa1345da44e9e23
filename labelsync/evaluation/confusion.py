"""Confusion counts: which class was said how often where which class was meant. Integers, so that they add up."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.errors import BitmapError

Counts = npt.NDArray[np.int64]
Ids = npt.NDArray[Any]

_BLOCK = 1 << 18  # pixels at once


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


def pair_counts(rows: Ids, columns: Ids, size: int, lengths: Counts | None = None) -> Counts:
    """(size, size) int64 counts of value pairs, all below `size`.

    Args:
        lengths: how many pixels each pair stands for, as `runs` gives it; None = one each.
    """
    if lengths is None:
        counts = np.zeros((size, size), np.int64)
        for values, others, pixels in runs(rows, columns, bins=size * size):
            counts += _counts(values, others, size, pixels)
        return counts
    return _counts(rows, columns, size, lengths)


def runs(rows: Ids, columns: Ids, *, bins: int) -> Iterator[tuple[Ids, Ids, Counts | None]]:
    """Value pairs of two maps, those that follow each other and are equal as one; and the pixels of each.

    Maps of classes have long runs of equal pairs. Counted so, a 1080p image of 35 classes takes 1.5 ms, and not 20 as
    by a masked copy. Where neighbours differ mostly, all pairs come as they are, with None. In blocks, which stay in
    a core's own cache, unless the `bins` that each is counted into are as many.
    """
    rows, columns = rows.reshape(-1), columns.reshape(-1)
    block = max(_BLOCK, bins)
    for start in range(0, rows.size, block):
        values, others = (_narrow(ids[start : start + block]) for ids in (rows, columns))
        changes = values[1:] != values[:-1]
        changes |= others[1:] != others[:-1]
        if np.count_nonzero(changes) > len(values) // 8:
            yield values, others, None
            continue
        ends = np.append(np.flatnonzero(changes), len(values) - 1)
        yield values[ends], others[ends], np.diff(ends, prepend=-1)


def _narrow(ids: Ids) -> Ids:
    """Integers as bytes where they are bytes: most of the time goes into moving them."""
    unsigned = ids.view(f"u{ids.itemsize}")  # a negative number read so is a large one
    return unsigned.astype(np.uint8, copy=False) if int(unsigned.max(initial=0)) <= np.iinfo(np.uint8).max else ids


def _counts(rows: Ids, columns: Ids, size: int, lengths: Counts | None) -> Counts:
    """`pair_counts` in one go. One number stands for a pair, in 16 bits where that holds it."""
    bins = size * size
    dtype = np.uint16 if bins <= 1 << 16 else np.uint32 if bins <= 1 << 32 else np.uint64
    code = np.multiply(rows, size, dtype=dtype, casting="unsafe")
    np.add(code, columns, out=code, casting="unsafe")
    counts = np.bincount(code, lengths, bins)  # weights are added up as float64: exact up to 2**53
    return counts.reshape(size, size).astype(np.int64, copy=False)


def _require_ids(bitmap: npt.NDArray[Any], num_labels: int, what: str) -> None:
    if not np.issubdtype(bitmap.dtype, np.integer):
        raise BitmapError(f"the {what} holds {bitmap.dtype} values, class ids are integers")
    low, high = int(bitmap.min(initial=0)), int(bitmap.max(initial=0))
    if low < 0 or high > num_labels:
        raise BitmapError(f"the {what} has class id {low if low < 0 else high}, the classes are 0 to {num_labels}")


def _size(bitmap: npt.NDArray[Any]) -> str:
    return "x".join(map(str, reversed(bitmap.shape)))
