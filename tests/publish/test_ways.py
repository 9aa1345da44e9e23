"""push: to another branch, through pull requests, dry runs, tags that move."""

import json
from pathlib import Path
from typing import Any

import pytest

from labelsync.errors import PublishError
from labelsync.hub import publish
from labelsync.hub.client import HubRepo
from labelsync.hub.push import retag
from tests.loopback.hub import LoopbackHub
from tests.publish.folders import Cli, contents, dataset_folder, model_folder, pushed, refused, without_card


def state(server: LoopbackHub, repo_id: str = "acme/sidewalk") -> tuple[Any, ...]:
    """All that a Hub could have changed of a repo."""
    repo = server.repo(repo_id)
    return dict(repo.refs), set(repo.commits), {n: r.status for n, r in repo.pull_requests.items()}


# -------------------------------------------------------------------- branches


def test_a_branch_is_made_from_main_and_main_stays(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    main = server.add_repo("acme/sidewalk", {"notes.txt": "theirs"})
    folder = dataset_folder(tmp_path / "dataset")
    record = pushed(cli, folder, "--revision", "round/two")
    repo = server.repo("acme/sidewalk")
    assert repo.refs["refs/heads/main"] == main
    assert repo.refs["refs/heads/round/two"] == repo.refs["refs/tags/v1.0"] == record["commit"]
    there = server.files("acme/sidewalk", "round/two")
    assert without_card(there) == without_card(contents(folder)) | {"notes.txt": b"theirs"}
    assert (record["revision"], record["unchanged"]) == ("round/two", False)
    again = pushed(cli, folder, "--revision", "round/two")
    assert (again["commit"], again["unchanged"]) == (record["commit"], True)


def test_names_that_no_branch_can_have(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    for name in ("a b", "refs/heads/x", "0123abc", "x.lock"):
        assert "cannot be a branch" in refused(cli, folder, f"--revision={name}", code=2)
    assert "the value is empty" in refused(cli, folder, "--revision=", code=2)
    assert not server.log
    server.add_repo("acme/sidewalk")
    server.repo("acme/sidewalk").refs["refs/tags/v0"] = server.repo("acme/sidewalk").refs["refs/heads/main"]
    assert "v0 is a tag of acme/sidewalk" in refused(cli, folder, "--revision=v0")
    assert "has a branch named v1" in refused(cli, folder, "--revision=v1", "--tag=v1")
    assert set(server.repo("acme/sidewalk").refs) == {"refs/heads/main", "refs/tags/v0"}


# -------------------------------------------------------------------- pull requests for people


def test_a_pull_request_holds_all_of_it_and_main_nothing(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    pushed(cli, dataset_folder(tmp_path / "one", **{"train-1": b"stale"}))
    before = state(server)[0]
    folder = dataset_folder(tmp_path / "two", release="v2.0")
    record = pushed(cli, folder, "--create-pr", "--message", "Round two")
    repo = server.repo("acme/sidewalk")
    assert record["request"] == record["url"] == f"{server.url}/datasets/acme/sidewalk/discussions/1"
    assert (record["tag"], record["revision"], record["commit"]) == ("", "refs/pr/1", repo.refs["refs/pr/1"])
    assert repo.refs == before | {"refs/pr/1": record["commit"]}
    assert without_card(server.files("acme/sidewalk", "refs/pr/1")) == without_card(contents(folder))
    assert (repo.pull_requests[1].status, repo.pull_requests[1].title[:9]) == ("open", "Round two")
    said = cli("push", folder, "--repo-id=acme/sidewalk", "--create-pr", "--message=Round two")
    assert f"the pull request waits to be merged\n{record['request']}\n" in said.stdout
    assert list(repo.pull_requests) == [1]  # the same again is the same request
    assert repo.refs["refs/pr/1"] == record["commit"]


def test_once_merged_the_next_push_only_tags(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    pushed(cli, folder, "--create-pr")
    repo = server.repo("acme/sidewalk")
    server.store.merge(repo, repo.pull_requests[1], author="ana")
    assert pushed(cli, folder, "--create-pr")["request"] == ""
    assert list(repo.pull_requests) == [1]
    record = pushed(cli, folder)
    assert (record["unchanged"], record["rows"]) == (True, {"test": 2, "train": 2})
    assert repo.refs["refs/tags/v1.0"] == repo.refs["refs/heads/main"] == record["commit"]


def test_who_may_not_write_may_propose(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add_repo("acme/sidewalk")
    server.tokens["hf_somebodyElse"] = "ana:read"
    monkeypatch.setenv("HF_TOKEN", "hf_somebodyElse")
    folder = dataset_folder(tmp_path / "dataset")
    assert "may not write" in refused(cli, folder)
    pushed(cli, folder, "--create-pr")
    assert without_card(server.files("acme/sidewalk", "refs/pr/1")) == without_card(contents(folder))


def test_a_proposal_that_was_cut_goes_on(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    server.add_repo("acme/sidewalk")
    folder = dataset_folder(tmp_path / "dataset")
    server.faults.status(500, path="/commit/", times=None)
    refused(cli, folder, "--create-pr")
    server.faults.clear()
    assert server.repo("acme/sidewalk").pull_requests[1].status == "draft"
    server.faults.drop_response(method="POST", path="/discussions/1/status")
    record = pushed(cli, folder, "--create-pr")
    assert list(server.repo("acme/sidewalk").pull_requests) == [1]
    assert server.repo("acme/sidewalk").pull_requests[1].status == "open"
    assert without_card(server.files("acme/sidewalk", record["commit"])) == without_card(contents(folder))


def test_a_request_whose_answer_was_lost_is_found_again(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    server.add_repo("acme/sidewalk")
    server.faults.drop_response(method="POST", path="/discussions$")
    pushed(cli, dataset_folder(tmp_path / "dataset"), "--create-pr")
    assert list(server.repo("acme/sidewalk").pull_requests) == [1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--create-pr", "--tag=v1"), "a pull request has no tag; leave out --tag"),
        (("--create-pr", "--move-tag"), "a pull request has no tag"),
        (("--create-pr", "--revision=next"), "a pull request goes to main"),
    ],
)
def test_options_that_contradict_each_other(
    cli: Cli, server: LoopbackHub, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    assert says in refused(cli, dataset_folder(tmp_path / "dataset"), *options, code=2)
    assert not server.log


# -------------------------------------------------------------------- many files


@pytest.fixture
def few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three files are many."""
    monkeypatch.setattr(publish, "COMMIT_FILES", 3)


def test_many_files_move_main_once(cli: Cli, server: LoopbackHub, tmp_path: Path, few_files: None) -> None:
    pushed(cli, dataset_folder(tmp_path / "one", shards=2))
    repo = server.repo("acme/sidewalk")
    assert len(repo.history("main")) == 2
    assert {r.status for r in repo.pull_requests.values()} == {"merged"}
    server.add_repo("acme/sidewalk", {"notes.txt": "theirs"})
    folder = dataset_folder(tmp_path / "two", release="v2.0", shards=5)
    record = pushed(cli, folder)
    assert len(repo.history("main")) == 4  # the first commit, one, somebody's, two
    there = server.files("acme/sidewalk", "v2.0")
    assert without_card(there) == without_card(contents(folder)) | {"notes.txt": b"theirs"}
    assert (record["added"], record["deleted"], record["kept"]) == (7, 2, 3)
    assert repo.refs["refs/tags/v2.0"] == repo.refs["refs/heads/main"] == record["commit"]
    assert pushed(cli, folder)["unchanged"]
    parts = [r for r in server.log.find("POST", "/commit/") if "refs%2Fpr" in r.path]
    assert len(parts) == len(server.log.find("POST", "/commit/")) == 3 + 3


def test_a_push_that_died_in_its_pull_request_goes_on_there(
    cli: Cli, server: LoopbackHub, tmp_path: Path, few_files: None
) -> None:
    server.add_repo("acme/sidewalk", {"data/train-old.parquet": b"old"})
    before = server.files("acme/sidewalk")
    folder = dataset_folder(tmp_path / "dataset", shards=4)
    server.faults.status(403, path="/commit/", skip=1, times=None)
    refused(cli, folder)
    server.faults.clear()
    repo = server.repo("acme/sidewalk")
    assert server.files("acme/sidewalk") == before
    assert (list(repo.pull_requests), repo.pull_requests[1].status) == ([1], "draft")
    sent = len(server.log.find("PUT"))
    pushed(cli, folder)
    assert list(repo.pull_requests) == [1]
    assert (sent, len(server.log.find("PUT"))) == (6, 6)
    assert without_card(server.files("acme/sidewalk", "v1.0")) == without_card(contents(folder))


def test_a_pull_request_on_an_older_main_is_left_behind_and_closed(
    cli: Cli, server: LoopbackHub, tmp_path: Path, few_files: None
) -> None:
    server.add_repo("acme/sidewalk")
    folder = dataset_folder(tmp_path / "dataset", shards=4)
    server.faults.status(403, path="/merge$", times=None)
    refused(cli, folder)
    server.faults.clear()
    server.add_repo("acme/sidewalk", {"data/train-9.parquet": b"somebody's"})
    repo = server.repo("acme/sidewalk")
    by_hand = repo.pull_requests[2] = type(repo.pull_requests[1])(
        2, "by hand", "ana", repo.pull_requests[1].date, repo.refs["refs/heads/main"]
    )
    repo.refs["refs/pr/2"] = repo.refs["refs/heads/main"]
    pushed(cli, folder)
    assert {n: r.status for n, r in repo.pull_requests.items()} == {1: "closed", 2: "draft", 3: "merged"}
    assert by_hand.status == "draft"
    assert without_card(server.files("acme/sidewalk", "v1.0")) == without_card(contents(folder))


def test_main_that_moves_before_the_merge_is_planned_for_again(
    cli: Cli, server: LoopbackHub, tmp_path: Path, few_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, late = HubRepo.commit, [{"notes.txt": "theirs"}]

    def then(self: HubRepo, *args: Any, **kwargs: Any) -> str:
        if late:
            server.add_repo("acme/sidewalk", late.pop())
        return commit(self, *args, **kwargs)

    monkeypatch.setattr(HubRepo, "commit", then)
    folder = dataset_folder(tmp_path / "dataset", shards=4)
    pushed(cli, folder)
    repo = server.repo("acme/sidewalk")
    assert {n: r.status for n, r in repo.pull_requests.items()} == {1: "closed", 2: "merged"}
    assert without_card(server.files("acme/sidewalk")) == without_card(contents(folder)) | {"notes.txt": b"theirs"}


def test_who_else_commits_to_the_pull_request_is_not_overrun(
    cli: Cli, server: LoopbackHub, tmp_path: Path, few_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part is refused, and planned again on what is there now."""
    server.add_repo("acme/sidewalk")
    commit, late = HubRepo.commit, [{"data/train-9.parquet": b"put in between", "why.txt": b"kept"}]

    def then(self: HubRepo, *args: Any, **kwargs: Any) -> str:
        if late:
            repo = server.repo("acme/sidewalk")
            tree = {p: server.store.put(p, data) for p, data in late.pop().items()}
            server.store.commit(repo, "refs/pr/1", repo.resolve("refs/pr/1").tree | tree, title="late", author="ana")
        return commit(self, *args, **kwargs)

    monkeypatch.setattr(HubRepo, "commit", then)
    folder = dataset_folder(tmp_path / "dataset", shards=4)
    pushed(cli, folder, "--create-pr")
    assert 412 in {r.status for r in server.log.find("POST", "/commit/")}
    there = server.files("acme/sidewalk", "refs/pr/1")
    assert without_card(there) == without_card(contents(folder)) | {"why.txt": b"kept"}


def test_stale_files_of_a_model_go_though_its_new_manifest_came_first(
    cli: Cli, server: LoopbackHub, tmp_path: Path, few_files: None
) -> None:
    old = {f"old-{i}.txt": b"x%d" % i for i in range(5)}
    pushed(cli, model_folder(tmp_path / "one", **old), "--tag=v1")
    pushed(cli, model_folder(tmp_path / "two"), "--tag=v2")
    assert set(server.files("acme/sidewalk", "v2", kind="model")) == {
        "config.json",
        "manifest.json",
        "model.safetensors",
    }


# -------------------------------------------------------------------- dry runs


def test_a_dry_run_tells_the_plan_and_touches_nothing(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    pushed(cli, dataset_folder(tmp_path / "one", **{"train-1": b"stale"}))
    folder = dataset_folder(tmp_path / "two", release="v2.0", **{"train-0": b"other", "train-2": b"new"})
    before = state(server)
    del server.log[:]
    record = pushed(cli, folder, "--dry-run")
    fates = {
        "README.md": "changed",
        "data/test-0.parquet": "kept",
        "data/train-0.parquet": "changed",
        "data/train-1.parquet": "deleted",
        "data/train-2.parquet": "new",
        "id2label.json": "kept",
        "manifest.json": "changed",
    }
    assert record["files"] == fates
    assert (record["added"], record["deleted"], record["kept"]) == (4, 1, 2)
    assert (record["dry_run"], record["commit"], record["tag"]) == (True, "", "v2.0")
    assert {r.method for r in server.log} == {"GET"}
    assert state(server) == before
    said = cli("push", folder, "--repo-id=acme/sidewalk", "--dry-run").stdout
    assert "deleted  data/train-1.parquet\nnew      data/train-2.parquet\n" in said
    assert "data/test-0" not in said
    assert f"4 files of {record['uploaded']:,} bytes to send, 1 to delete, 2 kept; nothing was changed" in said
    done = pushed(cli, folder)
    assert {k: done[k] for k in ("files", "uploaded", "added")} == {
        k: record[k] for k in ("files", "uploaded", "added")
    }
    assert "nothing would be sent" in cli("push", folder, "--repo-id=acme/sidewalk", "--dry-run").stdout


def test_a_dry_run_makes_neither_repo_nor_branch(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    record = pushed(cli, folder, "--dry-run")
    assert set(record["files"].values()) == {"new"}
    assert not server.store.repos
    server.add_repo("acme/sidewalk", {"id2label.json": (folder / "id2label.json").read_text()})
    record = pushed(cli, folder, "--dry-run", "--revision=next")
    assert record["files"]["id2label.json"] == "kept"
    assert set(server.repo("acme/sidewalk").refs) == {"refs/heads/main"}


def test_a_dry_run_meets_the_refusals_of_the_push(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(cli, dataset_folder(tmp_path / "one"))
    other = dataset_folder(tmp_path / "other", **{"train-0": b"other"})
    assert "names other content" in refused(cli, other, "--dry-run")
    assert pushed(cli, other, "--dry-run", "--move-tag")["dry_run"]
    assert "is public" in refused(cli, other, "--dry-run", "--move-tag", "--private")


# -------------------------------------------------------------------- tags that move


def test_a_tag_moves_when_it_is_told_to(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    first = pushed(cli, dataset_folder(tmp_path / "one"))
    other = dataset_folder(tmp_path / "other", **{"train-0": b"other"})
    assert "or --move-tag to move it" in refused(cli, other)
    second = pushed(cli, other, "--move-tag")
    repo = server.repo("acme/sidewalk")
    assert repo.refs["refs/tags/v1.0"] == second["commit"] != first["commit"]
    del server.log[:]
    assert pushed(cli, other, "--move-tag")["unchanged"]
    assert {r.method for r in server.log} == {"GET"}


def test_a_new_card_gets_the_tag_when_it_is_told_to(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")
    pushed(cli, folder)
    (folder / "README.md").write_text("# Better words\n")
    record = pushed(cli, folder, "--move-tag")
    assert server.repo("acme/sidewalk").refs["refs/tags/v1.0"] == record["commit"]


def test_a_tag_that_was_lost_while_it_moved_is_put_by_the_next_run(
    cli: Cli, server: LoopbackHub, tmp_path: Path
) -> None:
    pushed(cli, dataset_folder(tmp_path / "one"))
    other = dataset_folder(tmp_path / "other", **{"train-0": b"other"})
    server.faults.status(500, method="POST", path="/tag/", times=None)
    server.faults.drop_response(method="DELETE", path="/tag/")
    refused(cli, other, "--move-tag")
    assert "refs/tags/v1.0" not in server.repo("acme/sidewalk").refs
    server.faults.clear()
    record = pushed(cli, other)
    assert record["unchanged"]
    assert server.repo("acme/sidewalk").refs["refs/tags/v1.0"] == record["commit"]


def test_a_tag_goes_wherever_another_one_is(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    first = pushed(cli, model_folder(tmp_path / "one"), "--tag=v1")["commit"]
    second = pushed(cli, model_folder(tmp_path / "two", **{"notes.txt": b"two"}), "--tag=v2")["commit"]
    refs = server.repo("acme/sidewalk", kind="model").refs
    for to, commit, moved in (("v1", first, True), ("v2", second, True), ("v2", second, False), ("v1", first, True)):
        assert retag("acme/sidewalk", "production", to=to) == (commit, moved)
        assert refs["refs/tags/production"] == commit
    with pytest.raises(PublishError, match="no such revision"):
        retag("acme/sidewalk", "production", to="v9")
    refs["refs/heads/next"] = first
    with pytest.raises(PublishError, match="has a branch named next"):
        retag("acme/sidewalk", "next", to="v1")
    assert (refs["refs/tags/production"], refs["refs/heads/next"]) == (first, first)


# -------------------------------------------------------------------- licence


def test_the_licence_is_what_was_said_last(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset")

    def head() -> list[str]:
        return server.files("acme/sidewalk")["README.md"].decode().split("---\n")[1].splitlines()

    pushed(cli, folder, "--license", "cc-by-4.0")
    assert head() == ["tags:", "- labelsync", "license: cc-by-4.0"]
    assert pushed(cli, folder)["unchanged"]  # stays where nothing is said
    pushed(cli, folder, "--license=mit")
    assert head()[-1] == "license: mit"
    assert '"license" must be one of' in refused(cli, folder, "--license=mine: all")
    assert json.loads(contents(folder)["manifest.json"])  # the folder itself is left as it is
    assert "license" not in (folder / "README.md").read_text()
