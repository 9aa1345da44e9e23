"""push and verify as users have them by default: over Xet, by the unmodified hf_xet, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labelsync
from labelsync.dataset import shards
from labelsync.hub.verify import verify
from tests.loopback.hub import LoopbackHub
from tests.publish.folders import contents, dataset_folder, without_card
from tests.test_layout import Change, Rounds


def labelsync_on(machine: Path, *argv: object, code: int = 0) -> Any:
    """A command in a process whose home is `machine`: its record, or the last line of an error."""
    impatient = {"HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1", "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms"}
    env = os.environ | {"HF_HUB_DISABLE_XET": "0", "HF_HOME": str(machine)} | impatient
    argv = (sys.executable, "-m", "labelsync", *argv, *(["--json"] if code == 0 else []))
    done = subprocess.run([str(a) for a in argv], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr.strip().splitlines()[-1]


def sent(server: LoopbackHub) -> int:
    """Bytes that came to the storage since the last time."""
    assert not server.log.find("PUT", "/lfs/"), "LFS was used"
    received = sum(r.received for r in server.log.find("POST", "", "storage"))
    server.log.clear()
    return received


def some_of_five(count: int) -> Change:
    """A change: so many of every five samples, which lie between each other in order of names."""

    def change(document: dict[str, Any]) -> None:
        samples = document["dataset"]["samples"]
        document["dataset"]["samples"] = [s for i, s in enumerate(samples) if i % 5 < count]

    return change


def test_rounds_send_their_change_from_whatever_machine(
    server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 1000)
    rounds = Rounds(tmp_path, samples=100, size=(240, 320))
    made = [rounds.convert(some_of_five(count)) for count in (3, 4, 5)]
    sizes = [sum(len(r.image) + len(r.label) for r in labelsync.load(d).splits["train"]) for d in made]
    for folder, machine, change in zip(made, ("here", "there", "there"), np.diff([0, *sizes]), strict=True):
        labelsync_on(tmp_path / machine, "push", folder, "--repo-id", "acme/sidewalk")
        assert 0.9 * change < sent(server) < 1.5 * change, "half a megabyte, and two or three chunks of 64 kB"
        assert without_card(server.files("acme/sidewalk")) == without_card(contents(folder))
    for tag in ("v1", "v2", "v3"):
        assert verify(f"acme/sidewalk@{tag}").release == tag
    server.log.clear()
    assert labelsync_on(tmp_path / "reader", "check", "acme/sidewalk@v3")["samples"] == 100
    assert server.log.find("GET", "/xorbs/") and not server.log.find("GET", "/lfs/"), "it is fetched over Xet too"


def test_a_storage_that_fails_is_one_line_and_the_next_push_ends_it(server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    fault = server.faults.add("status", method="POST", path="/v1/shards", code=503, times=None)
    line = labelsync_on(tmp_path / "here", "push", folder, "--repo-id", "acme/sidewalk", code=1)
    assert fault.hits and line.startswith("labelsync: ") and "Traceback" not in line
    assert server.files("acme/sidewalk") == {}
    server.faults.clear()
    labelsync_on(tmp_path / "here", "push", folder, "--repo-id", "acme/sidewalk")
    assert without_card(server.files("acme/sidewalk", "v1.0")) == without_card(contents(folder))
