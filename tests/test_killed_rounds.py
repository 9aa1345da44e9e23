"""A round whose process is killed, wherever it is: the next run goes on there and ends as if nothing had happened.

One moment is tried always, all of them are slow.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from labelsync.store.manifest import read_manifest
from tests.releases import draw_release
from tests.test_rounds import SAMPLES, STAGES, Team, heads, team

assert team  # the fixture

# `labelsync run`, where the n-th call of some function leaves a mark and never ends
PROGRAM = """
import importlib, sys, time
from pathlib import Path
mark, place, skip, *argv = sys.argv[1:]
if place:
    module, name, method = place.split(":")
    owner = importlib.import_module(module)
    owner = getattr(owner, name) if name else owner
    real, calls = getattr(owner, method), []
    def held(*args, **kwargs):
        calls.append(1)
        if len(calls) > int(skip):
            Path(mark).touch()
            time.sleep(120)
        return real(*args, **kwargs)
    setattr(owner, method, held)
from labelsync.cli.main import main
main(argv)
"""

# the stage that is killed -> moments: a request that is held before ("delay") or after ("late") its work, with the
# number of such requests that pass; or a function that is held, with the number of its calls that pass
Moment = tuple[str, ...]
MOMENTS: dict[str, tuple[str, Moment]] = {
    "in the list of samples": ("pull", ("delay", "platform", "GET", "/release", "0")),
    "between two images": ("pull", ("delay", "platform", "GET", r"\.jpg", "7")),
    "between two shards": ("convert", ("call", "labelsync.dataset.pool::write_shard", "1")),
    "before the dataset's manifest": ("convert", ("call", "labelsync.dataset.convert::write_manifest", "0")),
    "before the dataset's files": ("push-dataset", ("delay", "hub", "PUT", "/lfs/", "0")),
    "between its files": ("push-dataset", ("late", "hub", "PUT", "/lfs/", "1")),
    "before its commit": ("push-dataset", ("delay", "hub", "POST", "/api/datasets/.*/commit/", "0")),
    "after its commit": ("push-dataset", ("late", "hub", "POST", "/api/datasets/.*/commit/", "0")),
    "before its tag": ("push-dataset", ("delay", "hub", "POST", "/api/datasets/.*/tag/", "0")),
    "after its tag": ("push-dataset", ("late", "hub", "POST", "/api/datasets/.*/tag/", "0")),
    "between two steps": ("train", ("call", "labelsync.training.trainer:SegmentationTrainer:training_step", "1")),
    "before the model is written": ("train", ("call", "labelsync.training.run::write_manifest", "0")),
    "in the evaluation": ("evaluate", ("call", "labelsync.evaluation.evaluate::_tally", "0")),
    "before the model's commit": ("push-model", ("delay", "hub", "POST", "/api/models/.*/commit/", "0")),
    "after the model's commit": ("push-model", ("late", "hub", "POST", "/api/models/.*/commit/", "0")),
    "after the model's tag": ("push-model", ("late", "hub", "POST", "/api/models/.*/tag/", "0")),
    "before production moves": ("promote", ("delay", "hub", "POST", "/api/models/.*/tag/", "1")),
    "after production has moved": ("promote", ("late", "hub", "POST", "/api/models/.*/tag/", "1")),
}


def killed(team: Team, moment: Moment) -> None:
    """`labelsync run`, ended by SIGKILL when it is at that moment."""
    kind, where, *rest = moment
    mark = team.folder / "mark"
    if kind == "call":
        place, skip, fault = where, rest[0], None
    else:
        method, path, passed = rest
        faults = team.platform.faults if where == "platform" else team.hub.faults
        place, skip = "", "0"
        fault = faults.add(kind, method=method, path=path, skip=int(passed), seconds=120)
    argv = [sys.executable, "-c", PROGRAM, str(mark), place, skip, "run", str(team.folder / "labelsync.toml")]
    process = subprocess.Popen(argv, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not (mark.exists() if fault is None else fault.hits):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)
    time.sleep(0.2)  # for what the process does while it waits
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    team.platform.faults.clear()
    team.hub.faults.clear()


def left(team: Team, name: str) -> dict[str, Any]:
    """What a round left, the repos' names and all clocks aside."""
    folder = team.folder / "rounds" / name
    files = {p: read_manifest(folder / p, verb).files for p, verb in FOLDERS.items() if (folder / p).is_dir()}
    digests = {(p, f): entry for p in files for f, entry in files[p].items() if f not in NAMED}
    published = {
        (kind, path): data
        for kind, repo in (("dataset", team.dataset), ("model", team.model))
        for path, data in team.hub.files(repo, name, kind=kind).items()
        if path not in NAMED
    }
    commits = {
        kind: len(team.hub.repo(getattr(team, kind), kind=kind).history("main")) for kind in ("dataset", "model")
    }
    tags = {kind: sorted(heads(team, kind)) for kind in ("dataset", "model")}
    at = {kind: [n for n, c in heads(team, kind).items() if c == heads(team, kind)["main"]] for kind in tags}
    rest = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")
    return {"digests": digests, "published": published, "commits": commits, "tags": tags, "at": at, "files": rest}


NAMED = ("README.md", "manifest.json", "evaluation.json")  # they name repos, commits or times
FOLDERS = {"release": "pull", "dataset": "convert", "model": "train", "evaluation": "evaluate"}


def check_kill(team: Team, moment: str) -> None:
    stage, where = MOMENTS[moment]
    drawn = team.folder / "drawn"  # images of its own: what another test has sent to the Hub would not be sent again
    path = draw_release(
        drawn, samples=SAMPLES, seed=100 + list(MOMENTS).index(moment), base_url=team.platform.mount(drawn)
    )
    team.document = json.loads(path.read_text())
    team.label("v1")
    killed(team, where)
    record = team.run()
    ends = {s["stage"]: s["outcome"] for s in record["stages"]}
    assert list(ends) == STAGES
    before = STAGES[: STAGES.index(stage)]
    assert {ends[s] for s in before} <= {"unchanged", "skipped"}, ends
    assert set(ends.values()) <= {"done", "unchanged", "skipped"}
    after = left(team, "v1")
    begun = {p.name for p in (team.folder / "rounds").iterdir() if p.suffix != ".lock"}
    assert begun == {"v1", "production.json"}
    # the same again, undisturbed
    for old in (team.dataset, team.model):
        team.edit(old, f"{old}-calm")
    team.dataset, team.model = f"{team.dataset}-calm", f"{team.model}-calm"
    shutil.rmtree(team.folder / "rounds")
    calm = team.run()
    expected = left(team, "v1")
    for what, value in expected.items():
        assert after[what] == value, what
    assert (record["mean_iou"], record["failed_gates"]) == (calm["mean_iou"], calm["failed_gates"])


def test_a_round_killed_between_commit_and_tag_goes_on(team: Team) -> None:
    check_kill(team, "after its commit")


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_round_killed_at_any_moment_goes_on(team: Team, moment: str) -> None:
    check_kill(team, moment)
