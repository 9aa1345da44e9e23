"""verify, and the reading back of every push: what a commit holds, and how each kind of damage is told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelsync.hub.client import HubRepo
from labelsync.labels import LabelClass, LabelMap
from labelsync.store.files import sha256
from tests.loopback.hub import LoopbackHub
from tests.publish import folders
from tests.publish.folders import Cli, contents, dataset_folder, model_folder, pushed, refused, shard, weights

NAME = "acme/sidewalk@v1.0"
WHOLE = shard(b"test")
ONE_BIT = WHOLE[:200] + bytes([WHOLE[200] ^ 1]) + WHOLE[201:]


def verified(cli: Cli, name: str = NAME, *options: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(cli("verify", name, *options, "--json").stdout)
    return record


def differs(cli: Cli, name: str = NAME, *options: str, code: int = 1) -> str:
    return str(cli("verify", name, *options, code=code).stderr.strip().splitlines()[-1])


def damage(server: LoopbackHub, files: dict[str, bytes | None], *, kind: str = "dataset") -> None:
    """Somebody commits other files (None = deletes one) and moves the tag there."""
    repo = server.repo("acme/sidewalk", kind=kind)
    server.add_repo("acme/sidewalk", {p: data for p, data in files.items() if data is not None}, kind=kind)
    for path in [p for p, data in files.items() if data is None]:
        del repo.resolve("main").tree[path]
    repo.refs["refs/tags/v1.0"] = repo.refs["refs/heads/main"]


def forged(server: LoopbackHub, path: str, data: bytes, *, kind: str = "dataset") -> None:
    """Somebody commits another file and a manifest that says it is right."""
    manifest = json.loads(server.files("acme/sidewalk", kind=kind)["manifest.json"])
    manifest["files"][path] = {"sha256": sha256(data), "size": len(data)}
    damage(server, {path: data, "manifest.json": json.dumps(manifest).encode()}, kind=kind)


# -------------------------------------------------------------------- datasets


def test_a_dataset_is_what_its_manifest_says(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset_folder(tmp_path / "dataset", **{"train-1": b"more"})
    done = pushed(cli, folder)
    server.add_repo("acme/sidewalk", {"notes.txt": "theirs", "data/train-9.parquet": b"later, and not in the tag"})
    del server.log[:]
    monkeypatch.delenv("HF_TOKEN")  # it is public
    record = verified(cli)
    size = sum(len(data) for path, data in contents(folder).items() if path not in ("manifest.json", "README.md"))
    assert record | {"fetched": 0} == {
        "repo_id": "acme/sidewalk",
        "repo_type": "dataset",
        "revision": "v1.0",
        "commit": done["commit"],
        "digest": json.loads((folder / "manifest.json").read_text())["digest"],
        "release": "v1.0",
        "files": 5,
        "other": 0,
        "bytes": record["bytes"],
        "rows": {"test": 2, "train": 4},
        "decoded": 2,
        "tensors": 0,
        "parameters": 0,
        "fetched": 0,
    }
    assert record["bytes"] == size + len(server.files("acme/sidewalk", "v1.0")["README.md"])
    assert {r.method for r in server.log} == {"GET"}
    assert not any(r.authorized for r in server.log)
    said = cli("verify", NAME).stdout
    assert "dataset acme/sidewalk@v1.0" in said and "rows: test 2, train 4; images decoded: 2" in said


def test_a_push_counts_rows_and_decodes_what_it_sent(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    record = pushed(cli, dataset_folder(tmp_path / "dataset", **{"train-1": b"more"}))
    assert (record["rows"], record["decoded"]) == ({"test": 2, "train": 4}, 2)
    assert any(r.query for r in server.log.find("GET", server="storage"))


def test_large_files_are_not_fetched(server: LoopbackHub, tmp_path: Path, cli: Cli, monkeypatch: Any) -> None:
    many = shard(b"large", rows=3000)
    assert len(many) > 1_000_000
    monkeypatch.setattr(folders, "shard", lambda seed, **_: many if seed == b"large" else shard(seed))
    folder = dataset_folder(tmp_path / "dataset", rows={"data/train-1.parquet": 3000}, **{"train-1": b"large"})
    pushed(cli, folder)
    del server.log[:]
    record = verified(cli)
    assert record["rows"] == {"test": 2, "train": 3002}
    assert {r.status for r in server.log.find("GET", server="storage")} == {206}
    assert record["fetched"] < len(many) / 4


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"data/test-0.parquet": ONE_BIT}, "data/test-0.parquet of acme/sidewalk at"),
        ({"data/test-0.parquet": ONE_BIT}, "is not the file that its manifest describes"),
        ({"data/test-0.parquet": shard(b"x", rows=3)}, "bytes and its manifest says"),
        ({"data/test-0.parquet": None}, "data/test-0.parquet of acme/sidewalk at"),
        ({"data/test-0.parquet": None, "id2label.json": None}, "is missing (2 files differ)"),
        ({"data/train-7.parquet": shard(b"extra")}, "is data that the manifest does not list"),
        ({"id2label.json": folders.LABELS.id2label_json().replace("road", "raod").encode()}, "id2label.json of"),
        (
            {"README.md": b"---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: 9\n---\n"},
            "tells of other",
        ),
        ({"README.md": b"---\na: [\n---\n"}, "has metadata that cannot be read"),
        ({"manifest.json": None}, "was not published by labelsync: it has no manifest.json"),
        ({"manifest.json": b"{}"}, "is not that of a dataset of labelsync"),
    ],
)
def test_each_damage_is_one_line_with_the_file(
    cli: Cli, server: LoopbackHub, tmp_path: Path, files: dict[str, bytes | None], says: str
) -> None:
    pushed(cli, dataset_folder(tmp_path / "dataset"))
    damage(server, files)
    assert says in differs(cli)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PAR1 but nothing else PAR1", "cannot be read"),
        (shard(b"test")[:-40], "cannot be read"),
        (shard(b"test", rows=5), "has 5 rows and its manifest says 2"),
    ],
)
def test_a_manifest_that_agrees_with_the_damage_does_not_hide_it(
    cli: Cli, server: LoopbackHub, tmp_path: Path, data: bytes, says: str
) -> None:
    pushed(cli, dataset_folder(tmp_path / "dataset"))
    forged(server, "data/test-0.parquet", data)
    line = differs(cli)
    assert says in line and "data/test-0.parquet" in line


def test_an_image_that_does_not_decode(cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: Any) -> None:
    whole = shard(b"test")
    broken = whole.replace(b"\x89PNG", b"\x89PMG", 1)
    assert len(broken) == len(whole) and broken != whole
    pushed(cli, dataset_folder(tmp_path / "dataset"))
    forged(server, "data/test-0.parquet", broken)
    assert "data/test-0.parquet" in (line := differs(cli)) and "not an image" in line
    few = LabelMap((LabelClass("road", (1,)),))
    monkeypatch.setattr(folders, "LABELS", few)
    assert "holds class 2 of 1" in refused(cli, dataset_folder(tmp_path / "few"), repo_id="acme/few")
    assert set(server.repo("acme/few").refs) == {"refs/heads/main"}  # no tag on it


def test_a_push_that_was_not_read_back_is_read_back_by_the_next(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    folder = dataset_folder(tmp_path / "dataset", rows={"data/test-0.parquet": 3})
    for _ in range(2):
        assert "data/test-0.parquet" in (line := refused(cli, folder))
        assert "has 2 rows and its manifest says 3" in line
        assert set(server.repo("acme/sidewalk").refs) == {"refs/heads/main"}


def test_what_is_verified_is_what_the_tag_names_now(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    """Neither the Hub cache, nor an older commit of the tag, is looked at."""
    from huggingface_hub import hf_hub_download

    pushed(cli, dataset_folder(tmp_path / "dataset"))
    cached = hf_hub_download(
        "acme/sidewalk", "id2label.json", repo_type="dataset", revision="v1.0", endpoint=server.url
    )
    damage(server, {"id2label.json": folders.LABELS.id2label_json().replace("road", "raod").encode()})
    assert "id2label.json" in differs(cli)
    server.repo("acme/sidewalk").refs["refs/tags/v1.0"] = server.repo("acme/sidewalk").history("main")[1].oid
    Path(cached).resolve().write_text("{}")  # a cache that somebody damaged says nothing either
    assert verified(cli)["files"] == 4


# -------------------------------------------------------------------- models


def test_a_model_is_what_its_manifest_says(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    extra = weights(body=np.zeros((4, 5), np.float16))
    folder = model_folder(tmp_path / "run", **{"model-00002-of-00002.safetensors": extra})
    done = pushed(cli, folder, "--tag=v1.0")
    assert (done["rows"], done["decoded"]) == ({}, 0)
    record = verified(cli)
    assert (record["repo_type"], record["tensors"], record["parameters"]) == ("model", 3, 6 + 6 + 20)
    assert "3 tensors, 32 parameters" in cli("verify", NAME).stdout


@pytest.mark.parametrize(
    ("path", "data", "says"),
    [
        ("model.safetensors", weights()[:-4], "bytes long and its tensors end at"),
        ("model.safetensors", weights() + b"\0", "bytes long and its tensors end at"),
        ("model.safetensors", b"pickled, really " * 9, "is not a safetensors file"),
        ("model.safetensors", (8).to_bytes(8, "little") + b"{} xxxx{", "cannot be read"),
        ("model.safetensors", weights().replace(b"[0,24]", b"[4,24]"), "overlap or leave gaps"),
        ("config.json", b"{}", "names no model_type"),
        ("config.json", b"[", "cannot be read"),
        ("config.json", b'{"model_type": "x", "auto_map": {"AutoModel": "a.B"}}', "asks for code of its own"),
        ("config.json", b'{"model_type": "x", "id2label": {"0": "sky"}}', "has other classes than its manifest"),
    ],
)
def test_a_model_that_cannot_be_used(
    cli: Cli, server: LoopbackHub, tmp_path: Path, path: str, data: bytes, says: str
) -> None:
    pushed(cli, model_folder(tmp_path / "run"), "--tag=v1.0")
    forged(server, path, data, kind="model")
    line = differs(cli)
    assert says in line and path in line


# -------------------------------------------------------------------- names


def test_of_two_repos_of_one_name_one_must_be_chosen(cli: Cli, server: LoopbackHub, tmp_path: Path) -> None:
    pushed(cli, dataset_folder(tmp_path / "dataset"))
    pushed(cli, model_folder(tmp_path / "run"), "--tag=v1.0")
    assert "a dataset and a model named acme/sidewalk; pass --repo-type" in differs(cli, code=2)
    assert verified(cli, NAME, "--repo-type=model")["tensors"] == 1
    assert verified(cli, NAME, "--repo-type=dataset")["decoded"] == 2


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("acme/nowhere", 1, "acme/nowhere does not exist, or the token may not see it"),
        ("acme/sidewalk@v9", 1, "acme/sidewalk has no such revision"),
        ("sidewalk", 2, "names no owner"),
        ("a b", 2, "is not a repo's name"),
    ],
)
def test_names_that_lead_nowhere(cli: Cli, server: LoopbackHub, name: str, code: int, says: str) -> None:
    server.add_repo("acme/sidewalk")
    assert says in differs(cli, name, code=code)


def test_a_private_repo_is_shown_to_its_owner_only(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed(cli, dataset_folder(tmp_path / "dataset"), "--private")
    assert verified(cli)["decoded"] == 2
    monkeypatch.delenv("HF_TOKEN")
    assert "the token may not see it" in differs(cli)


@pytest.mark.parametrize(("fault", "path"), [("cut", "/lfs/"), ("status", "/lfs/"), ("drop", "/resolve/")])
def test_a_bad_moment_while_reading_back_is_asked_again(
    cli: Cli, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, path: str
) -> None:
    import time

    monkeypatch.setattr(time, "sleep", lambda _: None)
    pushed(cli, dataset_folder(tmp_path / "dataset"))
    hit = server.faults.add(fault, path=path, method="GET", after=100)
    assert verified(cli)["decoded"] == 2
    assert hit.hits == 1


def test_other_bytes_than_asked_for_are_no_data(server: LoopbackHub) -> None:
    from labelsync.hub.remote import get

    server.add_repo("acme/sidewalk", {"x.parquet": bytes(range(200))})
    repo = HubRepo("acme/sidewalk", "dataset")
    url = repo._url("x.parquet", repo.head())
    assert get(url, 10, 13) == bytes([10, 11, 12])
    with pytest.raises(ConnectionError, match="20 of 30 bytes"):
        get(url, 180, 210)
