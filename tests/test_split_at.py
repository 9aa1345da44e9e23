"""`--split test@v1.0`: what was published first stays addressable, for the long trend."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from huggingface_hub import HfApi

import labelsync
from labelsync.dataset.published import split_at
from labelsync.errors import DatasetNotFound, OptionError
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.models import loud_segformer
from tests.releases import draw_release, edit_release

Cli = Callable[..., Result]

REPO = "acme/trend"


def relabelled(document: dict[str, Any]) -> None:
    """Every label is another one in the second round: whoever reads it in place of the first sees other scores."""
    for sample in document["dataset"]["samples"]:
        for annotation in sample["labels"]["ground-truth"]["attributes"]["annotations"]:
            annotation["category_id"] = annotation["category_id"] % 3 + 1


@pytest.fixture
def rounds(tmp_path: Path, hub: LoopbackHub, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Path:
    """rounds/v1.0 and rounds/v2.0 with a dataset and a model each, all of it published under those tags."""
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    for seed, (name, samples) in enumerate((("v1.0", 12), ("v2.0", 16))):
        release = draw_release(tmp_path / "drawn" / name, samples=samples, name=name)
        if name == "v2.0":
            edit_release(release, relabelled)
        folder = tmp_path / "rounds" / name
        cli("pull", release, "--out", folder / "release")
        earlier = ["--previous", tmp_path / "rounds/v1.0/dataset"] if seed else []
        fractions = [] if seed else ["--fractions", "0.5,0.2,0.3"]
        cli("convert", folder / "release", "--out", folder / "dataset", "--workers", 1, *fractions, *earlier)
        cli("push", folder / "dataset", "--repo-id", REPO)
        labels = labelsync.load(folder / "dataset").labels
        loud_segformer(folder / "model", labels, seed=seed)
    return tmp_path / "rounds"


def evaluated(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return found


def test_models_of_two_rounds_are_compared_on_the_split_published_first(
    rounds: Path, tmp_path: Path, hub: LoopbackHub, cli: Cli
) -> None:
    first, today, later = (tmp_path / n for n in ("first", "today", "later"))
    flags = ("--device", "cpu", "--resamples", 0)
    cli("evaluate", rounds / "v1.0/model", "--dataset", f"{REPO}@v1.0", "--out", first, *flags)
    cli("evaluate", rounds / "v2.0/model", "--dataset", f"{REPO}@v2.0", "--out", today, *flags)
    assert "not made of the same" in cli("compare", today, "--baseline", first, code=1).stderr
    argv = ("evaluate", rounds / "v2.0/model", "--dataset", f"{REPO}@v2.0", "--split", "test@v1.0", "--out", later)
    assert "images of test@v1.0" in cli(*argv, *flags).stdout
    compared = json.loads(cli("compare", later, "--baseline", first, "--json").stdout)
    assert compared["images"] == evaluated(first)["images"] > 0
    assert compared["left_out"] == {}
    said = evaluated(later)
    commit = hub.repo(REPO).refs["refs/tags/v1.0"]
    assert (said["split"], said["dataset"], said["dataset_revision"]) == ("test@v1.0", f"{REPO}@v1.0", commit)
    assert (said["release"], said["dataset_digest"]) == ("v1.0", evaluated(first)["dataset_digest"])
    assert said["dataset_digest"] != evaluated(today)["dataset_digest"]
    assert "(unchanged)" in cli(*argv, *flags).stdout
    there = cli("evaluate", rounds / "v2.0/model", "--dataset", REPO, "--split", "test@v9", code=1).stderr
    assert f"{REPO} has no revision v9" in there
    assert "no split 'nowhere'" in cli("evaluate", rounds / "v2.0/model", "--dataset", REPO,
                                       "--split", "nowhere@v1.0", code=1).stderr  # fmt: skip


def test_a_model_of_the_hub_is_named_with_its_commit(rounds: Path, tmp_path: Path, cli: Cli) -> None:
    HfApi().create_repo("acme/trend-model")
    commit = HfApi().upload_folder(folder_path=rounds / "v1.0/model", repo_id="acme/trend-model").oid
    data, out = rounds / "v1.0/dataset", tmp_path / "e"
    cli("evaluate", "acme/trend-model", "--dataset", data, "--out", out, "--device", "cpu", "--resamples", 0)
    assert (evaluated(out)["model"], evaluated(out)["model_revision"]) == ("acme/trend-model", commit)
    cli("evaluate", rounds / "v1.0/model", "--dataset", data, "--out", tmp_path / "f", "--device", "cpu")
    assert evaluated(tmp_path / "f")["model_revision"] == ""
    for folder, baseline in ((out, tmp_path / "f"), (tmp_path / "f", out)):
        page = tmp_path / f"{folder.name}.html"
        cli("report", folder, "--baseline", baseline, "--out", page)
        assert page.read_text().count(f"<code>{commit}</code>") == 1


def test_in_the_folders_of_rounds_it_is_the_round_beside(rounds: Path, tmp_path: Path, cli: Cli) -> None:
    flags = ("--device", "cpu", "--resamples", 0, "--out")
    dataset = rounds / "v2.0/dataset"
    cli("evaluate", rounds / "v2.0/model", "--dataset", dataset, "--split", "test@v1.0", *flags, tmp_path / "a")
    cli("evaluate", rounds / "v2.0/model", "--dataset", rounds / "v1.0/dataset", *flags, tmp_path / "b")
    assert (tmp_path / "a/counts.npz").read_bytes() == (tmp_path / "b/counts.npz").read_bytes()
    assert evaluated(tmp_path / "a")["release"] == "v1.0"
    names = [json.loads(line)["name"] for line in (tmp_path / "a/images.jsonl").read_text().splitlines()]
    cli("predict", rounds / "v2.0/model", dataset, "--split", "test@v1.0", "--device", "cpu", "--out", tmp_path / "p")
    found = {path.stem.removesuffix("_label") for path in (tmp_path / "p").rglob("*.png")}
    assert {Path(name).stem for name in names} <= found
    error = cli("evaluate", rounds / "v2.0/model", "--dataset", dataset, "--split", "test@v3.0", code=1).stderr
    assert "there is no round v3.0" in error


def test_a_folder_of_no_round_has_no_revisions(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "data").mkdir()
    error = cli("evaluate", tmp_path, "--dataset", tmp_path / "data", "--split", "test@v1.0", code=2).stderr
    assert "is a folder, and knows no v1.0" in error
    rounds = tmp_path / "rounds"
    (rounds / "v1.0" / "dataset").mkdir(parents=True)
    for revision in ("../v1.0", "v1.0/dataset"):
        with pytest.raises(OptionError, match="knows no"):
            split_at(rounds / "v1.0/dataset", f"test@{revision}")
    with pytest.raises(DatasetNotFound, match="no round v0"):
        split_at(str(rounds / "v1.0/dataset"), "test@v0")
    for split in ("test@", "@v1.0"):
        with pytest.raises(OptionError, match="there is no"):
            split_at("acme/walk", split)
    assert split_at("acme/walk@v2.0", "test") == ("acme/walk@v2.0", "test")
    assert split_at("acme/walk@v2.0", "test@main") == ("acme/walk@main", "test")
