"""`accelerate launch -m labelsync train ...`: two processes on the CPU, really launched, talking over gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from labelsync.dataset.convert import convert
from labelsync.evaluation.evaluate import evaluate
from labelsync.records.results import TrainRecord
from labelsync.records.text import from_json
from labelsync.release.pull import pull
from labelsync.store.manifest import read_manifest, verify_files
from labelsync.training.checkpoints import last_complete, step_of
from labelsync.training.data import order
from tests.models import tiny_segformer
from tests.releases import draw_release

ROOT = Path(__file__).parent.parent
# --multi_gpu is how accelerate spells torchrun; without a GPU the processes talk over gloo
LAUNCH = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"),
    *("--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0", "-m"),
)
QUICK = ("--image-size=32", "--set=use_cpu=true", "--json")

RECIPE = """
image_size = "32"
epochs = 1
batch_size = 2
learning_rate = 0.1
optimizer = "sgd"
ema = 0.9
head_factor = 10.0
[augment]
flip = 0.5
scale = [0.5, 2.0]
[loss]
dice = 0.5
focal = 1.0
ohem = 0.7
class_weights = "balanced"
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder of ten training images, and beside it a tiny SegFormer's config."""
    folder = tmp_path_factory.mktemp("processes")
    pull(draw_release(folder / "drawn", samples=16), out=folder / "release")
    convert(folder / "release", out=folder / "dataset", fractions=(0.6, 0.2, 0.2))
    labels = read_manifest(folder / "dataset").labels
    assert labels is not None
    tiny_segformer(folder / "start", labels)
    return folder / "dataset"


def environment() -> dict[str, str]:
    rest = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    return rest | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def launched(*argv: object, launch: tuple[str, ...] = LAUNCH) -> TrainRecord:
    """The record of a launched command; `launch` () runs one process without a launcher."""
    command = [*(launch or (sys.executable, "-m")), *map(str, argv)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return from_json(TrainRecord, done.stdout)  # one process speaks


def test_two_processes_leave_one_run_with_pooled_scores(data: Path, tmp_path: Path) -> None:
    """Ten images in batches of two for two processes: three steps an epoch, the last filled up."""
    start, out = data.parent / "start", tmp_path / "run"
    record = launched(
        *("labelsync", "train", data, "--model", start, "--out", out, "--recipe=demo", "--epochs=2", "--batch-size=2"),
        *(*QUICK, "--learning-rate=0.003"),
    )
    assert (record.steps, record.epochs) == (6, 2.0)
    manifest = read_manifest(out, "train")
    assert manifest.digest == record.digest and manifest.settings["processes"] == 2
    assert verify_files(out, manifest) == []
    assert not [p for p in out.rglob("*") if p.name == "training_args.bin" or p.name.endswith(".tmp")]
    assert len(list((out / "pictures").iterdir())) == 2
    found = evaluate(out, dataset=data, split="validation", out=tmp_path / "e", device="cpu")
    assert found.images == 3  # which two processes cannot share evenly
    assert record.mean_iou == found.mean_iou
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    best = next(e for e in lines if e["step"] == record.best_step and "eval_mean_iou" in e)
    assert {n: best[f"eval_iou_{n}"] for n in found.per_category_iou} == found.per_category_iou


@pytest.mark.slow
def test_two_processes_are_one_with_a_double_batch(data: Path, tmp_path: Path) -> None:
    """The same images in the same steps, and the same weights but for the order of sums; see tests/launched.py."""
    (tmp_path / "r.toml").write_text(RECIPE)
    keys: dict[str, list[Any]] = {}
    for name, launch, batch_size in (("two", LAUNCH, 2), ("one", (), 4)):
        folder = tmp_path / name
        folder.mkdir()
        launched(
            *("tests.launched", folder, "train", data, "--model", data.parent / "start", "--out", folder / "run"),
            *(*QUICK, "--recipe", tmp_path / "r.toml", "--batch-size", batch_size, "--set=max_steps=2"),
            launch=launch,
        )
        keys[name] = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]
    expected = [[0, i] for i in order(10, seed=0, epoch=0)]
    assert keys["one"][0][:8] == expected[:8]
    first, second = keys["two"]
    assert first[:4] == expected[0:2] + expected[4:6] and second[:4] == expected[2:4] + expected[6:8]
    two, one = (load_file(tmp_path / n / "run" / "model.safetensors") for n in ("two", "one"))
    start = load_file(tmp_path / "one" / "run" / "checkpoints" / "checkpoint-2" / "raw" / "model.safetensors")
    assert two.keys() == one.keys()
    for name, tensor in one.items():
        assert torch.allclose(two[name].double(), tensor.double(), atol=1e-5), name
    assert max(float((start[n].double() - one[n].double()).abs().max()) for n in one) > 1e-3  # it did move
    scores = [read_manifest(tmp_path / n / "run").summary["mean_iou"] for n in ("two", "one")]
    assert np.isclose(*scores, atol=1e-3)


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_that_all_processes_go_on_from(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    argv = (
        *(
            "labelsync",
            "train",
            data,
            "--model",
            data.parent / "start",
            "--out",
            out,
            "--recipe=demo",
            "--batch-size=2",
        ),
        *(*QUICK, "--learning-rate=0.003", "--epochs=60", "--pictures=0"),
    )
    running = subprocess.Popen(
        [*LAUNCH, *map(str, argv)],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (out / "checkpoints" / "checkpoint-6").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=90)
    assert "is saved; go on with --resume" in said
    last = last_complete(out / "checkpoints")
    assert last is not None and not (out / "manifest.json").exists()
    assert f"step {step_of(last)} of 180 is saved" in said
    record = launched(*argv, "--resume")
    assert record.steps == 180
