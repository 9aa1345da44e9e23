"""The label contract: which number means which class, on disk and in a model.

Disk ids
    A semantic bitmap is ``(H, W)``: 0 = unlabeled, 1..K = classes. uint8 up to K = 254, uint16 above.
Model ids
    0..K-1 = disk id - 1. They live only in logits and in a model's own config. The ignore index is 255 up to
    K = 254 and 65535 above.
Category ids
    What Segments.ai calls a class. They may start at 0, have gaps and exceed 255, and are mapped to 1..K in the order
    of their numbers; where they already are 1..K the map is the identity. Category 0 is a class like any other.

A map is pinned by its first release: `LabelMap.extended` follows renames, appends what is new at the end, keeps the
slot of what is gone, and refuses a renumbering. A map of several datasets, or arranged by a labels file, is made and
extended by `dataset/arrange.py`; its `sources` say where each dataset's categories go.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from labelsync.errors import OptionError, TaxonomyError
from labelsync.taxonomy import Category, Color, Rest, Source, TaxonomyChanges, palette

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

UNLABELED = "unlabeled"
BACKGROUND = "background"
MAX_UINT8_CLASSES = 254
MAX_CLASSES = 65534

Unlabeled = Literal["ignore", "class"]


@dataclass(frozen=True)
class LabelClass:
    """One class of a map; its disk id is its position, counted from 1.

    Attributes:
        category_ids: the Segments.ai categories drawn as this class; empty for `background`, for foreign datasets, and
            where the map's `sources` say it.
        removed: no category of the newest release is drawn as this class; the slot is kept.
    """

    name: str
    category_ids: tuple[int, ...] = ()
    color: Color = (0, 0, 0)
    has_instances: bool = False
    removed: bool = False


@dataclass(frozen=True)
class LabelMap:
    """Classes 1..K in disk order, and what unlabeled pixels mean.

    `unlabeled` is "ignore" (they are 0 and count nowhere) or "class" (they are the class `background`, which has its
    own disk id; 0 then is what was drawn as a dropped category, and occurs nowhere else). `unlabeled_ids` are
    categories that the taxonomy itself calls "unlabeled": they are drawn as unlabeled pixels are. `sources` hold the
    categories of each dataset where there are several or a labels file arranged them, and `rest` says what that file
    does with categories it does not name.

    Raises:
        TaxonomyError: no class, too many classes, two classes of one name, or a category drawn as no class.
    """

    classes: tuple[LabelClass, ...]
    unlabeled: Unlabeled = "ignore"
    unlabeled_ids: tuple[int, ...] = field(default=())
    sources: tuple[Source, ...] = ()
    rest: Rest = "keep"

    def __post_init__(self) -> None:
        if not 1 <= self.num_labels <= MAX_CLASSES:
            what = f"{self.num_labels} classes: a semantic bitmap holds 1 to {MAX_CLASSES}"
            raise TaxonomyError(what, hint="check the categories of the release")
        _refuse_twice(self.names)
        if UNLABELED in self.names:
            raise TaxonomyError(f"{UNLABELED!r} is disk id 0 and cannot also be a class", hint="rename that class")
        if self.unlabeled == "class" and BACKGROUND not in self.names:
            raise TaxonomyError(f"a map with unlabeled='class' needs a class named {BACKGROUND!r}")
        if any(not 0 <= c.class_id <= self.num_labels for s in self.sources for c in s.categories):
            raise TaxonomyError(f"a category is drawn as a class that is not 0 to {self.num_labels}")

    @property
    def num_labels(self) -> int:
        """K, the number of classes, unlabeled not counted."""
        return len(self.classes)

    @property
    def dtype(self) -> "type[np.uint8] | type[np.uint16]":
        """dtype of a semantic bitmap: uint8 up to K = 254, uint16 above."""
        import numpy as np  # a pull holds no array, and starts in a tenth less

        return np.uint8 if self.num_labels <= MAX_UINT8_CLASSES else np.uint16

    @property
    def ignore_index(self) -> int:
        """Model-side number of ignored pixels: 255 up to K = 254, 65535 above."""
        return 255 if self.num_labels <= MAX_UINT8_CLASSES else 65535

    @property
    def background_id(self) -> int:
        """Disk id that unlabeled pixels get: 0 under "ignore", the id of `background` under "class"."""
        return self.id_of(BACKGROUND) if self.unlabeled == "class" else 0

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in disk order; `names[i]` has disk id i + 1 and model id i."""
        return tuple(c.name for c in self.classes)

    @property
    def id2label(self) -> dict[int, str]:
        """Disk id -> name, 0 = "unlabeled" included."""
        return {0: UNLABELED} | {i: c.name for i, c in enumerate(self.classes, 1)}

    @property
    def model_id2label(self) -> dict[int, str]:
        """Model id (0..K-1) -> name, as a transformers config wants it."""
        return dict(enumerate(self.names))

    @property
    def colors(self) -> "npt.NDArray[np.uint8]":
        """(K + 1, 3) uint8 RGB by disk id; 0 is black."""
        import numpy as np

        return np.array([(0, 0, 0), *(c.color for c in self.classes)], np.uint8)

    def id_of(self, name: str) -> int:
        """Disk id of a class name. Raises TaxonomyError for an unknown one."""
        try:
            return self.names.index(name) + 1
        except ValueError:
            raise TaxonomyError(f"no class is named {name!r}", hint=f"there are: {', '.join(self.names)}") from None

    def category_table(self, dataset: str = "") -> dict[int, int]:
        """Segments.ai category id -> disk id, dropped categories -> 0.

        `dataset` ("owner/name") says whose ids; it only counts in a map of several datasets, where an id alone means
        nothing. Raises TaxonomyError for one that such a map does not know.
        """
        if self.sources:
            of = {s.dataset: s for s in self.sources}
            if len(of) > 1 and dataset not in of:
                hint = f"there are: {', '.join(of)}"
                raise TaxonomyError(f"the map knows no categories of dataset {dataset!r}", hint=hint)
            return of.get(dataset, self.sources[0]).table
        table = dict.fromkeys(self.unlabeled_ids, self.background_id)
        return table | {cid: i for i, c in enumerate(self.classes, 1) if not c.removed for cid in c.category_ids}

    def id2label_json(self) -> str:
        """Text of id2label.json: string keys "0".."K", "0" = "unlabeled"."""
        return json.dumps({str(i): n for i, n in self.id2label.items()}, indent=2, ensure_ascii=False) + "\n"

    def to_model_ids(self, bitmap: "npt.NDArray[Any]") -> "npt.NDArray[np.int64]":
        """(H, W) disk ids -> (H, W) int64 model ids, 0 -> `ignore_index`."""
        import numpy as np

        ids = bitmap.astype(np.int64) - 1
        ids[ids < 0] = self.ignore_index
        return ids

    def to_disk_ids(self, model_ids: "npt.NDArray[Any]") -> "npt.NDArray[Any]":
        """(H, W) model ids 0..K-1 (`ignore_index` allowed) -> (H, W) disk ids of `dtype`."""
        import numpy as np

        disk = model_ids.astype(np.int64) + 1
        disk[model_ids == self.ignore_index] = 0
        return disk.astype(self.dtype)

    def align(self, names: Sequence[str]) -> "npt.NDArray[np.int64]":
        """(len(names),) int64: disk id for each output of a model whose outputs are named so, 0 where there is none.

        Matched by name, never by position: a published sidewalk model has 35 outputs, "unlabeled" first.
        """
        import numpy as np

        known = {name: i for i, name in enumerate(self.names, 1)}
        return np.array([known.get(n, 0) for n in names], np.int64)

    def extended(
        self, categories: Iterable[Category], *, allow_renumbering: bool = False
    ) -> tuple["LabelMap", TaxonomyChanges]:
        """This map after a release with `categories`, and what changed.

        A known id under a new name is a rename. A category that is new goes to the end; so does one that reuses the
        number of a removed class. A class without category keeps its slot. A known name on another id is a renumbering:
        refused, or followed by name with `allow_renumbering`.

        Raises:
            TaxonomyError: a renumbering that is not allowed, or a name or id that occurs twice.
        """
        named, unlabeled_ids = split_unlabeled(categories)
        moved = self._renumbered(named)
        if moved and not allow_renumbering:
            name, old, new_id = moved[0]
            raise TaxonomyError(
                f"category {name!r} was number {old} and is now {new_id} ({len(moved)} renumbered in all)",
                hint="if the release is right, pass --allow-renumbering (labels follow the names)",
                details=[f"{n}: {a} -> {b}" for n, a, b in moved],
            )
        slots, new = self._slots(named)
        classes = tuple(_updated(c, slots.get(i, []), self._stays(c)) for i, c in enumerate(self.classes))
        classes += tuple(_class_of(c, len(classes) + k) for k, c in enumerate(new, 1))
        pairs = list(zip(self.classes, classes, strict=False))
        changes = TaxonomyChanges(
            added=tuple(c.name for c in new),
            removed=tuple(b.name for a, b in pairs if b.removed and not a.removed),
            renamed=tuple((a.name, b.name) for a, b in pairs if a.name != b.name),
            renumbered=tuple(moved),
        )
        return replace(self, classes=classes, unlabeled_ids=unlabeled_ids), changes

    def _slots(self, named: Sequence[Category]) -> tuple[dict[int, list[Category]], list[Category]]:
        """The position of the known class that each category is, by name or else by number; and the new categories."""
        by_name = {c.name: i for i, c in enumerate(self.classes)}
        taken = {by_name[c.name] for c in named if c.name in by_name}  # goes on under its name, whatever its number
        free = [(i, c) for i, c in enumerate(self.classes) if i not in taken and not c.removed and not self._stays(c)]
        by_id = {cid: i for i, c in free for cid in c.category_ids}
        slots: dict[int, list[Category]] = {}
        new: list[Category] = []
        for c in named:
            slot = by_name.get(c.name, by_id.get(c.id))
            (new if slot is None else slots.setdefault(slot, [])).append(c)
        return slots, new

    def _stays(self, known: LabelClass) -> bool:
        """Whether a class is there without any category: `background`, where unlabeled pixels are a class."""
        return self.unlabeled == "class" and known.name == BACKGROUND

    def _renumbered(self, named: Iterable[Category]) -> list[tuple[str, int, int]]:
        """(name, known id, id now) of every category whose name is known on another id."""
        known = {c.name: c.category_ids for c in self.classes if c.category_ids}
        return [(c.name, known[c.name][0], c.id) for c in named if c.name in known and c.id not in known[c.name]]

    def require_trainable(self) -> None:
        """Raises TaxonomyError if a loss over these classes would learn nothing: one class and the rest ignored."""
        if self.num_labels < 2:
            raise TaxonomyError(
                f"one class ({self.names[0]!r}) and everything else ignored: a model would learn to say it everywhere",
                hint=f"convert with --unlabeled class, which makes the unlabeled pixels a class named {BACKGROUND!r}",
            )


