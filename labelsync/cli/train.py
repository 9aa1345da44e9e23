"""`labelsync train`."""

from pathlib import Path

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import (
    CommaList,
    foreign_options,
    json_option,
    out_option,
    overwrite_option,
    percent,
    recipe_options,
)
from labelsync.cli.show_recipe import show_recipe
from labelsync.records.results import TrainRecord


class Train(click.Command):
    """With --show-recipe, which asks about the other flags and needs neither DATASET nor --out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Hand those flags that `show-recipe` has to it and exit, if that is what is asked."""
        given, _, _ = self.make_parser(ctx).parse_args(list(args))
        if given.get("show_recipe") is True:
            argv = [given["recipe"]] if isinstance(given.get("recipe"), str) else []
            for option in (p for p in show_recipe.params if isinstance(p, click.Option)):
                value = given.get(option.name)
                argv += [option.opts[0]] if value is True else []
                argv += [option.opts[0], value] if isinstance(value, str) else []
            with show_recipe.make_context("show-recipe", argv, parent=ctx) as asked:
                show_recipe.invoke(asked)
            ctx.exit()
        return super().parse_args(ctx, args)


@click.command(cls=Train, short_help="Fine-tune a segmentation model on a dataset.")
@click.argument("dataset")
@out_option("The run folder: model, image processor, metrics, card, checkpoints.")
@click.option(
    "--model", default="nvidia/mit-b0", show_default=True, help="Where to start: a Hub id user/name[@tag] or a folder."
)
@click.option("--recipe", default="sidewalk", show_default=True, help="sidewalk, demo, fast, quality, or a TOML file.")
@click.option(
    "--show-recipe",
    is_flag=True,
    expose_value=False,
    help="Print the recipe with these flags, every knob explained, and exit.",
)
@recipe_options
@click.option("--set", multiple=True, metavar="NAME=VALUE", help="Another field of transformers' TrainingArguments.")
@click.option(
    "--cache-images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep decoded images there: each is decoded once, not once an epoch, for up to 6 MB of disk per 1080p image.",
)
@click.option(
    "--report-to", type=CommaList("a,b", str), default=(), help="Trackers: tensorboard, wandb, ... if installed."
)
@click.option(
    "--pictures",
    type=click.IntRange(min=0),
    default=6,
    show_default=True,
    help="Validation samples drawn after every evaluation.",
)
@click.option(
    "--push-to-hub", metavar="USER/NAME[@BRANCH]", help="Push the best model so far to this repo at every save."
)
@click.option("--published-as", metavar="USER/NAME@TAG", help="Where the dataset folder is published, for the card.")
@foreign_options
@click.option("--resume", is_flag=True, help="Go on from the last whole checkpoint in --out.")
@overwrite_option
@json_option
def train(
    *,
    dataset: str,
    out: Path,
    model: str,
    recipe: str,
    epochs: float | None,
    batch_size: int | None,
    learning_rate: float | None,
    image_size: str | None,
    patience: int | None,
    seed: int | None,
    set: tuple[str, ...],
    cache_images: Path | None,
    report_to: tuple[str, ...],
    pictures: int,
    push_to_hub: str | None,
    published_as: str | None,
    image_column: str | None,
    label_column: str | None,
    id2label: str | None,
    keep_zero: bool,
    config: str | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Fine-tune a segmentation model on DATASET, a folder or a Hub id user/name[@tag].

    A dataset that labelsync did not make (Parquet, or images and labels as files) will do; see the README.

    The best model by mean IoU on the validation split is kept. Ctrl-C leaves a checkpoint for --resume.
    """
    from labelsync.training.finetune import train as verb
    from labelsync.training.process import rank

    record = verb(
        dataset,
        out=out,
        model=model,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        image_size=image_size,
        patience=patience,
        seed=seed,
        set=set,
        cache_images=cache_images,
        report_to=report_to,
        pictures=pictures,
        push_to_hub=push_to_hub,
        published_as=published_as,
        image_column=image_column,
        label_column=label_column,
        id2label=id2label,
        keep_zero=keep_zero,
        config=config,
        resume=resume,
        overwrite=overwrite,
    )
    if rank() == 0:  # of several processes that train together, one speaks
        show(record, as_json=as_json, text=as_text)


def as_text(record: TrainRecord) -> str:
    """What was trained, how far, and how good the kept model is."""
    return (
        f"{record.model} ({record.parameters:,} parameters, {record.num_labels} classes) on {record.dataset}\n"
        f"class head: {record.head}\n"
        f"{record.steps} steps, {record.epochs:g} epochs, mean loss {record.train_loss:.4f}, {record.seconds:.1f} s\n"
        f"kept step {record.best_step}: mean IoU {percent(record.mean_iou)} on the validation split\n"
        f"{record.path}"
    )
