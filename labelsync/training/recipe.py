"""Recipes: the settings of a fine-tuning run as a small TOML file, checked key by key.

A recipe holds the knobs that belong together (knobs.py); the command's own flags replace single ones. What is not here
is a TrainingArguments field and goes through `--set`.
"""

import dataclasses
import difflib
import json
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from labelsync.errors import OptionError, first_line
from labelsync.records.text import from_toml
from labelsync.training.knobs import Augment, Loss, Recipe, parse_size

_TABLES: dict[str, type] = {"augment": Augment, "loss": Loss}

# Knobs of the first recipes. They stand in every run's identity; a later knob only where it is not at its default, so
# that a run made before there was the knob is still the same run.
_ALWAYS = ("image_size", "epochs", "batch_size", "learning_rate", "weight_decay", "schedule", "warmup")
_ALWAYS_AUGMENT = ("flip", "scale", "aspect", "brightness", "contrast", "saturation", "hue")


def load_recipe(name: str | Path, **replaced: Any) -> Recipe:
    """The recipe of that name or in that TOML file, with the fields in `replaced` that are not None.

    Raises:
        OptionError: no such recipe, or a key that is unknown or has a value that cannot be used; the key is named.
    """
    values = _ended(_read(name), where=f"recipe {name}")
    _validated(values, where=f"recipe {name}")
    flags = {k: v for k, v in replaced.items() if v is not None}
    if "epochs" in flags:
        flags["steps"] = 0
    recipe = _validated(values | flags, where="")
    parse_size(recipe.image_size)
    return recipe


def settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data, for a manifest: the first knobs, and later ones that are not at their default.

    Without the seed, which is pinned beside the recipe.
    """
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    default = json.loads(json.dumps(dataclasses.asdict(Recipe("1", 1.0, 1, 1.0))))
    augment = {k: v for k, v in plain["augment"].items() if k in _ALWAYS_AUGMENT or v != default["augment"][k]}
    loss = {k: v for k, v in plain["loss"].items() if v != default["loss"][k]}
    later = {k: v for k, v in plain.items() if k not in (*_ALWAYS, *_TABLES, "seed") and v != default[k]}
    return {**{k: plain[k] for k in _ALWAYS}, "augment": augment, **later, **({"loss": loss} if loss else {})}


def builtin() -> tuple[str, ...]:
    """Names of the recipes that come with labelsync."""
    return tuple(sorted(f.name[:-5] for f in _folder().iterdir() if f.name.endswith(".toml")))


def _read(name: str | Path) -> dict[str, Any]:
    path = Path(name).expanduser()
    if isinstance(name, str) and name in builtin():
        data = (_folder() / f"{name}.toml").read_bytes()
    elif path.is_file():
        data = path.read_bytes()
    else:
        close = difflib.get_close_matches(str(name), builtin(), n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise OptionError(
            f"there is no recipe {str(name)!r}", hint=f"{guess}give one of {', '.join(builtin())}, or a TOML file"
        )
    try:
        return from_toml(data)
    except ValueError as e:
        raise OptionError(f"recipe {name} is not TOML ({first_line(e)})", hint="correct that line") from None


def _ended(values: dict[str, Any], *, where: str) -> dict[str, Any]:
    """By epochs or by steps, not both: a recipe that gives `steps` alone needs no `epochs`."""
    steps = values.get("steps")
    if not isinstance(steps, int) or not steps:
        return values
    if "epochs" in values:
        raise OptionError(f"{where} has both epochs and steps", hint="leave one of them out")
    return values | {"epochs": 1.0}  # looked at by nobody


def _validated(values: dict[str, Any], *, where: str) -> Recipe:
    """Strict, so that "8" is no number; through JSON, where a list may become a tuple. `where` "" = the flags."""
    try:
        return TypeAdapter(Recipe).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as e:
        first = e.errors()[0]
        path = _path(first["loc"], leaf=first["type"] == "unexpected_keyword_argument") or ["the recipe"]
        key = ".".join(path)
        if first["type"] == "unexpected_keyword_argument":
            known = _TABLES[path[0]] if path[0] in _TABLES and len(path) > 1 else Recipe
            names = [f.name for f in dataclasses.fields(known)]
            close = difflib.get_close_matches(path[-1], names, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
            raise OptionError(f"{where} has an unknown key {key!r}", hint=hint) from None
        if first["type"] == "missing":
            raise OptionError(f"{where} lacks {key!r}", hint="add it") from None
        what = (
            f"{where} has {key} = {first['input']!r}" if where else f"--{key.replace('_', '-')} is {first['input']!r}"
        )
        reason = first["msg"].removeprefix("Value error, ")
        raise OptionError(f"{what}, which cannot be used", hint=reason[:1].lower() + reason[1:]) from None


def _path(place: tuple[int | str, ...], *, leaf: bool) -> list[str]:
    """The keys of pydantic's place, without the indices and kinds that it puts between them; `leaf` keeps the last."""
    known = {f.name for kind in (Recipe, *_TABLES.values()) for f in dataclasses.fields(kind)}
    last = len(place) - 1
    return [str(p) for i, p in enumerate(place) if p in known or (leaf and i == last)]


def _folder() -> Any:
    return resources.files("labelsync.training").joinpath("recipes")
