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
    knobs = json.loads(json.dumps(dataclasses.asdict(chosen)))
    knobs.pop("epochs" if chosen.steps else "steps")  # a recipe has one of them
    return RecipeRecord(str(recipe), knobs, toml(chosen))


def toml(recipe: Recipe) -> str:
    """The recipe as TOML, a comment above each knob."""
    skipped = "epochs" if recipe.steps else "steps"
    fields = [f.name for f in dataclasses.fields(Recipe) if f.name != skipped]
    tables = [name for name in fields if dataclasses.is_dataclass(getattr(recipe, name))]
    lines = _knobs(recipe, [name for name in fields if name not in tables])
    for name in tables:
        table = getattr(recipe, name)
        lines += ["", f"[{name}]", *_knobs(table, [f.name for f in dataclasses.fields(table)])]
    return "\n".join(lines) + "\n"


def _knobs(of: Any, names: list[str]) -> list[str]:
    hints = get_type_hints(type(of), include_extras=True)
    lines = []
    for name in names:
        said = next((m for m in getattr(hints[name], "__metadata__", ()) if isinstance(m, str)), "")
        lines += [f"# {line}" for line in textwrap.wrap(said, _WIDTH)]
        lines.append(f"{name} = {_value(getattr(of, name))}")
    return lines


def _value(value: Any) -> str:
    """A value as TOML writes it; JSON is that for all but tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k, ensure_ascii=False)} = {_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
