"""The categories of this round, recognised as those of the earlier one, and the cases where a person must decide."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from labelsync.errors import TaxonomyError
from labelsync.labels import UNLABELED, LabelMap, split_unlabeled
from labelsync.release.labels_file import LabelsFile, did_you_mean, qualified
from labelsync.taxonomy import Category, PlacedCategory, Source


@dataclass(frozen=True)
class Taxonomy:
    """The categories of one Segments.ai dataset ("owner/name")."""

    dataset: str
    categories: tuple[Category, ...]


@dataclass(frozen=True)
class Found:
    """A category of this round, and its place in the earlier one if it had any."""

    dataset: str
    category: Category
    pinned: PlacedCategory | None

    @property
    def entries(self) -> list[str]:
        """What a labels file may call it, the most particular first: its name now, then the one it had."""
        names = dict.fromkeys([self.category.name, *([self.pinned.name] if self.pinned else [])])
        return [entry for name in names for entry in qualified(self.dataset, name)]


def is_unlabeled(name: str) -> bool:
    """Whether a category is called what pixels are that nobody labelled."""
    return name.lower() == UNLABELED


def recognised(taxonomy: Taxonomy, source: Source | None) -> list[Found]:
    """The categories by number, each with its place in the earlier round: by name, or else, renamed, by number."""
    split_unlabeled(taxonomy.categories)  # refuses a name or a number that occurs twice
    pinned = source.categories if source else ()
    by_name = {c.name: c for c in pinned}
    names = {c.name for c in taxonomy.categories}
    by_id = {c.id: c for c in pinned if not c.removed and c.name not in names and not is_unlabeled(c.name)}

    def before(category: Category) -> PlacedCategory | None:
        renamed = None if is_unlabeled(category.name) else by_id.get(category.id)
        return by_name.get(category.name, renamed)

    return [Found(taxonomy.dataset, c, before(c)) for c in sorted(taxonomy.categories, key=lambda c: c.id)]


def is_renumbered(found: Found) -> bool:
    """Whether a category has another number than in the earlier round."""
    return found.pinned is not None and found.pinned.id != found.category.id and not is_unlabeled(found.category.name)


# -------------------------------------------------------------------- refusals


def refuse_unknown(file: LabelsFile, found: Sequence[Found], pinned: Iterable[Source]) -> None:
    """Raises TaxonomyError for an entry of the file that no category has, now or in the earlier round."""
    there = {e for f in found for e in f.entries}
    there |= {e for s in pinned for c in s.categories for e in qualified(s.dataset, c.name)}
    names = sorted({f.category.name for f in found})
    unknown = [(entry, name) for entry, name in file.entries.items() if entry not in there]
    if unknown:
        entry, name = unknown[0]
        at = "drop" if name == UNLABELED else f"class {name!r}"
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        near = did_you_mean(entry, [*names, *(e for e in there if ":" in entry)]).removeprefix("; ")
        raise TaxonomyError(
            f"{file.where}: {at} names {entry!r}, which is no category of the release{more}",
            hint=near or f"there are: {', '.join(names)}",
            details=[e for e, _ in unknown] if more else (),
        )


def refuse_renumbered(renumbered: Sequence[tuple[str, int, int]]) -> None:
    """Raises TaxonomyError if there are any."""
    if renumbered:
        name, old, new = renumbered[0]
        raise TaxonomyError(
            f"category {name!r} was number {old} and is now {new} ({len(renumbered)} renumbered in all)",
            hint="if the release is right, pass --allow-renumbering (labels follow the names)",
            details=[f"{n}: {a} -> {b}" for n, a, b in renumbered],
        )


def refuse_moved(moved: Sequence[tuple[str, str, str]], file: LabelsFile | None) -> None:
    """Raises TaxonomyError if categories, (name, class then, class now), change their class."""
    if moved:
        name, old, new = moved[0]
        who = file.where if file else "its new name"
        raise TaxonomyError(
            f"category {name!r} is drawn as {old!r} in the earlier round, and {who} makes it {new!r}"
            f" ({len(moved)} moved in all)",
            hint="undo that, pass --allow-renumbering if it is meant, or leave out --previous and start new numbers",
            details=[f"{n}: {a} -> {b}" for n, a, b in moved] if len(moved) > 1 else (),
        )


def refuse_undecided(
    rest: Sequence[Found], found: Sequence[Found], known: LabelMap | None, file: LabelsFile | None
) -> None:
    """Raises TaxonomyError if one of `rest`, the categories that the file does not name, needs a word."""
    rest = [f for f in rest if not is_unlabeled(f.category.name) and (file or not f.pinned)]
    rule = file.rest if file else known.rest if known else "keep"
    names = sorted({f.category.name for f in rest})
    where = file.where if file else "the labels file of the earlier round"
    if rule == "error" and names:
        raise TaxonomyError(
            f"{where} does not name category {names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else ""),
            hint='put them into a class or under drop, or write rest = "keep" or rest = "drop" (--labels FILE)',
            details=names if len(names) > 1 else (),
        )
    if rule != "keep":
        return
    twice = [name for name in names if file and name in file.classes]
    if file and twice:
        raise TaxonomyError(
            f"{where} has a class {twice[0]!r} without the category of that name",
            hint=f"add {twice[0]!r} to that class, or to another one, or drop it",
        )
    _refuse_nearly_equal([f for f in rest if not f.pinned], found, known, file)


def _refuse_nearly_equal(
    new: Sequence[Found], found: Sequence[Found], known: LabelMap | None, file: LabelsFile | None
) -> None:
    """Raises TaxonomyError if a new class is spelled almost as a category of another dataset or a class of the file."""
    there = {(f.dataset, f.category.name) for f in found}
    there |= {(s.dataset, c.name) for s in (known.sources if known else ()) for c in s.categories}
    there |= {("", name) for name in (file.classes if file else ())}
    near = sorted(
        (f.category.name, name, dataset)
        for f in new
        for dataset, name in there
        if dataset != f.dataset and name != f.category.name and _folded(name) == _folded(f.category.name)
    )
    if near:
        name, other, dataset = near[0]
        of = f"category {other!r} of {dataset}" if dataset else f"class {other!r}"
        raise TaxonomyError(
            f"category {name!r} and {of} differ in spelling alone: one class or two?",
            hint=f'say so with --labels FILE: [classes] "{other}" = ["{other}", "{name}"], or a line for each',
            details=sorted({" and ".join(sorted((repr(a), repr(b)))) for a, b, _ in near}),
        )


def _folded(name: str) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())
