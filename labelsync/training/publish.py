# ruff: noqa: ARG002 - the signatures are the Trainer's
"""`--push-to-hub`: the best model so far on the Hub, one verified commit per better model, while the run goes on.

It goes through `labelsync push`: a folder with its manifest, never the Trainer's arguments. Training does not depend on
the Hub: what fails is a line on stderr and is tried again at the next save.
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from labelsync.errors import LabelsyncError
from labelsync.hub.client import MAIN, HubRepo
from labelsync.hub.push import push
from labelsync.store.files import link_or_copy

_MODEL = (
    "config.json",
    "preprocessor_config.json",
    "id2label.json",
    "model*.safetensors",
    "model.safetensors.index.json",
)


@dataclass(frozen=True)
class Publisher:
    """Sends model folders to one repo.

    Attributes:
        repo: "owner/name[@branch]"; both are made if they are missing.
    """

    repo: str

    def check(self) -> None:
        """Whether there is any hope; called before the first step.

        Raises:
            OptionError: the name cannot be a repo's. AuthError: nobody is logged in.
        """
        HubRepo(self.repo.partition("@")[0], "model")

    def send(self, folder: Path, *, message: str) -> bool:
        """Publish a finished folder, untagged: tags name rounds, and are made by `labelsync push`.

        Returns:
            False if that failed; why stands on stderr.
        """
        try:
            repo_id, _, branch = self.repo.partition("@")
            push(folder, repo_id=repo_id, tag="", revision=branch or MAIN, message=message)
        except Exception as e:  # noqa: BLE001 - hours of training are worth more than any error of this
            self.excuse(e)
            return False
        return True

    def excuse(self, error: Exception) -> None:
        """A line on stderr that says why nothing was pushed."""
        why = error.message if isinstance(error, LabelsyncError) else f"{type(error).__name__}: {error}"
        tqdm.write(f"labelsync: not pushed to {self.repo} ({' '.join(why.split())})", file=sys.stderr)


class Publishing(TrainerCallback):
    """Pushes the best checkpoint after a save, if it is not on the Hub yet.

    Args:
        write: (checkpoint, folder, state) fills a folder with what a finished run of that checkpoint would hold.
    """

    def __init__(self, publisher: Publisher, *, root: Path, write: Callable[[Path, Path, TrainerState], None]) -> None:
        self.publisher = publisher
        self.root = root
        self.write = write
        self.sent = 0

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """In the first process only, which may hold the others up at their next step."""
        best = state.best_global_step or 0
        checkpoint = self.root / f"checkpoint-{best}"
        if not state.is_world_process_zero or best == self.sent or not checkpoint.is_dir():
            return
        with tempfile.TemporaryDirectory(prefix=".push-", dir=self.root) as temporary:  # where links reach
            folder = Path(temporary) / "model"
            try:
                self.write(checkpoint, folder, state)
            except Exception as e:  # noqa: BLE001 - a second model may be what does not fit into a GPU's memory
                self.publisher.excuse(e)
                return
            if self.publisher.send(folder, message=f"Step {best}: mean IoU {state.best_metric:.4f}"):
                self.sent = best


def link_model(checkpoint: Path, folder: Path) -> None:
    """The model's files of a checkpoint, and nothing else of it, in a new folder."""
    for pattern in _MODEL:
        for path in sorted(checkpoint.glob(pattern)):
            link_or_copy(path, folder / path.name)
