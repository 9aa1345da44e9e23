"""What one sees while a run goes on: pictures, trackers, early stopping, the best model so far on the Hub."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from labelsync.errors import AuthError, OptionError
from labelsync.hub import client
from labelsync.hub import publish as hub_publish
from labelsync.model.load import load_model
from labelsync.records.results import TrainRecord
from labelsync.store.manifest import read_manifest, verify_files
from labelsync.training import finetune, publish, run
from labelsync.training.callbacks import is_used_up
from labelsync.training.finetune import train
from labelsync.training.pictures import chosen
from labelsync.training.trainer import SegmentationTrainer
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.models import label_map
from tests.training import architecture, dataset

Cli = Callable[..., Result]

QUICK: dict[str, Any] = {"recipe": "demo", "epochs": 2, "image_size": "32", "batch_size": 4, "learning_rate": 3e-3}


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainRecord]:
    """`quick(out)`: two epochs of four steps on drawn rows in memory, seven of them for validation."""

    def call(out: str = "run", **kwargs: Any) -> TrainRecord:
        data = kwargs.pop("data", None) or dataset(16, 7)
        monkeypatch.setattr(finetune, "load", lambda source, **_: data)
        model = architecture(tmp_path / "start", data.labels)
        return train("acme/drawn", out=tmp_path / out, **({"model": model} | QUICK | kwargs))

    return call


# -------------------------------------------------------------------- pictures


def test_the_same_six_samples_are_drawn_after_every_evaluation(quick: Callable[..., TrainRecord]) -> None:
    record = quick()
    folders = sorted((Path(record.path) / "pictures").iterdir())
    assert [f.name for f in folders] == ["step-000004", "step-000008"]
    names = [sorted(p.name for p in f.iterdir()) for f in folders]
    assert names[0] == names[1] and len(names[0]) == 6
    rows = dataset(16, 7).splits["validation"]
    expected = [rows[i].name for i in chosen([r.name for r in rows], 6)]
    assert names[0] == [f"{i}-{Path(n).stem}.jpg" for i, n in enumerate(expected)]
    with Image.open(folders[0] / names[0][0]) as picture:
        assert picture.format == "JPEG" and picture.width > 3 * picture.height // 2
        first = np.asarray(picture).astype(int)
    second = np.asarray(Image.open(folders[1] / names[0][0])).astype(int)
    third = first.shape[1] // 3
    assert abs(first - second)[26:266, : 2 * third - 8].max() < 60  # image and label
    assert abs(first - second)[26:266, 2 * third :].max() > 60  # the prediction is another


def test_pictures_are_no_part_of_the_model(quick: Callable[..., TrainRecord]) -> None:
    with_pictures, without = quick(), quick("other", pictures=0)
    assert with_pictures.digest == without.digest
    assert not (Path(without.path) / "pictures").exists()
    manifest = read_manifest(Path(with_pictures.path))
    assert not [name for name in manifest.files if "pictures" in name]


def test_which_samples_are_drawn_depends_on_their_names_alone() -> None:
    names = [f"{i}.png" for i in range(40)]
    picked = {names[i] for i in chosen(names, 6)}
    back = names[::-1]
    assert {back[i] for i in chosen(back, 6)} == picked and len(picked) == 6
    assert len({names[i] for i in chosen([*names, "new.png"], 6) if i < 40} & picked) >= 5
    assert sorted(chosen(["a", "a", "b"], 6)) == [0, 1, 2]


# -------------------------------------------------------------------- early stopping


def scored(monkeypatch: pytest.MonkeyPatch, scores: dict[int, float]) -> None:
    """Evaluations with these mean IoUs by step."""
    labels = label_map("sky", "road", "car")
    rest = {f"eval_{k}_{n}": 0.5 for k in ("iou", "accuracy") for n in labels.names}
    rest |= {"eval_mean_accuracy": 0.5, "eval_overall_accuracy": 0.5}

    def evaluate(self: SegmentationTrainer, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics = {"eval_mean_iou": scores[self.state.global_step], **rest}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.control.should_save = True
        return metrics

    monkeypatch.setattr(SegmentationTrainer, "evaluate", evaluate)


EVERY_STEP = ("eval_strategy=steps", "eval_steps=1")
SCORES = {1: 0.1, 2: 0.5, 3: 0.4, 4: 0.5, 5: 0.6, 6: 0.1, 7: 0.2, 8: 0.9}


@pytest.mark.parametrize(("patience", "steps", "best"), [(0, 8, 8), (1, 3, 2), (2, 4, 2), (3, 8, 8)])
def test_a_run_ends_when_patience_is_used_up(
    quick: Callable[..., TrainRecord], monkeypatch: pytest.MonkeyPatch, patience: int, steps: int, best: int
) -> None:
    scored(monkeypatch, SCORES)
    record = quick(patience=patience, set=EVERY_STEP)
    assert (record.steps, record.best_step) == (steps, best)


def test_a_run_that_ended_early_is_only_written_when_resumed(
    quick: Callable[..., TrainRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, SCORES)
    record = quick(patience=2, set=EVERY_STEP)
    for name in ("manifest.json", "model.safetensors"):
        (Path(record.path) / name).unlink()
    monkeypatch.setattr(SegmentationTrainer, "training_step", None)
    assert quick(patience=2, set=EVERY_STEP, resume=True).digest == record.digest


def test_patience_ends_a_run_that_evaluates_by_epochs(
    quick: Callable[..., TrainRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {4: 0.5, 8: 0.5, 12: 0.9})
    assert quick(patience=1, epochs=3).steps == 8


def test_patience_by_hand() -> None:
    history = [{"loss": 1.0}, *({"eval_mean_iou": v} for v in (0.3, 0.2, float("nan")))]
    assert [is_used_up(history, patience=n) for n in (0, 1, 2, 3)] == [False, True, True, False]
    assert not is_used_up([], patience=1) and not is_used_up([{"eval_mean_iou": float("nan")}], patience=1)


# -------------------------------------------------------------------- trackers


def test_tensorboard_gets_losses_and_scores(quick: Callable[..., TrainRecord]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    record = quick(report_to=("tensorboard",))
    (folder,) = (Path(record.path) / "checkpoints" / "runs").iterdir()
    events = EventAccumulator(str(folder)).Reload()
    assert {"train/loss", "eval/mean_iou", "eval/iou_car", "eval/accuracy_car"} <= set(events.Tags()["scalars"])
    assert events.Scalars("eval/mean_iou")[-1].step == 8
    assert record.digest == quick("other").digest  # who looks on changes nothing


def test_a_tracker_whose_package_is_missing_is_one_line(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = cli("train", tmp_path, "--out", out, "--recipe", "demo", "--report-to", "comet_ml", code=2)
    (line,) = result.stderr.splitlines()
    assert "comet" in line.lower() and "--report-to" in line
    assert not out.exists()


# -------------------------------------------------------------------- the Hub


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub of the test's own, a token that may write, and no waiting between tries."""
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    monkeypatch.setattr(client, "WAITS", (0.0,))
    monkeypatch.setattr(hub_publish, "BACKOFF", (0.0,))
    with LoopbackHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_every_better_model_is_a_commit_and_the_last_is_the_run(
    quick: Callable[..., TrainRecord], server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {2: 0.5, 4: 0.4, 6: 0.6, 8: 0.1})
    pushed: list[dict[str, bytes]] = []
    original = publish.push

    def watched(*args: Any, **kwargs: Any) -> Any:
        record = original(*args, **kwargs)
        pushed.append(server.files("acme/seg", kind="model"))
        return record

    monkeypatch.setattr(publish, "push", watched)
    record = quick(push_to_hub="acme/seg", set=("eval_strategy=steps", "eval_steps=2"))
    assert len(pushed) == 3  # steps 2 and 6, and the finished folder
    assert json.loads(pushed[0]["manifest.json"])["summary"]["best_step"] == 2
    assert b"0.5000" in pushed[0]["README.md"]
    out = Path(record.path)
    assert pushed[2]["model.safetensors"] == (out / "model.safetensors").read_bytes() == pushed[1]["model.safetensors"]
    assert pushed[0]["model.safetensors"] != pushed[1]["model.safetensors"]
    manifest = read_manifest(out)
    assert {n for n in pushed[2] if n != ".gitattributes"} == {*manifest.files, "manifest.json"}
    for files in pushed:
        assert not [
            n for n in files if "training_args" in n or "pictures" in n or "checkpoint" in n or n.endswith(".pt")
        ]
        assert WRITE_TOKEN.encode() not in b"".join(files.values())


