"""Class numbers where a labels file or several datasets decide them.

Categories of several datasets are one class if their names are equal, letter by letter. Names that differ in nothing
but case, spaces and punctuation are refused until a labels file says what they are: silently, they would be two classes
or one. The first dataset's categories come first, by number, then what the next ones add.

A labels file names classes in their order; what it does not name follows its `rest`. Later rounds hold the map of the
first: every category stays in its class, by name, or by number where it was renamed in its own dataset; new classes go
to the end, whatever the order of the file; a category that would change its class is refused unless told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from labelsync.dataset.recognise import (
    Found,
    Taxonomy,
    is_renumbered,
    is_unlabeled,
    recognised,
    refuse_moved,
    refuse_renumbered,
    refuse_undecided,
    refuse_unknown,
)
from labelsync.labels import BACKGROUND, UNLABELED, LabelClass, LabelMap, Unlabeled
from labelsync.release.labels_file import LabelsFile, qualified
from labelsync.taxonomy import PlacedCategory, Rest, Source, TaxonomyChanges, palette

_GREY = (64, 64, 64)  # of background, as in a map of one dataset


def arrange(
    taxonomies: Sequence[Taxonomy],
    *,
    file: LabelsFile | None = None,
    known: LabelMap | None = None,
    unlabeled: Unlabeled = "ignore",
    allow_renumbering: bool = False,
) -> tuple[LabelMap, TaxonomyChanges]:
    """The map of `taxonomies`, each of another dataset, and what changed since `known`.

    Args:
        known: the earlier round's map, with `sources` (see `with_sources`).
        unlabeled: as in `LabelMap`; that of `known` if there is one.
        allow_renumbering: follow category names to other numbers, and the file to other classes.

    Raises:
        TaxonomyError: the file names what is not there or leaves out what must be named; names that are nearly equal;
            a category that was renumbered or would change its class; no class.
    """
    pinned = {s.dataset: s for s in known.sources} if known else {}
    found = [f for t in taxonomies for f in recognised(t, pinned.get(t.dataset))]
    if file is not None:
        refuse_unknown(file, found, pinned.values())
    renumbered = [(f.category.name, f.pinned.id, f.category.id) for f in found if f.pinned and is_renumbered(f)]
    if not allow_renumbering:
        refuse_renumbered(renumbered)
    slots = _Slots(known, unlabeled)
    places = slots.place(found, file)
    moved = [
        (f.category.name, known.id2label[f.pinned.class_id], slots.names[place])
        for f, place in zip(found, places, strict=True)
        if known and f.pinned and place != f.pinned.class_id
    ]
    if not allow_renumbering:
        refuse_moved(moved, file)
    sources = _sources(found, places, pinned)
    labels = LabelMap(
        classes=_classes(slots, found, places, sources, file),
        unlabeled=unlabeled,
        sources=sources,
        rest=file.rest if file else known.rest if known else "keep",
    )
    return labels, _changes(known, labels, renumbered, moved)


def with_sources(labels: LabelMap, dataset: str) -> LabelMap:
    """A map of one dataset as one that knows the dataset's name."""
    if labels.sources:
        return labels
    placed = [PlacedCategory(i, c.name, n, c.removed) for n, c in enumerate(labels.classes, 1) for i in c.category_ids]
    placed += [PlacedCategory(i, UNLABELED, labels.background_id) for i in labels.unlabeled_ids]
    classes = tuple(replace(c, category_ids=()) for c in labels.classes)
    return replace(labels, classes=classes, unlabeled_ids=(), sources=(Source(dataset, _by_id(placed)),))


# -------------------------------------------------------------------- classes and their numbers


