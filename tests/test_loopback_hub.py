"""The loopback Hub against the unmodified clients: what the other tests stand on."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from tests.loopback.hub import READ_TOKEN, WRITE_TOKEN, LoopbackHub


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub", page_size=3) as server:
        yield server


@pytest.fixture
def api(server: LoopbackHub) -> HfApi:
    return HfApi(endpoint=server.url, token=WRITE_TOKEN)


def add(path: str, data: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, data)


def commit(api: HfApi, repo_id: str, *operations: Any, **options: Any) -> str:
    options = {"repo_type": "dataset", "commit_message": "test"} | options
    return api.create_commit(repo_id, operations, **options).oid


def test_a_commit_is_listed_and_read_back_byte_for_byte(server: LoopbackHub, api: HfApi, tmp_path: Path) -> None:
    api.create_repo("acme/a", repo_type="dataset")
    shard, text = bytes(range(256)) * 9, b"hello\n"
    oid = commit(api, "acme/a", add("data/x.parquet", shard), add("notes/a b.txt", text))
    tree = {e.path: e for e in api.list_repo_tree("acme/a", recursive=True, repo_type="dataset", revision=oid)}
    assert tree["data/x.parquet"].lfs.size == 9 * 256
    assert tree["notes/a b.txt"].lfs is None
    for path, data in (("data/x.parquet", shard), ("notes/a b.txt", text)):
        file = hf_hub_download(
            "acme/a", path, repo_type="dataset", revision=oid, cache_dir=tmp_path / "cache", endpoint=server.url
        )
        assert Path(file).read_bytes() == data
    assert api.repo_info("acme/a", repo_type="dataset").sha == oid


def test_no_token_goes_to_the_storage_and_content_that_is_there_is_not_sent_twice(
    server: LoopbackHub, api: HfApi
) -> None:
    api.create_repo("acme/a", repo_type="dataset")
    commit(api, "acme/a", add("data/x.parquet", b"P" * 5000))
    commit(api, "acme/a", add("data/y.parquet", b"P" * 5000))
    puts = server.log.find("PUT")
    assert [(r.server, r.received) for r in puts] == [("storage", 5000)]
    assert not any(r.authorized for r in server.log.find(server="storage"))
    assert WRITE_TOKEN not in repr(server.log)


def test_a_listing_comes_in_pages(server: LoopbackHub, api: HfApi) -> None:
    server.add_repo("acme/a", {f"data/{i}.txt": str(i) for i in range(7)})
    paths = [e.path for e in api.list_repo_tree("acme/a", recursive=True, repo_type="dataset")]
    assert paths == [".gitattributes", "data", *(f"data/{i}.txt" for i in range(7))]
    assert len(server.log.find("GET", "/tree/")) == 3
    assert next(e.path for e in api.list_repo_tree("acme/a", "data", repo_type="dataset")) == "data/0.txt"
    assert [e.path for e in api.get_paths_info("acme/a", ["data/3.txt", "gone"], repo_type="dataset")] == ["data/3.txt"]


def test_a_commit_on_another_parent_is_refused_whole(server: LoopbackHub, api: HfApi) -> None:
    old = server.add_repo("acme/a", {"a.txt": "1"})
    server.add_repo("acme/a", {"a.txt": "2"})
    with pytest.raises(HfHubHTTPError) as e:
        commit(api, "acme/a", add("b.txt", b"b"), parent_commit=old)
    assert e.value.response.status_code == 412
    with pytest.raises(RemoteEntryNotFoundError):
        commit(api, "acme/a", add("b.txt", b"b"), CommitOperationDelete("gone.txt"))
    assert server.files("acme/a") == {"a.txt": b"2"}


def test_tags_and_branches_stay_where_they_were_put(server: LoopbackHub, api: HfApi) -> None:
    first = server.add_repo("acme/a", {"a.txt": "1"})
    api.create_tag("acme/a", tag="v1", repo_type="dataset")
    api.create_branch("acme/a", branch="side/way", repo_type="dataset")
    second = commit(api, "acme/a", add("a.txt", b"2"), revision="side/way")
    refs = api.list_repo_refs("acme/a", repo_type="dataset")
    assert {r.name: r.target_commit for r in refs.branches} == {"main": first, "side/way": second}
    assert {r.name: r.target_commit for r in refs.tags} == {"v1": first}
    with pytest.raises(HfHubHTTPError):
        api.create_tag("acme/a", tag="v1", repo_type="dataset")
    api.delete_tag("acme/a", tag="v1", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info("acme/a", repo_type="dataset", revision="v1")
    history = api.list_repo_commits("acme/a", repo_type="dataset", revision="side/way")
    assert [c.commit_id for c in history][:2] == [second, first]


def test_a_pull_request_moves_main_once_when_it_is_merged(server: LoopbackHub, api: HfApi) -> None:
    base = server.add_repo("acme/a", {"a.txt": "1", "old.txt": "x"})
    request = api.create_pull_request("acme/a", "Round 2", repo_type="dataset")
    ref = f"refs/pr/{request.num}"
    commit(api, "acme/a", add("a.txt", b"2"), revision=ref)
    commit(api, "acme/a", CommitOperationDelete("old.txt"), revision=ref)
    server.add_repo("acme/a", {"b.txt": "somebody's"})
    assert server.files("acme/a", base) == {"a.txt": b"1", "old.txt": b"x"}
    with pytest.raises(HfHubHTTPError):
        api.merge_pull_request("acme/a", request.num, repo_type="dataset")  # still a draft
    api.change_discussion_status("acme/a", request.num, "open", repo_type="dataset")
    api.merge_pull_request("acme/a", request.num, repo_type="dataset")
    assert server.files("acme/a") == {"a.txt": b"2", "b.txt": b"somebody's"}
    assert api.get_discussion_details("acme/a", request.num, repo_type="dataset").status == "merged"


def test_rights(server: LoopbackHub) -> None:
    server.add_repo("acme/open", {"a.txt": "1"})
    server.add_repo("acme/secret", {"a.txt": "1"}, private=True)
    reader, nobody = (HfApi(endpoint=server.url, token=t) for t in (READ_TOKEN, False))
    stranger = HfApi(endpoint=server.url, token="hf_unknown")
    assert nobody.repo_info("acme/open", repo_type="dataset").private is False
    assert reader.repo_info("acme/secret", repo_type="dataset").private is True
    with pytest.raises(RepositoryNotFoundError):
        nobody.repo_info("acme/secret", repo_type="dataset")
    for who, status in ((reader, 403), (nobody, 401), (stranger, 401)):
        with pytest.raises(HfHubHTTPError) as e:
            commit(who, "acme/open", add("b.txt", b"b"))
        assert e.value.response.status_code == status
    with pytest.raises(HfHubHTTPError):
        HfApi(endpoint=server.url, token=WRITE_TOKEN).create_repo("stranger/a")
    assert server.files("acme/open") == {"a.txt": b"1"}


def test_a_readme_with_bad_metadata_and_a_file_with_a_token_are_refused(server: LoopbackHub, api: HfApi) -> None:
    server.add_repo("acme/a")
    with pytest.raises(ValueError, match="license"):
        commit(api, "acme/a", add("README.md", b"---\nlicense: mine\n---\n"))
    with pytest.raises(HfHubHTTPError, match="secrets"):
        commit(api, "acme/a", add("a.txt", READ_TOKEN.encode()))
    assert server.files("acme/a") == {}


def test_the_gitignore_of_a_repo_is_obeyed(server: LoopbackHub, api: HfApi) -> None:
    server.add_repo("acme/a", {".gitignore": "data/\n"})
    commit(api, "acme/a", add("data/x.parquet", b"P"), add("b.txt", b"b"))
    assert set(server.files("acme/a")) == {".gitignore", "b.txt"}


def test_a_range_of_a_stored_file_is_answered_alone(server: LoopbackHub) -> None:
    server.add_repo("acme/a", {"x.parquet": bytes(range(200))})
    url = f"{server.url}/datasets/acme/a/resolve/main/x.parquet"
    answer = httpx.get(url, headers={"Range": "bytes=10-12"}, follow_redirects=True)
    assert (answer.status_code, answer.content) == (206, bytes([10, 11, 12]))
    unsigned = httpx.get(str(answer.url).partition("?")[0])
    assert unsigned.status_code == 403


def test_the_storage_takes_no_token_and_no_other_content(server: LoopbackHub) -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    url = server.signed("PUT", digest)
    assert httpx.put(url, content=b"content", headers={"Authorization": f"Bearer {WRITE_TOKEN}"}).status_code == 400
    assert httpx.put(url, content=b"another").status_code == 400
    assert not server.store.has_lfs(digest)
    assert httpx.put(url, content=b"content").status_code == 200
    assert server.store.has_lfs(digest)


def test_the_state_survives_a_restart(server: LoopbackHub, tmp_path: Path) -> None:
    oid = server.add_repo("acme/a", {"x.parquet": b"P", "a.txt": "1"})
    with LoopbackHub(tmp_path / "hub") as again:
        assert again.files("acme/a", oid) == {"x.parquet": b"P", "a.txt": b"1"}


def test_faults_hit_the_requests_they_are_meant_for(server: LoopbackHub, api: HfApi) -> None:
    server.add_repo("acme/a", {"a.txt": "1"})
    fault = server.faults.status(500, path="/refs", skip=1, times=2, html=True)
    codes = [httpx.get(f"{server.url}/api/datasets/acme/a/refs").status_code for _ in range(4)]
    assert codes == [200, 500, 500, 200]
    assert fault.hits == 2
    server.faults.drop(path="/refs")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/api/datasets/acme/a/refs")
    server.faults.drop_response(path="/commit/")
    with pytest.raises(httpx.TransportError):
        commit(api, "acme/a", add("b.txt", b"b"))
    assert set(server.files("acme/a")) == {"a.txt", "b.txt"}  # the work was done
    server.faults.cut(2, path="/resolve/")
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{server.url}/datasets/acme/a/resolve/main/.gitattributes")
    assert [r.fault for r in server.log if r.fault] == ["status", "status", "drop", "drop_response", "cut"]


def test_the_control_of_a_manual_walk(server: LoopbackHub) -> None:
    httpx.post(f"{server.url}/__control__/faults", json={"kind": "status", "code": 503, "path": "/refs"})
    assert httpx.get(f"{server.url}/api/datasets/acme/a/refs").status_code == 503
    log = json.loads(httpx.get(f"{server.url}/__control__/log").text)
    assert [(r["path"], r["status"], r["fault"]) for r in log] == [("/api/datasets/acme/a/refs", 503, "status")]
