"""`train`: a dataset and a model to a fine-tuned model folder."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from labelsync.dataset.load import LabeledDataset, load
from labelsync.dataset.source import find_dataset
from labelsync.errors import DatasetError, ModelError, OptionError, first_line
from labelsync.evaluation.evaluate import short_name
from labelsync.model.load import new_model, quiet
from labelsync.model.loaded import LoadedModel
from labelsync.model.memory import is_out_of_memory
from labelsync.records.release import Row
from labelsync.records.results import TrainRecord
from labelsync.training.arguments import parse_set, result_settings, training_arguments
from labelsync.training.data import require_labelled
from labelsync.training.folder import CHECKPOINTS, Identity, RunFolder, open_run, require_usable
from labelsync.training.knobs import Recipe
from labelsync.training.process import (
    loaders,
    own_randomness,
    processes,
    rank,
    step_errors,
    wait_for_everyone,
    writing,
)
from labelsync.training.publish import Publisher
from labelsync.training.rarity import require_known_classes
from labelsync.training.recipe import load_recipe, settings
from labelsync.training.run import Run


def train(
    dataset: str | Path,
    *,
    out: str | Path,
    model: str | Path = "nvidia/mit-b0",
    recipe: str | Path = "sidewalk",
    epochs: float | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    image_size: str | None = None,
    patience: int | None = None,
    seed: int | None = None,
    set: tuple[str, ...] = (),  # named as its flag
    cache_images: str | Path | None = None,
    report_to: tuple[str, ...] = (),
    pictures: int = 6,
    push_to_hub: str | None = None,
    published_as: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    id2label: str | Path | None = None,
    keep_zero: bool = False,
    config: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> TrainRecord:
    """Fine-tune a segmentation model on a dataset's train split; keep the best one by mean IoU on its validation split.

    Leaves a run folder: the model (weights, config, image processor, id2label.json) as `from_pretrained` and `pipeline`
    read it, README.md (model card), metrics.jsonl (every evaluation), pictures/, checkpoints/ and manifest.json. A run
    that is finished already, with the same dataset, model and settings, is not repeated. `accelerate launch -m
    labelsync train ...` trains in several processes, on several GPUs or machines.

    Args:
        dataset: a dataset folder, or a Hub id "user/name[@revision]"; a foreign one will do, as `load` reads it.
        out: the run folder.
        model: a folder or a Hub id "user/name[@revision]"; a folder with only a config.json starts from random weights.
        recipe: the name of a built-in recipe, or a TOML file.
        epochs: passes over the train split; None, here and below = the recipe's.
        batch_size: images per step and process.
        learning_rate: the highest one.
        image_size: what images are resized to, "512" or "384x512" (height x width).
        patience: evaluations without a better mean IoU after which the run ends; 0 = never.
        seed: of the class head, the order of samples, augmentation and dropout.
        set: "name=value" of further TrainingArguments fields.
        cache_images: a folder for decoded images, so that each is decoded once and not once an epoch; the result is the
            same. Runs may share it. 6 MB per 1080p image where the recipe zooms in, 1.6 where it shows it smaller.
        report_to: trackers that the Trainer knows, such as "tensorboard" and "wandb"; their packages must be installed.
        pictures: number of validation samples that are drawn after every evaluation, always the same ones.
        push_to_hub: "user/name[@branch]", a model repo that gets the best model so far at every save. A failure of the
            Hub is a line on stderr and is tried again at the next save.
        published_as: "user/name@tag", where a dataset folder is published too: the card names that, and its commit.
        image_column, label_column, id2label, keep_zero, config: of a foreign dataset, as for `load`.
        resume: go on from the last whole checkpoint in `out`. The result is that of the uninterrupted run.
        overwrite: delete the run in `out`, and start anew.

    Raises:
        OptionError: a setting that cannot be used.
        DatasetNotFound, DatasetError: no dataset; a split is missing, empty or without labels; a row cannot be used.
        AuthError: `push_to_hub`, and nobody is logged in.
        TaxonomyError: a single class, or an id2label that names no proper classes.
        ModelNotFound, ModelError: no model, one that does not fit, or no memory for it.
        OutputExists, OutputLocked: something else lies at `out`, or somebody is writing there.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written.
    """
    started = time.perf_counter()
    shown, out = Path(out), Path(out).expanduser().resolve()
    flags = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "image_size": image_size}
    chosen = load_recipe(recipe, **flags, patience=patience, seed=seed)
    fields = parse_set(set)
    publisher = _publisher(push_to_hub)
    with writing(out), own_randomness(), quiet():
        require_usable(out, resume=resume, overwrite=overwrite)
        arguments = training_arguments(
            chosen, fields, checkpoints=out / CHECKPOINTS, seed=chosen.seed, loaders=loaders(), report_to=report_to
        )
        data = load(
            dataset,
            image_column=image_column,
            label_column=label_column,
            id2label=id2label,
            keep_zero=keep_zero,
            config=config,
        )
        data, splits = _published(data, published_as), _splits(data)
        require_known_classes(chosen.loss.class_weights, data.labels)
        loaded = new_model(model, data.labels, image_size=chosen.size_hw, seed=chosen.seed)
        with step_errors(chosen):
            _require_fit(loaded, chosen)
        identity = Identity(
            inputs={"dataset": data.digest, "model": loaded.digest},
            settings={
                "recipe": settings(chosen),
                "seed": chosen.seed,
                "set": result_settings(fields),
                "processes": processes(),
            },
        )
        folder = _open(out, identity, overwrite=overwrite)
        names = {"model": short_name(model), "dataset": published_as or short_name(dataset)}
        run = Run(folder, identity, data, splits, loaded, chosen, arguments, names, pictures, publisher, cache_images)
        manifest = folder.finished or run.execute()
        if publisher and rank() == 0:
            publisher.send(out, message=f"Step {manifest.summary['best_step']}: the best of the finished run")
    numbers = ("head", "parameters", "steps", "epochs", "best_step", "mean_iou", "train_loss")
    return TrainRecord(
        path=str(shown),
        model=str(model),
        dataset=str(dataset),
        dataset_digest=data.digest,
        num_labels=data.labels.num_labels,
        **{name: manifest.summary[name] for name in numbers},
        seconds=round(time.perf_counter() - started, 1),
        digest=manifest.digest,
    )


def _publisher(repo: str | None) -> Publisher | None:
    if repo is None:
        return None
    publisher = Publisher(repo)
    publisher.check()
    return publisher


def _published(data: LabeledDataset, name: str | None) -> LabeledDataset:
    """The dataset with the commit that `name` is at. Raises DatasetError if that is another one."""
    if name is None:
        return data
    there = find_dataset(name)
    if there.manifest.digest != data.digest:
        raise DatasetError(f"{name} is not the dataset at {data.source}", hint="push it, or leave out --published-as")
    return replace(data, revision=there.revision)


def _splits(data: LabeledDataset) -> tuple[Sequence[Row], Sequence[Row]]:
    """The rows of train and validation.

    Raises:
        TaxonomyError: one class.
        DatasetError: a split is missing, empty, or without a labelled pixel.
    """
    data.labels.require_trainable()
    for name in ("train", "validation"):
        if name not in data.splits or not len(data.splits[name]):
            there = ", ".join(f"{n} ({len(rows)})" for n, rows in data.splits.items()) or "none"
            raise DatasetError(
                f"{data.source} has no sample in split {name!r} (its splits: {there})",
                hint="convert the release again with --fractions or --splits that fill it"
                if data.release
                else "put its rows into splits named train and validation",
            )
        require_labelled(data.splits[name], data.labels, split=name)
    return data.splits["train"], data.splits["validation"]


def _require_fit(loaded: LoadedModel, recipe: Recipe) -> None:
    """One image through the model: what does not fit is an error before anything is written."""
    height, width = recipe.size_hw
    try:
        with torch.inference_mode():
            logits = loaded.model(pixel_values=torch.zeros(1, 3, height, width)).logits
    except (RuntimeError, ValueError, IndexError) as e:
        if is_out_of_memory(e):
            raise
        raise OptionError(
            f"{loaded.source} cannot take images of {recipe.image_size} ({first_line(e)})",
            hint="choose another --image-size, such as 512",
        ) from None
    if logits.ndim != 4 or logits.shape[1] != loaded.labels.num_labels:
        raise ModelError(
            f"{loaded.source} gives outputs of shape {tuple(logits.shape)} for {loaded.labels.num_labels} classes",
            hint="it is not a semantic segmentation model that labelsync can train",
        )


def _open(out: Path, identity: Identity, *, overwrite: bool) -> RunFolder:
    """The run folder, prepared by the first process and then looked at by the others."""
    if rank() == 0:
        folder = open_run(out, identity, overwrite=overwrite)
        wait_for_everyone()
        return folder
    wait_for_everyone()
    return open_run(out, identity, overwrite=False)
