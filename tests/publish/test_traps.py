# ruff: noqa: E501 - one line per trap
"""The traps of publishing with today's clients, each with the test that labelsync does not step into it."""

import importlib
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import hf_hub_download

from labelsync.hub import client, patience
from labelsync.hub.push import push
from labelsync.store.manifest import write_manifest
from tests.loopback.hub import READ_TOKEN, LoopbackHub
from tests.publish.folders import (
    Cli,
    contents,
    dataset_folder,
    pushed,
    refused,
    shard,
    without_card,
)

# what datasets.push_to_hub, the Trainer or huggingface_hub do -> the test that a push does not, "module:test"
TRAPS = {
    "a tag name as revision makes a branch of that name": "ways:test_names_that_no_branch_can_have",
    "shards are built in TMPDIR, and a kill leaves them there": "traps:test_nothing_is_written_beside_the_folder",
    "more than 50 shards are several commits on main": "ways:test_many_files_move_main_once",
    "killed between those commits, main holds old and new": "ways:test_a_push_that_died_in_its_pull_request_goes_on_there",
    "many shards with create_pr are as many requests": "traps:test_many_files_are_one_pull_request",
    "id2label.json is forgotten, or deleted below data/": "push:test_everything_arrives_in_one_commit_and_the_tag_is_the_release",
    "a folder below data/ is a 404": "traps:test_a_folder_below_data_goes_too",
    "files of another tool stay in data/ and are loaded": "push:test_shards_of_another_tool_do_not_stay_in_data",
    "a split of other features is a ValueError": "traps:test_other_columns_and_splits_replace_the_old_ones",
    "409 and 412 end the push": "push:test_a_commit_of_somebody_else_in_between_stays",
    "Parquet that is no LFS file breaks the push": "traps:test_a_repo_without_gitattributes_is_pushed_to",
    "a second push of the same is a second commit": "push:test_the_same_folder_again_sends_nothing",
    "a killed push sends everything again": "push:test_after_a_failed_upload_only_the_rest_is_sent",
    "training_args.bin carries the token": "push:test_a_model_is_its_manifest_and_nothing_else",
    "create_tag says nothing of a tag that is elsewhere": "traps:test_a_tag_that_somebody_puts_meanwhile_is_not_taken_for_ours",
    "README.md is overwritten": "push:test_the_next_release_replaces_ours_and_leaves_theirs",
    "upload_folder splits what it sends into commits": "push:test_everything_arrives_in_one_commit_and_the_tag_is_the_release",
    "a Hub in trouble: the cache answers with an older file": "traps:test_an_older_copy_in_the_cache_is_not_what_main_holds",
    "what is read back comes from the cache": "verify:test_what_is_verified_is_what_the_tag_names_now",
    "operations remember what the Hub held": "push:test_a_push_of_somebody_else_in_between_is_not_overrun",
    "a lost answer to deletes is a 404 when repeated": "push:test_a_lost_commit_answer_is_neither_an_error_nor_a_second_commit",
    "HF_ENDPOINT counts at import only": "traps:test_the_endpoint_is_that_of_the_moment",
    "a single 503 of a GET ends a read": "verify:test_a_bad_moment_while_reading_back_is_asked_again",
    "the Hub refuses files with anybody's token": "traps:test_a_token_of_somebody_else_is_found_by_the_hub",
    "a page of HTML is a JSONDecodeError": "push:test_a_hub_that_fails_for_a_moment_is_asked_again",
    "a busy Hub is asked for a repo without end or pause": "traps:test_a_repo_is_not_asked_for_without_end",
    "a rate limit of an hour is slept through": "traps:test_a_long_rate_limit_of_the_storage_is_told",
    "a dead Xet storage is tried for seven minutes": "traps:test_xet_gives_up_in_time",
    "nothing has a time limit": "faults:test_a_hub_that_takes_and_never_answers",
    "one refused connection closes the session of all uploads": "faults:test_uploads_whose_session_was_closed_are_repeated",
    "a signed url is logged with its signature": "traps:test_warnings_carry_no_signature",
}


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_has_its_test(trap: str) -> None:
    module, _, test = TRAPS[trap].partition(":")
    assert callable(getattr(importlib.import_module(f"tests.publish.test_{module}"), test))


