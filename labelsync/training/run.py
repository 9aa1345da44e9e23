"""One run in its folder: steps, best model, and what is left behind."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback, TrainerState, TrainingArguments

from labelsync.dataset.load import LabeledDataset
from labelsync.errors import DatasetError, ModelError
from labelsync.model.load import load_model, save_model
from labelsync.model.loaded import LoadedModel
from labelsync.records.release import Row
from labelsync.store.files import write_bytes, write_text
from labelsync.store.manifest import Manifest, read_manifest, write_manifest
from labelsync.training.callbacks import Flow, Metrics, Patience, Progress, is_used_up, metrics_lines
from labelsync.training.card import OVERLAY, model_card, overlay_picture
from labelsync.training.checkpoints import STATE, require_same_weights
from labelsync.training.data import TrainingData
from labelsync.training.folder import CHECKPOINTS, STAGE, Identity, RunFolder
from labelsync.training.kept_images import kept_in
from labelsync.training.knobs import Recipe
from labelsync.training.pictures import PICTURES, Pictures
from labelsync.training.process import rank, step_errors, take_one_gpu
from labelsync.training.publish import Publisher, Publishing, link_model
from labelsync.training.rarity import are_counted, class_weights, pixel_counts, repetitions
from labelsync.training.trainer import SegmentationTrainer

METRICS = "metrics.jsonl"
CARD = "README.md"


@dataclass(frozen=True)
class Run:
    """Everything that is known before the first step.

    Attributes:
        splits: rows of train and of validation.
        arguments: the Trainer's; `seed` among them.
        names: "model" and "dataset" as people call them: a Hub id or a folder's own name.
        pictures: number of validation samples that are drawn after every evaluation.
        publisher: gets the best model after every save.
        cache_images: a folder where decoded training images are kept; None = nowhere.
    """

    folder: RunFolder
    identity: Identity
    data: LabeledDataset
    splits: tuple[Sequence[Row], Sequence[Row]]
    loaded: LoadedModel
    recipe: Recipe
    arguments: TrainingArguments
    names: Mapping[str, str]
    pictures: int = 0
    publisher: Publisher | None = None
    cache_images: str | Path | None = None

    def execute(self) -> Manifest:
        """Train, load the best model, write the folder.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; the checkpoint is written.
            DatasetError: a row cannot be used. ModelError: out of memory.
        """
        flow = Flow()
        trainer = self._trainer(flow)
        try:
            with flow.listening(), step_errors(self.recipe):
                self._steps(trainer)
            state = trainer.state
            if flow.asked:
                raise KeyboardInterrupt(f"step {state.global_step} of {state.max_steps} is saved; go on with --resume")
            if not state.best_global_step:
                raise DatasetError("no evaluation gave a mean IoU", hint="look at the labels of the validation split")
            trainer.load_best()
            if trainer.is_world_process_zero():
                self._write(trainer)
            trainer.accelerator.wait_for_everyone()
        finally:
            trainer.close()
            if trainer.data.kept and trainer.is_world_process_zero():
                tqdm.write(trainer.data.kept.summary(), file=sys.stderr)
        return read_manifest(self.folder.path, STAGE)

    def _trainer(self, flow: Flow) -> SegmentationTrainer:
        take_one_gpu(self.arguments)
        if rank() == 0 and self.loaded.head != "kept" and not self.folder.resume_from:  # said now, and not after hours
            tqdm.write(f"labelsync: class head of {self.names['model']}: {self.loaded.head}", file=sys.stderr)
        rows = TrainingData(
            self.splits[0],
            self.data.labels,
            size_hw=self.recipe.size_hw,
            augment=self.recipe.augment,
            fill=_mean_color(self.loaded),
            seed=self.arguments.seed,
            kept=kept_in(self.cache_images),
        )
        weights, factors = self._rarity()
        return SegmentationTrainer(
            self.loaded,
            self.arguments,
            recipe=self.recipe,
            data=rows,
            validation=self.splits[1],
            class_weights=weights,
            factors=factors,
            pictures=self._pictures(),
            callbacks=self._callbacks(flow),
        )

    def _callbacks(self, flow: Flow) -> list[TrainerCallback]:
        callbacks = [Progress(), Patience(self.recipe.patience), flow, Metrics(self.folder.path / METRICS)]
        if self.publisher:
            root = self.folder.path / CHECKPOINTS
            callbacks.append(Publishing(self.publisher, root=root, write=self._write_checkpoint))
        return callbacks

    def _pictures(self) -> Pictures | None:
        if not self.pictures:
            return None
        return Pictures(self.folder.path / PICTURES, self.splits[1], self.data.labels, number=self.pictures)

    def _rarity(self) -> tuple[torch.Tensor | None, list[float] | None]:
        """Weights of the classes, and how often each sample comes."""
        labels, asked = self.data.labels, self.recipe.loss.class_weights
        counts = pixel_counts(self.splits[0], labels) if are_counted(self.recipe) else None
        weights = class_weights(asked, labels, counts)
        repeat = counts is not None and bool(self.recipe.repeat_rare)
        return (
            None if weights is None else torch.from_numpy(weights).float(),
            repetitions(counts, below=self.recipe.repeat_rare).tolist() if counts is not None and repeat else None,
        )

    def _steps(self, trainer: SegmentationTrainer) -> None:
        """All steps, or those that are left."""
        last = self.folder.resume_from
        state = TrainerState.load_from_json(str(last / STATE)) if last else None
        ended = state is not None and (
            state.global_step >= state.max_steps or is_used_up(state.log_history, patience=self.recipe.patience)
        )
        if state is not None and ended:
            trainer.state = state  # only the folder was not written; the Trainer would make one step too many
        else:
            trainer.train(resume_from_checkpoint=str(last) if last else None)

    def _write(self, trainer: SegmentationTrainer) -> None:
        out = self.folder.path
        save_model(self.loaded, out)
        require_same_weights(out, trainer.best_checkpoint)
        self._write_story(out, self.loaded, trainer.state)

    def _write_checkpoint(self, checkpoint: Path, folder: Path, state: TrainerState) -> None:
        """What `_write` would leave if the run ended now, in another folder."""
        link_model(checkpoint, folder)
        kept = load_model(folder, device=str(self.arguments.device))  # self.loaded is in the middle of its steps
        self._write_story(folder, replace(kept, labels=self.data.labels), state)

    def _write_story(self, folder: Path, kept: LoadedModel, state: TrainerState) -> None:
        """Metrics, card, its picture and the manifest of a folder that holds the model `kept` already."""
        summary = {
            **self.names,
            "release": self.data.release,
            "revision": self.data.revision,
            "model_revision": self.loaded.revision,
            "head": self.loaded.head,
            "parameters": sum(p.numel() for p in self.loaded.model.parameters()),
            "steps": state.global_step,
            "epochs": round(float(state.epoch or 0), 4),
            "best_step": state.best_global_step,
            "mean_iou": state.best_metric,
            "train_loss": mean_loss(state.log_history),
        }
        write_text(folder / METRICS, metrics_lines(state.log_history))
        write_bytes(folder / OVERLAY, overlay_picture(kept, self.splits[1][0]))
        scores = best_scores(state.log_history, step=state.best_global_step or 0)
        card = model_card(
            self.loaded,
            self.recipe,
            dataset_digest=self.data.digest,
            scores=scores,
            summary=summary,
            seed=self.arguments.seed,
        )
        write_text(folder / CARD, card)
        write_manifest(
            folder,
            STAGE,
            inputs=self.identity.inputs,
            settings=self.identity.settings,
            summary=summary,
            labels=self.data.labels,
            exclude=(CHECKPOINTS, PICTURES),
        )


def mean_loss(history: Sequence[Mapping[str, Any]]) -> float:
    """Mean loss over all steps, from the log: the Trainer's own figure forgets what was before a resume."""
    total, last = 0.0, 0.0
    for entry in history:
        if "loss" in entry:
            total += entry["loss"] * (entry["step"] - last)
            last = entry["step"]
    return round(total / max(last, 1), 6)


def best_scores(history: Sequence[Mapping[str, Any]], *, step: int) -> dict[str, float]:
    """Scores of the evaluation after `step`, without their prefix."""
    for entry in history:
        if entry["step"] == step and "eval_mean_iou" in entry:
            return {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_")}
    raise ModelError(f"the log of the run lacks the evaluation after step {step}", hint="please report this")


def _mean_color(loaded: LoadedModel) -> tuple[int, int, int]:
    """The colour that normalises to 0."""
    r, g, b = (min(255, max(0, round(255 * m))) for m in loaded.mean)
    return r, g, b
