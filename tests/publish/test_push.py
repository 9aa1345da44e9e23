"""push: through the real command and the real client against a loopback Hub."""

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

from labelsync.errors import PublishError
from labelsync.hub import client
from labelsync.store.files import sha256_file
from labelsync.store.manifest import write_manifest
from tests.loopback import hub_files
from tests.loopback.hub import READ_TOKEN, WRITE_TOKEN, LoopbackHub
from tests.publish.folders import (
    LABELS,
    Cli,
    contents,
    dataset_folder,
    model_folder,
    pushed,
    refused,
    shard,
    weights,
    without_card,
)

# -------------------------------------------------------------------- what a push leaves


def test_everything_arrives_in_one_commit_and_the_tag_is_the_release(
    cli: Cli, server: LoopbackHub, tmp_path: Path
) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    record = pushed(cli, folder)
    repo = server.repo("acme/sidewalk")
    assert [c.title for c in repo.history("main")][1:] == ["initial commit"]
    assert repo.refs == {"refs/heads/main": record["commit"], "refs/tags/v1.0": record["commit"]}
    there = server.files("acme/sidewalk", "v1.0")
    assert without_card(there) == without_card(contents(folder))
    assert "Made of v1.0." in there["README.md"].decode()
    assert (record["added"], record["deleted"], record["kept"], record["unchanged"]) == (5, 0, 0, False)
    assert record["url"] == f"{server.url}/datasets/acme/sidewalk/tree/v1.0"
    assert record["uploaded"] == sum(len(data) for data in there.values())
    shards = sum(len(data) for path, data in there.items() if path.startswith("data/"))
    assert sum(r.received for r in server.log.find("PUT")) == shards


