"""The transformers Trainer with what it gets wrong for segmentation mended, and nothing else changed.

Mixed precision, several processes through accelerate, trackers and callbacks are the Trainer's own. Mended: which
weights a checkpoint gives back (checkpoints.py), when a checkpoint counts as written, the loss, the order of samples,
and evaluation, which streams confusion counts at the labels' resolution.
"""

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from labelsync.errors import LabelsyncError, OptionError, OutputError, first_line
from labelsync.evaluation.confusion import Counts
from labelsync.evaluation.count import count
from labelsync.evaluation.scores import scores
from labelsync.labels import LabelMap
from labelsync.model.load import save_model
from labelsync.model.loaded import LoadedModel
from labelsync.model.preprocess import normalize
from labelsync.model.segformer import quicken
from labelsync.model.segmenter import Segmenter
from labelsync.records.release import Row
from labelsync.training import checkpoints
from labelsync.training.auxiliary import AuxiliaryOutput
from labelsync.training.average import Average
from labelsync.training.callbacks import Averaging, Epoch
from labelsync.training.data import EpochSampler, TrainingData, collate
from labelsync.training.knobs import Recipe
from labelsync.training.loss import Criterion
from labelsync.training.measure import Every, in_full_precision, named
from labelsync.training.optimizer import norm_parameters, raise_head, step_schedule
from labelsync.training.pictures import Pictures
from labelsync.training.process import scoring_errors


