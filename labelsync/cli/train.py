"""`labelsync train`."""

from pathlib import Path

import click

from labelsync.cli.boundary import show
from labelsync.cli.options import json_option, out_option, overwrite_option, percent
from labelsync.records.results import TrainRecord


@click.command(short_help="Fine-tune a segmentation model on a dataset.")
@click.argument("dataset")
@out_option("The run folder: model, image processor, metrics, card, checkpoints.")
@click.option(
    "--model", default="nvidia/mit-b0", show_default=True, help="Where to start: a Hub id user/name[@tag] or a folder."
)
@click.option("--recipe", default="sidewalk", show_default=True, help="sidewalk, demo, or a TOML file.")
@click.option("--epochs", type=float, help="Passes over the train split; by default the recipe's.")
@click.option("--batch-size", type=int, help="Images per step and process; by default the recipe's.")
@click.option("--learning-rate", type=float, help="The highest learning rate; by default the recipe's.")
@click.option("--image-size", help="512, or 384x512 for height x width; by default the recipe's.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of head, order, augmentation and dropout.")
@click.option("--set", multiple=True, metavar="NAME=VALUE", help="Another field of transformers' TrainingArguments.")
@click.option(
    "--cache-images",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep decoded images there: each is decoded once, not once an epoch, for some 8 MB of disk per 1080p image.",
)
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
    seed: int,
    set: tuple[str, ...],
    cache_images: Path | None,
    resume: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Fine-tune a segmentation model on DATASET, a folder or a Hub id user/name[@tag].

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
        seed=seed,
        set=set,
        cache_images=cache_images,
        resume=resume,
        overwrite=overwrite,
    )
    if rank() == 0:  # of several processes that train together, one speaks
        show(record, as_json=as_json, text=as_text)


def as_text(record: TrainRecord) -> str:
    """What was trained, how far, and how good the kept model is."""
    return (
        f"{record.model} ({record.parameters:,} parameters, {record.num_labels} classes) on {record.dataset}\n"
        f"{record.steps} steps, {record.epochs:g} epochs, mean loss {record.train_loss:.4f}, {record.seconds:.1f} s\n"
        f"kept step {record.best_step}: mean IoU {percent(record.mean_iou)} on the validation split\n"
        f"{record.path}"
    )
