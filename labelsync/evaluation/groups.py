"""What classes mean to a robot: which may be walked on, which stand in the way; and the field in front of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labelsync.errors import OptionError
from labelsync.records.text import from_toml
from labelsync.sidewalk import preset

GROUPS = ("walkable", "obstacle", "road", "other")

NEAR_FIELD = (1.0, 0.4, 0.4)
"""Width of the field at the image's lower edge, at the field's own upper edge, and its height, as shares of the image:
about the next three metres of a camera at walking height that looks ahead, whose horizon is at 40 % of the image."""


@dataclass(frozen=True)
class Groups:
    """Class names per group, in the order of the dataset; each class is in one of `GROUPS`, curbs in `curb` as well."""

    walkable: tuple[str, ...]
    obstacle: tuple[str, ...]
    road: tuple[str, ...]
    other: tuple[str, ...]
    curb: tuple[str, ...] = ()

    def ids(self, group: str, names: Sequence[str]) -> list[int]:
        """The disk ids of a group among classes `names`, of which the first has id 1."""
        return [i for i, name in enumerate(names, 1) if name in getattr(self, group)]


def groups_for(names: Sequence[str], file: str | Path | None = None) -> Groups | None:
    """The groups of a dataset's classes; None if the sidewalk preset knows none of them to walk on or to run into.

    Args:
        names: of the classes.
        file: TOML with walkable = [names], obstacle = [..], road = [..], other = [..] and, of any of these, curb =
            [..]; None = those of the 35 sidewalk classes, where a class that is none of them is in "other".

    Raises:
        OptionError: no such file, another form, a class in two groups, or one of `names` in none.
    """
    if file is None:
        known = {g: _among(names, preset.GROUPS[g]) for g in GROUPS}
        known["other"] = _among(names, set(names).difference(*(known[g] for g in GROUPS[:3])))
        found = Groups(**known, curb=_among(names, preset.CURB))
        return found if found.walkable and found.obstacle else None
    lists = _listed(Path(file))
    homes = {name: [g for g in GROUPS if name in lists[g]] for name in (*names, *lists["curb"])}
    for name, groups in homes.items():
        if len(groups) != 1:
            raise OptionError(
                f"--groups {file} has class {name!r} in {' and '.join(groups) or 'no group'}",
                hint=f"each class is in one of {', '.join(GROUPS)}",
            )
    found = Groups(**{group: _among(names, listed) for group, listed in lists.items()})
    if not found.walkable or not found.obstacle:
        raise OptionError(
            f"--groups {file} has no class of the dataset to walk on, or none to run into",
            hint=f"the classes are {', '.join(names)}",
        )
    return found


def _among(names: Sequence[str], wanted: Any) -> tuple[str, ...]:
    return tuple(name for name in names if name in wanted)


def _listed(path: Path) -> dict[str, list[str]]:
    hint = f'write walkable = ["flat-sidewalk"] and so on, for {", ".join((*GROUPS, "curb"))}'
    try:
        found = from_toml(path.read_bytes())
    except OSError as e:
        raise OptionError(f"--groups {path}: {e.strerror or e}", hint=hint) from None
    except ValueError as e:
        raise OptionError(f"--groups {path} is not TOML ({e})", hint=hint) from None
    lists = {group: found.pop(group, []) for group in (*GROUPS, "curb")}
    wrong = [
        g for g, names in lists.items() if not isinstance(names, list) or not all(isinstance(n, str) for n in names)
    ]
    if found or wrong:
        raise OptionError(f"--groups {path}: {min([*found, *wrong])!r} is no list of a group", hint=hint)
    return lists


# -------------------------------------------------------------------- the near field


def check_near_field(values: Sequence[float]) -> tuple[float, float, float]:
    """Three shares of the image as they are. Raises OptionError for anything else."""
    if len(values) != len(NEAR_FIELD) or not all(0 < v <= 1 for v in values):
        raise OptionError(
            f"--near-field {','.join(f'{v:g}' for v in values)}",
            hint="write 1,0.4,0.4: width at the lower edge, width at its upper edge, height; shares of the image",
        )
    bottom, top, height = values
    return float(bottom), float(top), float(height)


@lru_cache(maxsize=16)
def trapezoid(
    size_hw: tuple[int, int], near_field: tuple[float, float, float], part: float = 1.0
) -> npt.NDArray[np.bool_]:
    """(h, W) bool: pixels of the lowest h rows of an image that lie in the field, or in the middle `part` of its width.

    A row of the image is in the field if its middle is; its width goes straight from the upper to the lower one.
    """
    height, width = size_hw
    bottom, top, share = near_field
    rows = max(1, round(height * share))
    down = (np.arange(rows) + 0.5) / rows
    half = (top + (bottom - top) * down) * width * part / 2
    inside: npt.NDArray[np.bool_] = np.abs(np.arange(width) + 0.5 - width / 2)[None] <= half[:, None]
    inside.flags.writeable = False  # it is shared
    return inside
