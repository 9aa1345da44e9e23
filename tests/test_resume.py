"""A run that stops and goes on is the run that never stopped, bit for bit; and the model kept is the best one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback

from labelsync.errors import ModelError
from labelsync.evaluation.count import count
from labelsync.evaluation.scores import scores
from labelsync.model.load import load_model
from labelsync.model.segmenter import Segmenter
from labelsync.training import checkpoints
from labelsync.training.callbacks import Flow, metrics_lines
from labelsync.training.data import TrainingData, order
from labelsync.training.knobs import Loss
from labelsync.training.trainer import SegmentationTrainer
from tests.training import different, trainer

# 13 rows in batches of 2: seven steps per epoch. Checkpoints 2, 4, .. 14, and 7 after the first epoch's evaluation.
MIDDLE = ("save_strategy=steps", "save_steps=2", "save_total_limit=20")


class StopAfter(TrainerCallback):
    """Ends training after a step, as a kill does: nothing is written but what was written before."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


class Killed(Exception):
    """The process is gone."""


def finished(tmp_path: Path, **kwargs: Any) -> SegmentationTrainer:
    of = trainer(tmp_path / "whole", callbacks=(Flow(),), **kwargs)
    of.train()
    return of


def resumed(
    tmp_path: Path, stop: int, *, workers: int = 0, cls: type[SegmentationTrainer] = SegmentationTrainer, **kwargs: Any
) -> SegmentationTrainer:
    """A run killed after `stop`, and another object, of another seed, that goes on from what it left."""
    options = (*kwargs.pop("options", ()), f"dataloader_num_workers={workers}")
    cut = trainer(tmp_path / "cut", callbacks=(Flow(), StopAfter(stop)), options=options, **kwargs)
    with pytest.raises(Killed):
        cut.train()
    last = checkpoints.last_complete(tmp_path / "cut")
    assert last is not None
    again = trainer(tmp_path / "cut", model_seed=99, callbacks=(Flow(),), options=options, cls=cls, **kwargs)
    assert different(again.model, cut.model)
    again.train(resume_from_checkpoint=str(last))
    return again


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SegmentationTrainer:
    """The uninterrupted run with the options `MIDDLE`."""
    return finished(tmp_path_factory.mktemp("whole"), options=MIDDLE)


def optimizer_tensors(of: SegmentationTrainer) -> list[torch.Tensor]:
    state = of.optimizer.state_dict()["state"]
    return [value for slot in sorted(state) for value in state[slot].values()]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [5, 8, 11], ids=["first epoch", "epoch boundary", "second epoch"])
def test_a_resumed_run_equals_the_uninterrupted_one_on_every_tensor(
    whole: SegmentationTrainer, tmp_path: Path, stop: int, workers: int
) -> None:
    again = resumed(tmp_path, stop, workers=workers, options=MIDDLE)
    assert different(again.model, whole.model) == []
    for mine, theirs in zip(optimizer_tensors(again), optimizer_tensors(whole), strict=True):
        assert torch.equal(mine, theirs)
    assert again.state.global_step == whole.state.global_step == 14
    assert again.state.best_metric == whole.state.best_metric


def test_accumulated_steps_resume_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    options = ("save_strategy=steps", "save_steps=1", "save_total_limit=20", "gradient_accumulation_steps=3")
    whole = finished(tmp_path, options=options)  # three steps per epoch, of 3, 3 and 1 batches
    again = resumed(tmp_path, 5, workers=2, options=options)
    assert whole.state.global_step == 6
    assert different(again.model, whole.model) == []


def test_every_epoch_has_its_own_keys_also_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recorded(self: TrainingData, key: tuple[int, int]) -> Any:
        keys.append(key)
        return original(self, key)

    keys: list[tuple[int, int]] = []
    original = TrainingData.__getitem__
    monkeypatch.setattr(TrainingData, "__getitem__", recorded)
    finished(tmp_path, options=MIDDLE)
    epochs = [order(13, seed=0, epoch=epoch) for epoch in (0, 1)]
    first, second = ([(e, i) for i in [*indices, indices[0]]] for e, indices in enumerate(epochs))
    assert keys == first + second
    keys.clear()
    resumed(tmp_path, 11, options=MIDDLE)  # of the second epoch, four batches and one ahead; then from the fourth on
    assert keys == first + second[:10] + second[6:]


def test_the_metrics_of_a_resumed_run_are_those_of_the_uninterrupted_one(tmp_path: Path) -> None:
    options = (*MIDDLE, "logging_steps=3")  # the checkpoint of step 10 is not on one of them
    whole, again = finished(tmp_path, options=options), resumed(tmp_path, 11, options=options)
    assert metrics_lines(again.state.log_history) == metrics_lines(whole.state.log_history)
    steps = [json.loads(line)["step"] for line in metrics_lines(whole.state.log_history).splitlines()]
    assert steps == sorted(steps) and steps.count(14) == 2  # a loss and an evaluation


