"""`labelsync show-recipe`."""

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import json_option, recipe_options
from labelsync.records.results import RecipeRecord


@click.command(short_help="Print a training recipe with every knob explained.")
@click.argument("recipe", default="sidewalk")
@recipe_options
@json_option
def show_recipe(
    *,
    recipe: str,
    epochs: float | None,
    batch_size: int | None,
    learning_rate: float | None,
    image_size: str | None,
    patience: int | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Print RECIPE as `labelsync train --recipe RECIPE` takes it: every knob, its value, and what it is for.

    RECIPE is sidewalk, demo, fast, quality, or a TOML file. What is printed is a recipe file: save it, change it, and
    pass it to --recipe.
    """
    from labelsync.training.show import show_recipe as verb

    record = verb(
        recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        image_size=image_size,
        patience=patience,
        seed=seed,
    )
    show(record, as_json=as_json, text=as_text)


def as_text(record: RecipeRecord) -> str:
    """The recipe file."""
    return record.toml.rstrip("\n")
