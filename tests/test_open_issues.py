"""`check --model --open-issues`: labelers are told, once, at the sample, and only what the check lists."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from labelsync.errors import OptionError
from labelsync.pixels.image import decode_image
from labelsync.pixels.instance import encode_instance_bitmap
from labelsync.quality.issues import MARK, datasets_of, open_issues
from labelsync.records.findings import Finding
from tests.loopback.segments import KEY, LoopbackSegments
from tests.releases import draw_release, edit_release, sample_uuid
from tests.test_second_opinion import mistaken, model, of_classes  # noqa: F401 - a fixture

DATASET = "acme/sidewalk"
WRONG = (1, 2)  # samples with a planted error


@pytest.fixture
def check(server: LoopbackSegments, model: Path, tmp_path: Path, cli: Callable[..., Result]) -> Callable[..., Any]:  # noqa: F811
    """The command over a pulled release, of which two labels have an error; its record, or its stderr."""
    from labelsync.model.segmenter import Segmenter

    path = draw_release(tmp_path / "drawn", samples=4, size=(96, 128))
    segmenter = Segmenter(model, device="cpu")
    for i in range(4):
        label = segmenter.segment(decode_image((tmp_path / f"drawn/images/frame_{i:04d}.jpg").read_bytes()))
        label = mistaken(label) if i in WRONG else label
        (tmp_path / f"drawn/bitmaps/{sample_uuid(i)}.png").write_bytes(encode_instance_bitmap(label.astype(np.uint32)))
    edit_release(path, of_classes)
    server.add_round(path)
    cli("pull", path, "--out", tmp_path / "release")

    def run(*argv: object, code: int = 0, source: Path = tmp_path / "release") -> Any:
        flags = ("--model", model, "--device", "cpu", "--min-contradicted", "0.01", "--limit", 0, *argv)
        shown = cli("check", source, *flags, *([] if code else ["--json"]), code=code, env=server.env)
        assert KEY not in shown.output
        return shown.stderr if code else json.loads(shown.stdout)

    return run


def issues(server: LoopbackSegments) -> list[dict[str, Any]]:
    return list(server.platform.datasets[DATASET].issues.values())


def test_each_sample_gets_one_issue_with_all_its_regions(server, check):
    record = check("--open-issues")
    assert {i["sample_uuid"] for i in issues(server)} == {sample_uuid(i) for i in WRONG}
    assert len(issues(server)) == len(WRONG)
    doubts = [f for f in record["findings"] if f["kind"] == "contradicted-label"]
    for issue in issues(server):
        told = [f["message"] for f in doubts if f["uuid"] == issue["sample_uuid"]]
        head, *lines = issue["description"].splitlines()
        assert head.startswith(f"{MARK} the model tiny doubts") and lines == [f"- {message}" for message in told]
        assert issue["status"] == "OPEN" and told
    assert [(r["outcome"], r["regions"]) for r in record["issues"]] == [
        ("opened", sum(f["uuid"] == r["uuid"] for f in doubts)) for r in record["issues"]
    ]
    assert {r["issue"] for r in record["issues"]} == {i["uuid"] for i in issues(server)}


def test_an_issue_lists_regions_in_the_order_of_the_check_and_hides_where_the_model_lies(tmp_path):
    said: dict[str, str] = {}

    class Platform:
        def of(self, dataset: str) -> list[Any]:
            assert dataset in ("acme/a", "acme/b")
            return []

        def add(self, datasets: list[str], uuid: str, description: str) -> str:
            said[uuid] = description
            return f"issue of {uuid}"

    found = [Finding("contradicted-label", "info", m, name=u, uuid=u) for m, u in (("1", "x"), ("2", "y"), ("3", "x"))]
    (tmp_path / "v1.0").mkdir()
    datasets = datasets_of("acme/a + acme/b")
    rows = open_issues(Platform(), found, datasets=datasets, model=tmp_path / "v1.0", dry_run=False)
    assert [(r.uuid, r.regions, r.issue) for r in rows] == [("x", 2, "issue of x"), ("y", 1, "issue of y")]
    assert said["x"].splitlines()[1:] == ["- 1", "- 3"] and said["y"].splitlines()[1:] == ["- 2"]
    assert "model v1.0 doubts that these 2 regions are" in said["x"] and "this region is" in said["y"]
    assert str(tmp_path) not in said["x"]
    open_issues(Platform(), found[:1], datasets=datasets, model="acme/seg@v2", dry_run=False)
    assert "model acme/seg@v2 doubts" in said["x"]
    for name in ("", "scene_parsing", "a/b/c", "acme/a + b"):
        with pytest.raises(OptionError, match="names no dataset on Segments"):
            datasets_of(name)


def test_an_open_issue_is_not_doubled_and_a_closed_one_is_no_obstacle(server, check):
    check("--open-issues")
    first, second = issues(server)
    first["status"] = "CLOSED"
    person = {"uuid": "p", "sample_uuid": second["sample_uuid"], "description": "look here", "status": "OPEN"}
    server.platform.datasets[DATASET].issues["p"] = second | person
    again = {r["uuid"]: r["outcome"] for r in check("--open-issues")["issues"]}
    assert again == {first["sample_uuid"]: "opened", second["sample_uuid"]: "there"}
    assert len(issues(server)) == 4


def test_nothing_is_written_unless_it_is_asked_for(server, check):
    assert check()["issues"] == []
    record = check("--open-issues", "--dry-run")
    assert [r["outcome"] for r in record["issues"]] == ["opened", "opened"] and record["dry_run"]
    assert not issues(server) and not server.log.find("POST", "/issues/")


def test_the_limit_says_at_how_many(server, check):
    assert len(check("--open-issues", "--limit", 1)["issues"]) == 1 == len(issues(server))


def test_of_a_dataset_the_samples_are_found_too(server, check, tmp_path, cli):
    cli("convert", tmp_path / "release", "--out", tmp_path / "data", "--workers", 1)
    check("--open-issues", source=tmp_path / "data")
    assert {i["sample_uuid"] for i in issues(server)} == {sample_uuid(i) for i in WRONG}


def test_an_answer_that_was_lost_does_not_double_an_issue(server, check):
    server.faults.drop_response(method="POST", path="/issues/")
    assert [r["outcome"] for r in check("--open-issues")["issues"]] == ["opened", "opened"]
    assert len(issues(server)) == 2


def test_what_fails_is_told_and_the_others_are_opened(server, check, tmp_path):
    del server.platform.datasets[DATASET].samples[sample_uuid(1)]
    said = check("--open-issues", "--out", tmp_path / "out", code=1)
    assert "'frame_0001.jpg': " in said and "1 of 2 issues could not be opened" in said.splitlines()[-1]
    assert [i["sample_uuid"] for i in issues(server)] == [sample_uuid(2)]
    assert {r["outcome"] for r in json.loads((tmp_path / "out/check.json").read_text())["issues"]} == {
        "opened",
        "failed",
    }


def test_a_key_that_may_not_is_told_before_the_work(server, check, tmp_path, monkeypatch):
    del server.platform.datasets[DATASET]
    assert "no dataset acme/sidewalk" in check("--open-issues", "--out", tmp_path / "out", code=1)
    assert not (tmp_path / "out").exists()


def test_a_flag_that_does_nothing_is_refused(check, tmp_path, cli):
    assert "--dry-run does nothing alone" in check("--dry-run", code=2)
    shown = cli("check", tmp_path / "release", "--open-issues", code=2)
    assert "--open-issues does nothing alone" in shown.stderr