EVERYTHING = {
    "schedule": "step",
    "step_epochs": 0.5,
    "gamma": 0.5,
    "ema": 0.9,
    "head_factor": 10.0,
    "accumulate": 2,
    "repeat_rare": 0.9,
    "loss": Loss(smoothing=0.1, dice=0.5, focal=1.0, ohem=0.7),
}
FACTORS = [1.0 + (i % 4) for i in range(13)]


@pytest.mark.parametrize("stop", [2, 3, 5, 7])
def test_a_resumed_run_with_every_knob_equals_the_uninterrupted_one(tmp_path: Path, stop: int) -> None:
    """Four steps an epoch. The average, the weights below it, the optimiser, the schedule and the order go on."""
    options = ("save_strategy=steps", "save_steps=1", "save_total_limit=20")
    given = {**EVERYTHING, "factors": FACTORS, "options": options}
    whole, again = finished(tmp_path, **given), resumed(tmp_path, stop, **given)
    assert whole.state.global_step == again.state.global_step == 8
    assert different(again.model, whole.model) == []
    assert whole.average is not None and again.average is not None
    assert whole.average.state.keys() == again.average.state.keys() == whole.model.state_dict().keys()
    weights = whole.model.state_dict()
    for name, tensor in whole.average.state.items():
        assert torch.equal(again.average.state[name], tensor)
    assert sum(not torch.equal(t, weights[k]) for k, t in whole.average.state.items()) > 50
    for mine, theirs in zip(optimizer_tensors(again), optimizer_tensors(whole), strict=True):
        assert torch.equal(mine, theirs)
    assert metrics_lines(again.state.log_history) == metrics_lines(whole.state.log_history)
    assert again.lr_scheduler.get_last_lr() == whole.lr_scheduler.get_last_lr()


# -------------------------------------------------------------------- averaged weights


def test_the_average_is_the_ramped_formula_on_every_tensor(tmp_path: Path) -> None:
    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            steps.append({k: v.detach().clone() for k, v in kwargs["model"].state_dict().items()})

    steps: list[dict[str, torch.Tensor]] = []
    of = trainer(tmp_path / "run", callbacks=(Flow(), Watch()), ema=0.5)
    expected = {k: v.detach().clone().double() for k, v in of.model.state_dict().items()}
    of.train()
    assert len(steps) == 14
    for n, weights in enumerate(steps, 1):
        decay = min(0.5, (1 + n) / (10 + n))
        for name, tensor in weights.items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor if tensor.is_floating_point() else tensor
    assert of.average is not None
    for name, tensor in of.average.state.items():
        assert torch.allclose(tensor.double(), expected[name].double(), atol=1e-5), name


def test_the_average_is_in_place_only_while_asked_for(tmp_path: Path) -> None:
    of = finished(tmp_path, ema=0.9)
    assert of.average is not None
    before = {k: v.detach().clone() for k, v in of.model.state_dict().items()}
    with of.average.in_place():
        assert all(torch.equal(v, of.average.state[k]) for k, v in of.model.state_dict().items())
    assert all(torch.equal(v, before[k]) for k, v in of.model.state_dict().items())


def test_what_is_evaluated_saved_and_kept_is_the_average(tmp_path: Path) -> None:
    of = finished(tmp_path, ema=0.9)
    assert of.average is not None
    last = of.root / "checkpoint-14"
    average, raw = load_model(last, device="cpu"), load_model(last / checkpoints.RAW, device="cpu")
    assert all(torch.equal(v, of.average.state[k]) for k, v in average.model.state_dict().items())
    assert different(raw.model, of.model) == [] and different(raw.model, average.model)
    counted = count(Segmenter(average), of.validation, of.labels)
    assert scores(counted).mean_iou == next(
        e["eval_mean_iou"] for e in reversed(of.state.log_history) if "eval_mean_iou" in e
    )
    of.state.best_global_step = 14
    of.load_best()
    assert different(of.model, average.model) == []


def test_a_checkpoint_whose_raw_weights_are_cut_short_is_passed_over(tmp_path: Path) -> None:
    finished(tmp_path, ema=0.9)
    weights = tmp_path / "whole" / "checkpoint-14" / checkpoints.RAW / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert checkpoints.last_complete(tmp_path / "whole") == tmp_path / "whole" / "checkpoint-7"


