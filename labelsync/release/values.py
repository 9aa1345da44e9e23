"""Values as they stand in release files: what is missing, null or of another type is told from what can be used."""

import math
from typing import Any


def within(entry: Any, *keys: str) -> Any:
    """entry[key][key].. or None where any of it is missing, null or no object."""
    value = entry
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def url_of(holder: Any) -> str | None:
    """The `url` of {"url": ..}; null and "" are no URL."""
    return text(within(holder, "url")).strip() or None


def integer(value: Any) -> int | None:
    """An int, also if it was written 3.0 by another program; True is none."""
    if type(value) is int:  # nearly always, and every annotation has two
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def number(value: Any) -> float | None:
    """A finite float; True is none, nor is an int that no float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def text(value: Any) -> str:
    """A string that can be written as UTF-8 (a lone surrogate becomes "?"); "" for anything but a string."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""