def from_categories(categories: Iterable[Category], *, unlabeled: Unlabeled = "ignore") -> LabelMap:
    """The map of a first release: categories by number to 1..K, then `background` under unlabeled="class"."""
    if unlabeled not in ("ignore", "class"):
        raise OptionError(f"unlabeled is {unlabeled!r}", hint="it is 'ignore' or 'class'")
    named, unlabeled_ids = split_unlabeled(categories)
    classes = [_class_of(c, i) for i, c in enumerate(sorted(named, key=lambda c: c.id), 1)]
    if unlabeled == "class" and BACKGROUND not in {c.name for c in classes}:
        classes.append(LabelClass(BACKGROUND, color=(64, 64, 64)))
    return LabelMap(tuple(classes), unlabeled, unlabeled_ids)


def from_id2label(id2label: Mapping[Any, str], *, keep_zero: bool = False) -> LabelMap:
    """A map from somebody's id2label (keys are ints or their strings).

    Its numbers are disk ids if its 0 is "unlabeled", else model ids (as in ADE20K's file, "0" = wall). With
    `keep_zero`, 0 is a real class of a dataset whose bitmaps use it: the classes are the same as for model ids, and
    the caller adds 1 to the bitmaps.

    Raises:
        TaxonomyError: keys that are not 0..n or 1..n without a gap.
    """
    try:
        names = {int(k): str(v) for k, v in id2label.items()}
    except (TypeError, ValueError, AttributeError):
        raise TaxonomyError("an id2label maps numbers to names", hint='write it as {"0": "road", ...}') from None
    if not keep_zero and names.get(0, "").lower() == UNLABELED:
        del names[0]
    numbers = sorted(names)
    if not numbers or numbers[0] not in (0, 1) or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise TaxonomyError(
            f"the keys of an id2label are 0..n or 1..n without a gap, not {numbers[:8]}",
            hint="add the missing numbers or renumber the bitmaps",
        )
    return LabelMap(tuple(LabelClass(names[n], color=palette(i)) for i, n in enumerate(numbers, 1)))