class _Slots:
    """Class names by number as they come about; 0 = unlabeled. `named` = number of each class of the labels file."""

    def __init__(self, known: LabelMap | None, unlabeled: Unlabeled) -> None:
        self.known = known
        self.names = [UNLABELED, *(known.names if known else ())]
        self.named: dict[str, int] = {}
        self._shared: dict[str, int] = {}  # category name -> the number it has in other datasets
        self.unlabeled = unlabeled

    def slot(self, name: str) -> int:
        """Number of a class, a new one at the end."""
        if name not in self.names[1:]:
            self.names.append(name)
        return self.names.index(name, 1)

    def place(self, found: Sequence[Found], file: LabelsFile | None) -> list[int]:
        """The number of the class of each category."""
        if file is not None:
            self._take_classes(file, found)
        entries = file.entries if file else {}
        said = [next((entries[e] for e in f.entries if e in entries), None) for f in found]
        rest = [f for f, name in zip(found, said, strict=True) if name is None]
        self._rename(rest)
        if file is None:
            self._shared = self._shared_names(found)
        undecided = [f for f in rest if f.category.name not in self._shared]
        refuse_undecided(undecided, found, self.known, file)
        places: dict[int, int | None] = {}
        for i in sorted(range(len(found)), key=lambda i: found[i].pinned is not None):  # new classes first, as some
            places[i] = self._of(found[i], said[i], file)  # known category may have taken the name of one
        background = self.slot(BACKGROUND) if self.unlabeled == "class" else 0
        return [background if (place := places[i]) is None else place for i in range(len(found))]

    def _take_classes(self, file: LabelsFile, found: Sequence[Found]) -> None:
        """Numbers for the classes of the file, in its order: one that has another name and the same categories is the
        earlier one, renamed."""
        before = self._pinned_entries(found)
        slots = {n: {slot for e in entries for slot in before.get(e, ())} for n, entries in file.classes.items()}
        for name in file.classes:
            (only,) = slots[name] if len(slots[name]) == 1 else (0,)
            if name not in self.names[1:] and only and self.names[only] not in file.classes:
                self.names[only] = name
            self.named[name] = self.slot(name)

    def _pinned_entries(self, found: Sequence[Found]) -> dict[str, set[int]]:
        """Entry -> class numbers in the earlier round, under the names of then and now."""
        before: dict[str, set[int]] = {}
        for source in self.known.sources if self.known else ():
            for c in source.categories:
                for entry in qualified(source.dataset, c.name):
                    before.setdefault(entry, set()).add(c.class_id)
        for f in found:
            for entry in f.entries if f.pinned else ():
                before.setdefault(entry, set()).add(f.pinned.class_id if f.pinned else 0)
        return before

    def _shared_names(self, found: Sequence[Found]) -> dict[str, int]:
        """What an earlier labels file said of a name holds for every dataset: category name -> class number, where the
        datasets that have it agree. A new name that its class did not follow says nothing about the class."""
        now = {(f.dataset, f.pinned): f for f in found if f.pinned}
        numbers: dict[str, set[int]] = {}
        for source in self.known.sources if self.known else ():
            for c in source.categories:
                f = now.get((source.dataset, c))
                name = f.category.name if f else c.name
                if f is None or not self.is_own(f) or self.names[c.class_id] == name:
                    numbers.setdefault(name, set()).add(c.class_id)
        return {name: next(iter(of)) for name, of in numbers.items() if len(of) == 1 and not is_unlabeled(name)}

    def _rename(self, rest: Sequence[Found]) -> None:
        """Let a class that has its name from a category follow its rename, if all datasets that have it agree."""
        follow: dict[int, set[str]] = {}
        for f in rest:
            if f.pinned and self.is_own(f):
                follow.setdefault(f.pinned.class_id, set()).add(f.category.name)
        for slot, names in follow.items():
            if slot in self.named.values():  # the file says what it is called
                continue
            (name,) = names if len(names) == 1 else (self.names[slot],)
            if name not in self.names:
                self.names[slot] = name

    def is_own(self, found: Found) -> bool:
        """Whether the class it was in has its name from it."""
        slot = found.pinned.class_id if found.pinned else 0
        assert self.known is not None or not slot  # noqa: S101 - a number comes from an earlier round
        return bool(slot and self.known and found.pinned and self.known.names[slot - 1] == found.pinned.name)

    def _of(self, found: Found, said: str | None, file: LabelsFile | None) -> int | None:
        """The class number of a category; None = it is called unlabeled."""
        name, pinned = found.category.name, found.pinned
        if said is not None:
            return self.named.get(said, 0)
        rest: Rest = file.rest if file else self.known.rest if self.known else "keep"
        is_free = rest == "keep" and pinned and pinned.class_id not in self.named.values()
        if pinned and (file is None or (is_free and self.is_own(found))):
            joins = self.is_own(found) and self.names[pinned.class_id] != name and name in self.names
            return self.slot(name) if joins else pinned.class_id
        if is_unlabeled(name):
            return None
        if name in self._shared:
            return self._shared[name]
        return 0 if rest == "drop" else self.slot(name)


