"""What Segments.ai calls a class: categories, what became of them between two releases, and where each one is drawn.

A category has a number and a name of its own in every Segments.ai dataset. Where a map is made of several datasets, or
arranged by a labels file, the map keeps each category's place here, since its number alone no longer says it.
"""

import colorsys
from dataclasses import dataclass
from typing import Literal

Color = tuple[int, int, int]
Rest = Literal["keep", "drop", "error"]


@dataclass(frozen=True)
class Category:
    """One entry of a Segments.ai taxonomy."""

    id: int
    name: str
    color: Color | None = None
    has_instances: bool = False


@dataclass(frozen=True)
class PlacedCategory:
    """A category and the class it is drawn as.

    Attributes:
        id, name: as the newest release that has it says.
        class_id: disk id; 0 = dropped, or called "unlabeled" where unlabeled pixels are ignored.
        removed: the newest release of its dataset has it no more; its place is kept for its return.
    """

    id: int
    name: str
    class_id: int
    removed: bool = False


@dataclass(frozen=True)
class Source:
    """The categories of one Segments.ai dataset ("owner/name"), in the order of their numbers."""

    dataset: str
    categories: tuple[PlacedCategory, ...]

    @property
    def table(self) -> dict[int, int]:
        """Category id -> disk id, without those that are gone."""
        return {c.id: c.class_id for c in self.categories if not c.removed}


@dataclass(frozen=True)
class TaxonomyChanges:
    """What a later round did to the classes, by name.

    Attributes:
        renumbered: (name, old category id, new one).
        moved: (category, class it was drawn as, class it is drawn as now), "unlabeled" for none.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    renumbered: tuple[tuple[str, int, int], ...] = ()
    moved: tuple[tuple[str, str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.renamed or self.renumbered or self.moved)


def palette(index: int) -> Color:
    """A colour for class `index` that differs from its neighbours: golden-angle hues, two lightness levels."""
    hue = (index * 0.61803398875) % 1.0
    r, g, b = colorsys.hls_to_rgb(hue, 0.45 if index % 2 else 0.62, 0.75)
    return round(r * 255), round(g * 255), round(b * 255)