def test_nothing_is_written_beside_the_folder(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    folder = dataset_folder(tmp_path / "dataset")
    before = contents(folder)
    temporary.chmod(0o500)
    pushed(cli, folder)
    assert contents(folder) == before
    assert not list(temporary.iterdir())


def test_many_files_are_one_pull_request(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelsync.hub.publish.COMMIT_FILES", 3)
    server.add_repo("acme/sidewalk")
    folder = dataset_folder(tmp_path / "dataset", shards=6)
    pushed(cli, folder, "--create-pr")
    assert {n: r.status for n, r in server.repo("acme/sidewalk").pull_requests.items()} == {1: "open"}
    assert without_card(server.files("acme/sidewalk", "refs/pr/1")) == without_card(contents(folder))


def test_a_folder_below_data_goes_too(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    server.add_repo("acme/sidewalk", {"data/old/train-0.parquet": b"old", "data/id2label.json": "{}"})
    folder = dataset_folder(tmp_path / "dataset")
    assert pushed(cli, folder)["deleted"] == 2
    assert without_card(server.files("acme/sidewalk")) == without_card(contents(folder))


def test_other_columns_and_splits_replace_the_old_ones(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    import io

    import pyarrow.parquet as pq

    pushed(cli, dataset_folder(tmp_path / "one"))
    folder = dataset_folder(tmp_path / "two", release="v2.0", **{"validation-0": b"new"})
    (folder / "data/test-0.parquet").unlink()
    for file in (folder / "data").iterdir():
        out = io.BytesIO()
        pq.write_table(pq.read_table(file).rename_columns(["image", "label", "name", "uuid"]), out)
        file.write_bytes(out.getvalue())
    (folder / "manifest.json").unlink()
    summary = {"release": "v2.0", "rows": {}}
    write_manifest(folder, "convert", inputs={}, settings={"columns": "image,label"}, summary=summary)
    assert pushed(cli, folder)["rows"] == {"train": 2, "validation": 2}
    there = server.files("acme/sidewalk", "v2.0")
    assert {p for p in there if p.startswith("data/")} == {"data/train-0.parquet", "data/validation-0.parquet"}


def test_a_repo_without_gitattributes_is_pushed_to(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    server.add_repo("acme/sidewalk")
    del server.repo("acme/sidewalk").resolve("main").tree[".gitattributes"]
    folder = dataset_folder(tmp_path / "dataset")
    pushed(cli, folder)
    assert without_card(server.files("acme/sidewalk", "v1.0")) == without_card(contents(folder))
    assert pushed(cli, folder)["unchanged"]


def test_a_tag_that_somebody_puts_meanwhile_is_not_taken_for_ours(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = server.add_repo("acme/sidewalk", {"data/train-7.parquet": b"theirs"})
    create = client.HubRepo.create_tag

    def late(self: client.HubRepo, tag: str, commit: str) -> None:
        server.repo("acme/sidewalk").refs[f"refs/tags/{tag}"] = theirs
        create(self, tag, commit)

    monkeypatch.setattr(client.HubRepo, "create_tag", late)
    assert "tag v1.0 of acme/sidewalk names other content" in refused(cli, dataset_folder(tmp_path / "dataset"))
    assert server.repo("acme/sidewalk").refs["refs/tags/v1.0"] == theirs


def test_an_older_copy_in_the_cache_is_not_what_main_holds(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    pushed(cli, dataset_folder(tmp_path / "one"))
    hf_hub_download("acme/sidewalk", "README.md", repo_type="dataset", endpoint=server.url)
    server.add_repo("acme/sidewalk", {"README.md": "# Mine\n\nprecious\n"})
    server.faults.status(503, path="/resolve/", times=None)
    two = dataset_folder(tmp_path / "two", release="v2.0")
    assert "the Hub answers 503" in refused(cli, two)
    server.faults.clear()
    pushed(cli, two)
    assert b"precious" in server.files("acme/sidewalk")["README.md"]


def test_the_endpoint_is_that_of_the_moment(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    with LoopbackHub() as other:
        monkeypatch.setenv("HF_ENDPOINT", other.url)
        assert pushed(cli, folder)["url"].startswith(other.url)
        assert cli("verify", "acme/sidewalk@v1.0")
    assert not server.log


def test_a_token_of_somebody_else_is_found_by_the_hub(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    (folder / "README.md").write_text(f"---\ntags: [x]\n---\nlogin with {READ_TOKEN}\n")
    line = refused(cli, folder)
    assert "README.md contains valid Hugging Face secrets" in line
    assert server.files("acme/sidewalk") == {}


def test_a_repo_is_not_asked_for_without_end(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PAUSE", 0.02)
    message = "Cannot create repo: another conflicting operation is in progress"
    server.faults.status(409, path="/repos/create", times=3, message=message)
    folder = dataset_folder(tmp_path / "dataset")
    assert pushed(cli, folder)["added"] == 5
    monkeypatch.setattr(patience, "LIMIT", 0.2)
    server.faults.status(409, path="/repos/create", times=None, message=message)
    assert "the Hub is making another repo all the time" in refused(cli, folder, repo_id="acme/other")
    assert len(server.log.find("POST", "/repos/create")) < 20


def test_a_long_rate_limit_of_the_storage_is_told(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    for path in ("/tree/", "/preupload/", "/lfs/objects/batch"):
        server.faults.status(429, path=path, headers={"Retry-After": "3600"})
        started = time.monotonic()
        assert "limits the rate of requests; try again in 3600 s" in refused(cli, dataset_folder(tmp_path / "d"))
        assert time.monotonic() - started < 5
    pushed(cli, tmp_path / "d")


def test_xet_gives_up_in_time() -> None:
    assert int(os.environ["HF_XET_CLIENT_RETRY_MAX_ATTEMPTS"]) <= 3


def test_warnings_carry_no_signature(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    server.faults.status(503, method="PUT", server="storage")
    folder = dataset_folder(tmp_path / "dataset")
    push(folder, repo_id="acme/sidewalk")
    assert "503 thrown while requesting PUT" in caplog.text
    assert "Signature" not in caplog.text
    assert shard(b"train") in server.files("acme/sidewalk").values()


def test_the_cache_of_the_hub_is_left_alone(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    def cached() -> Any:
        from huggingface_hub import constants

        return sorted(Path(constants.HF_HUB_CACHE).rglob("*")) if Path(constants.HF_HUB_CACHE).exists() else []

    before = cached()
    pushed(cli, dataset_folder(tmp_path / "dataset"))
    cli("verify", "acme/sidewalk@v1.0")
    assert cached() == before