def split_unlabeled(categories: Iterable[Category]) -> tuple[list[Category], tuple[int, ...]]:
    """The categories that are classes, and the ids of those that the taxonomy itself names "unlabeled"."""
    every = list(categories)
    twice = [i for i, n in Counter(c.id for c in every).items() if n > 1]
    if twice:
        raise TaxonomyError(f"category id {twice[0]} occurs twice", hint="repair the taxonomy on Segments.ai")
    named = [c for c in every if c.name.lower() != UNLABELED]
    _refuse_twice(c.name for c in named)
    return named, tuple(sorted(c.id for c in every if c.name.lower() == UNLABELED))


def _refuse_twice(names: Iterable[str]) -> None:
    twice = [n for n, count in Counter(names).items() if count > 1]
    if twice:
        hint = "give every category a name of its own on Segments.ai"
        raise TaxonomyError(f"two classes are named {twice[0]!r}", hint=hint)


def _class_of(category: Category, disk_id: int) -> LabelClass:
    color = category.color or palette(disk_id)
    return LabelClass(category.name, (category.id,), color, category.has_instances)


def _updated(old: LabelClass, categories: list[Category], stays: bool) -> LabelClass:
    """A known class under the categories that a newer release draws as it (none = removed, unless it stays)."""
    if not categories:
        return replace(old, category_ids=()) if stays else replace(old, removed=True)
    first = categories[0]
    return replace(
        old,
        name=first.name,
        category_ids=tuple(sorted(c.id for c in categories)),
        color=first.color or old.color,
        has_instances=any(c.has_instances for c in categories),
        removed=False,
    )