class Stock(SegmentationTrainer):
    """With the Trainer's own ways of reading a checkpoint."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        Trainer._load_from_checkpoint(self, resume_from_checkpoint, model)

    def load_best(self) -> None:
        self.state.best_model_checkpoint = str(self.best_checkpoint)
        Trainer._load_best_model(self)


def test_the_trainers_own_loader_does_not_restore_a_segformer(whole: SegmentationTrainer, tmp_path: Path) -> None:
    """What the mend is for, and that the equality above would notice. When this fails, transformers has mended it."""
    again = resumed(tmp_path, 5, cls=Stock, options=MIDDLE)
    assert len(different(again.model, whole.model)) > 50


@pytest.mark.parametrize("cls", [SegmentationTrainer, Stock])
def test_the_best_model_is_its_checkpoint_on_every_tensor(tmp_path: Path, cls: type[SegmentationTrainer]) -> None:
    of = trainer(tmp_path / "run", cls=cls, options=("eval_strategy=steps", "eval_steps=2", "save_total_limit=20"))
    of.train()
    of.state.best_global_step = 4  # not the last, whose weights the model still has
    of.load_best()
    kept = load_model(tmp_path / "run" / "checkpoint-4", device="cpu").model
    differ = different(of.model, kept)
    assert (differ == []) is (cls is SegmentationTrainer)


# -------------------------------------------------------------------- checkpoints


@pytest.fixture
def run(whole: SegmentationTrainer, tmp_path: Path) -> Path:
    """A copy of the checkpoints of steps 2, 4, 6, 7, 8, ... 14."""
    return shutil.copytree(whole.root, tmp_path / "run")


def test_checkpoints_hold_a_model_and_no_pickled_arguments(run: Path) -> None:
    files = {p.name for p in (run / "checkpoint-4").iterdir()}
    assert "training_args.bin" not in files
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "id2label.json"} <= files


@pytest.mark.parametrize("fault", ["no mark", "cut file", "changed byte", "missing file", "cut mark"])
def test_a_checkpoint_cut_short_is_recognised_and_the_one_before_is_used(run: Path, fault: str) -> None:
    newest = run / "checkpoint-14"
    weights = newest / "model.safetensors"
    data = weights.read_bytes()
    match fault:
        case "no mark":
            (newest / checkpoints.MARK).unlink()
        case "cut file":
            weights.write_bytes(data[: len(data) // 2])
        case "changed byte":
            weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "missing file":
            (newest / "optimizer.pt").unlink()
        case "cut mark":
            (newest / checkpoints.MARK).write_text("{")
    assert checkpoints.problem(newest)
    assert checkpoints.last_complete(run) == run / "checkpoint-12"
    assert not newest.exists()


def test_no_whole_checkpoint_is_none(run: Path, tmp_path: Path) -> None:
    for folder in checkpoints.checkpoints(run):
        (folder / checkpoints.MARK).unlink()
    assert checkpoints.last_complete(run) is None
    assert checkpoints.last_complete(tmp_path / "nowhere") is None


def test_rotation_keeps_the_newest_and_the_best(run: Path) -> None:
    checkpoints.rotate(run, keep=2, best=4)
    assert [checkpoints.step_of(p) for p in checkpoints.checkpoints(run)] == [4, 12, 14]
    checkpoints.rotate(run, keep=1, best=None)
    assert [checkpoints.step_of(p) for p in checkpoints.checkpoints(run)] == [14]


def test_old_checkpoints_stay_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        if folder.name == "checkpoint-6":
            raise OSError(28, "No space left on device")
        original(folder)

    original = checkpoints.mark_complete
    monkeypatch.setattr(checkpoints, "mark_complete", refuse)
    of = trainer(tmp_path / "run", options=("save_strategy=steps", "save_steps=2", "save_total_limit=1"))
    with pytest.raises(OSError, match="No space"):
        of.train()
    assert checkpoints.last_complete(tmp_path / "run") == tmp_path / "run" / "checkpoint-4"


def test_a_checkpoint_of_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    other = trainer(tmp_path / "other").model
    other.decode_head.classifier = torch.nn.Conv2d(16, 5, 1)
    with pytest.raises(ModelError, match=r"another model \(decode_head.classifier"):
        checkpoints.read_into(other, run / "checkpoint-14")


def test_reading_refuses_a_broken_checkpoint(run: Path, tmp_path: Path) -> None:
    (run / "checkpoint-14" / "scheduler.pt").unlink()
    with pytest.raises(ModelError, match=r"scheduler\.pt is missing"):
        checkpoints.read_into(trainer(tmp_path / "other").model, run / "checkpoint-14")


def test_one_changed_number_is_another_weight(run: Path) -> None:
    checkpoints.require_same_weights(run / "checkpoint-14", run / "checkpoint-14")
    with pytest.raises(ModelError, match="tensors are not those of"):
        checkpoints.require_same_weights(run / "checkpoint-12", run / "checkpoint-14")