class SegmentationTrainer(Trainer):
    """Trains `loaded.model` in place.

    Args:
        loaded: the model, its classes and preprocessing.
        args: made by `arguments.training_arguments`; `output_dir` holds the checkpoints.
        recipe: the knobs that `args` has no fields for.
        data: the training split.
        validation: rows that are evaluated and choose the best model.
        class_weights: (K,) float32 in the loss; None = all alike.
        factors: how often each sample comes in an epoch, relative to the others; None = once each.
        pictures: drawn after every evaluation.
        callbacks: besides the Trainer's own.

    Raises:
        OptionError: a launcher asks for sharded weights.
    """

    model: PreTrainedModel

    def __init__(
        self,
        loaded: LoadedModel,
        args: TrainingArguments,
        *,
        recipe: Recipe,
        data: TrainingData,
        validation: Sequence[Row],
        class_weights: torch.Tensor | None = None,
        factors: Sequence[float] | None = None,
        pictures: Pictures | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.loaded = loaded
        self.recipe = recipe
        self.data = data
        self.root = Path(str(args.output_dir))
        self.validation = validation
        self.pictures = pictures
        # on their device from the start: to copy numbers to a GPU is to wait for all that it still has to do
        weights = None if class_weights is None else class_weights.to(args.device)
        self.mean, self.std = (torch.tensor(rgb, device=args.device) for rgb in (loaded.mean, loaded.std))
        smoothing = args.label_smoothing_factor
        self.criterion = Criterion(loaded.labels.ignore_index, recipe.loss, smoothing=smoothing, weights=weights)
        self.auxiliary = AuxiliaryOutput(loaded.model)
        quicken(loaded.model)
        self.sampler = EpochSampler(
            len(data), seed=data.seed, batch_size=args.per_device_train_batch_size, factors=factors
        )
        self.steps_per_epoch = 0  # known with the loader
        self.keep_checkpoints = args.save_total_limit or 1
        args.save_total_limit = None  # the Trainer deletes old checkpoints before the new one is whole; see rotate()
        super().__init__(
            loaded.model,
            args,
            data_collator=collate,
            train_dataset=data,
            eval_dataset=validation,  # only looked at for being there; `evaluate` is our own
            callbacks=[*callbacks, Epoch(self.sampler)],
        )
        # made here, where the model is on its device
        self.average = Average(self.model, decay=recipe.ema) if recipe.ema else None
        if self.average:
            self.add_callback(Averaging(self.average))
        self.remove_callback(PrinterCallback)  # it prints to stdout, which holds the record alone
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the count of the whole optimiser step
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise OptionError(
                "FSDP and DeepSpeed keep checkpoints that cannot be read back tensor by tensor",
                hint="launch plain data parallelism: accelerate launch --multi_gpu -m labelsync train ...",
            )

    @property
    def labels(self) -> LabelMap:
        """The classes."""
        return self.loaded.labels

    def close(self) -> None:
        """End the loading processes and free the device's memory, where there is either: it takes half a second."""
        self.auxiliary.close()
        if self.args.dataloader_num_workers or self.args.device.type != "cpu":
            self.callback_handler.train_dataloader = None
            self.accelerator.free_memory()

    # ---------------------------------------------------------------- batches and loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches in the sampler's order, the same for any number of loading processes."""
        args = self.args
        loader: DataLoader[Any] = DataLoader(
            self.data,
            batch_size=self._train_batch_size,
            sampler=self.sampler,
            collate_fn=collate,
            drop_last=args.dataloader_drop_last,
            num_workers=args.dataloader_num_workers,
            persistent_workers=args.dataloader_persistent_workers and args.dataloader_num_workers > 0,
            prefetch_factor=args.dataloader_prefetch_factor,
            multiprocessing_context=args.dataloader_multiprocessing_context,
            pin_memory=args.dataloader_pin_memory,
            worker_init_fn=_ignore_interrupts,
            generator=torch.Generator(),  # else every pass draws a number from the generator that dropout draws from
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        self.steps_per_epoch = math.ceil(len(prepared) / args.gradient_accumulation_steps)
        return prepared

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], torch.Tensor]:
        """The batches of one optimiser step, and what the loss is divided by: the totals over all processes.

        Raises:
            DatasetError: a row of them cannot be used.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            if "error" in batch:
                raise batch["error"]
        total = sum(self.criterion.totals(b["labels"]) for b in batches).to(device)  # type: ignore[union-attr] # not 0
        if self.args.world_size > 1:
            total = self.accelerator.reduce(total, reduction="sum")
        return batches, total

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of uint8 pixels against model ids, as its share of the optimiser step."""
        pixels = normalize(inputs["pixel_values"], mean=self.mean, std=self.std)
        outputs = model(pixel_values=pixels)
        labels = inputs["labels"]
        totals = self.criterion.totals(labels) if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        loss = self.criterion(outputs["logits"], labels, totals=totals.to(labels.device))
        if (beside := self.auxiliary.of(outputs)) is not None:
            loss = loss + self.auxiliary.weight * self.criterion(beside, labels, totals=totals.to(labels.device))
        loss = loss * self.accelerator.num_processes  # whose gradients are averaged, not summed
        return (loss, outputs) if return_outputs else loss

    # ---------------------------------------------------------------- optimiser

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """All but biases and norms; the Trainer's own list holds the norms that are not called so."""
        norms = norm_parameters(model)
        return [name for name in super().get_decay_parameter_names(model) if name not in norms]

    def create_optimizer(self, model: torch.nn.Module | None = None) -> torch.optim.Optimizer:
        """The Trainer's, with the recipe's learning rate for the head."""
        new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if new:
            raise_head(optimizer, self.model, factor=self.recipe.head_factor)
        return optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The Trainer's, or the recipe's steps."""
        fields = self.args.lr_scheduler_kwargs
        if self.lr_scheduler is None and isinstance(fields, dict) and "step_epochs" in fields:
            factor = step_schedule(
                warmup=self.args.get_warmup_steps(num_training_steps),
                steps_per_epoch=self.steps_per_epoch,
                step_epochs=fields["step_epochs"],
                gamma=fields["gamma"],
            )
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.create_optimizer(), factor)
            self._created_lr_scheduler = True
            return self.lr_scheduler
        return super().create_scheduler(num_training_steps, optimizer)

    # ---------------------------------------------------------------- evaluation

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:  # noqa: ARG002
        """Scores on the validation split at the labels' own resolution, pooled over all processes.

        Keys as `evaluate`'s mean_iou, plus `iou_{class}` and `accuracy_{class}`; NaN for a class that is absent. In
        float32 as `labelsync evaluate`, whatever the training's precision, so both find the same. A checkpoint follows
        every evaluation, so the best model is always one that was saved.
        """
        start = time.perf_counter()
        mine = Every(self.validation, self.accelerator.process_index, self.accelerator.num_processes)
        segmenter = Segmenter(self.loaded, batch_size=self.args.eval_batch_size)
        with in_full_precision(self.loaded.model), self._as_kept(), scoring_errors(segmenter.batch_size):
            self._share_statistics()
            counted = self._pooled(count(segmenter, mine, self.labels))
            if self.pictures is not None and self.is_world_process_zero():
                self.pictures.draw(segmenter, step=self.state.global_step)
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in named(scores(counted), self.labels).items()}
        metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - start, 4)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.control.should_save = True
        return metrics

    def _as_kept(self) -> AbstractContextManager[None]:
        """The model is what is evaluated and kept: its average, where the recipe asks for one."""
        return self.average.in_place() if self.average else nullcontext()

    def _share_statistics(self) -> None:
        """Every process gets the first one's norm statistics, which are those that are saved.

        Each has statistics of its own batches since its last forward pass, so that the pooled scores would be of models
        that nobody has. Training does the same at its next forward pass.
        """
        if self.args.world_size > 1:
            for buffer in self.loaded.model.buffers():
                buffer.copy_(broadcast(buffer, from_process=0))

    def _pooled(self, counts: Counts) -> Counts:
        if self.args.world_size == 1:
            return counts
        total = self.accelerator.reduce(torch.from_numpy(counts).to(self.args.device), reduction="sum")
        pooled: Counts = total.cpu().numpy().astype(np.int64)
        return pooled

    # ---------------------------------------------------------------- checkpoints

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002
        """A whole model folder, and no training_args.bin: it is a pickle, and once held people's tokens.

        Where weights are averaged, the folder's model is the average; the weights to go on from lie in raw/ below it.
        """
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.root)
        if self.average:
            save_model(self.loaded, folder / checkpoints.RAW)
        with self._as_kept():
            save_model(self.loaded, folder)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        """Write, mark as complete, and only then delete older ones."""
        folder = self.root / f"checkpoint-{self.state.global_step}"
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                checkpoints.mark_complete(folder)
                checkpoints.rotate(self.root, keep=self.keep_checkpoints, best=self.state.best_global_step)
        except (OSError, LabelsyncError):
            raise
        except Exception as e:  # torch and safetensors have no common error for a full disk
            raise OutputError(
                f"checkpoint {folder} could not be written ({first_line(e)})",
                hint="make room, then go on with --resume",
            ) from e

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        checkpoints.read_into(self.model, Path(resume_from_checkpoint))
        if self.average:
            self.average.restart()
            checkpoints.read_into(self.model, Path(resume_from_checkpoint), part=checkpoints.RAW)

    def _load_best_model(self) -> None:
        self.load_best()

    def load_best(self) -> None:
        """Give the model the weights of the best checkpoint. Raises ModelError unless every tensor is that one's."""
        checkpoints.read_into(self.model, self.best_checkpoint)

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint with the highest mean_iou; found by its step, since a run folder may have been moved."""
        return self.root / f"checkpoint-{self.state.best_global_step}"


def _ignore_interrupts(worker: int) -> None:  # noqa: ARG001 - a loading process's number
    """Ctrl-C reaches the whole process group; the loading processes must outlive it until the checkpoint is written."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
