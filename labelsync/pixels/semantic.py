"""Semantic bitmaps: instance ids -> disk ids by lookup, and disk ids <-> PNG."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.errors import BitmapError
from labelsync.pixels.image import encode_png, grey_step, opened

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
    if int(values.max()) > np.iinfo(dtype).max:
        raise BitmapError(f"class {int(values.max())} does not fit into {np.dtype(dtype).name}")
    top = int(instance.max(initial=0))
    if top < _DENSE:
        lookup = np.full(top + 1, -1, np.int32)
        inside = keys <= top
        lookup[keys[inside]] = values[inside]
        if (lookup < 0).any():  # only then look whether a hole is used
            _refuse_unknown(instance, keys)
        result: npt.NDArray[Any] = lookup.astype(dtype)[instance]
        return result
    present, inverse = np.unique(instance, return_inverse=True)
    at = np.searchsorted(keys, present).clip(max=len(keys) - 1)
    if (keys[at] != present).any():
        _refuse_unknown(instance, keys)
    by_search: npt.NDArray[Any] = values[at].astype(dtype)[inverse].reshape(instance.shape)
    return by_search


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


def encode_semantic(bitmap: npt.NDArray[Any], *, level: int = 6) -> bytes:
    """(H, W) uint8 or uint16 disk ids -> PNG bytes (mode L, or 16 bit)."""
    if bitmap.dtype not in (np.uint8, np.uint16) or bitmap.ndim != 2:
        raise BitmapError(f"a semantic bitmap is (H, W) uint8 or uint16, not {bitmap.shape} {bitmap.dtype}")
    return encode_png(bitmap, level=level)


def decode_semantic(data: bytes) -> npt.NDArray[Any]:
    """PNG bytes -> (H, W) uint8 or uint16 disk ids; a palette file gives its indices, as tools write them."""
    with opened(data) as image:
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
