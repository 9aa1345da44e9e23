"""push on bad days: whatever fails and wherever it is killed, readers see the old or the new, and the next run ends it.

The quick ones run always; the whole matrix, and the kills, are slow.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labelsync.errors import LabelsyncError, PublishError
from labelsync.hub import patience, publish
from labelsync.hub.push import push
from labelsync.hub.verify import verify
from labelsync.store.files import sha256_file
from tests.loopback.hub import LoopbackHub
from tests.publish.folders import Cli, contents, dataset_folder, pushed, refused, without_card

# what a push asks for, in its order
PLACES = {
    "create": ("POST", "/api/repos/create"),
    "info": ("GET", "/api/datasets/acme/sidewalk/revision/"),
    "refs": ("GET", "/refs"),
    "tree": ("GET", "/tree/"),
    "validate": ("POST", "/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/lfs/objects/batch"),
    "put": ("PUT", "/lfs/"),
    "verify": ("POST", "/api/lfs/verify"),
    "commit": ("POST", "/commit/"),
    "read": ("GET", "/resolve/"),
    "storage": ("GET", "/lfs/"),
    "tag": ("POST", "/tag/"),
}
FAULTS: dict[str, dict[str, Any]] = {
    "409": {"kind": "status", "code": 409},
    "412": {"kind": "status", "code": 412},
    "429": {"kind": "status", "code": 429, "headers": {"Retry-After": "1"}},
    "500": {"kind": "status", "code": 500},
    "502 html": {"kind": "status", "code": 502, "html": True},
    "503 html": {"kind": "status", "code": 503, "html": True},
    "no answer": {"kind": "drop"},
    "lost answer": {"kind": "drop_response"},
    "cut answer": {"kind": "cut", "after": 10},
    "cut request": {"kind": "cut_request", "after": 100},
}


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between tries, the client's own included."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


def require_no_mixture(server: LoopbackHub, *folders: Path) -> None:
    """Every commit that main or a tag was ever at is empty, or holds all of one folder and nothing of the others."""
    repo = server.repo("acme/sidewalk")
    whole = [without_card(contents(folder)) for folder in folders]
    for revision in ("main", *(ref for ref in repo.refs if ref.startswith("refs/tags/"))):
        for commit in repo.history(revision):
            there = without_card(server.files("acme/sidewalk", commit.oid))
            assert there == {} or there in whole, commit.title


def two_rounds(cli: Cli, tmp_path: Path) -> tuple[Path, Path]:
    """A round that is published, and one that is to be: a changed shard, a new one, a stale one."""
    one = dataset_folder(tmp_path / "one", **{"train-1": b"stale"})
    two = dataset_folder(tmp_path / "two", release="v2.0", **{"train-0": b"other", "train-2": b"new"})
    return one, two


# -------------------------------------------------------------------- one fault


def check_one_fault(
    cli: Cli, server: LoopbackHub, tmp_path: Path, fault: str, place: str, *, times: int | None
) -> None:
    one, two = two_rounds(cli, tmp_path)
    if place != "create":
        pushed(cli, one)
    method, path = PLACES[place]
    server.faults.add(**FAULTS[fault], method=method, path=path, times=times)
    said = cli_code(cli, two)
    server.faults.clear()
    if server.store.repos:
        require_no_mixture(server, one, two)
    if times == 1 and said is not None:
        assert fault in ("409", "412"), said  # the Hub said that it means it
    record = pushed(cli, two)
    require_no_mixture(server, one, two)
    assert without_card(server.files("acme/sidewalk", "v2.0")) == without_card(contents(two))
    assert server.repo("acme/sidewalk").refs["refs/heads/main"] == record["commit"]
    assert len(server.repo("acme/sidewalk").history("main")) == 2 + (place != "create")


def cli_code(cli: Cli, folder: Path) -> str | None:
    """The error line of a push, None if it succeeds."""
    try:
        push(folder, repo_id="acme/sidewalk")
    except LabelsyncError as e:
        assert "\n" not in str(e) and e.hint
        return str(e)
    return None


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        ("412", "commit"),
        ("409", "commit"),
        ("429", "batch"),
        ("500", "tag"),
        ("503 html", "commit"),
        ("lost answer", "commit"),
        ("lost answer", "tag"),
        ("cut request", "put"),
        ("cut answer", "tree"),
        ("no answer", "storage"),
    ],
)
def test_one_fault_costs_nothing(
    cli: Cli, server: LoopbackHub, tmp_path: Path, no_waiting: None, fault: str, place: str
) -> None:
    check_one_fault(cli, server, tmp_path, fault, place, times=1)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_at_every_place(
    cli: Cli, server: LoopbackHub, tmp_path: Path, no_waiting: None, fault: str, place: str, times: int | None
) -> None:
    check_one_fault(cli, server, tmp_path, fault, place, times=times)


# -------------------------------------------------------------------- silence


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenths of seconds for what takes half a minute."""
    monkeypatch.setattr(patience, "ANSWER", 0.2)
    monkeypatch.setattr(patience, "COMMIT_ANSWER", 0.3)
    monkeypatch.setattr(patience, "LIMIT", 0.5)


