"""labels.toml, given by `--labels`: which categories make which class.

rest = "keep"              # categories that are not named: "keep" (classes of their own; the default), "drop", "error"
drop = ["void-unclear"]    # drawn as 0: neither learned nor scored

[classes]                  # numbered in this order; "name" = what is drawn as it
road = "flat-road"
sidewalk = ["flat-sidewalk", "flat-curb"]
human = { categories = ["human-person", "human-rider"], color = "#dc143c" }
pole = "acme/north:pole"   # of one dataset only, where a name means two things in two of them
"""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelsync.errors import OptionError, first_line
from labelsync.labels import UNLABELED
from labelsync.records.text import from_toml
from labelsync.taxonomy import Color, Rest

_KEYS = ("rest", "drop", "classes")
_RESTS: tuple[Rest, ...] = ("keep", "drop", "error")
_TABLE = '{ categories = [".."], color = "#rrggbb" }'
_FORM = 'write name = ["category", ..] below [classes]'


@dataclass(frozen=True)
class LabelsFile:
    """A labels file; its categories are not compared with any release yet.

    Attributes:
        where: what errors call it.
        classes: class name -> entries (category names, or "dataset:category"), in the order of the file.
        drop: entries that become unlabeled.
    """

    where: str
    classes: dict[str, tuple[str, ...]]
    drop: tuple[str, ...]
    rest: Rest
    colors: dict[str, Color]

    @property
    def entries(self) -> dict[str, str]:
        """Entry -> class name, "unlabeled" for those that are dropped."""
        classed = {entry: name for name, entries in self.classes.items() for entry in entries}
        return classed | dict.fromkeys(self.drop, UNLABELED)


def read_labels_file(path: Path, *, flag: str = "--labels") -> LabelsFile:
    """The labels file at `path`, which `flag` names.

    Raises:
        OptionError: no such file, no TOML, or an entry that says nothing, or says two things.
    """
    where = f"{flag} {path}"
    try:
        data = from_toml(path.read_bytes())
    except OSError as e:
        raise OptionError(f"{where}: {e.strerror or e}", hint=_FORM) from None
    except ValueError as e:
        raise OptionError(f"{where} is not TOML ({first_line(e)})", hint=_hint_of(str(e))) from None
    for key in data:
        if key not in _KEYS:
            hint = "classes stand below [classes]" + did_you_mean(key, _KEYS)
            raise OptionError(f"{where}: there is no setting {key!r}", hint=hint)
    rest = data.get("rest", "keep")
    if rest not in _RESTS:
        raise OptionError(f"{where}: rest is {rest!r}", hint=f"it is {', '.join(map(repr, _RESTS))}")
    table = data.get("classes", {})
    if not isinstance(table, dict):
        raise OptionError(f"{where}: classes is no table", hint=_FORM)
    drop = _names(data.get("drop", []), f"{where}: drop")
    if not table and not drop:
        raise OptionError(f"{where} names no class and drops nothing", hint=_FORM)
    classes = {name: _class(name, entry, where) for name, entry in table.items()}
    _refuse_twice([*((n, e) for n, entries in classes.items() for e in entries), *((None, e) for e in drop)], where)
    colors = {name: color_of(e["color"], name, where) for name, e in table.items() if _has_color(e)}
    return LabelsFile(where, classes, drop, rest, colors)


def did_you_mean(name: str, known: Collection[str]) -> str:
    """ "; did you mean 'road'?" where a known name is near, else ""."""
    folded = {k.casefold(): k for k in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1)
    return f"; did you mean {folded[near[0]]!r}?" if near else ""


def _class(name: str, entry: Any, where: str) -> tuple[str, ...]:
    """The entries of one class."""
    at = f"{where}: class {name!r}"
    if name.strip().casefold() == UNLABELED:
        raise OptionError(f"{at} is what disk id 0 is called", hint='list its categories under drop = ["..", ..]')
    if name in ("rest", "drop") and not isinstance(entry, dict):  # TOML takes what follows a header for its own
        raise OptionError(
            f"{where}: {name} stands below [classes]", hint=f"put it above, or write {_TABLE} for a class"
        )
    if not name.strip():
        raise OptionError(f"{where}: a class has no name", hint=_FORM)
    if isinstance(entry, dict):
        wrong = sorted(entry.keys() - {"categories", "color"})
        if "categories" not in entry or wrong:
            what = f"has no {wrong[0]!r} to set" if "categories" in entry else "names no categories"
            raise OptionError(f"{at} {what}", hint=f"write {_TABLE}; a class name with a dot or a space needs quotes")
        entry = entry["categories"]
    names = _names(entry, at)
    if not names:
        raise OptionError(f"{at} is empty", hint="name its categories, or delete the line")
    return names


def _names(value: Any, at: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise OptionError(f"{at} is not a list of category names", hint='write ["category", ..]')
    return tuple(value)


def _refuse_twice(pairs: list[tuple[str | None, str]], where: str) -> None:
    """`pairs` = (class or None for drop, entry)."""
    first: dict[str, str | None] = {}
    for name, entry in pairs:
        if entry in first:
            places = [f"class {n!r}" if n is not None else "drop" for n in (first[entry], name)]
            twice = f"twice in {places[0]}" if places[0] == places[1] else f"in {places[0]} and in {places[1]}"
            raise OptionError(f"{where}: category {entry!r} stands {twice}", hint="leave it in one place")
        first[entry] = name


def _has_color(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "color" in entry


def color_of(value: Any, name: str, where: str) -> Color:
    """ "#dc143c" or [220, 20, 60]. Raises OptionError for another value; `name` is whose colour it is."""
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        r, g, b = bytes.fromhex(value[1:])
        return r, g, b
    if isinstance(value, list) and len(value) == 3 and all(type(c) is int and 0 <= c <= 255 for c in value):
        r, g, b = value
        return r, g, b
    raise OptionError(f"{where}: the color of class {name!r} is {value!r}", hint='write "#dc143c" or [220, 20, 60]')


def _hint_of(message: str) -> str:
    """What to do about a line that TOML does not take."""
    if "Cannot overwrite" in message:
        return "two lines set the same name: put the categories of a class into one list"
    return 'names and categories with spaces stand in quotes: "my class" = ["a category"]'


def qualified(dataset: str, name: str) -> Iterator[str]:
    """The entries that mean category `name` of `dataset`, the most particular first."""
    if dataset:
        yield f"{dataset}:{name}"
    yield name
