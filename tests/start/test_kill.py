"""`labelsync add-images` killed: the same command finishes what was begun, and no image is there twice."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.loopback.segments import LoopbackSegments
from tests.start.conftest import DATASET, Cli, draw_image, record


@pytest.mark.parametrize(
    ("kind", "path", "there"),
    [
        ("delay", "/assets/", 0),
        ("late", "^/$", 0),  # the file is in the storage, and nobody knows where
        ("delay", "/samples_bulk/", 0),
        ("late", "/samples_bulk/", 5),  # all is done, and nobody has heard of it
    ],
)
def test_a_killed_run_is_finished_without_doubles(
    run: Cli, server: LoopbackSegments, tmp_path: Path, kind: str, path: str, there: int
) -> None:
    dataset = server.platform.create("acme", "sidewalk", task_attributes={"categories": [{"id": 1, "name": "road"}]})
    for i in range(5):
        draw_image(tmp_path / f"in/{i}.jpg", i)
    fault = server.faults.add(kind, method="POST", path=path, seconds=60.0)
    env = os.environ | {name: str(value) for name, value in server.env.items()}
    argv = [sys.executable, "-m", "labelsync", "add-images", DATASET, str(tmp_path / "in"), "--workers", "1"]
    with subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while (not fault.hits or len(dataset.samples) < there) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert fault.hits == 1
    assert len(dataset.samples) == there
    server.faults.clear()
    outcomes = [row["outcome"] for row in record(run("add-images", DATASET, "in", "--json"))["rows"]]
    assert outcomes == ["there" if there else "added"] * 5
    assert sorted(s.name for s in dataset.samples.values()) == [f"{i}.jpg" for i in range(5)]
