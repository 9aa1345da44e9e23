"""run, status, promote, rollback, init: labeling rounds through the real commands, platform and Hub on this machine."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import pytest
from huggingface_hub import HfApi

from labelsync.pixels.instance import decode_instance_bitmap, encode_instance_bitmap
from tests.loopback.hub import LoopbackHub
from tests.loopback.segments import LoopbackSegments
from tests.releases import draw_release
from tests.teams import settle

SAMPLES = 20
STAGES = (
    "pull diff check convert push-dataset train evaluate compare push-model promote".split()  # noqa: SIM905 - in order
)


@dataclass
class Team:
    """A team's folder with labelsync.toml, its dataset on the platform, and its Hub."""

    folder: Path
    platform: LoopbackSegments
    hub: LoopbackHub
    cli: Any
    dataset: str
    model: str
    document: dict[str, Any] = field(default_factory=dict)

    def label(self, name: str, change: Any = None) -> None:
        """A labeling round: the last document, changed, released as `name`; unchanged samples keep their URLs."""
        drawn = self.folder / "drawn"
        if not self.document:
            path = draw_release(drawn, samples=SAMPLES, base_url=self.platform.mount(drawn))
            self.document = json.loads(path.read_text())
        if change is not None:
            change(self.document["dataset"], drawn)
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(self.document | {"name": name}))
        self.platform.add_round(path)

    def run(self, *argv: str, code: int = 0) -> Any:
        done = self.cli("run", self.folder / "labelsync.toml", *argv, "--json", code=code)
        return json.loads(done.stdout) if done.stdout else done

    def stages(self, *argv: str) -> dict[str, str]:
        return {s["stage"]: s["outcome"] for s in self.run(*argv)["stages"]}

    def splits(self, name: str) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.folder / f"rounds/{name}/dataset/splits.json").read_text())["samples"]
        return found

    def edit(self, old: str, new: str) -> None:
        path = self.folder / "labelsync.toml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))


@pytest.fixture
def team(
    tmp_path: Path, cli: Any, server: LoopbackSegments, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Team]:
    gates, more = ("mean_iou >= 0.0",), "[report]\nhtml = false\n"
    repos = settle(tmp_path, server, monkeypatch, source="acme/sidewalk", gates=gates, more=more)
    yield Team(tmp_path, server, hub, cli, **repos)
    hub.faults.clear()


def redraw(index: int) -> Any:
    """A change: the first two rows of one sample's bitmap are drawn anew, under a new URL."""

    def change(dataset: dict[str, Any], drawn: Path) -> None:
        label = dataset["samples"][index]["labels"]["ground-truth"]["attributes"]
        old = label["segmentation_bitmap"]["url"]
        ids = decode_instance_bitmap((drawn / "bitmaps" / old.rpartition("/")[2]).read_bytes())
        ids[:2] = label["annotations"][-1]["id"]
        name = f"redrawn-{index}.png"
        (drawn / "bitmaps" / name).write_bytes(encode_instance_bitmap(ids))
        label["segmentation_bitmap"]["url"] = old.rpartition("/")[0] + "/" + name

    return change


def rename(dataset: dict[str, Any], _: Path) -> None:
    dataset["task_attributes"]["categories"][0]["name"] = "kerb"


def tags(team: Team, kind: str) -> set[str]:
    return set(heads(team, kind))


def heads(team: Team, kind: str = "model") -> dict[str, str]:
    """Commit of every tag, and of main."""
    refs = HfApi().list_repo_refs(team.dataset if kind == "dataset" else team.model, repo_type=kind)
    return {ref.name: ref.target_commit for ref in [*refs.tags, *refs.branches]}


# -------------------------------------------------------------------- rounds


