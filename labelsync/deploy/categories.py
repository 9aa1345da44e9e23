"""From a model's classes back to the categories of a Segments.ai dataset: the pinned label map, inverted.

A class goes to the category of its name, whatever its number there. A name that the dataset does not have may be a
rename: then the category is the one that the map has pinned for the class. Numbers alone say nothing about another
dataset (its 3 may be anything), so that counts only where at least half of the classes that have a number are found
under it by name, or where the map names this very dataset.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from labelsync.errors import TaxonomyError
from labelsync.labels import BACKGROUND, LabelClass, LabelMap, split_unlabeled
from labelsync.taxonomy import Category


@dataclass(frozen=True)
class Placement:
    """Where each class of a model is drawn.

    Attributes:
        category_ids: disk id -> category id; a class that is not in it is left unlabeled.
        things: disk ids of which every connected part is an object of its own, as the dataset's categories say.
        renamed: (class, name of its category now).
        undrawn: classes without a category that may be: removed ones, `background`, those of other datasets.
    """

    category_ids: Mapping[int, int]
    things: frozenset[int]
    renamed: tuple[tuple[str, str], ...] = ()
    undrawn: tuple[str, ...] = field(default=())

    def drawn(self, num_labels: int) -> npt.NDArray[np.bool_]:
        """(K + 1,) which disk ids have a category."""
        flags = np.zeros(num_labels + 1, bool)
        flags[list(self.category_ids)] = True
        return flags


def place(labels: LabelMap, categories: Iterable[Category], *, dataset: str) -> Placement:
    """The categories of `dataset` ("owner/name") that the classes of a model are drawn as.

    Raises:
        TaxonomyError: the model has a class that the dataset has no category for, or that several categories were
            merged to; or two classes would be one category.
    """
    named, _ = split_unlabeled(categories)
    by_name, by_id = {c.name: c for c in named}, {c.id: c for c in named}
    pinned, is_known = _pinned(labels, by_name, dataset)
    found: dict[int, Category] = {}
    undrawn, lacking, merged = [], [], []
    for disk, known in enumerate(labels.classes, 1):
        candidates = [by_id[i] for i in pinned[disk] if i in by_id and not _is_of_another(by_id[i], labels, known)]
        if known.name in by_name:
            found[disk] = by_name[known.name]
        elif len(candidates) == 1:
            found[disk] = candidates[0]
        elif candidates:
            merged.append(f"{known.name} ({', '.join(c.name for c in candidates)})")
        elif known.removed or _may_be_undrawn(labels, known, is_known=is_known):
            undrawn.append(known.name)
        else:
            lacking.append(known.name)
    _refuse(lacking, merged, dataset)
    _refuse_shared(labels, found, dataset)
    return Placement(
        category_ids={disk: c.id for disk, c in found.items()},
        things=frozenset(disk for disk, c in found.items() if c.has_instances),
        renamed=tuple((labels.names[d - 1], c.name) for d, c in found.items() if c.name != labels.names[d - 1]),
        undrawn=tuple(undrawn),
    )


def _pinned(labels: LabelMap, by_name: Mapping[str, Category], dataset: str) -> tuple[dict[int, tuple[int, ...]], bool]:
    """Disk id -> numbers that its categories have in this dataset; and whether the map knows the dataset by name."""
    every = range(1, labels.num_labels + 1)
    if labels.sources:
        source = next((s for s in labels.sources if s.dataset == dataset), None)
        table = source.table if source else {}
        return {disk: tuple(i for i, d in table.items() if d == disk) for disk in every}, source is not None
    pinned = dict(zip(every, (c.category_ids for c in labels.classes), strict=True))
    numbered = [c for c in labels.classes if c.category_ids and not c.removed]
    agree = sum(c.name in by_name and by_name[c.name].id in c.category_ids for c in numbered)
    is_lineage = bool(agree) and 2 * agree >= len(numbered)
    return (pinned if is_lineage else dict.fromkeys(every, ())), False


def _is_of_another(category: Category, labels: LabelMap, known: LabelClass) -> bool:
    """Whether a category has the name of another class: then its number was given to that."""
    return category.name != known.name and category.name in labels.names


def _may_be_undrawn(labels: LabelMap, known: LabelClass, *, is_known: bool) -> bool:
    """Whether a class needs no category: `background`, and what only other datasets of the model have."""
    return (labels.unlabeled == "class" and known.name == BACKGROUND) or is_known


def _refuse(lacking: list[str], merged: list[str], dataset: str) -> None:
    if lacking:
        raise TaxonomyError(
            f"{dataset} has no category for {len(lacking)} of the model's classes ({_some(lacking)})",
            hint="add them there, or take a model that was trained on this dataset's releases",
        )
    if merged:
        raise TaxonomyError(
            f"several categories of {dataset} are one class of the model: {_some(merged)}",
            hint="prelabel with a model whose labels file does not merge them, or name one category like the class",
        )


def _refuse_shared(labels: LabelMap, found: Mapping[int, Category], dataset: str) -> None:
    taken: dict[int, str] = {}
    for disk, category in found.items():
        name = labels.names[disk - 1]
        if category.id in taken:
            raise TaxonomyError(
                f"category {category.name!r} of {dataset} would be drawn for {taken[category.id]!r} and {name!r}",
                hint="train a model on the newest release of this dataset",
            )
        taken[category.id] = name


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
