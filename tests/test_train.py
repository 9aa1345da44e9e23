"""`train` as a user runs it: the real command on a real dataset folder with a tiny SegFormer."""

import io
import json
import math
import multiprocessing
import os
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
from transformers.utils import logging as transformers_logging

from labelsync.dataset.convert import convert
from labelsync.deploy.predict import predict
from labelsync.errors import DatasetError, LabelsyncError, ModelError, OptionError, OutputExists, OutputLocked
from labelsync.evaluation import evaluate as evaluate_module
from labelsync.evaluation.evaluate import evaluate
from labelsync.evaluation.on_device import confusion_on_device
from labelsync.model import segmenter
from labelsync.model.load import load_model
from labelsync.pixels.image import encode_png
from labelsync.pixels.semantic import decode_semantic, encode_semantic
from labelsync.records.release import Row
from labelsync.records.results import TrainRecord
from labelsync.records.text import from_json
from labelsync.release.pull import pull
from labelsync.store.folder import locked
from labelsync.store.manifest import read_manifest, verify_files
from labelsync.training import finetune, loss, run
from labelsync.training.callbacks import metrics_lines
from labelsync.training.card import model_card
from labelsync.training.data import TrainingData, collate
from labelsync.training.finetune import train
from labelsync.training.knobs import Loss
from labelsync.training.loss import exact
from labelsync.training.recipe import load_recipe, settings
from labelsync.training.trainer import SegmentationTrainer
from tests.models import ARCHITECTURES, label_map, tiny_config, tiny_segformer
from tests.releases import draw_release
from tests.training import architecture, dataset, different, drawn, rows, trainer

Cli = Callable[..., Result]