def test_three_rounds_leave_three_tags_each_and_move_only_their_change(team):
    team.label("v1")
    first = team.run()
    assert [s["stage"] for s in first["stages"]] == STAGES
    assert {s["stage"]: s["outcome"] for s in first["stages"]} == dict.fromkeys(STAGES, "done") | {"diff": "skipped"}
    team.label("v2", redraw(3))
    del team.platform.log[:]
    second = team.run()
    fetched = [r.path for r in team.platform.log if r.path.endswith((".png", ".jpg"))]
    assert [p.rpartition("/")[2] for p in fetched] == ["redrawn-3.png"]
    team.label("v3", rename)
    team.edit("[hub]", '[hub]\ndataset_license = "cc-by-4.0"\nmodel_license = "other"')
    assert not (team.folder / "rounds/v2/report.html").exists()
    team.edit("html = false", "html = true")
    third = team.run()
    assert (second["previous"], third["previous"], third["number"]) == ("v1", "v2", 3)
    assert tags(team, "dataset") == {"main", "v1", "v2", "v3"}
    assert tags(team, "model") == {"main", "v1", "v2", "v3", "production"}
    found = heads(team)
    assert found["production"] == found["v3"]
    for tag in ("v1", "v2", "v3"):
        team.cli("verify", f"{team.dataset}@{tag}")
        names = json.loads(team.hub.files(team.dataset, tag)["id2label.json"])
        assert ("kerb" in names.values()) == (tag == "v3")
    diff = json.loads((team.folder / "rounds/v3/diff.json").read_text())
    assert diff["categories"]["renamed"] == [["class-1", "kerb"]]
    assert team.splits("v1") == team.splits("v3")
    comparison = json.loads((team.folder / "rounds/v3/comparison.json").read_text())
    assert comparison["left_out"] == {} and "kerb" in comparison["classes"]  # the rename is followed
    page = (team.folder / "rounds/v3/summary.md").read_text()
    iou = comparison["figures"]["iou.kerb"]
    assert f"| kerb | {iou['new']:.4f} | {iou['baseline']:.4f} | {iou['delta']:+.4f}" in page
    assert "class-1 is now called kerb" in page and "in **production**" in page
    assert f"mean IoU **{third['mean_iou']:.4f}**" in page
    card = team.hub.files(team.model, "v3", kind="model")["README.md"].decode()
    assert f"| dataset | [{team.dataset} (v3)]" in card and heads(team, "dataset")["v3"] in card
    assert "license: other\n" in card
    assert b"license: cc-by-4.0\n" in team.hub.files(team.dataset, "v3")["README.md"]
    report = (team.folder / "rounds/v3/report.html").read_text()
    assert "The gate is met" in report and f'<dd class="value">{third["mean_iou"]:.3f}</dd>' in report
    assert "Changes since the baseline" in report and "What the model saw while it learned" in report
    assert "## Scores on the test split" in card and f"images of {team.dataset}@v3" in card


def test_classes_that_the_last_model_lacks_are_told_apart(team):
    team.label("v1")
    team.run()

    def more(dataset: dict[str, Any], _: Path) -> None:
        dataset["task_attributes"]["categories"].append({"id": 9, "name": "ramp"})
        for sample in dataset["samples"]:
            sample["labels"]["ground-truth"]["attributes"]["annotations"][0]["category_id"] = 9

    team.label("v2", more)
    second = team.run()
    comparison = json.loads((team.folder / "rounds/v2/comparison.json").read_text())
    assert comparison["left_out"] == {"classes that the model of the baseline does not know": ["ramp"]}
    assert "iou.ramp" not in comparison["figures"]
    assert "new to it: ramp" in next(s["note"] for s in second["stages"] if s["stage"] == "compare")


def test_a_second_run_does_nothing(team):
    team.edit("html = false", "html = true")
    team.label("v1")
    team.run()
    assert (team.folder / "rounds/v1/report.html").is_file()
    found = heads(team), heads(team, "dataset")
    before = {
        p: p.stat().st_mtime_ns for p in (team.folder / "rounds").rglob("*") if p.is_file() and p.name != "round.json"
    }
    outcomes = team.stages()
    assert set(outcomes.values()) <= {"unchanged", "skipped", "done"}
    assert all(
        outcomes[s] == "unchanged" for s in ("pull", "convert", "push-dataset", "train", "evaluate", "push-model")
    )
    assert found == (heads(team), heads(team, "dataset"))
    still = {p: p.stat().st_mtime_ns for p in before}
    changed = {p.name for p in before if before[p] != still[p]}
    assert changed <= {"summary.md"}