def test_what_is_on_the_hub_in_the_middle_of_a_run_can_be_used(
    quick: Callable[..., TrainRecord], server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish.Publisher, "send", lambda self, folder, message: bool(shutil.copytree(folder, seen)))
    seen = tmp_path / "seen"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTrainer, "load_best", lambda self: (_ for _ in ()).throw(SystemExit(137)))
        with pytest.raises(SystemExit):
            quick(push_to_hub="acme/seg", epochs=1)
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-4"
    assert (seen / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert verify_files(seen, read_manifest(seen, "train")) == []
    assert load_model(seen, device="cpu").names == ("sky", "road", "car")


def test_a_hub_that_fails_is_a_line_each_time_and_the_run_is_whole(
    quick: Callable[..., TrainRecord],
    server: LoopbackHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scored(monkeypatch, {4: 0.4, 8: 0.6})
    server.faults.status(500, path="/commit/", times=None)
    record = quick(push_to_hub="acme/seg")
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if "not pushed to acme/seg" in line]
    assert len(lines) == 3 and said.out == "" and WRITE_TOKEN not in said.err
    assert record.digest == quick("other").digest
    assert "model.safetensors" not in server.files("acme/seg", kind="model")
    server.faults.clear()
    assert quick(push_to_hub="acme/seg").digest == record.digest  # finished: only pushed
    assert server.files("acme/seg", kind="model")["model.safetensors"]


def test_a_model_that_cannot_be_made_ready_is_a_line_too(
    quick: Callable[..., TrainRecord],
    server: LoopbackHub,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is loaded beside the one in training, for which a GPU may have no room."""

    def full(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    scored(monkeypatch, {4: 0.4, 8: 0.3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load_model", full)
        record = quick(push_to_hub="acme/seg")
    lines = [line for line in capsys.readouterr().err.splitlines() if "not pushed" in line]
    assert lines == ["labelsync: not pushed to acme/seg (OutOfMemoryError: CUDA out of memory)"] * 2
    assert record.best_step == 4 and server.files("acme/seg", kind="model")["model.safetensors"]  # the finished run


def test_a_branch_of_the_repo_may_be_named(quick: Callable[..., TrainRecord], server: LoopbackHub) -> None:
    quick(push_to_hub="acme/seg@running")
    assert "model.safetensors" in server.files("acme/seg", "running", kind="model")
    assert "model.safetensors" not in server.files("acme/seg", kind="model")


def test_what_failed_is_tried_again_at_the_next_save(
    quick: Callable[..., TrainRecord], server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored(monkeypatch, {2: 0.5, 4: 0.4, 6: 0.3, 8: 0.1})
    sent: list[str] = []

    def send(self: publish.Publisher, folder: Path, *, message: str) -> bool:
        sent.append(message)
        return len(sent) > 1

    monkeypatch.setattr(publish.Publisher, "send", send)
    quick(push_to_hub="acme/seg", set=("eval_strategy=steps", "eval_steps=2"))
    assert [m.split(":")[0] for m in sent] == ["Step 2"] * 3  # failed, tried again, and the finished run


def test_a_name_or_a_login_that_cannot_work_ends_before_the_first_step(
    quick: Callable[..., TrainRecord], server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match="names no owner"):
        quick(push_to_hub="seg")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(AuthError):
        quick(push_to_hub="acme/seg")
    assert not (tmp_path / "run").exists() and "HF_TOKEN" not in os.environ
