"""Semantic bitmaps: instance ids -> disk ids by lookup, and disk ids <-> PNG."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.errors import BitmapError
from labelsync.pixels.image import grey_step
from labelsync.pixels.opening import opened
from labelsync.pixels.png import decode_png, encode_grey

_DENSE = 1 << 16  # ids up to here are looked up in an array (at most 128 kB); above, by search


def to_semantic(
    instance: npt.NDArray[np.uint32],
    classes: Mapping[int, int],
    *,
    unlabeled: int = 0,
    dtype: type[np.uint8] | type[np.uint16] = np.uint8,
) -> npt.NDArray[Any]:
    """(H, W) instance ids -> (H, W) disk ids.

    Args:
        instance: (H, W) uint32, 0 = unlabeled.
        classes: instance id -> disk id; ids without pixels are allowed, and 0 and less can have none.
        unlabeled: disk id that instance id 0 gets.
        dtype: of the result, `LabelMap.dtype`.

    Raises:
        BitmapError: a pixel has an id that `classes` does not know, or a class is too large for `dtype`. Memory never
            depends on the size of an id.
    """
    table = {0: unlabeled} | {i: c for i, c in classes.items() if i > 0}
    keys = np.array(sorted(table), np.int64)
    values = np.array([table[int(k)] for k in keys], np.int64)
    unknown = np.iinfo(dtype).max
    if int(values.max()) > unknown:
        raise BitmapError(f"class {int(values.max())} does not fit into {np.dtype(dtype).name}")
    top = int(instance.max(initial=0))
    result: npt.NDArray[Any]
    if top < _DENSE:
        lookup = np.full(1 << 8 if top < 1 << 8 else top + 1, unknown, dtype)
        inside = keys < len(lookup)
        lookup[keys[inside]] = values[inside]
        result = _by_table(instance, lookup)
    else:
        result = _by_search(instance, keys, values.astype(dtype), unknown)
    if int(result.max(initial=0)) == unknown:  # hardly ever a class of its own
        _refuse_unknown(instance, keys)
    return result


def _by_table(instance: npt.NDArray[np.uint32], lookup: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`lookup[instance]`, without making an int64 of every pixel where bytes will do: a third of the time."""
    if len(lookup) > 1 << 8 or lookup.dtype != np.uint8:
        return lookup.take(instance)
    classes = bytearray(instance.astype(np.uint8, order="C").data).translate(lookup.tobytes())
    return np.frombuffer(classes, np.uint8).reshape(instance.shape)


def _by_search(
    instance: npt.NDArray[np.uint32], keys: npt.NDArray[np.int64], values: npt.NDArray[Any], unknown: int
) -> npt.NDArray[Any]:
    """The lookup for large ids, once per run of equal pixels."""
    ids, lengths = _runs(instance)
    at = np.searchsorted(keys, ids).clip(max=len(keys) - 1)
    found = np.where(keys[at] == ids, values[at], unknown).astype(values.dtype)
    return np.repeat(found, lengths).reshape(instance.shape)


def count_pixels(bitmap: npt.NDArray[Any], num_labels: int) -> npt.NDArray[np.int64]:
    """(H, W) disk ids 0..K -> (K + 1,) int64, pixels per disk id."""
    values, lengths = _runs(bitmap)  # a label has few: a quarter of the time of counting pixel by pixel
    return np.bincount(values, weights=lengths, minlength=num_labels + 1).astype(np.int64)


def _runs(bitmap: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Values and lengths of the runs of equal pixels, row after row."""
    flat = bitmap.ravel()
    ends = np.append(_true_at(flat[1:] != flat[:-1]), flat.size - 1)
    return flat[ends], np.diff(ends, prepend=-1)


def _true_at(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """`np.flatnonzero` of bools that are few, in half the time: first the groups of eight that have any."""
    whole = len(flags) & ~7
    groups = flags[:whole].view(np.uint64)
    at = np.flatnonzero(groups != 0)
    inside = np.flatnonzero(groups[at].view(np.bool_))
    return np.concatenate([8 * at[inside >> 3] + (inside & 7), whole + np.flatnonzero(flags[whole:])])


def instance_classes(annotations: Iterable[tuple[int, int]], categories: Mapping[int, int]) -> dict[int, int]:
    """(annotation id, category id) pairs -> instance id -> disk id.

    Raises:
        BitmapError: a category outside the taxonomy, or one annotation id with two categories.
    """
    classes: dict[int, int] = {}
    for annotation, category in annotations:
        if category not in categories:
            raise BitmapError(f"annotation {annotation} has category {category}, which the taxonomy does not have")
        disk = categories[category]
        if classes.setdefault(annotation, disk) != disk:
            raise BitmapError(f"annotation id {annotation} occurs twice with different categories")
    return classes


def encode_semantic(bitmap: npt.NDArray[Any]) -> bytes:
    """(H, W) uint8 or uint16 disk ids -> PNG bytes (mode L, or 16 bit), the same on every machine."""
    if bitmap.dtype not in (np.uint8, np.uint16) or bitmap.ndim != 2 or not bitmap.size:
        raise BitmapError(f"a semantic bitmap is (H, W) uint8 or uint16, not {bitmap.shape} {bitmap.dtype}")
    return encode_grey(bitmap)


def decode_semantic(data: bytes) -> npt.NDArray[Any]:
    """PNG bytes -> (H, W) uint8 or uint16 disk ids; a palette file gives its indices, as tools write them."""
    with opened(data) as image:
        if image.mode == "L" and (grey := decode_png(data, image)) is not None:
            return grey
        if image.mode in ("L", "P"):
            numbers = np.asarray(image)
            step = grey_step(data) if image.format == "PNG" else 1
            return numbers if step == 1 else numbers // np.uint8(step)
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        if image.mode.startswith("I"):
            wide = np.asarray(image)
            if wide.size and (int(wide.min()) < 0 or int(wide.max()) > np.iinfo(np.uint16).max):
                raise BitmapError(f"class ids are 0 to 65535, not {int(wide.min())} to {int(wide.max())}")
            return wide.astype(np.uint16)
        raise BitmapError(f"a semantic bitmap has one channel, this one is of mode {image.mode}")


def _refuse_unknown(instance: npt.NDArray[np.uint32], keys: npt.NDArray[np.int64]) -> None:
    present, counts = np.unique(instance, return_counts=True)
    unknown = ~np.isin(present, keys)
    if unknown.any():
        ids = present[unknown]
        raise BitmapError(
            f"instance id {int(ids[0])} is drawn on {int(counts[unknown][0])} pixels and has no annotation"
            + (f" ({len(ids)} such ids)" if len(ids) > 1 else "")
        )
