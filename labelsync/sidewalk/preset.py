"""The taxonomy of the sidewalk delivery robot: the 35 classes of segments/sidewalk-semantic, their colours and groups.

The numbers are that dataset's disk ids, so 0 is "unlabeled" and no class. Classes that occur in Cityscapes have its
colours, the others a colour that stays apart from them.
"""

from labelsync.labels import UNLABELED
from labelsync.taxonomy import Category, Color

_CLASSES: tuple[tuple[str, Color, bool], ...] = (
    (UNLABELED, (0, 0, 0), False),
    ("flat-road", (128, 64, 128), False),
    ("flat-sidewalk", (244, 35, 232), False),
    ("flat-crosswalk", (255, 190, 110), False),
    ("flat-cyclinglane", (190, 110, 75), False),
    ("flat-parkingdriveway", (250, 170, 160), False),
    ("flat-railtrack", (230, 150, 140), False),
    ("flat-curb", (0, 220, 255), False),
    ("human-person", (220, 20, 60), True),
    ("human-rider", (255, 0, 130), True),
    ("vehicle-car", (0, 0, 142), True),
    ("vehicle-truck", (0, 0, 70), True),
    ("vehicle-bus", (0, 60, 100), True),
    ("vehicle-tramtrain", (0, 80, 100), True),
    ("vehicle-motorcycle", (0, 0, 230), True),
    ("vehicle-bicycle", (255, 120, 20), True),
    ("vehicle-caravan", (60, 30, 120), True),
    ("vehicle-cartrailer", (90, 60, 160), True),
    ("construction-building", (70, 70, 70), False),
    ("construction-door", (145, 95, 60), True),
    ("construction-wall", (102, 102, 156), False),
    ("construction-fenceguardrail", (190, 153, 153), False),
    ("construction-bridge", (150, 100, 100), False),
    ("construction-tunnel", (150, 120, 90), False),
    ("construction-stairs", (205, 175, 120), False),
    ("object-pole", (255, 255, 160), True),
    ("object-trafficsign", (220, 220, 0), True),
    ("object-trafficlight", (250, 170, 30), True),
    ("nature-vegetation", (107, 142, 35), False),
    ("nature-terrain", (152, 251, 152), False),
    ("sky", (70, 130, 180), False),
    ("void-ground", (81, 0, 81), False),
    ("void-dynamic", (111, 74, 0), True),
    ("void-static", (60, 60, 35), False),
    ("void-unclear", (40, 40, 55), False),
)

CATEGORIES: tuple[Category, ...] = tuple(Category(i, *fields) for i, fields in enumerate(_CLASSES))
"""The 35 classes; `CATEGORIES[i].id == i`."""

GROUPS: dict[str, tuple[str, ...]] = {
    "walkable": ("flat-sidewalk", "flat-crosswalk"),
    # Ground on which the robot has no business unless it crosses; the curb is where that ground begins.
    "road": ("flat-road", "flat-cyclinglane", "flat-parkingdriveway", "flat-railtrack", "flat-curb"),
    "obstacle": (
        *(name for name, _, _ in _CLASSES if name.startswith(("human-", "vehicle-", "construction-", "object-"))),
        "nature-vegetation",
        "void-dynamic",
        "void-static",
    ),
    "other": ("nature-terrain", "sky", "void-ground", "void-unclear"),
}
"""Group -> class names; every class but "unlabeled" is in exactly one group."""

CURB: tuple[str, ...] = ("flat-curb",)
"""Classes whose being missed costs a robot a wheel; they are in a group as well."""


def categories(*names: str) -> tuple[Category, ...]:
    """The categories of those names, in the order of their numbers. Raises KeyError for an unknown name."""
    known = {c.name: c for c in CATEGORIES}
    return tuple(sorted((known[name] for name in names), key=lambda c: c.id))