def test_a_failed_gate_publishes_the_model_and_leaves_production(team):
    team.label("v1")
    team.run()
    team.edit("mean_iou >= 0.0", "mean_iou >= 0.99")
    team.label("v2", redraw(3))
    done = team.cli("run", team.folder / "labelsync.toml", code=3)
    assert "mean_iou >= 0.99" in done.stderr
    found = heads(team)
    assert found["production"] == found["v1"] != found["v2"]
    status = json.loads(team.cli("status", team.folder / "labelsync.toml", "--json").stdout)
    assert status["production"] == "v1"
    argv = ("train", team.folder / "rounds/v2/dataset", "--out", team.folder / "out", "--model", team.folder / "start")
    line = team.cli(*argv, "--recipe", "demo", "--published-as", f"{team.dataset}@v1", code=1).stderr
    assert f"{team.dataset}@v1 is not the dataset at" in line
    assert [(r["name"], r["production"], r["samples"]) for r in status["rounds"]] == [
        ("v1", True, 20),
        ("v2", False, 20),
    ]


def test_after_an_error_the_next_run_goes_on_where_it_was(team):
    team.label("v1")
    team.hub.faults.add("status", method="POST", path="/api/models/", code=403, times=None)
    line = team.run(code=1).stderr.strip().splitlines()[-1]
    team.hub.faults.clear()
    assert "may not write" in line
    record = json.loads((team.folder / "rounds/v1/round.json").read_text())
    ends = {s["stage"]: s["outcome"] for s in record["stages"]}
    assert ends["evaluate"] == "done" and ends["push-model"] == "failed" and "promote" not in ends
    outcomes = team.stages()
    assert (outcomes["train"], outcomes["evaluate"], outcomes["push-model"], outcomes["promote"]) == (
        "unchanged",
        "unchanged",
        "done",
        "done",
    )


def test_an_interrupted_training_is_gone_on_with(team, monkeypatch):
    from labelsync.training import finetune

    team.label("v1")
    real, asked = finetune.train, []

    def train(*args: Any, **kwargs: Any) -> Any:
        asked.append((kwargs.get("resume", False), kwargs["overwrite"]))
        return real(*args, **kwargs)

    monkeypatch.setattr(finetune, "train", train)
    team.run("--until", "convert")
    out = team.folder / "rounds/v1/model"
    (out / "checkpoints").mkdir(parents=True)  # a run that was killed before its first checkpoint, on other data
    (out / "checkpoints/run.json").write_text(json.dumps({"inputs": {"dataset": "x"}, "settings": {}}))
    assert team.stages()["train"] == "done"
    assert asked == [(True, False), (False, True)]