def test_the_same_folder_again_sends_nothing(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    first = pushed(cli, folder)
    del server.log[:]
    again = pushed(cli, folder)
    kept = {"files": dict.fromkeys(first["files"], "kept"), "rows": {}, "decoded": 0}
    assert again == first | kept | {"added": 0, "kept": 5, "uploaded": 0, "unchanged": True}
    assert {r.method for r in server.log} == {"GET"}


def test_a_folder_made_again_from_the_same_is_the_same(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    first = pushed(cli, dataset_folder(tmp_path / "dataset"))
    remade = dataset_folder(tmp_path / "remade")
    manifest = json.loads((remade / "manifest.json").read_text()) | {"created": "2031-01-01T00:00:00+00:00"}
    (remade / "manifest.json").write_text(json.dumps(manifest))
    assert pushed(cli, remade)["commit"] == first["commit"]


def test_the_next_release_replaces_ours_and_leaves_theirs(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    pushed(cli, dataset_folder(tmp_path / "one", **{"train-1": b"more"}))
    card = server.files("acme/sidewalk")["README.md"].decode()
    server.add_repo("acme/sidewalk", {"notes/why.md": "mine", "README.md": card + "\nCall Ana first.\n"})
    folder = dataset_folder(tmp_path / "two", release="v2.0", **{"train-0": b"new"})
    record = pushed(cli, folder)
    there = server.files("acme/sidewalk")
    assert without_card(there) == without_card(contents(folder)) | {"notes/why.md": b"mine"}
    assert "Made of v2.0." in there["README.md"].decode()
    assert "Made of v1.0." not in there["README.md"].decode()
    assert there["README.md"].decode().endswith("\nCall Ana first.\n")
    assert (record["added"], record["deleted"], record["kept"], record["tag"]) == (3, 1, 2, "v2.0")
    assert "data/train-1.parquet" in server.files("acme/sidewalk", "v1.0")


def test_shards_of_another_tool_do_not_stay_in_data(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    server.add_repo("acme/sidewalk", {"data/train-00000-of-00001.parquet": b"old", "old.txt": "x"})
    pushed(cli, dataset_folder(tmp_path / "dataset"))
    there = server.files("acme/sidewalk")
    assert "data/train-00000-of-00001.parquet" not in there
    assert "old.txt" in there


def test_a_model_is_its_manifest_and_nothing_else(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "run")
    record = pushed(cli, folder, "--tag", "v1.0", "--message", "First model")
    there = server.files("acme/sidewalk", "v1.0", kind="model")
    assert set(there) == {"model.safetensors", "config.json", "manifest.json"}
    assert there["model.safetensors"] == weights()
    assert (record["repo_type"], record["url"]) == ("model", f"{server.url}/acme/sidewalk/tree/v1.0")
    assert server.repo("acme/sidewalk", kind="model").resolve("main").title == "First model"


def test_the_next_model_takes_away_what_the_last_one_had(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    one, two = model_folder(tmp_path / "one"), model_folder(tmp_path / "two")
    (one / "model-00001-of-00002.safetensors").write_bytes(weights(more=np.zeros(2)))
    exclude = ("checkpoints", "training_args.bin")
    write_manifest(one, "train", inputs={}, settings={}, summary={}, exclude=exclude)
    pushed(cli, one)
    server.add_repo("acme/sidewalk", {"data/mine.txt": "theirs"}, kind="model")
    assert pushed(cli, two)["deleted"] == 1
    there = set(server.files("acme/sidewalk", kind="model"))
    assert there == {"model.safetensors", "config.json", "manifest.json", "data/mine.txt"}


def test_a_private_repo_is_private_from_its_first_moment(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    pushed(cli, folder, "--private", repo_id="acme/secret")
    assert server.repo("acme/secret").private
    server.add_repo("acme/open")
    assert "acme/open is public" in refused(cli, folder, "--private", repo_id="acme/open")
    assert server.files("acme/open") == {}


@pytest.mark.parametrize(("files", "size", "groups"), [(99, 10**9, 1), (3, 10**9, 3), (99, 12_000, 2)])
def test_contents_go_in_groups_so_that_a_kill_loses_one(
    cli: Cli,
    server: LoopbackHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: int,
    size: int,
    groups: int,
) -> None:
    monkeypatch.setattr(client, "GROUP_FILES", files)
    monkeypatch.setattr(client, "GROUP_BYTES", size)
    folder = dataset_folder(tmp_path / "dataset", **{"train-1": b"b", "train-2": b"c"})
    assert pushed(cli, folder)["added"] == 7
    assert len(server.log.find("POST", "/preupload/")) == groups
    assert without_card(server.files("acme/sidewalk")) == without_card(contents(folder))


def test_no_tag_where_none_is_wanted(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    record = pushed(cli, dataset_folder(tmp_path / "dataset"), "--tag", "")
    assert record["tag"] == ""
    assert set(server.repo("acme/sidewalk").refs) == {"refs/heads/main"}


def test_a_new_card_for_the_same_data_needs_no_new_tag(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    first = pushed(cli, folder)
    (folder / "README.md").write_text("# Better words\n")
    record = pushed(cli, folder)
    assert server.repo("acme/sidewalk").refs["refs/tags/v1.0"] == first["commit"]
    assert "# Better words" in server.files("acme/sidewalk", record["commit"])["README.md"].decode()
    assert (record["added"], record["kept"]) == (1, 4)


def test_a_folder_of_any_name_can_be_pushed(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset_folder(tmp_path / "~")  # which the client would take for a home
    pushed(cli, Path("~"))
    assert set(contents(tmp_path / "~")) == set(server.files("acme/sidewalk"))


def test_an_older_release_may_come_back_and_its_tag_stays(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    one, two = dataset_folder(tmp_path / "one"), dataset_folder(tmp_path / "two", release="v2.0", **{"test-0": b"2"})
    first = pushed(cli, one)
    pushed(cli, two)
    back = pushed(cli, one)
    assert server.repo("acme/sidewalk").refs["refs/tags/v1.0"] == first["commit"] != back["commit"]
    assert server.files("acme/sidewalk")["data/test-0.parquet"] == shard(b"test")


def test_examples_in_the_card_name_the_repo(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    (folder / "README.md").write_text(
        "---\ntags: [x]\n---\nNot user/name.\n\nWith the id of this repository in place of `user/name`:\n\n"
        '```python\nload("user/name@v1", "a/user/name")\n```\n'
    )
    pushed(cli, folder)
    text = server.files("acme/sidewalk")["README.md"].decode()
    assert 'Not user/name.\n\n```python\nload("acme/sidewalk@v1", "a/user/name")\n```' in text


# -------------------------------------------------------------------- bad days


def test_a_lost_commit_answer_is_neither_an_error_nor_a_second_commit(
    cli: Cli, server: LoopbackHub, tmp_path: Path
) -> None:
    fault = server.faults.drop_response(method="POST", path="/commit/")
    record = pushed(cli, dataset_folder(tmp_path / "one", **{"train-1": b"more"}))
    assert fault.hits == 1
    assert len(server.repo("acme/sidewalk").history("main")) == 2
    assert (record["added"], record["unchanged"]) == (6, False)
    server.faults.drop_response(method="POST", path="/commit/")  # now with a delete, which cannot be sent twice
    pushed(cli, dataset_folder(tmp_path / "two", release="v2.0"))
    assert len(server.repo("acme/sidewalk").history("main")) == 3
    assert server.repo("acme/sidewalk").resolve("v2.0") == server.repo("acme/sidewalk").resolve("main")


@pytest.mark.parametrize("html", [False, True])
def test_a_hub_that_fails_for_a_moment_is_asked_again(
    cli: Cli, server: LoopbackHub, tmp_path: Path, html: bool
) -> None:
    for path in ("/api/datasets/acme/sidewalk$", "/refs", "/commit/", "/tag/", "/validate-yaml", "/api/repos/create"):
        server.faults.status(502, path=path, html=html)
    server.faults.drop_response(path="/api/repos/create")  # the next try finds the repo there
    record = pushed(cli, dataset_folder(tmp_path / "dataset"))
    assert len(server.repo("acme/sidewalk").history("main")) == 2
    assert server.repo("acme/sidewalk").refs["refs/tags/v1.0"] == record["commit"]


def test_after_a_failed_commit_only_the_commit_is_missing(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    server.faults.status(503, path="/commit/", times=None)
    assert "the Hub answers 503" in refused(cli, folder)
    assert server.files("acme/sidewalk") == {}
    assert set(server.repo("acme/sidewalk").refs) == {"refs/heads/main"}
    sent = len(server.log.find("PUT"))
    server.faults.clear()
    pushed(cli, folder)
    assert (sent, len(server.log.find("PUT"))) == (2, 2)
    assert without_card(server.files("acme/sidewalk", "v1.0")) == without_card(contents(folder))


def test_after_a_failed_upload_only_the_rest_is_sent(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the client would wait 23 s for a dead storage
    folder = dataset_folder(tmp_path / "dataset")
    digest = sha256_file(folder / "data" / "train-0.parquet")
    server.faults.cut_request(100, method="PUT", path=digest, times=None)
    line = refused(cli, folder)
    assert "no connection to" in line
    assert server.storage_url.removeprefix("http://") in line
    assert server.files("acme/sidewalk") == {}
    server.faults.clear()
    del server.log[:]
    pushed(cli, folder)
    assert [r.path.rpartition("/")[2] for r in server.log.find("PUT")] == [digest]


def test_a_commit_that_was_not_tagged_is_tagged_by_the_next_run(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    server.faults.status(500, path="/tag/", times=None)
    refused(cli, folder)
    server.faults.clear()
    record = pushed(cli, folder)
    assert record["unchanged"]
    assert server.repo("acme/sidewalk").refs["refs/tags/v1.0"] == record["commit"]


def test_a_killed_push_leaves_the_old_state_and_is_finished_by_the_next(
    cli: Cli, server: LoopbackHub, tmp_path: Path
) -> None:
    pushed(cli, dataset_folder(tmp_path / "one"))
    before = server.files("acme/sidewalk")
    folder = dataset_folder(tmp_path / "two", release="v2.0", **{"train-0": b"new", "test-0": b"newer"})
    slow = sha256_file(folder / "data" / "train-0.parquet")
    server.faults.delay(60, method="PUT", path=slow)
    command = [
        sys.executable,
        "-c",
        "from labelsync.hub.push import push; import sys; push(*sys.argv[1:2], repo_id=sys.argv[2])",
    ]
    child = subprocess.Popen([*command, str(folder), "acme/sidewalk"], env=os.environ)
    while not server.log.find("PUT", slow):
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.faults.clear()
    assert server.files("acme/sidewalk") == before
    record = pushed(cli, folder)
    assert without_card(server.files("acme/sidewalk", "v2.0")) == without_card(contents(folder))
    assert (record["added"], record["tag"]) == (4, "v2.0")


def between_plan_and_commit(monkeypatch: pytest.MonkeyPatch, server: LoopbackHub, files: dict[str, bytes]) -> None:
    """Somebody commits these files after the push has planned and before it commits."""
    commit, done = client.HubRepo.commit, []

    def late(self: client.HubRepo, *args: Any, **kwargs: Any) -> str:
        if not done:
            done.append(server.add_repo("acme/sidewalk", files))
        return commit(self, *args, **kwargs)

    monkeypatch.setattr(client.HubRepo, "commit", late)


def test_a_commit_of_somebody_else_in_between_stays(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    between_plan_and_commit(monkeypatch, server, {"notes.txt": b"theirs"})
    folder = dataset_folder(tmp_path / "dataset")
    pushed(cli, folder)
    assert without_card(server.files("acme/sidewalk")) == without_card(contents(folder)) | {"notes.txt": b"theirs"}


@pytest.mark.parametrize("path", ["data/train-0.parquet", "data/train-7.parquet"])
def test_a_push_of_somebody_else_in_between_is_not_overrun(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    server.add_repo("acme/sidewalk", {"data/train-7.parquet": b"theirs"})
    between_plan_and_commit(monkeypatch, server, {path: b"theirs, newer"})
    assert f"somebody changed {path}" in refused(cli, dataset_folder(tmp_path / "dataset"))
    assert server.files("acme/sidewalk")[path] == b"theirs, newer"


def test_a_commit_that_does_not_hold_what_was_sent_is_an_error(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = server.store.put_git
    monkeypatch.setattr(server.store, "put_git", lambda data: put(data.replace(b"road", b"raod")))
    assert "does not hold what was sent: id2label.json" in refused(cli, dataset_folder(tmp_path / "dataset"))
    assert set(server.repo("acme/sidewalk").refs) == {"refs/heads/main"}


# -------------------------------------------------------------------- refusals


def test_a_tag_with_other_content_is_refused_before_anything_is_sent(
    cli: Cli, server: LoopbackHub, tmp_path: Path
) -> None:
    first = pushed(cli, dataset_folder(tmp_path / "one"))
    del server.log[:]
    other = dataset_folder(tmp_path / "other", **{"train-0": b"other"})
    assert "tag v1.0 of acme/sidewalk names other content; pass another --tag, or --move-tag to move it" in refused(
        cli, other
    )
    assert server.repo("acme/sidewalk").refs["refs/heads/main"] == first["commit"]
    assert not server.log.find("PUT|POST")
    assert pushed(cli, other, "--tag", "v1.1")["tag"] == "v1.1"


@pytest.mark.parametrize(
    ("token", "repo_id", "says"),
    [
        ("", "acme/sidewalk", "no Hugging Face token; set HF_TOKEN"),
        ("hf_neverheardofit", "acme/sidewalk", "the Hub does not accept this token; check HF_TOKEN"),
        (READ_TOKEN, "acme/sidewalk", "the token may not write to acme/sidewalk"),
        (READ_TOKEN, "acme/known", "the token may not write to acme/known"),
        (WRITE_TOKEN, "strangers/sidewalk", 'under the namespace "strangers"; use a token with write access'),
        (WRITE_TOKEN, "strangers/known", "the token may not write to strangers/known"),
    ],
)
def test_without_the_right_nothing_is_written(
    cli: Cli,
    server: LoopbackHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    repo_id: str,
    says: str,
) -> None:
    for known in ("acme/known", "strangers/known"):
        server.add_repo(known)
    monkeypatch.setenv("HF_TOKEN", token)
    assert says in refused(cli, dataset_folder(tmp_path / "dataset"), repo_id=repo_id)
    assert {repo.id for repo in server.store.repos.values()} == {"acme/known", "strangers/known"}
    assert server.files("acme/known") == server.files("strangers/known") == {}
    assert not server.log.find(server="storage")


@pytest.mark.parametrize("repo_id", ["sidewalk", "acme/side walk", "acme/sidewalk/v1", "acme/-", "acme/a..b"])
def test_a_name_that_no_repo_can_have(cli: Cli, server: LoopbackHub, tmp_path: Path, repo_id: str) -> None:
    assert "owner/name" in refused(cli, dataset_folder(tmp_path / "dataset"), repo_id=repo_id, code=2)
    assert not server.log


@pytest.mark.parametrize("tag", ["v 1", "-v", "a..b", "main", "v1.lock", "refs/x", "/a", "a/", "a~1", "1234567"])
def test_a_name_that_no_tag_can_have(cli: Cli, server: LoopbackHub, tmp_path: Path, tag: str) -> None:
    assert "cannot be a tag" in refused(cli, dataset_folder(tmp_path / "d"), f"--tag={tag}", code=2)
    assert not server.log


def test_a_tag_that_is_a_branch(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    server.add_repo("acme/sidewalk")
    server.repo("acme/sidewalk").refs["refs/heads/v1.0"] = server.repo("acme/sidewalk").refs["refs/heads/main"]
    assert "has a branch named v1.0" in refused(cli, dataset_folder(tmp_path / "dataset"))


def test_a_hub_that_cannot_be_reached(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    line = refused(cli, dataset_folder(tmp_path / "dataset"))
    assert "no connection to 127.0.0.1:9" in line
    assert "check the network and HF_ENDPOINT" in line
    monkeypatch.setenv("HF_ENDPOINT", "http://[::1")
    assert "no connection to [::1" in refused(cli, tmp_path / "dataset")


@pytest.mark.parametrize(
    ("code", "message", "says"),
    [
        (402, "Payment required", "the Hub has no room for acme/sidewalk: Payment required"),
        (403, "Private repository storage limit reached", "has no room for acme/sidewalk: Private repository"),
        (413, "Payload too large", "the Hub refuses the push to acme/sidewalk (413: Payload too large)"),
        (400, "Bad things", "the Hub refuses the push to acme/sidewalk (400: Bad things)"),
        (500, "Internal", "the Hub answers 500: Internal; try again later"),
        (412, "A commit has happened since", "acme/sidewalk changed while this push ran: A commit has happened"),
    ],
)
def test_what_the_hub_says_is_told_in_one_line(
    cli: Cli, server: LoopbackHub, tmp_path: Path, code: int, message: str, says: str
) -> None:
    server.faults.status(code, path="/commit/", times=None, message=message)
    assert says in refused(cli, dataset_folder(tmp_path / "dataset"))
    assert server.files("acme/sidewalk") == {}


def test_a_rate_limit_is_waited_for_unless_it_is_long(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    server.faults.status(429, path="/refs", times=None, headers={"Retry-After": "3600"})
    assert "the Hub limits the rate of requests; try again in 3600 s" in refused(cli, folder)
    assert len(server.log.find(path="/refs")) == 1
    server.faults.clear()
    server.faults.status(429, path="/commit/", headers={"Retry-After": "1"})
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    pushed(cli, folder)
    assert waits == [1.0]


def test_a_readme_the_hub_does_not_take(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    (folder / "README.md").write_text("---\nlicense: mine\n---\nhello\n")
    assert 'was not taken: Invalid metadata in README.md. - "license" must be one of' in refused(cli, folder)
    assert server.files("acme/sidewalk") == {}


def test_a_gitignore_in_the_repo_leaves_nothing_out(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    server.add_repo("acme/sidewalk", {".gitignore": "data/\n*.json\n"})
    folder = dataset_folder(tmp_path / "dataset")
    pushed(cli, folder)
    assert set(contents(folder)) <= set(server.files("acme/sidewalk"))


def test_a_hub_that_would_leave_a_file_out_is_stopped_before_the_commit(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sort = hub_files._preuploaded
    monkeypatch.setattr(hub_files, "_preuploaded", lambda *args: sort(*args) | {"shouldIgnore": True})
    assert "the .gitignore of acme/sidewalk leaves out README.md" in refused(cli, dataset_folder(tmp_path / "dataset"))
    assert server.files("acme/sidewalk") == {}


def test_folders_that_are_not_to_be_published(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    assert "does not exist" in refused(cli, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no manifest.json" in refused(cli, tmp_path / "empty")
    write_manifest(tmp_path / "empty", "pull", inputs={}, settings={}, summary={})
    assert "was made by labelsync pull; push takes a folder of convert or train" in refused(cli, tmp_path / "empty")
    folder = dataset_folder(tmp_path / "dataset")
    (folder / "data" / "test-0.parquet").write_bytes(b"TEST" * 700)
    assert "test-0.parquet is not what labelsync convert wrote" in refused(cli, folder)
    run = model_folder(tmp_path / "run")
    write_manifest(run, "train", inputs={}, settings={}, summary={})
    assert "which is never published" in refused(cli, run)
    assert not server.log


def test_plain_bitmaps_are_refused(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    (folder / "manifest.json").unlink()
    write_manifest(folder, "convert", inputs={}, settings={"format": "bitmaps"}, summary={}, labels=LABELS)
    line = refused(cli, folder)
    assert "holds plain bitmaps" in line and "convert the release with --format parquet" in line
    assert not server.log


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickled_weights_are_refused(cli: Cli, server: LoopbackHub, tmp_path: Path, name: str) -> None:
    run = model_folder(tmp_path / "run", **{name: b"\x80\x04"})
    assert f"lists {name}, which is never published; run labelsync train again" in refused(cli, run)
    only = tmp_path / "only"
    only.mkdir()
    (only / "config.json").write_text("{}")
    write_manifest(only, "train", inputs={}, settings={}, summary={}, labels=LABELS)
    assert "has no weights in safetensors; run labelsync train again" in refused(cli, only)
    (only / "manifest.json").unlink()
    assert f"was not made by labelsync train; labelsync train --model {only} starts from it" in refused(cli, only)
    (only / "pytorch_model.bin").write_bytes(b"\x80\x04")
    assert "holds pickled weights (pytorch_model.bin); labelsync train --model" in refused(cli, only)
    assert not server.log


# -------------------------------------------------------------------- secrets


def test_the_token_goes_to_the_hub_alone(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    result = cli("push", folder, "--repo-id", "acme/sidewalk", "--json")
    assert server.log.find(server="storage")
    assert not any(r.authorized for r in server.log.find(server="storage"))
    assert all(r.authorized for r in server.log.find(server="hub"))
    server.faults.status(400, path="/commit/", times=None, message=f"no {WRITE_TOKEN} here")
    failed = cli("push", dataset_folder(tmp_path / "two", **{"t": b"t"}), "--repo-id=acme/b", code=1)
    monkeypatch.setenv("LABELSYNC_DEBUG", "1")
    with pytest.raises(PublishError) as e:
        cli("push", tmp_path / "two", "--repo-id=acme/b")
    texts = [result.output, failed.output, str(e.value), repr(e.value)]
    assert not any(WRITE_TOKEN in text for text in texts)
    assert "no *** here" in failed.output
    files = [*contents(folder).values(), *server.files("acme/sidewalk").values()]
    assert not any(WRITE_TOKEN.encode() in data for data in files)


def test_no_token_leaves_by_any_other_way(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("labelsync.hub.publish.COMMIT_FILES", 3)
    caplog.set_level("DEBUG")
    folder, ways = (
        dataset_folder(tmp_path / "dataset", shards=3),
        ("--dry-run", "--create-pr", "--revision=next", "--tag=v1.0"),
    )
    said = [cli("push", folder, "--repo-id=acme/sidewalk", way, "--json").output for way in ways]
    said.append(cli("verify", "acme/sidewalk@v1.0", "--json").output)
    said.append(cli("push", model_folder(tmp_path / "run"), "--repo-id=acme/model", "--tag=v1").output)
    assert len(server.log.find("PUT", server="storage")) and len(server.log.find("GET", server="storage"))
    assert not any(r.authorized for r in server.log.find(server="storage"))
    assert not any(WRITE_TOKEN in r.query + r.path for r in server.log)
    assert not any(WRITE_TOKEN in text for text in [*said, caplog.text])
    published = [(server.store.root / kind).iterdir() for kind in ("git", "lfs")]
    assert not any(WRITE_TOKEN.encode() in file.read_bytes() for files in published for file in files)


def test_a_file_that_holds_the_token_is_not_published(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    (folder / "README.md").write_text(f"login with {WRITE_TOKEN}\n")
    line = refused(cli, folder)
    assert "README.md contains your Hugging Face token" in line
    assert WRITE_TOKEN not in line
    assert not server.log