QUICK = ("--recipe", "demo", "--epochs", "2", "--image-size", "32", "--batch-size", "3", "--learning-rate", "0.003")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder made by pull and convert: 16 drawn samples of three classes."""
    folder = tmp_path_factory.mktemp("train")
    pull(draw_release(folder / "drawn", samples=16), out=folder / "release")
    convert(folder / "release", out=folder / "dataset", fractions=(0.6, 0.2, 0.2))
    return folder / "dataset"


@pytest.fixture(scope="module")
def start(data: Path) -> Path:
    """A tiny SegFormer with dropout and without weights."""
    labels = read_manifest(data).labels
    assert labels is not None
    return architecture(data.parent / "start", labels)


@pytest.fixture(scope="module")
def done(data: Path, start: Path) -> TrainRecord:
    """A finished run. Tests that change it copy it first."""
    return quick(data, out=data.parent / "run", model=start)


def quick(dataset: Path, **kwargs: Any) -> TrainRecord:
    """`QUICK` as a function."""
    values: dict[str, Any] = {
        "recipe": "demo",
        "epochs": 2,
        "image_size": "32",
        "batch_size": 3,
        "learning_rate": 0.003,
    }
    return train(dataset, **(values | kwargs))


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# -------------------------------------------------------------------- what is left


def test_the_command_prints_the_record_and_nothing_else(
    cli: Cli, data: Path, start: Path, done: TrainRecord, tmp_path: Path
) -> None:
    result = cli("train", data, "--model", start, "--out", tmp_path / "run", *QUICK, "--json")
    record = from_json(TrainRecord, result.stdout)
    assert record.digest == done.digest  # the same bytes as the function left elsewhere
    assert (record.steps, record.epochs, record.num_labels) == (8, 2.0, 3)
    assert result.stderr == "labelsync: class head of start: fresh\n"


def test_the_command_says_what_it_did(cli: Cli, data: Path, start: Path, done: TrainRecord) -> None:
    result = cli("train", data, "--model", start, "--out", done.path, *QUICK)
    assert f"kept step {done.best_step}: mean IoU {done.mean_iou:.4f} on the validation split" in result.stdout
    assert "\nclass head: fresh\n" in result.stdout
    assert result.stdout.endswith(f"{done.path}\n")


def test_a_run_folder_is_a_model_folder_with_its_story(data: Path, done: TrainRecord) -> None:
    folder = Path(done.path)
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "checkpoints",
        "config.json",
        "id2label.json",
        "manifest.json",
        "metrics.jsonl",
        "model.safetensors",
        "overlay.png",
        "pictures",
        "preprocessor_config.json",
    ]
    manifest = read_manifest(folder, "train")
    assert manifest.inputs["dataset"] == read_manifest(data).digest == done.dataset_digest
    assert manifest.labels == read_manifest(data).labels
    assert sorted(manifest.files) == sorted(
        p.name for p in folder.iterdir() if p.name not in ("manifest.json", "checkpoints", "pictures")
    )
    assert verify_files(folder, manifest) == []
    assert not list(folder.rglob("training_args.bin"))
    assert str(folder.parent) not in (folder / "manifest.json").read_text() + (folder / "README.md").read_text()


def test_two_runs_leave_the_same_bytes(data: Path, start: Path, done: TrainRecord, tmp_path: Path) -> None:
    again = quick(data, out=tmp_path / "again", model=start, set=("dataloader_num_workers=2",))
    assert multiprocessing.active_children() == []
    assert read_manifest(tmp_path / "again").files == read_manifest(Path(done.path)).files
    assert again.digest == done.digest
    other = quick(data, out=tmp_path / "other", model=start, seed=1)
    assert other.digest != done.digest


def test_the_kept_model_is_the_best_checkpoint_on_every_tensor(done: TrainRecord) -> None:
    folder = Path(done.path)
    best = load_file(folder / "checkpoints" / f"checkpoint-{done.best_step}" / "model.safetensors")
    kept = load_file(folder / "model.safetensors")
    assert best.keys() == kept.keys() and all(torch.equal(best[k], kept[k]) for k in best)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(folder)
    ours = load_model(folder, device="cpu").model
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), ours.state_dict().values(), strict=True))
    assert AutoImageProcessor.from_pretrained(folder).size == {"height": 32, "width": 32}


def test_the_recorded_score_is_what_evaluate_finds(data: Path, done: TrainRecord, tmp_path: Path) -> None:
    found = evaluate(done.path, dataset=data, split="validation", out=tmp_path / "e", device="cpu")
    assert done.mean_iou == found.mean_iou
    best = next(e for e in lines(Path(done.path)) if e["step"] == done.best_step and "eval_mean_iou" in e)
    assert best["eval_mean_iou"] == found.mean_iou
    assert best["eval_overall_accuracy"] == found.overall_accuracy
    assert {n: best[f"eval_iou_{n}"] for n in found.per_category_iou} == found.per_category_iou
    assert {n: best[f"eval_accuracy_{n}"] for n in found.per_category_iou} == found.per_category_accuracy


def test_the_recorded_score_does_not_depend_on_the_precision_of_training(
    data: Path, start: Path, tmp_path: Path
) -> None:
    record = quick(data, out=tmp_path / "run", model=start, set=("bf16=true", "use_cpu=true"))
    found = evaluate(record.path, dataset=data, split="validation", out=tmp_path / "e", device="cpu")
    assert record.mean_iou == found.mean_iou
    assert record.digest != quick(data, out=tmp_path / "full", model=start).digest


def test_every_evaluation_is_in_the_metrics_and_the_best_is_kept(done: TrainRecord) -> None:
    evaluations = {e["step"]: e["eval_mean_iou"] for e in lines(Path(done.path)) if "eval_mean_iou" in e}
    assert list(evaluations) == [4, 8]  # after each of two epochs
    assert done.mean_iou == max(evaluations.values()) == evaluations[done.best_step]
    losses = [e for e in lines(Path(done.path)) if "loss" in e]
    assert losses[-1]["step"] == 8 and all(math.isfinite(e["loss"]) for e in losses)
    assert done.train_loss == pytest.approx(sum(e["loss"] for e in losses) / 2, abs=1e-6)  # 4 steps each
    assert not [k for e in lines(Path(done.path)) for k in e if "runtime" in k or "per_second" in k]


def test_an_earlier_best_is_the_one_kept(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate_as(self: SegmentationTrainer, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics = {"eval_mean_iou": {2: 0.1, 4: 0.9, 6: 0.2, 8: 0.3}[self.state.global_step], **extra}
        self.log(metrics)
        self.control.should_save = True
        return metrics

    labels = read_manifest(data).labels
    assert labels is not None
    extra = {f"eval_{k}_{n}": 0.5 for k in ("iou", "accuracy") for n in labels.names}
    extra |= {"eval_mean_accuracy": 0.5, "eval_overall_accuracy": 0.5}
    monkeypatch.setattr(SegmentationTrainer, "evaluate", evaluate_as)
    record = quick(data, out=tmp_path / "run", model=start, set=("eval_strategy=steps", "eval_steps=2"))
    assert (record.best_step, record.mean_iou) == (4, 0.9)
    steps = sorted(p.name for p in (tmp_path / "run" / "checkpoints").glob("checkpoint-*"))
    assert steps == ["checkpoint-4", "checkpoint-6", "checkpoint-8"]
    best = load_file(tmp_path / "run" / "checkpoints" / "checkpoint-4" / "model.safetensors")
    kept = load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(best[k], kept[k]) for k in best)


def test_the_callers_generators_and_logging_stay_as_they_were(data: Path, start: Path, tmp_path: Path) -> None:
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    verbosity, handler = transformers_logging.get_verbosity(), signal.getsignal(signal.SIGINT)
    quick(data, out=tmp_path / "run", model=start, epochs=0.5)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert (transformers_logging.get_verbosity(), signal.getsignal(signal.SIGINT)) == (verbosity, handler)


# -------------------------------------------------------------------- the model card


def test_the_card_has_metadata_and_a_row_per_class(done: TrainRecord) -> None:
    text = (Path(done.path) / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    metadata = yaml.safe_load(head)
    assert metadata["pipeline_tag"] == "image-segmentation" and metadata["library_name"] == "transformers"
    assert "license" not in metadata and "base_model" not in metadata and "segformer" in metadata["tags"]
    (result,) = metadata["model-index"][0]["results"]
    assert result["dataset"]["split"] == "validation"
    assert {m["type"]: m["value"] for m in result["metrics"]}["mean_iou"] == pytest.approx(done.mean_iou, abs=1e-6)
    assert f"mean IoU **{done.mean_iou:.4f}**" in body
    assert body.count("\n| 1 | ") == body.count("\n| 3 | ") == 1
    assert "](overlay.png)" in body
    with Image.open(Path(done.path) / "overlay.png") as picture:
        assert picture.width > 2.5 * picture.height > 400


def test_the_recipe_in_the_card_is_the_one_of_the_run(done: TrainRecord, tmp_path: Path) -> None:
    body = (Path(done.path) / "README.md").read_text()
    (tmp_path / "again.toml").write_text(body.split("```toml\n")[1].split("```")[0])
    assert settings(load_recipe(tmp_path / "again.toml")) == read_manifest(Path(done.path)).settings["recipe"]


def test_names_that_people_chose_are_harmless_in_the_card(tmp_path: Path) -> None:
    labels = label_map("road | kerb", "<script>alert(1)</script>", "a\nb")
    loaded = finetune.new_model(tiny_segformer(tmp_path / "m", labels), labels, image_size=(32, 32), seed=0)
    scores = {f"{k}_{n}": float("nan") for k in ("iou", "accuracy") for n in labels.names}
    summary = {"model": "nvidia/mit-b0@v1", "dataset": "acme/walk@v2", "release": "v2|", "revision": "c" * 40}
    summary |= {"parameters": 1, "steps": 1, "epochs": 1.0, "best_step": 1, "head": "fresh", "model_revision": ""}
    scores |= dict.fromkeys(("mean_iou", "mean_accuracy", "overall_accuracy"), 0.5)
    text = model_card(loaded, finetune.load_recipe("demo"), dataset_digest="d", scores=scores, summary=summary, seed=0)
    assert "| 1 | road \\| kerb | - | - |" in text and "| 3 | a b | - | - |" in text
    assert "<script>" not in text.split("---\n", 2)[2]
    metadata = yaml.safe_load(text.split("---\n", 2)[1])
    assert metadata["base_model"] == "nvidia/mit-b0" and metadata["datasets"] == ["acme/walk"]
    assert metadata["model-index"][0]["results"][0]["dataset"]["revision"] == "c" * 40
    assert "https://huggingface.co/datasets/acme/walk" in text


# -------------------------------------------------------------------- runs that stop and go on


def interrupted(monkeypatch: pytest.MonkeyPatch, *, step: int, with_: Callable[[], Any]) -> None:
    """Make training do something in the middle of a step."""
    original = SegmentationTrainer.training_step

    def stepping(self: SegmentationTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == step - 1:
            with_()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SegmentationTrainer, "training_step", stepping)


EPOCHS: tuple[str, ...] = ()
STEPS = ("--set", "eval_strategy=steps", "--set", "eval_steps=3")


@pytest.mark.parametrize(
    ("step", "workers", "options"),
    [(3, 0, EPOCHS), (3, 2, EPOCHS), (4, 0, EPOCHS), (8, 0, EPOCHS), (3, 0, STEPS), (4, 0, STEPS)],
    ids=["in an epoch", "loading processes", "end of an epoch", "last step", "at an evaluation", "after one"],
)
def test_ctrl_c_leaves_a_checkpoint_and_resume_ends_as_if_nothing_happened(
    cli: Cli, data: Path, start: Path, tmp_path: Path, step: int, workers: int, options: tuple[str, ...]
) -> None:
    argv = ("train", data, "--model", start, *QUICK, *options, "--set", f"dataloader_num_workers={workers}")
    done = from_json(TrainRecord, cli(*argv, "--out", tmp_path / "whole", "--json").stdout)
    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch, step=step, with_=lambda: signal.raise_signal(signal.SIGINT))
        stopped = cli(*argv, "--out", tmp_path / "run", code=130)
    assert f"step {step} of 8 is saved; go on with --resume" in stopped.stderr
    assert not (tmp_path / "run" / "manifest.json").exists()
    refused = cli(*argv, "--out", tmp_path / "run", code=1)
    assert "holds a run that is not finished; pass --resume" in refused.stderr
    record = from_json(TrainRecord, cli(*argv, "--out", tmp_path / "run", "--resume", "--json").stdout)
    assert (record.best_step, record.mean_iou) == (done.best_step, done.mean_iou)
    ours, theirs = (read_manifest(tmp_path / p).files for p in ("run", "whole"))
    # the losses up to the interruption are logged with its checkpoint, which can be one line more
    assert {k for k in theirs if ours[k] != theirs[k]} <= {"metrics.jsonl"}
    evaluations = [[e for e in lines(tmp_path / p) if "eval_mean_iou" in e] for p in ("run", "whole")]
    assert evaluations[0] == evaluations[1] and len(evaluations[0]) == (3 if options else 2)


@pytest.mark.parametrize("stop", ["before the evaluation", "after it"])
def test_a_checkpoint_at_the_end_of_an_epoch_holds_its_evaluation(
    data: Path, start: Path, tmp_path: Path, stop: str
) -> None:
    def killed(self: SegmentationTrainer, *args: Any, **kwargs: Any) -> Any:
        if stop == "after it":
            original(self, *args, **kwargs)
        raise SystemExit(137)

    options = ("save_strategy=steps", "save_steps=2")
    done = quick(data, out=tmp_path / "whole", model=start, set=options)
    original = SegmentationTrainer.evaluate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTrainer, "evaluate", killed)
        with pytest.raises(SystemExit):
            quick(data, out=tmp_path / "run", model=start, set=options)
    assert quick(data, out=tmp_path / "run", model=start, set=options, resume=True).digest == done.digest


def test_a_kill_leaves_the_last_checkpoint_and_no_model(
    data: Path, start: Path, done: TrainRecord, tmp_path: Path
) -> None:
    def kill() -> None:
        raise SystemExit(137)

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch, step=7, with_=kill)
        with pytest.raises(SystemExit):
            quick(data, out=out, model=start)
    assert not (out / "manifest.json").exists() and not (out / "model.safetensors").exists()
    with pytest.raises(LabelsyncError, match="nothing finished there"):
        read_manifest(out, "train")
    assert quick(data, out=out, model=start, resume=True).digest == done.digest


def test_a_run_killed_before_its_first_checkpoint_starts_over(
    data: Path, start: Path, done: TrainRecord, tmp_path: Path
) -> None:
    def kill() -> None:
        raise SystemExit(137)

    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch, step=2, with_=kill)
        with pytest.raises(SystemExit):
            quick(data, out=tmp_path / "run", model=start)
    assert quick(data, out=tmp_path / "run", model=start, resume=True).digest == done.digest


@pytest.mark.parametrize("options", [(), ("max_steps=6",)], ids=["whole epochs", "in the middle of an epoch"])
def test_a_run_killed_after_its_last_step_is_only_written(
    data: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    out = tmp_path / "run"
    written = quick(data, out=out, model=start, set=options)
    for name in ("manifest.json", "model.safetensors", "README.md"):
        (out / name).unlink()
    monkeypatch.setattr(SegmentationTrainer, "training_step", None)
    assert quick(data, out=out, model=start, set=options, resume=True).digest == written.digest


def test_a_checkpoint_cut_short_is_passed_over(data: Path, start: Path, done: TrainRecord, tmp_path: Path) -> None:
    out = shutil.copytree(done.path, tmp_path / "run")
    (out / "manifest.json").unlink()
    newest = out / "checkpoints" / "checkpoint-8" / "optimizer.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    assert quick(data, out=out, model=start, resume=True).digest == done.digest


def test_a_finished_run_is_not_repeated(
    data: Path, start: Path, done: TrainRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SegmentationTrainer", None)
    for resume in (False, True):
        again = quick(data, out=Path(done.path), model=start, resume=resume)
        assert (again.digest, again.mean_iou, again.best_step) == (done.digest, done.mean_iou, done.best_step)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"epochs": 3}, "recipe.epochs: 2.0 there, 3.0 now"),
        ({"seed": 4}, "seed: 0 there, 4 now"),
        ({"set": ("max_grad_norm=0.5",)}, "set.max_grad_norm: nothing there, 0.5 now"),
        ({"image_size": "64"}, "recipe.image_size: 32 there, 64 now"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_a_folder_that_holds_another_run_is_left_alone(
    data: Path, start: Path, done: TrainRecord, tmp_path: Path, change: dict[str, Any], named: str, finished: bool
) -> None:
    out = shutil.copytree(done.path, tmp_path / "run")
    if not finished:
        (out / "manifest.json").unlink()
    before = sorted(p for p in out.rglob("*"))
    with pytest.raises(OutputExists) as caught:
        quick(data, out=out, model=start, resume=True, **change)
    assert named in caught.value.message
    assert sorted(p for p in out.rglob("*")) == before


def test_another_dataset_and_another_model_are_another_run(
    data: Path, start: Path, done: TrainRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    config = json.loads((start / "config.json").read_text())
    other.mkdir()
    (other / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.2}))
    with pytest.raises(OutputExists, match=r"holds another run \(model: \w{12} there, \w{12} now\)"):
        quick(data, out=Path(done.path), model=other, resume=True)
    shutil.copytree(start, tmp_path / "moved")
    assert quick(data, out=Path(done.path), model=tmp_path / "moved").digest == done.digest
    load = finetune.load
    monkeypatch.setattr(finetune, "load", lambda source, **_: replace(load(source), digest="e" * 64))
    with pytest.raises(OutputExists, match=r"holds another run \(dataset: "):
        quick(data, out=Path(done.path), model=start, resume=True)


def test_a_damaged_finished_run_says_so(data: Path, start: Path, done: TrainRecord, tmp_path: Path) -> None:
    out = shutil.copytree(done.path, tmp_path / "run")
    (out / "config.json").write_text("{}")
    with pytest.raises(OutputExists, match=r"finished, but config\.json is not what the run left"):
        quick(data, out=out, model=start)


def test_overwrite_starts_anew(data: Path, start: Path, done: TrainRecord, tmp_path: Path) -> None:
    out = shutil.copytree(done.path, tmp_path / "run")
    (out / "old.txt").write_text("x")
    record = quick(data, out=out, model=start, epochs=1, overwrite=True)
    assert record.steps == 4
    assert not (out / "old.txt").exists() and not (out / "checkpoints" / "checkpoint-8").exists()


def test_a_run_that_somebody_is_in_is_left_to_them(data: Path, start: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "run"), pytest.raises(OutputLocked):
        quick(data, out=tmp_path / "run", model=start)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", [(), ("--resume",), ("--overwrite",)])
def test_a_folder_of_somebody_else_is_never_touched(
    cli: Cli, data: Path, start: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    result = cli("train", data, "--model", start, "--out", tmp_path, *QUICK, *flags, code=1)
    assert "exists and is not a run of labelsync train" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_overwrite_keeps_the_old_run_when_the_new_one_cannot_start(
    data: Path, start: Path, done: TrainRecord, tmp_path: Path
) -> None:
    out = shutil.copytree(done.path, tmp_path / "run")
    with pytest.raises(LabelsyncError):
        quick(data, out=out, model=tmp_path / "nowhere", overwrite=True)
    for wrong in ({"image_size": "4"}, {"set": ("bf16=true", "fp16=true")}, {"report_to": ("pigeon",)}):
        with pytest.raises(OptionError):
            quick(data, out=out, model=start, overwrite=True, **wrong)
    assert verify_files(out, read_manifest(out)) == []


# -------------------------------------------------------------------- what cannot be trained


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--resume"], 2, "there is no run in"),
        (["--resume", "--overwrite"], 2, "--resume and --overwrite contradict each other"),
        (["--recipe", "slow"], 2, "there is no recipe 'slow'"),
        (["--image-size", "4"], 2, "cannot take images of 4"),
        (["--image-size", "big"], 2, "image size 'big' cannot be used"),
        (["--epochs", "0"], 2, "--epochs is 0.0, which cannot be used"),
        (["--set", "bf16"], 2, "--set bf16 has no value"),
        (["--set", "push_to_hub=true"], 2, "--set push_to_hub is refused: use --push-to-hub"),
        (["--set", "hub_token=hf_secret"], 2, "--set hub_token is refused: it would be written to disk in clear"),
        (["--report-to", "pigeon"], 2, "transformers refuses these settings: pigeon is not supported"),
        (["--set", "report_to=tensorboard"], 2, "--set report_to is not possible; use --report-to"),
        (["--model", "nowhere"], 1, "there is no folder nowhere"),
    ],
)
def test_a_bad_argument_is_one_line_and_leaves_nothing(
    cli: Cli, data: Path, start: Path, tmp_path: Path, argv: list[str], code: int, message: str
) -> None:
    out = tmp_path / "run"
    result = cli("train", data, "--model", start, "--out", out, *QUICK, *argv, code=code)
    assert message in result.stderr.splitlines()[-1]
    assert "hf_secret" not in result.output
    assert not out.exists()
    assert result.stdout == ""


def test_a_missing_dataset_is_one_line(cli: Cli, start: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    result = cli("train", tmp_path / "half", "--model", start, "--out", tmp_path / "run", code=1)
    assert "holds neither Parquet files nor images with labels" in result.stderr
    assert not (tmp_path / "run").exists()


def test_cached_images_give_the_same_model_and_their_size_is_said(
    cli: Any, data: Path, start: Path, done: TrainRecord, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    argv = ("train", data, "--model", start, "--out", tmp_path / "run", *QUICK, "--cache-images", kept, "--json")
    result = cli(*argv)
    assert from_json(TrainRecord, result.stdout).digest == done.digest
    assert re.search(rf"decoded images: \d+ \([\d.]+ MB\) in {re.escape(str(kept))}", result.stderr)
    assert any(kept.rglob("*.image"))


@pytest.fixture
def train_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainRecord]:
    """`train_on(dataset)`: a quick run on a dataset in memory."""

    def call(data: Any, **kwargs: Any) -> TrainRecord:
        monkeypatch.setattr(finetune, "load", lambda source, **_: data)
        model = kwargs.pop("model", None) or architecture(tmp_path / "start", data.labels)
        return quick(Path("acme/drawn"), out=tmp_path / "run", model=model, **kwargs)

    return call


def test_one_class_is_refused(train_on: Callable[..., TrainRecord]) -> None:
    one = dataset(labels=label_map("road"))
    with pytest.raises(LabelsyncError, match="one class") as caught:
        train_on(one, model=Path("unused"))
    assert "--unlabeled class" in caught.value.hint


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_missing_or_empty_split_is_named(train_on: Callable[..., TrainRecord], split: str) -> None:
    data = dataset()
    without: Any = {k: v for k, v in data.splits.items() if k != split}
    for splits in (without, without | {split: []}):
        object.__setattr__(data, "splits", splits)
        with pytest.raises(DatasetError, match=f"acme/drawn has no sample in split '{split}'") as caught:
            train_on(data)
        assert "--fractions" in caught.value.hint


def test_a_bad_row_in_the_middle_is_named(train_on: Callable[..., TrainRecord]) -> None:
    for workers in (0, 1):
        data = dataset()
        _, label = drawn(0)
        label[5, 5] = 77
        bad = Row("street.png", "77", data.splits["train"][0].image, encode_semantic(label))
        data.splits["train"][3:4] = [bad]  # type: ignore[index]
        with pytest.raises(DatasetError, match=r"^sample street\.png \(77\): its label holds the value 77"):
            train_on(data, set=(f"dataloader_num_workers={workers}",), overwrite=workers > 0)


def test_batches_without_a_label_give_no_nan(train_on: Callable[..., TrainRecord]) -> None:
    data = dataset(train=4)
    _, label = drawn(0)
    nothing = encode_semantic(np.zeros_like(label))
    data.splits["train"][1:3] = [Row(f"e{i}", f"e{i}", r.image, nothing) for i, r in enumerate(rows(2))]  # type: ignore[index]
    record = train_on(data, batch_size=1, set=("logging_steps=1",))
    entries = [e for e in lines(Path(record.path)) if "loss" in e]
    assert len(entries) == 8 and sum(e["loss"] == 0 for e in entries) == 4
    assert all(math.isfinite(e["grad_norm"]) for e in entries)
    assert all(torch.isfinite(t).all() for t in load_model(record.path, device="cpu").model.state_dict().values())


@pytest.mark.parametrize(
    "name",
    [pytest.param(a, marks=() if a in ("beit", "upernet") else pytest.mark.slow) for a in ARCHITECTURES],
)
def test_every_architecture_is_trained_kept_whole_and_used(
    train_on: Callable[..., TrainRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    tiny_config(name).save_pretrained(tmp_path / name)
    record = train_on(dataset(), model=tmp_path / name, epochs=1, batch_size=4, image_size="64")  # the last batch: one
    assert record.steps == 4
    best = load_model(Path(record.path) / "checkpoints" / "checkpoint-4", device="cpu").model
    assert different(best, load_model(record.path, device="cpu").model) == []
    labels = dataset().labels
    other = finetune.new_model(record.path, labels, image_size=(64, 64), seed=5)
    assert other.head == "kept" and different(other.model, best) == []
    monkeypatch.setattr(evaluate_module, "load", lambda source, **_: dataset())
    evaluation = evaluate(record.path, dataset="acme/drawn", split="validation", out=tmp_path / "e", device="cpu")
    assert evaluation.mean_iou == record.mean_iou
    (tmp_path / "images").mkdir()
    for row, side in zip(rows(2), (33, 127), strict=True):  # odd sizes
        Image.open(io.BytesIO(row.image)).resize((side, side - 8)).save(tmp_path / "images" / row.name)
    predicted = predict(record.path, images=(str(tmp_path / "images"),), out=tmp_path / "p", device="cpu")
    assert (predicted.images, predicted.failed) == (2, {})


@pytest.mark.parametrize("name", ["beit", "data2vec-vision", "dpt", "upernet"])
def test_an_auxiliary_head_is_trained_and_without_labels_says_no_nan(tmp_path: Path, name: str) -> None:
    """The models' own loss trains it too, at `auxiliary_loss_weight`; its classes are rows of the saved head."""
    config = tiny_config(name)
    assert config.use_auxiliary_head and config.auxiliary_loss_weight == 0.4
    config.save_pretrained(tmp_path / name)
    of = trainer(tmp_path / "run", batch_size=4, image_size="64")
    loaded = finetune.new_model(tmp_path / name, of.labels, image_size=(64, 64), seed=0)
    of = SegmentationTrainer(loaded, of.args, recipe=of.recipe, data=of.data, validation=of.validation, callbacks=())
    batch = of.get_batch_samples(iter(of.get_train_dataloader()), 1, of.args.device)[0][0]
    pixels = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    loss = of.compute_loss(loaded.model.train(), batch | {"pixel_values": pixels + 90})
    loss.backward()
    heads = {n: p.grad for n, p in loaded.model.named_parameters() if n.startswith("auxiliary_head.")}
    assert heads and all(grad is not None for grad in heads.values())
    assert sum(bool(grad.abs().sum() > 0) for grad in heads.values()) > len(heads) // 2
    nothing = torch.full_like(batch["labels"], 255)
    assert of.compute_loss(loaded.model, {"pixel_values": pixels, "labels": nothing}).item() == 0
    of.close()
    assert not loaded.model.auxiliary_head._forward_hooks