def test_without_a_hub_the_rounds_stay_in_folders(team, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    team.edit(f'dataset = "{team.dataset}"\nmodel = "{team.model}"\n', "")
    del team.hub.log[:]
    team.label("v1")
    outcomes = team.stages()
    assert (outcomes["push-dataset"], outcomes["push-model"], outcomes["promote"]) == ("skipped", "skipped", "done")
    team.label("v2", redraw(3))
    second = team.run()
    assert second["baseline_mean_iou"] is not None
    assert not team.hub.log
    assert json.loads((team.folder / "rounds/production.json").read_text())["rounds"] == ["v1", "v2"]


def test_on_another_machine_classes_and_splits_come_from_the_hub(team):
    team.label("v1")
    team.run()
    pinned = team.splits("v1")
    shutil.rmtree(team.folder / "rounds")
    team.label("v2", rename)
    second = team.run()
    assert team.splits("v2") == pinned
    assert second["baseline_mean_iou"] is not None, second["stages"]  # the model that is in production there
    again = team.run()  # what is published now is its own, and it must not stand on that
    assert {s["outcome"] for s in again["stages"] if s["stage"] != "promote"} <= {"unchanged", "skipped"}, again
    assert again["baseline_mean_iou"] == second["baseline_mean_iou"]


def test_on_another_machine_a_published_round_keeps_its_splits(team):
    def only_ten(dataset: dict[str, Any], _: Path) -> None:
        for sample in dataset["samples"][10:]:
            sample["labels"] = {"ground-truth": None}

    team.label("all")
    whole = team.document
    team.document = json.loads(json.dumps(whole))
    team.label("v1", only_ten)
    team.run("--until", "push-dataset")
    team.document = whole
    team.label("v2")
    team.run("--until", "push-dataset")
    pinned, commit = team.splits("v2"), heads(team, "dataset")["v2"]
    shutil.rmtree(team.folder / "rounds")
    team.run("--release", "v2", "--until", "push-dataset")
    assert team.splits("v2") == pinned
    assert heads(team, "dataset")["v2"] == commit
    shutil.rmtree(team.folder / "rounds")
    team.edit(f'dataset = "{team.dataset}"\n', "")
    team.run("--release", "v2", "--until", "convert")
    assert team.splits("v2") != pinned  # without what was published they would be others, so this test can fail


# -------------------------------------------------------------------- choosing stages


def test_from_until_and_force(team):
    team.label("v1")
    assert list(team.stages("--until", "convert")) == ["pull", "diff", "check", "convert"]
    line = team.run("--from", "compare", code=2).stderr.strip().splitlines()[-1]
    assert "has not been through push-dataset" in line
    team.run()
    outcomes = team.stages("--from", "train", "--until", "evaluate", "--force", "evaluate")
    assert (outcomes["train"], outcomes["evaluate"], outcomes["promote"]) == ("unchanged", "done", "done")
    assert "no such stage" in team.run("--force", "tran", code=2).stderr
    assert "stands before" in team.run("--from", "train", "--until", "pull", code=2).stderr


def test_images_are_looked_at_as_the_configuration_says(team):
    team.label("v1")
    team.run("--until", "evaluate")
    team.edit("[gates]", '[evaluate]\nflip = true\nscales = [0.5, 1]\nwindow = "40x40"\n[gates]')
    again = ("--from", "evaluate", "--until", "evaluate")
    assert team.stages(*again)["evaluate"] == "done"
    found = json.loads((team.folder / "rounds/v1/evaluation/evaluation.json").read_text())
    assert (found["flip"], found["scales"], found["window"]) == (True, [0.5, 1.0], "40x40")
    assert team.stages(*again)["evaluate"] == "unchanged"
    team.edit('window = "40x40"', 'window = "wide"')
    assert "--window" in team.run(*again, code=2).stderr


def test_a_dry_run_touches_nothing(team):
    team.label("v1")
    del team.hub.log[:]
    record = team.run("--dry-run")
    assert {s["outcome"] for s in record["stages"]} == {"planned"}
    assert not [p for p in (team.folder / "rounds").rglob("*") if p.is_file() and not p.name.endswith(".lock")]
    assert not team.hub.log


def test_an_older_release_can_be_run_again(team):
    team.label("v1")
    team.run("--until", "convert")
    team.label("v2", redraw(3))
    team.run("--until", "convert")
    again = team.run("--release", "v1", "--until", "convert")
    assert (again["number"], again["previous"]) == (1, "")
    assert {s["outcome"] for s in again["stages"] if s["stage"] in ("pull", "convert")} == {"unchanged"}


def test_two_runs_at_once_are_refused(team):
    team.label("v1")
    with filelock.FileLock(team.folder / ".rounds.lock"):
        line = team.run(code=1).stderr.strip().splitlines()[-1]
    assert "another labelsync run is at work" in line


def test_several_datasets_become_one_round(team):
    team.label("v1")
    other = draw_release(team.folder / "other", samples=8, seed=5, dataset="acme/square", name="v1")
    team.platform.add_round(other)
    team.edit('["acme/sidewalk"]', '["acme/sidewalk", "acme/square"]')
    record = team.run("--until", "convert")
    assert record["releases"] == {"acme/sidewalk": "v1", "acme/square": "v1"}
    assert record["name"] == "v1"
    assert record["stages"][-1]["figures"]["samples"] == SAMPLES + 8


def test_rounds_of_other_releases_never_share_a_name(team):
    team.label("v1")
    first = team.run("--until", "pull")
    team.platform.add_round(draw_release(team.folder / "other", samples=8, seed=5, dataset="acme/square", name="v1"))
    team.edit('["acme/sidewalk"]', '["acme/sidewalk", "acme/square"]')
    second, again = team.run("--until", "pull"), team.run("--until", "pull")
    assert second["releases"] == {"acme/sidewalk": "v1", "acme/square": "v1"}
    assert (first["name"], second["number"], second["previous"]) == ("v1", 2, "v1")
    assert second["name"].startswith("v1-") and again["name"] == second["name"]
    assert again["stages"][0]["outcome"] == "unchanged"


# -------------------------------------------------------------------- production


def test_promote_and_rollback_move_the_tag(team):
    for name, change in (("v1", None), ("v2", redraw(3))):
        team.label(name, change)
        team.run()

    def production() -> str:
        found = heads(team)
        return next(n for n in ("v1", "v2") if found[n] == found["production"])

    config = team.folder / "labelsync.toml"
    assert production() == "v2"
    record = json.loads(team.cli("rollback", config, "--json").stdout)
    assert (record["production"], record["before"], production()) == ("v1", "v2", "v1")
    assert "nothing to roll back to" in team.cli("rollback", config, code=2).stderr
    promoted = team.run()["stages"][-1]  # nothing is new
    assert (promoted["outcome"], promoted["note"], production()) == ("unchanged", "v1 is in production", "v1")
    assert team.run("--from", "promote", "--force", "promote")["production"] and production() == "v2"
    team.run("--release", "v1")  # an old round once more
    assert production() == "v2"
    team.cli("rollback", config)
    assert json.loads(team.cli("promote", config, "--json").stdout)["production"] == "v2" == production()
    assert "no round 'v9'" in team.cli("promote", config, "--release", "v9", code=2).stderr


# -------------------------------------------------------------------- the configuration


def test_init_writes_a_file_that_says_the_defaults(cli, tmp_path):
    from labelsync.pipeline.config import Config, Segments, read_config

    path = tmp_path / "labelsync.toml"
    cli("init", "--out", path, "--dataset", "acme/walk")
    assert read_config(path) == Config(Segments(datasets=("acme/walk",)), path=path)
    assert "exists" in cli("init", "--out", path, code=1).stderr
    examples = re.sub(r"^# ((?!files|require)\w+ = )", r"\1", path.read_text(), flags=re.MULTILINE)
    path.write_text(examples)  # every example behind "#" can be used
    assert read_config(path).hub.model == "acme/segformer-sidewalk"
    assert read_config(path).train.epochs == 50


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[segments]\n", "neither datasets nor files"),
        ('[segments]\ndatasets = ["acme"]\n', "'acme' in segments.datasets names no dataset"),
        ('[segments]\ndatasets = ["a/b@v1"]\n', "--release"),
        ('[segments]\ndatasets = ["a/b"]\nfiles = ["x"]\n', "both datasets and files"),
        ('[segments]\ndatasets = ["a/b"]\n[tran]\n', "did you mean 'train'?"),
        ('[segments]\ndatasets = ["a/b"]\n[train]\nepoch = 3\n', "did you mean 'epochs'?"),
        ('[segments]\ndatasets = ["a/b"]\n[train]\nepochs = "many"\n', "train.epochs"),
        ("segments = [", "cannot be read"),
        ('path = "x"\n[segments]\ndatasets = ["a/b"]\n', "no section 'path'"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line(cli, tmp_path, text, said):
    (tmp_path / "labelsync.toml").write_text(text)
    done = cli("status", tmp_path / "labelsync.toml", code=2)
    assert said in done.stderr and "Traceback" not in done.stderr


def test_no_configuration_says_how_to_get_one(cli, tmp_path):
    assert "labelsync init" in cli("run", tmp_path / "none.toml", code=2).stderr


def test_status_of_no_round_says_how_to_start(team):
    assert "no round yet" in team.cli("status", team.folder / "labelsync.toml").stdout
