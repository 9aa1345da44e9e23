"""The process that trains: which of how many it is, its lock, its generators, its cores, its memory."""

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import TrainingArguments

from labelsync.errors import LabelsyncError, ModelError
from labelsync.model.memory import is_out_of_memory
from labelsync.store.folder import locked
from labelsync.training.knobs import Recipe

_MAX_LOADERS = 8
_LOST = ("is killed by signal", "exited unexpectedly")  # what torch's DataLoader says of a loading process


def rank() -> int:
    """Number of this process as `accelerate launch` or `torchrun` set it; 0 without a launcher."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """Number of processes that train together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_everyone() -> None:
    """Go on when all processes are here."""
    if processes() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """The lock on `out`, held by the first process for all of them. Raises OutputLocked."""
    if rank() > 0:
        yield
        return
    with locked(out):
        yield


@contextmanager
def own_randomness() -> Iterator[None]:
    """Leave the caller's generators as they were: the Trainer seeds all of them, also those of GPUs it does not use."""
    python, legacy = random.getstate(), np.random.get_state()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()  # said, torch warns of none
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


@contextmanager
def step_errors(recipe: Recipe) -> Iterator[None]:
    """What fails in a step for want of memory, on a GPU or not, or of images, is a ModelError that names the knob."""
    try:
        yield
    except ValueError as e:
        if isinstance(e, LabelsyncError) or "more than 1 value per channel" not in str(e):
            raise
        raise ModelError(
            "this architecture has batch norms that cannot be trained on one image at a time",
            hint="try --batch-size 2 or more",
        ) from None
    except (RuntimeError, MemoryError) as e:
        if isinstance(e, LabelsyncError):
            raise
        if any(words in str(e) for words in _LOST):
            raise _lost_loader(e) from None
        if not is_out_of_memory(e):
            raise
        knob = f"--image-size {max(1, recipe.size_hw[0] // 2)}"
        if recipe.batch_size > 1:
            accumulate = f"--set gradient_accumulation_steps={2 * recipe.accumulate}"
            knob = f"--batch-size {recipe.batch_size // 2} {accumulate}, or {knob}"
        halved = "" if recipe.precision != "float32" else "; on a GPU also --set bf16=true"
        raise ModelError(
            f"out of memory at batch size {recipe.batch_size} and image size {recipe.image_size}",
            hint=f"try {knob}{halved}",
        ) from None


@contextmanager
def scoring_errors(batch_size: int) -> Iterator[None]:
    """The knob of an evaluation in training is another one than that of `labelsync evaluate`."""
    try:
        yield
    except ModelError as e:
        if not is_out_of_memory(e.__context__):
            raise
        fewer = f"try --set per_device_eval_batch_size={batch_size // 2}"
        raise ModelError(
            f"out of memory while the validation split is scored, {batch_size} images at once",
            hint=fewer if batch_size > 1 else "give it smaller images, or take a smaller --model",
        ) from None


def _lost_loader(error: BaseException) -> ModelError:
    """The error of a loading process that the system has ended."""
    if "Bus error" in f"{error} {error.__cause__}":  # torch says it in the one or in the other
        return ModelError(
            "a loading process found no room in shared memory (/dev/shm)",
            hint="give the container more of it (docker run --shm-size=8g), or --set dataloader_num_workers=0",
        )
    return ModelError(
        "a loading process was ended from outside, as the system does where memory is used up",
        hint="try --set dataloader_num_workers=2, or 0",
    )


def take_one_gpu(arguments: TrainingArguments) -> None:
    """Of several GPUs a process without a launcher takes the first.

    The Trainer would take all, by torch's DataParallel: copies of the model in threads, made anew for every step. That
    is slower than a process for each, makes the batch larger than the recipe says, and leaves a head whose `forward`
    was replaced (see `quicken`) with the first GPU's weights.
    """
    if arguments.n_gpu > 1:
        tqdm.write(
            f"labelsync: one of {arguments.n_gpu} GPUs is used; accelerate launch -m labelsync train ... takes all",
            file=sys.stderr,
        )
        arguments._n_gpu = 1  # transformers has no other way to say it, and does so itself


def loaders() -> int:
    """Loading processes: none without a GPU, where the model needs the cores. Any number gives the same result."""
    if not torch.cuda.is_available():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(_MAX_LOADERS, cores // beside)