def test_a_fresh_head_is_said_before_the_first_step(
    train_on: Callable[..., TrainRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = tiny_segformer(tmp_path / "other", label_map("car", "dog", "sky"), weights=True)
    assert train_on(dataset(), model=start).head == "2 of 3 classes carried over"
    assert capsys.readouterr().err.splitlines()[0] == "labelsync: class head of other: 2 of 3 classes carried over"
    train_on(dataset(), model=start)
    assert "class head" not in capsys.readouterr().err  # that run is finished


def test_of_several_gpus_one_is_taken_and_said(
    train_on: Callable[..., TrainRecord], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The Trainer would multiply the batch by their number, and copy the model into threads."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    record = train_on(dataset(), batch_size=4)
    assert record.steps == 8  # 13 images, twice
    assert "one of 4 GPUs is used; accelerate launch" in capsys.readouterr().err


class NoFloat64(TorchDispatchMode):
    """Apple's GPUs: what would make a float64 there is an error."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        wide = [t for t in tree_leaves(result) if isinstance(t, torch.Tensor) and t.dtype == torch.float64]
        assert not wide, f"{func} makes a float64"
        return result


def test_a_step_does_without_float64_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "exact", lambda device: exact(torch.device("mps")))
    of = trainer(tmp_path / "run", batch_size=4, loss=Loss(dice=0.5, ohem=0.5, focal=1.0))
    of.criterion = replace(of.criterion, weights=torch.tensor([1.0, 2.0, 0.5]))
    batches = iter(of.get_train_dataloader())
    with NoFloat64():
        batch, totals = of.get_batch_samples(batches, 2, of.args.device)
        of.compute_loss(of.model, batch[0], num_items_in_batch=totals).backward()
        labels = np.ones((5, 7), np.uint8)
        assert confusion_on_device(labels, torch.ones(5, 7, dtype=torch.int32), 3).sum() == 35


@pytest.fixture
def lone_group() -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:Grad strides do not match bucket view strides")  # of ConvNeXt; about speed
@pytest.mark.usefixtures("lone_group")
@pytest.mark.parametrize("name", ["beit", "data2vec-vision", "dpt", "upernet"])
def test_an_auxiliary_head_is_trained_among_several_processes(tmp_path: Path, name: str) -> None:
    """Wrapped as accelerate and the Trainer wrap a model, which looks for what is used in the outputs of `forward`."""
    tiny_config(name).save_pretrained(tmp_path / name)
    of = trainer(tmp_path / "run", batch_size=4, image_size="64")
    loaded = finetune.new_model(tmp_path / name, of.labels, image_size=(64, 64), seed=0)
    of = SegmentationTrainer(loaded, of.args, recipe=of.recipe, data=of.data, validation=of.validation, callbacks=())
    batch = collate([of.data[(0, i)] for i in range(4)])
    wrapped = torch.nn.parallel.DistributedDataParallel(loaded.model.train(), find_unused_parameters=True)
    for _ in range(2):
        of.compute_loss(wrapped, batch).backward()
    assert all(p.grad is not None for p in loaded.model.auxiliary_head.parameters())
    of.close()


def test_batch_norms_that_refuse_one_image_say_so(train_on: Callable[..., TrainRecord], tmp_path: Path) -> None:
    tiny_config("upernet").save_pretrained(tmp_path / "upernet")
    with pytest.raises(ModelError, match="cannot be trained on one image at a time") as caught:
        train_on(dataset(), model=tmp_path / "upernet", epochs=1, batch_size=1, image_size="64")
    assert "--batch-size 2" in caught.value.hint


def test_more_than_254_classes_are_trained(train_on: Callable[..., TrainRecord]) -> None:
    labels = label_map(*(f"class {i}" for i in range(300)))
    data = dataset(labels=labels)
    for split in ("train", "validation"):
        data.splits[split][:] = [  # type: ignore[index]
            Row(r.name, r.uuid, r.image, encode_semantic(wide(r.label))) for r in data.splits[split]
        ]
    record = train_on(data, epochs=1)
    assert record.num_labels == 300
    assert load_model(record.path, device="cpu").model.config.semantic_loss_ignore_index == 65535


def wide(label: bytes) -> Any:
    ids = decode_semantic(label).astype(np.uint16)
    return np.where(ids > 1, ids + 290, ids).astype(np.uint16)


def fill_memory(*args: Any, **kwargs: Any) -> None:
    torch.empty(1 << 60, dtype=torch.uint8)  # this machine's own words


def raising(error: Exception) -> Callable[..., None]:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(fill_memory, id="machine"),
        pytest.param(raising(MemoryError("Unable to allocate 8 GiB")), id="numpy"),
        pytest.param(raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")), id="cuda"),
        pytest.param(raising(torch.AcceleratorError("CUDA error: out of memory", 2)), id="driver"),
        pytest.param(raising(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling")), id="cublas"),
        pytest.param(raising(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to")), id="windows"),
    ],
)
def test_out_of_memory_names_the_knob(
    train_on: Callable[..., TrainRecord], monkeypatch: pytest.MonkeyPatch, fail: Callable[..., None]
) -> None:
    monkeypatch.setattr(SegmentationTrainer, "training_step", fail)
    with pytest.raises(ModelError, match="out of memory at batch size 6 and image size 32") as caught:
        train_on(dataset(), batch_size=6)
    assert "--batch-size 3 --set gradient_accumulation_steps=2" in caught.value.hint


def test_out_of_memory_before_the_first_step_names_the_knob(
    train_on: Callable[..., TrainRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.SegformerForSemanticSegmentation.forward", fill_memory)
    with pytest.raises(ModelError, match="out of memory at batch size 6 and image size 32"):
        train_on(dataset(), batch_size=6)


def test_out_of_memory_in_an_evaluation_names_its_knob(
    train_on: Callable[..., TrainRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no --device, and --batch-size is that of the steps."""
    monkeypatch.setattr(segmenter, "winning_output", fill_memory)
    with pytest.raises(ModelError, match="while the validation split is scored, 8 images at once") as caught:
        train_on(dataset())
    assert caught.value.hint == "try --set per_device_eval_batch_size=4"


def test_a_loading_process_without_shared_memory_says_so(
    train_on: Callable[..., TrainRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Docker's 64 MB end in."""

    def crash(self: TrainingData, key: Any) -> None:
        os.kill(os.getpid(), signal.SIGBUS)

    monkeypatch.setattr(TrainingData, "__getitem__", crash)
    with pytest.raises(ModelError, match="shared memory") as caught:
        train_on(dataset(), set=("dataloader_num_workers=1",))
    assert "--shm-size" in caught.value.hint


def test_a_full_disk_is_an_output_error_and_the_run_can_go_on(
    data: Path, start: Path, done: TrainRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(LabelsyncError, match="could not be written") as caught:
            quick(data, out=tmp_path / "run", model=start)
    assert "--resume" in caught.value.hint
    assert quick(data, out=tmp_path / "run", model=start, resume=True).digest == done.digest


def test_images_of_every_kind_and_size_are_trained_on(train_on: Callable[..., TrainRecord]) -> None:
    """Grey, alpha, CMYK and 16-bit images, smaller than the crop or of one row of pixels; one validation image."""
    data = dataset(7, 1)
    images = []
    for kind, row in zip(("L", "RGBA", "CMYK", "I;16", "P", "1", "LA"), data.splits["train"], strict=True):
        picture = Image.open(io.BytesIO(row.image))
        grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        file = io.BytesIO()
        (Image.fromarray(grey) if kind == "I;16" else picture.convert("L").convert(kind)).save(
            file, "TIFF" if kind == "CMYK" else "PNG"
        )
        images.append(file.getvalue())
    small = [(Image.new("RGB", (w, h)), np.full((h, w), 2, np.uint8)) for w, h in ((5, 3), (40, 1))]
    data.splits["train"][:] = [  # type: ignore[index]
        Row(r.name, r.uuid, i, r.label) for r, i in zip(data.splits["train"], images, strict=True)
    ] + [Row(f"t{n}.png", f"t{n}", encode_png(np.asarray(i)), encode_semantic(b)) for n, (i, b) in enumerate(small)]
    record = train_on(data, recipe="quality", set=("eval_strategy=epoch", "save_strategy=epoch"))
    assert record.mean_iou is not None and math.isfinite(record.train_loss)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_train_split_of_one_image_is_trained_on(train_on: Callable[..., TrainRecord], batch_size: int) -> None:
    record = train_on(dataset(1, 1), batch_size=batch_size)
    assert record.steps == 2 and math.isfinite(record.train_loss)


def test_the_quality_recipe_is_the_same_run_twice(data: Path, start: Path, tmp_path: Path) -> None:
    """With averaged weights, limited crops, class weights and head rates: the same bytes, also after a kill."""

    def kill() -> None:
        raise SystemExit(137)

    knobs: dict[str, Any] = {"recipe": "quality", "epochs": 2, "set": ("eval_steps=2", "save_steps=2")}
    whole = quick(data, out=tmp_path / "whole", model=start, **knobs)
    with pytest.MonkeyPatch.context() as patch:
        interrupted(patch, step=7, with_=kill)
        with pytest.raises(SystemExit):
            quick(data, out=tmp_path / "run", model=start, **knobs)
    assert quick(data, out=tmp_path / "run", model=start, resume=True, **knobs).digest == whole.digest
    found = evaluate(whole.path, dataset=data, split="validation", out=tmp_path / "e", device="cpu")
    assert found.mean_iou == whole.mean_iou


def test_a_class_weight_of_no_class_ends_before_anything_is_written(
    train_on: Callable[..., TrainRecord], tmp_path: Path
) -> None:
    recipe = (
        'image_size = "32"\nepochs = 1\nbatch_size = 2\nlearning_rate = 0.1\n[loss]\nclass_weights = { cra = 2.0 }\n'
    )
    (tmp_path / "r.toml").write_text(recipe)
    with pytest.raises(OptionError, match="class_weights has 'cra'"):
        train_on(dataset(), recipe=tmp_path / "r.toml")
    assert not (tmp_path / "run").exists()


def test_rare_images_come_oftener_in_a_real_run(
    train_on: Callable[..., TrainRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getitem(self: TrainingData, key: tuple[int, int]) -> Any:
        seen.append(key[1] % 8)
        return load(self, key)

    seen: list[int] = []
    load = TrainingData.__getitem__
    monkeypatch.setattr(TrainingData, "__getitem__", getitem)
    data = dataset(8, 2, labels=label_map("sky", "road", "car", "tram"))
    rare = decode_semantic(data.splits["train"][5].label).copy()
    rare[20:, :20] = 4
    row = data.splits["train"][5]
    data.splits["train"][5] = Row(row.name, row.uuid, row.image, encode_semantic(rare))  # type: ignore[index]
    recipe = 'image_size = "32"\nepochs = 8\nbatch_size = 4\nlearning_rate = 0.001\nrepeat_rare = 1.0\n'
    (tmp_path / "r.toml").write_text(recipe)
    train_on(data, recipe=tmp_path / "r.toml", epochs=8, batch_size=4, pictures=0)
    counts = np.bincount(seen, minlength=8)
    assert counts.sum() == 64  # sqrt(8) times as often as each of the seven others
    assert counts[5] == pytest.approx(64 * 8**0.5 / (7 + 8**0.5), abs=2)


@pytest.mark.slow
def test_a_compiled_model_leaves_a_plain_one(train_on: Callable[..., TrainRecord], tmp_path: Path) -> None:
    recipe = 'image_size = "32"\nepochs = 1\nbatch_size = 2\nlearning_rate = 0.001\ncompile = true\nema = 0.9\n'
    (tmp_path / "r.toml").write_text(recipe)
    record = train_on(dataset(8, 2), recipe=tmp_path / "r.toml", set=("torch_compile_backend=eager", "use_cpu=true"))
    assert not [k for k in load_file(Path(record.path) / "model.safetensors") if "_orig_mod" in k]
    assert load_model(record.path, device="cpu").names == ("sky", "road", "car")


# -------------------------------------------------------------------- the step


def test_accumulated_batches_have_the_gradient_of_one_large_batch(tmp_path: Path) -> None:
    small = trainer(tmp_path / "small", options=("gradient_accumulation_steps=3",), batch_size=2)
    large = trainer(tmp_path / "large", batch_size=6)
    for of in (small, large):
        model = of.model.eval()  # batch statistics and dropout are not additive
        model.train = lambda mode=True, model=model: model  # type: ignore[method-assign]
        of.create_optimizer()
        of.current_gradient_accumulation_steps = of.args.gradient_accumulation_steps
        batches, count = of.get_batch_samples(
            iter(of.get_train_dataloader()), of.args.gradient_accumulation_steps, of.args.device
        )
        assert len(batches) == of.args.gradient_accumulation_steps
        labelled = [int((b["labels"] != 255).sum()) for b in batches]
        assert count.tolist() == [sum(labelled), 6]
        losses = [float(of.training_step(model, batch, count)) for batch in batches]
        assert len(set(labelled)) == len(labelled)  # else dividing by their number would do
        assert sum(losses) == pytest.approx(1.1, abs=0.3)
    pairs = zip(small.model.parameters(), large.model.parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad, atol=1e-6) for a, b in pairs)


def test_what_is_no_number_is_null_in_the_metrics() -> None:
    """Gradients of a step that fp16 skips are infinite, which is no JSON."""
    line = metrics_lines([{"step": 10, "epoch": 1.0, "loss": 0.5, "grad_norm": math.inf, "eval_iou_car": math.nan}])
    assert line.count("\n") == 1 and json.loads(line) == {
        "step": 10,
        "epoch": 1.0,
        "loss": 0.5,
        "grad_norm": None,
        "eval_iou_car": None,
    }


def test_scores_of_absent_classes_are_null(train_on: Callable[..., TrainRecord]) -> None:
    labels = label_map("sky", "road", "car", "tram")
    record = train_on(dataset(labels=labels), epochs=1)
    evaluation = next(e for e in lines(Path(record.path)) if "eval_mean_iou" in e)
    assert evaluation["eval_accuracy_tram"] is None
