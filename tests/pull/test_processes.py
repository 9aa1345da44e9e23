"""`labelsync pull` as a process of its own: what the terminal shows, and what a kill leaves."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from labelsync.release.folder import open_release
from labelsync.store.manifest import verify_files
from tests.loopback.segments import LoopbackSegments
from tests.pull.conftest import Cli

COMMAND = [sys.executable, "-m", "labelsync", "pull"]


def test_an_unreachable_server_is_one_line_and_nothing_else(server: LoopbackSegments) -> None:
    env = os.environ | server.env | {"SEGMENTS_API_URL": "http://127.0.0.1:9"}
    done = subprocess.run([*COMMAND, "acme/sidewalk@v1.0"], env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "labelsync: http://127.0.0.1:9: the host cannot be reached; check the network and SEGMENTS_API_URL"
    ]


def test_a_killed_pull_leaves_no_folder_and_the_next_one_goes_on(
    run: Cli, platform: Callable[..., str], server: LoopbackSegments, cache: Path
) -> None:
    name = platform(samples=6)
    slow = server.faults.delay(30, path="frame_000[45]", times=None)
    process = subprocess.Popen([*COMMAND, name], env=os.environ | server.env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while (slow.hits < 2 or len(list(cache.rglob("*.json"))) < 10) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("sidewalk-v1.0").exists()
    server.faults.clear()
    before = len(_served(server))
    run(name)
    assert len(_served(server)) - before == 2
    folder = open_release("sidewalk-v1.0")
    assert verify_files(folder.path, folder.manifest) == []
    assert {p.name for p in Path.cwd().iterdir()} == {"drawn", "sidewalk-v1.0", ".sidewalk-v1.0.lock"}


def _served(server: LoopbackSegments) -> list[object]:
    return [r for r in server.log.find(path="/images/|/bitmaps/") if r.status == 200]
