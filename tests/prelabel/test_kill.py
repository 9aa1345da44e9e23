"""SIGKILL around every request of a write: the record that is left is enough to go on from, and to take all back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.prelabel.conftest import DATASET, FREE, MIN_SIZE, World
from tests.releases import sample_uuid

ROOT = Path(__file__).parents[2]
TWO = sample_uuid(2)  # the second that is written
FOREVER = 600.0  # the server hangs up when the test ends

# kind of fault, method, path, requests that pass first; "late" = the work is done and the answer does not come
POINTS = {
    "uploading": ("delay", "POST", "/assets/", 1),
    "in the bucket": ("late", "POST", "^/$", 1),
    "looking": ("delay", "GET", f"/labels/{TWO}/", 0),
    "writing, not done": ("delay", "PUT", f"/labels/{TWO}/", 0),
    "writing, done": ("late", "PUT", f"/labels/{TWO}/", 0),
    "looking again": ("delay", "GET", f"/labels/{TWO}/", 1),
}
DONE = ("writing, done", "looking again")
slow = pytest.mark.slow
SOME = [pytest.param(p, marks=[] if p == "writing, done" else slow) for p in POINTS]


def killed(world: World, argv: list[object], kind: str, method: str, path: str, skip: int) -> None:
    """Run the command as a process and kill it while the server does not answer."""
    fault = world.server.faults.add(kind, method=method, path=path, skip=skip, seconds=FOREVER)
    rest = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    env = rest | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""} | world.server.env
    command = [sys.executable, "-m", "labelsync", "prelabel", *map(str, argv)]
    running = subprocess.Popen(
        command, env={k: v for k, v in env.items() if v}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not fault.hits and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if kind == "late":
            time.sleep(0.2)  # the work
        running.send_signal(signal.SIGKILL)
    finally:
        running.kill()
        _, said = running.communicate()
    assert fault.hits == 1 and running.returncode == -signal.SIGKILL, said
    world.server.faults.clear()
    time.sleep(0.2)  # what other threads of it had sent


def forward(world: World) -> list[object]:
    return [world.model, DATASET, "--min-size", MIN_SIZE, "--out", world.folder / "p", "--device", "cpu"]


def written(world: World) -> int:
    """Labels that the platform has from the run; several are under way at a time."""
    return world.statuses().count("PRELABELED")


@pytest.mark.parametrize("point", SOME)
def test_a_killed_run_goes_on_without_doubles_and_can_be_taken_back(world: World, point: str) -> None:
    killed(world, forward(world), *POINTS[point])
    there = written(world)
    if TWO in POINTS[point][2]:
        assert (world.statuses()[2] == "PRELABELED") == (point in DONE)
    outcomes = world.record("--limit", 4).outcomes
    assert (outcomes.get("there", 0), outcomes.get("prelabeled", 0), outcomes["labeled"]) == (there, 4 - there, 2)
    assert world.statuses() == ["LABELED", "PRELABELED", "PRELABELED", "LABELED", "PRELABELED", "PRELABELED"]
    done = [r.path for r in world.server.log.find("PUT", "/labels/") if r.status == 200]
    assert sorted(done) == sorted(f"/labels/{sample_uuid(i)}/ground-truth/" for i in FREE)  # each once
    assert world.undone().outcomes == {"undone": 4}
    assert world.statuses() == ["LABELED", "", "", "LABELED", "", ""]


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_run_is_taken_back_from_its_record_alone(world: World, point: str) -> None:
    killed(world, forward(world), *POINTS[point])
    there = written(world)
    outcomes = world.undone().outcomes
    assert outcomes.get("undone", 0) == there
    assert outcomes.keys() <= {"undone", "gone"}  # "gone": it may have been written, and is not there
    assert world.statuses() == ["LABELED", "", "", "LABELED", "", ""]


@pytest.mark.slow
def test_the_limit_counts_what_the_killed_run_wrote(world: World) -> None:
    killed(world, [*forward(world), "--limit", 3], *POINTS["writing, done"])
    there = written(world)
    outcomes = world.record("--limit", 3).outcomes
    assert (outcomes["there"], outcomes.get("prelabeled", 0), outcomes["left"]) == (there, 3 - there, 1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delay", "late"])
def test_a_killed_undo_goes_on(world: World, kind: str) -> None:
    world.run()
    killed(world, ["--undo", world.folder / "p"], kind, "DELETE", f"/labels/{TWO}/", 0)
    left = len(FREE) - world.events().count("undone")
    assert left >= 1
    assert sum(world.undone().outcomes.values()) == left
    assert world.statuses() == ["LABELED", "", "", "LABELED", "", ""]
    assert len(world.server.log.find("DELETE")) == len(FREE) + (kind == "delay")


@pytest.mark.slow
def test_a_run_after_a_killed_undo_knows_what_is_left(world: World) -> None:
    world.run()
    killed(world, ["--undo", world.folder / "p"], "late", "DELETE", f"/labels/{TWO}/", 0)
    gone = len(FREE) - written(world)
    outcomes = world.record().outcomes
    assert (outcomes["prelabeled"], outcomes.get("there", 0), outcomes["labeled"]) == (gone, len(FREE) - gone, 2)
