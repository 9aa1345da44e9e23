"""Class maps -> instance bitmaps: specks merged into what surrounds them, objects told apart. Arrays only."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.evaluation.components import Components, components

Ints = npt.NDArray[np.int64]


def merge_specks(bitmap: npt.NDArray[Any], *, min_size: int) -> npt.NDArray[Any]:
    """(H, W) disk ids without the components (pixels of one class that touch, also at corners) under `min_size` pixels.

    A speck gets the class that it has the longest border with (pixel edges; of equal ones the lowest id), unlabeled
    included: 0 is a class like any other here, so holes are filled too. Specks that touch nothing but specks wait until
    one of those has been merged, so nests of them are eaten from outside. An image of nothing but specks stays.
    """
    merged = bitmap.copy()
    every = np.ones(int(bitmap.max(initial=0)) + 1, bool)
    while True:
        found = components(merged, every)
        small = found.pixels < min_size
        if not small.any() or small.all():
            return merged
        becomes = _surroundings(found, found.numbers(merged.shape), small)
        if not (becomes >= 0).any():
            return merged
        table = np.where(becomes >= 0, becomes, found.classes).astype(merged.dtype)
        merged = table[found.numbers(merged.shape)]


def _surroundings(found: Components, numbers: Ints, small: npt.NDArray[np.bool_]) -> Ints:
    """(m,) class of the longest border that each speck has with what is no speck; -1 for others and where none is."""
    pairs = []
    for a, b in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        for inside, outside in ((a, b), (b, a)):
            edge = small[inside] & ~small[outside]
            pairs.append(np.stack([inside[edge], found.classes[outside[edge]]]))
    speck, around = np.concatenate(pairs, axis=1)
    width = int(found.classes.max()) + 1
    keys, lengths = np.unique(speck * width + around, return_counts=True)
    becomes = np.full(len(small), -1, np.int64)
    order = np.lexsort((-(keys % width), lengths))  # the last one written wins: the longest, then the lowest class
    becomes[keys[order] // width] = keys[order] % width
    return becomes


def instances(
    bitmap: npt.NDArray[Any], *, drawn: npt.NDArray[np.bool_], things: Collection[int]
) -> tuple[npt.NDArray[np.uint32], tuple[int, ...]]:
    """(H, W) disk ids -> (H, W) uint32 instance ids 1..n, and the n disk ids they are of.

    Every component of a class in `things` is an instance; of another class, all its pixels together are one. They are
    numbered in the order in which they first occur, row by row.

    Args:
        drawn: (K + 1,) which disk ids become instances; the others are 0, unlabeled.
    """
    found = components(bitmap, drawn)
    of_thing = np.isin(found.classes, list(things))
    whole = np.arange(len(found.classes))
    for c in np.unique(found.classes[~of_thing]):
        same = found.classes == c
        whole[same] = int(np.flatnonzero(same)[0])  # all components of the class go by the number of one
    numbers = np.append(whole, -1)[found.numbers(bitmap.shape)]
    present, first = np.unique(numbers, return_index=True)
    kept = present >= 0
    present, first = present[kept], first[kept]
    order = np.argsort(first)
    ids = np.zeros(len(found.classes) + 1, np.uint32)  # the last one is for -1
    ids[present[order]] = np.arange(1, len(order) + 1)
    return ids[numbers], tuple(int(c) for c in found.classes[present[order]])
