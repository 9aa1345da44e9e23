"""The transformers Trainer with what it gets wrong for segmentation mended, and nothing else changed.

Mixed precision, several processes through accelerate, trackers and callbacks are the Trainer's own. Mended: which
weights a checkpoint gives back (checkpoints.py), when a checkpoint counts as written, the loss, the order of samples,
and evaluation, which streams confusion counts at the labels' resolution.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from labelsync.errors import LabelsyncError, OptionError, OutputError
from labelsync.evaluation.confusion import Counts
from labelsync.evaluation.count import count
from labelsync.evaluation.scores import Scores, scores
from labelsync.labels import LabelMap
from labelsync.model.load import LoadedModel, save_model
from labelsync.model.preprocess import normalize
from labelsync.model.segmenter import Segmenter
from labelsync.records.release import Row
from labelsync.training import checkpoints
from labelsync.training.callbacks import Epoch
from labelsync.training.data import EpochSampler, TrainingData, collate
from labelsync.training.loss import cross_entropy


class SegmentationTrainer(Trainer):
    """Trains `loaded.model` in place.

    Args:
        loaded: the model, its classes and preprocessing.
        args: made by `arguments.training_arguments`; `output_dir` holds the checkpoints.
        data: the training split.
        validation: rows that are evaluated and choose the best model.
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
        data: TrainingData,
        validation: Sequence[Row],
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        self.loaded = loaded
        self.data = data
        self.root = Path(str(args.output_dir))
        self.validation = validation
        self.sampler = EpochSampler(len(data), seed=data.seed, batch_size=args.per_device_train_batch_size)
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
        return prepared

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], torch.Tensor]:
        """The batches of one optimiser step, and their labelled pixels over all processes.

        Raises:
            DatasetError: a row of them cannot be used.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        for batch in batches:
            if "error" in batch:
                raise batch["error"]
        labelled = sum(int((b["labels"] != self.labels.ignore_index).sum()) for b in batches)
        total = torch.tensor(float(labelled), device=device, dtype=torch.float64)
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
        """Cross entropy of uint8 pixels against model ids, scaled to its share of the optimiser step."""
        pixels = normalize(inputs["pixel_values"], mean=self.loaded.mean, std=self.loaded.std)
        outputs = model(pixel_values=pixels)
        labels = inputs["labels"]
        if num_items_in_batch is None:
            num_items_in_batch = (labels != self.labels.ignore_index).sum()
        loss = cross_entropy(
            outputs.logits,
            labels,
            ignore_index=self.labels.ignore_index,
            count=torch.as_tensor(num_items_in_batch, device=labels.device),
            smoothing=self.args.label_smoothing_factor,
        )
        loss = loss * self.accelerator.num_processes  # whose gradients are averaged, not summed
        return (loss, outputs) if return_outputs else loss

    # ---------------------------------------------------------------- evaluation

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:  # noqa: ARG002
        """Scores on the validation split at the labels' own resolution, pooled over all processes.

        Keys as `evaluate`'s mean_iou, plus `iou_{class}` and `accuracy_{class}`; NaN for a class that is absent. In
        float32 as `labelsync evaluate`, whatever the training's precision, so both find the same. A checkpoint follows
        every evaluation, so the best model is always one that was saved.
        """
        start = time.perf_counter()
        segmenter = Segmenter(self.loaded, batch_size=self.args.eval_batch_size)
        mine = _Every(self.validation, self.accelerator.process_index, self.accelerator.num_processes)
        with _in_full_precision(self.loaded.model):
            counted = self._pooled(count(segmenter, mine, self.labels))
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in named(scores(counted), self.labels).items()}
        metrics[f"{metric_key_prefix}_runtime"] = round(time.perf_counter() - start, 4)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.control.should_save = True
        return metrics

    def _pooled(self, counts: Counts) -> Counts:
        if self.args.world_size == 1:
            return counts
        total = self.accelerator.reduce(torch.from_numpy(counts).to(self.args.device), reduction="sum")
        pooled: Counts = total.cpu().numpy().astype(np.int64)
        return pooled

    # ---------------------------------------------------------------- checkpoints

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002
        """A whole model folder, and no training_args.bin: it is a pickle, and once held people's tokens."""
        if self.args.should_save:
            save_model(self.loaded, Path(output_dir or self.root))

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
                f"checkpoint {folder} could not be written ({str(e).splitlines()[0]})",
                hint="make room, then go on with --resume",
            ) from e

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:  # noqa: ARG002
        checkpoints.read_into(self.model, Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        self.load_best()

    def load_best(self) -> None:
        """Give the model the weights of the best checkpoint. Raises ModelError unless every tensor is that one's."""
        checkpoints.read_into(self.model, self.best_checkpoint)

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint with the highest mean_iou; found by its step, since a run folder may have been moved."""
        return self.root / f"checkpoint-{self.state.best_global_step}"


def named(result: Scores, labels: LabelMap) -> dict[str, float]:
    """Scores under the names that trackers and metrics.jsonl show."""
    per_class = {f"iou_{n}": float(v) for n, v in zip(labels.names, result.per_category_iou, strict=True)}
    per_class |= {f"accuracy_{n}": float(v) for n, v in zip(labels.names, result.per_category_accuracy, strict=True)}
    return {
        "mean_iou": result.mean_iou,
        "mean_accuracy": result.mean_accuracy,
        "overall_accuracy": result.overall_accuracy,
        **per_class,
    }


@contextmanager
def _in_full_precision(model: torch.nn.Module) -> Iterator[None]:
    """Without the autocast that accelerate puts around `forward`, as an attribute of the object."""
    cast = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if cast is not None:
            model.__dict__["forward"] = cast


class _Every(Sequence[Row]):
    """Rows `start`, `start + step`, ... of a sequence, none of them read before it is asked for."""

    def __init__(self, rows: Sequence[Row], start: int, step: int) -> None:
        self.rows = rows
        self.at = range(start, len(rows), step)

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.rows[i] for i in self.at[index]]
        return self.rows[self.at[index]]


def _ignore_interrupts(worker: int) -> None:  # noqa: ARG001 - a loading process's number
    """Ctrl-C reaches the whole process group; the loading processes must outlive it until the checkpoint is written."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