def _classes(
    slots: _Slots, found: Sequence[Found], places: Sequence[int], sources: Sequence[Source], file: LabelsFile | None
) -> tuple[LabelClass, ...]:
    known = slots.known.classes if slots.known else ()
    live = {c.class_id for s in sources for c in s.categories if not c.removed}
    classes: list[LabelClass] = []
    for slot, name in enumerate(slots.names[1:], 1):
        members = [f.category for f, place in zip(found, places, strict=True) if place == slot]
        old = known[slot - 1] if slot <= len(known) else None
        colors = [c.color for c in members if c.color is not None]
        if len(sources) > 1 and (old or {*colors[:1]} & {c.color for c in classes}):
            colors = []  # datasets may colour different things alike, and are not all there in every round
        stays = slots.unlabeled == "class" and name == BACKGROUND
        default = old.color if old else _GREY if stays else palette(slot)
        given = file.colors.get(name) if file else None
        classes.append(
            LabelClass(
                name=name,
                color=given or (colors[0] if colors else default),
                has_instances=any(c.has_instances for c in members) if members else bool(old and old.has_instances),
                removed=slot not in live and not stays,
            )
        )
    return tuple(classes)


def _sources(found: Sequence[Found], places: Sequence[int], pinned: dict[str, Source]) -> tuple[Source, ...]:
    """Every dataset with its categories. Those it lost are marked; datasets that are not given stay as they are."""
    placed: dict[str, list[PlacedCategory]] = {}
    for f, place in zip(found, places, strict=True):
        placed.setdefault(f.dataset, []).append(PlacedCategory(f.category.id, f.category.name, place))
    sources = []
    for dataset in dict.fromkeys([*pinned, *placed]):
        before = pinned[dataset].categories if dataset in pinned else ()
        if dataset in placed:
            seen = {f.pinned for f in found if f.dataset == dataset}
            gone = [replace(c, removed=True) for c in before if c not in seen]
            sources.append(Source(dataset, _by_id([*placed[dataset], *gone])))
        else:
            sources.append(pinned[dataset])
    return tuple(sources)


def _by_id(categories: Iterable[PlacedCategory]) -> tuple[PlacedCategory, ...]:
    return tuple(sorted(categories, key=lambda c: (c.id, c.removed, c.name)))


def _changes(
    known: LabelMap | None,
    labels: LabelMap,
    renumbered: Sequence[tuple[str, int, int]],
    moved: Sequence[tuple[str, str, str]],
) -> TaxonomyChanges:
    if known is None:
        return TaxonomyChanges()
    pairs = list(zip(known.classes, labels.classes, strict=False))
    return TaxonomyChanges(
        added=labels.names[known.num_labels :],
        removed=tuple(b.name for a, b in pairs if b.removed and not a.removed),
        renamed=tuple((a.name, b.name) for a, b in pairs if a.name != b.name),
        renumbered=tuple(renumbered),
        moved=tuple(moved),
    )
