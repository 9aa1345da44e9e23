# ruff: noqa: ARG002 - the signatures are the Trainer's
"""What happens beside the training steps: progress on stderr, Ctrl-C, the epoch of the sampler, metrics.jsonl."""

import json
import math
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import IntervalStrategy, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from labelsync.store.files import write_text
from labelsync.training.average import Average
from labelsync.training.data import EpochSampler

# The clock has no place in a file that is the same for the same run, and a resumed run is the same run.
_CLOCK = ("_runtime", "_per_second", "total_flos")


class Epoch(TrainerCallback):
    """Tells the sampler its epoch, by the count of steps: it is also right after a resume in the middle of one."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Steps done over steps per epoch, the last of an epoch counted whole."""
        steps = math.ceil(len(kwargs["train_dataloader"]) / args.gradient_accumulation_steps)
        self.sampler.epoch = state.global_step // steps


class Averaging(TrainerCallback):
    """Takes the weights of every step into their average."""

    def __init__(self, average: Average) -> None:
        self.average = average

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Before any evaluation or checkpoint of that step."""
        self.average.update(state.global_step)


class Patience(TrainerCallback):
    """Ends the run after so many evaluations without a better mean IoU; the last of them is saved like any other."""

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """From the log, which a checkpoint holds, so that a resumed run ends where the uninterrupted one does."""
        if is_used_up(state.log_history, patience=self.evaluations):
            control.should_training_stop = True


def is_used_up(history: Sequence[Mapping[str, Any]], *, patience: int) -> bool:
    """Whether the last `patience` evaluations in the log gave no better mean IoU than those before; never at 0."""
    scores = [-1.0 if math.isnan(e["eval_mean_iou"]) else e["eval_mean_iou"] for e in history if "eval_mean_iou" in e]
    return 0 < patience <= len(scores) - 1 - scores.index(max(scores)) if scores else False


class Progress(TrainerCallback):
    """A bar over the steps on stderr, only where that is a terminal."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.shown: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar where a resumed run goes on."""
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps,
                initial=state.global_step,
                desc="train",
                unit="step",
                disable=None,
                file=sys.stderr,
                dynamic_ncols=True,
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """One step further."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Loss and mean_iou beside the bar."""
        logs = kwargs.get("logs") or {}
        if self.bar is not None:
            self.shown |= {
                n: f"{logs[k]:.4f}" for k, n in (("loss", "loss"), ("eval_mean_iou", "mean_iou")) if k in logs
            }
            self.bar.set_postfix(self.shown)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar, also where training ended in an error."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class Flow(TrainerCallback):
    """When to log, save and stop, on top of the Trainer's own rules.

    Ctrl-C ends the run after the step it is in, with a checkpoint; a second one ends it at once. Every checkpoint falls
    on a logged step and holds the evaluation that belongs to its step, so that a run which goes on from it logs the
    same losses and misses no evaluation.

    Of several processes each gets the signal when it does; they stop after the same step, else one would wait for a
    checkpoint and another for gradients.
    """

    def __init__(self) -> None:
        self.asked = False
        self._group: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A way to agree that does not wait for the GPU."""
        if args.world_size > 1 and torch.distributed.is_initialized():
            self._group = torch.distributed.new_group(backend="gloo")

    def _agree(self) -> None:
        """What one process was asked, all were."""
        if self._group is not None:
            flag = torch.tensor(int(self.asked))
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX, group=self._group)
            self.asked = bool(flag)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """At the end of an epoch, the save is left to `on_epoch_end`, which comes with the evaluation."""
        self._agree()
        if self.asked:
            control.should_save = control.should_training_stop = True
        if args.eval_strategy == IntervalStrategy.EPOCH and _ends(state):
            control.should_save = False
        control.should_log = control.should_log or control.should_save or control.should_evaluate

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """An epoch that was cut off is not evaluated: the uninterrupted run does not do it there either."""
        if _ends(state):
            control.should_save = True
        elif self.asked or control.should_training_stop:
            control.should_evaluate = control.should_save = False
        control.should_log = control.should_log or control.should_save

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT sets `asked` inside the block; only in the main thread, where Python allows it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: Any) -> None:  # noqa: ARG001 - a signal handler's parameters
            self.asked = True
            signal.signal(signal.SIGINT, before)

        before = signal.signal(signal.SIGINT, ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _ends(state: TrainerState) -> bool:
    """Whether an epoch or the run ends with this step."""
    return state.global_step >= state.max_steps or float(state.epoch or 0).is_integer()


class Metrics(TrainerCallback):
    """metrics.jsonl, written with every checkpoint from the log that the checkpoint holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the file whole: after a resume it goes on where the checkpoint was."""
        if state.is_world_process_zero:
            write_text(self.path, metrics_lines(state.log_history))


def metrics_lines(history: Sequence[Mapping[str, Any]]) -> str:
    """JSON lines of the logged numbers: step and epoch first, no clock, what is no number as null.

    That is a score of a class that is absent, and the gradients of a step that fp16 skips, which are infinite.
    """
    lines = []
    for entry in history:
        # sorted: a checkpoint's state is, so what was logged before a resume comes back in that order
        numbers = {k: entry[k] for k in sorted(entry) if not k.endswith(_CLOCK) and k not in ("step", "epoch")}
        if any(k != "train_loss" for k in numbers):  # the closing line of a run holds the clock's numbers alone
            row = {"step": entry["step"], "epoch": entry["epoch"], **numbers}
            lines.append(
                json.dumps(
                    {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()},
                    ensure_ascii=False,
                )
            )
    return "".join(line + "\n" for line in lines)
