"""`show_recipe`: a recipe as it takes effect, every knob with its value and what it is for."""

import dataclasses
import json
import textwrap
from pathlib import Path
from typing import Any, get_type_hints

from labelsync.records.results import RecipeRecord
from labelsync.training.knobs import Recipe
from labelsync.training.recipe import load_recipe

_WIDTH = 100


def show_recipe(
    recipe: str | Path = "sidewalk",
    *,
    epochs: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    image_size: str | None = None,
    patience: int | None = None,
    seed: int | None = None,
) -> RecipeRecord:
    """Every knob of a recipe as `train` would take it. Its `toml` is a recipe file, to be saved and changed.

    Args:
        recipe: the name of a built-in recipe, or a TOML file.
        epochs, batch_size, learning_rate, image_size, patience, seed: in place of the recipe's, as in `train`.

    Raises:
        OptionError: no such recipe, or a key or value that cannot be used.
    """
    flags = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "image_size": image_size}
    chosen = load_recipe(recipe, **flags, patience=patience, seed=seed)
    knobs = {
        f"{table}.{name}".lstrip("."): _value(value) for table, of in _tables(chosen) for name, value in of.items()
    }
    return RecipeRecord(str(recipe), knobs, toml(chosen))


def toml(recipe: Recipe) -> str:
    """The recipe as TOML, a comment above each knob."""
    lines: list[str] = []
    for table, values in _tables(recipe):
        lines += ["", f"[{table}]"] if table else []
        hints = get_type_hints(type(getattr(recipe, table) if table else recipe), include_extras=True)
        for name, value in values.items():
            said = next((m for m in getattr(hints[name], "__metadata__", ()) if isinstance(m, str)), "")
            lines += [*(f"# {line}" for line in textwrap.wrap(said, _WIDTH)), f"{name} = {_value(value)}"]
    return "\n".join(lines) + "\n"


def _tables(recipe: Recipe) -> list[tuple[str, dict[str, Any]]]:
    """("", the knobs outside of any table) and each table with its own. Of epochs and steps, the one that counts."""
    values = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe)}
    values.pop("epochs" if recipe.steps else "steps")
    tables = {"augment": dataclasses.asdict(recipe.augment), "loss": dataclasses.asdict(recipe.loss)}
    return [("", {name: value for name, value in values.items() if name not in tables}), *tables.items()]


def _value(value: Any) -> str:
    """A value as TOML writes it; JSON is that for all but tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k, ensure_ascii=False)} = {_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