@pytest.fixture
def deaf() -> Iterator[str]:
    """The url of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_hub_that_takes_and_never_answers(
    cli: Cli, tmp_path: Path, deaf: str, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", deaf)
    started = time.monotonic()
    line = refused(cli, dataset_folder(tmp_path / "dataset"))
    assert f"{deaf.removeprefix('http://')} has not answered for" in line or "no connection to" in line
    assert cli("verify", "acme/sidewalk", code=1).stderr.startswith("labelsync: ")
    assert time.monotonic() - started < 6


@pytest.mark.parametrize("place", ["tree", "preupload", "batch", "put", "commit", "read", "tag"])
def test_a_service_that_goes_silent(cli: Cli, server: LoopbackHub, tmp_path: Path, impatient: None, place: str) -> None:
    one, two = two_rounds(cli, tmp_path)
    pushed(cli, one)
    method, path = PLACES[place]
    server.faults.delay(60, method=method, path=path, times=None)
    started = time.monotonic()
    said = refused(cli, two)
    assert time.monotonic() - started < 12
    assert "has not answered for" in said or "no connection to" in said
    server.faults.clear()
    pushed(cli, two)
    require_no_mixture(server, one, two)


def test_the_limits_end_in_less_than_a_minute() -> None:
    """The client tries again after 1, 2, 4 seconds, and no try begins after LIMIT."""
    at, pause = 0.0, 1.0
    while at <= patience.LIMIT:
        at, pause = at + max(patience.ANSWER, patience.CONNECT) + pause, pause * 2
    assert at < 60


def test_limits_that_somebody_has_set_stay(server: LoopbackHub) -> None:
    from huggingface_hub.utils import get_session

    seen: list[dict[str, float | None]] = []
    patience.limit_waiting()
    session = get_session()
    hooks = session.event_hooks
    session.event_hooks = hooks | {"request": [*hooks["request"], lambda r: seen.append(r.extensions["timeout"])]}
    session.get(f"{server.url}/api/whoami-v2", timeout=7)
    session.get(f"{server.url}/api/whoami-v2")
    session.event_hooks = hooks
    assert [s["read"] for s in seen] == [7, patience.ANSWER]
    patience.limit_waiting()
    assert session.event_hooks["request"].count(patience._asked) == 1


def test_a_dead_storage_is_given_up(
    cli: Cli, server: LoopbackHub, tmp_path: Path, no_waiting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "storage_url", "http://127.0.0.1:9")
    assert "no connection to" in refused(cli, dataset_folder(tmp_path / "dataset"))
    assert server.files("acme/sidewalk") == {}


@pytest.mark.parametrize(
    "cause",
    [
        RuntimeError("Cannot send a request, as the client has been closed."),
        AttributeError("'NoneType' object has no attribute 'request'"),
    ],
    ids=["closed", "gone"],
)
def test_uploads_whose_session_was_closed_are_repeated(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    from huggingface_hub import HfApi

    send, failed = HfApi.preupload_lfs_files, []

    def closed(self: HfApi, *args: Any, **kwargs: Any) -> None:
        if len(failed) < 2:
            failed.append(1)
            raise RuntimeError("Error while uploading 'x' to the Hub.") from cause
        send(self, *args, **kwargs)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", closed)
    assert pushed(cli, dataset_folder(tmp_path / "dataset"))["added"] == 5
    assert len(failed) == 2


# -------------------------------------------------------------------- two at once


def test_of_two_pushes_at_once_both_arrive_or_one_says_so(
    server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [dataset_folder(tmp_path / f"{i}", release=f"v{i}.0", **{"train-0": b"%d" % i}) for i in range(2)]
    server.add_repo("acme/sidewalk")
    commit, meeting, arrived = publish.HubRepo.commit, threading.Barrier(2), []

    def together(self: publish.HubRepo, *args: Any, **kwargs: Any) -> str:
        arrived.append(self)
        if len(arrived) <= 2:
            meeting.wait(20)
        return commit(self, *args, **kwargs)

    monkeypatch.setattr(publish.HubRepo, "commit", together)
    ends: dict[int, Any] = {}

    def run(i: int) -> None:
        try:
            ends[i] = push(folders[i], repo_id="acme/sidewalk")
        except PublishError as e:
            ends[i] = e

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    (lost,) = [i for i in ends if isinstance(ends[i], Exception)]
    assert "somebody changed" in str(ends[lost])
    repo = server.repo("acme/sidewalk")
    assert [ref for ref in repo.refs if ref.startswith("refs/tags/")] == [f"refs/tags/v{1 - lost}.0"]
    require_no_mixture(server, *folders)
    push(folders[lost], repo_id="acme/sidewalk")
    require_no_mixture(server, *folders)
    assert {"refs/tags/v0.0", "refs/tags/v1.0"} <= set(repo.refs)


def test_two_pushes_of_the_same_are_one_commit(server: LoopbackHub, tmp_path: Path) -> None:
    folder, records = dataset_folder(tmp_path / "dataset"), []
    threads = [threading.Thread(target=lambda: records.append(push(folder, repo_id="acme/sidewalk"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(records) == 2 and len({r.commit for r in records}) == 1
    assert len(server.repo("acme/sidewalk").history("main")) == 2


# -------------------------------------------------------------------- kills

PROGRAM = """
import sys
from labelsync.hub import publish
from labelsync.hub.push import push
publish.COMMIT_FILES = int(sys.argv[3])
push(sys.argv[1], repo_id=sys.argv[2])
"""

# where the process is killed: the request that it waits for, before ("delay") or after ("late") its work is done
MOMENTS = {
    "before the upload": ("delay", "POST", "/preupload/"),
    "before the first file": ("delay", "PUT", "/lfs/"),
    "after a file": ("late", "PUT", "/lfs/"),
    "before the commit": ("delay", "POST", "/commit/main"),
    "after the commit": ("late", "POST", "/commit/main"),
    "while it is read back": ("delay", "GET", "/lfs/"),
    "before the tag": ("delay", "POST", "/tag/"),
    "after the tag": ("late", "POST", "/tag/"),
}
IN_A_REQUEST = {
    "before the request": ("delay", "POST", "/discussions$"),
    "after the request": ("late", "POST", "/discussions$"),
    "before its first part": ("delay", "POST", "/commit/refs"),
    "after its first part": ("late", "POST", "/commit/refs"),
    "before it is ready": ("delay", "POST", "/status$"),
    "after it is ready": ("late", "POST", "/status$"),
    "before the merge": ("delay", "POST", "/merge$"),
    "after the merge": ("late", "POST", "/merge$"),
}


def check_kill(cli: Cli, server: LoopbackHub, tmp_path: Path, moment: tuple[str, str, str], *, files: int) -> None:
    one, two = two_rounds(cli, tmp_path)
    pushed(cli, one)
    kind, method, path = moment
    fault = server.faults.add(kind, method=method, path=path, seconds=60)
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(two), "acme/sidewalk", str(files)], env=os.environ, stderr=subprocess.PIPE
    )
    while not fault.hits:
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    require_no_mixture(server, one, two)
    server.faults.clear()
    repo = server.repo("acme/sidewalk")
    record = push(two, repo_id="acme/sidewalk")
    require_no_mixture(server, one, two)
    assert len(repo.history("main")) == 3
    assert repo.refs["refs/tags/v2.0"] == repo.refs["refs/heads/main"] == record.commit
    assert without_card(server.files("acme/sidewalk", "v2.0")) == without_card(contents(two))
    assert verify("acme/sidewalk@v1.0").release == "v1.0"
    assert verify("acme/sidewalk@v2.0").release == "v2.0"
    assert {r.status for r in repo.pull_requests.values()} <= {"merged", "closed"}
    changed = {sha256_file(f) for f in (two / "data").iterdir()} - {sha256_file(f) for f in (one / "data").iterdir()}
    assert len(server.log.find("PUT")) <= 3 + len(changed) + 1  # what was on its way is sent once more


def test_a_kill_after_the_commit_is_finished_by_the_next_run(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    check_kill(cli, server, tmp_path, MOMENTS["after the commit"], files=100)


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_at_any_moment(cli: Cli, server: LoopbackHub, tmp_path: Path, moment: str) -> None:
    check_kill(cli, server, tmp_path, MOMENTS[moment], files=100)


@pytest.mark.slow
@pytest.mark.parametrize("moment", IN_A_REQUEST)
def test_a_kill_at_any_moment_of_a_pull_request(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr(publish, "COMMIT_FILES", 3)
    check_kill(cli, server, tmp_path, IN_A_REQUEST[moment], files=3)


@pytest.mark.slow
def test_a_hundred_and_twenty_shards_move_main_once(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset", shards=120)
    record = pushed(cli, folder)
    assert (record["added"], record["rows"]) == (125, {"test": 2, "train": 242})
    assert len(server.repo("acme/sidewalk").history("main")) == 2
    assert [len(c.tree) for c in server.repo("acme/sidewalk").history("refs/pr/1")] == [126, 101, 1]
    require_no_mixture(server, folder)
