"""The README is true: its set-up lines, its tour, its tables, and the programs in examples/."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from labelsync.cli.main import main
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub
from tests.loopback.segments import KEY, LoopbackSegments
from tests.models import label_map, tiny_segformer
from tests.releases import draw_release, write_image
from tests.videos import draw_video

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SETUP = BLOCKS[0][1].splitlines()


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language after the set-up lines, in order."""
    return [text for kind, text in BLOCKS[1:] if kind == language]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a team that has labelled acme/sidewalk and has a Hub: both on this machine."""
    draw_release(tmp_path / "drawn", samples=24, skipped=[3], unlabeled=[5])
    tiny_segformer(tmp_path / "mit-b0", weights=True)
    with LoopbackSegments() as platform, LoopbackHub() as hub:
        platform.add_round(tmp_path / "drawn/release.json")
        files = {p.name: p.read_bytes() for p in (tmp_path / "mit-b0").iterdir()}
        hub.add_repo("nvidia/mit-b0", files, kind="model")
        yield os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "SEGMENTS_API_URL": platform.url,
            "SEGMENTS_API_KEY": KEY,
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": WRITE_TOKEN,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_CACHE": str(tmp_path / "home/hub"),
        }


def run(argv: list[str], world: dict[str, str], folder: Path) -> str:
    """Run a program in a folder; what it prints."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(argv, cwd=folder, env=world, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_readme_has_two_set_up_lines_and_ci_runs_the_second():
    install, test = SETUP
    assert install.endswith(".venv/bin/pip install . && .venv/bin/labelsync demo")
    assert test.endswith("tox")
    assert [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()].count(test) == 1


def test_the_tour_in_the_shell(world, tmp_path):
    (tmp_path / "here/recordings/tuesday").mkdir(parents=True)
    for i in range(2):
        write_image(tmp_path / f"here/recordings/tuesday/{i}.jpg", np.full((48, 64, 3), 99 * i, np.uint8))
    said = run(["bash", "-euo", "pipefail", "-c", "\n".join(blocks("sh"))], world, tmp_path / "here")
    assert "24 samples of acme/sidewalk v1.0" in said
    assert "mean IoU" in said
    left = {p.relative_to(tmp_path / "here").as_posix() for p in (tmp_path / "here").rglob("manifest.json")}
    assert {f"{stage}/v1.0/manifest.json" for stage in ("releases", "datasets", "models", "evaluations")} <= left
    assert len(list((tmp_path / "here/predictions/overlays").iterdir())) == 23
    assert "3 samples of acme/sidewalk prelabeled" in said  # those of tuesday, and one that had no label
    rounds = json.loads((tmp_path / "here/rounds/v1.1/round.json").read_text())
    assert (rounds["previous"], rounds["production"]) == ("v1.0", True) and rounds["baseline_mean_iou"] is not None


def test_the_tour_in_python(world, tmp_path):
    proof = """
assert classes.shape == (48, 64) and classes.max() <= 3, classes
assert rows.column_names == ["pixel_values", "label", "name", "uuid"], rows
assert parts and {part["label"] for part in parts} <= {"class-1", "class-2", "class-3"}, parts
"""
    said = run([sys.executable, "-c", "\n".join([*blocks("python"), proof])], world, tmp_path / "here")
    assert re.match(r"0\.\d+ \{'class-1': ", said)


def test_a_dataset_is_started_as_it_says(tmp_path):
    here = tmp_path / "here"
    for i in range(2):
        (here / f"recordings/monday/cam{i}").mkdir(parents=True)
        write_image(here / f"recordings/monday/cam{i}/0001.jpg", np.full((24, 32, 3), 99 * i, np.uint8))
    draw_video(here / "walk.mp4", 21)
    with LoopbackSegments() as platform:
        world = os.environ | {name: str(value) for name, value in platform.env.items()}
        said = run(["bash", "-euo", "pipefail", "-c", *blocks("bash")], world, here)
        names = [s.name for s in platform.platform.dataset("acme/sidewalk").samples.values()]
    frames = [f"walk.mp4/frame_{i:06d}.jpg" for i in (0, 10, 20)]
    assert names == ["cam0/0001.jpg", "cam1/0001.jpg", *frames]
    assert "acme/sidewalk@v0.1: made (5 samples)" in said


def test_prelabels_come_and_go_as_it_says(world, tmp_path):
    tiny_segformer(tmp_path / "here/models/v1.0", label_map("class-1", "class-2", "class-3"), weights=True)
    said = run(["bash", "-euo", "pipefail", "-c", *blocks("shell")], world, tmp_path / "here")
    assert re.findall(r"^1 sample of acme/sidewalk ([a-z ]+)", said, re.MULTILINE) == [
        "would be prelabeled with ",
        "prelabeled with ",
        "taken back",
    ]


def test_the_next_images_are_chosen_as_it_says(world, tmp_path):
    tiny_segformer(tmp_path / "here/models/v1.0", label_map("class-1", "class-2", "class-3"), weights=True)
    for i in range(3):
        (tmp_path / "here/recordings").mkdir(exist_ok=True)
        write_image(tmp_path / f"here/recordings/{i}.jpg", np.full((48, 64, 3), 80 * i, np.uint8))
    draw_video(tmp_path / "here/walk.mp4", 21)
    said = run(["bash", "-euo", "pipefail", "-c", *blocks("zsh")], world, tmp_path / "here")
    assert "4 images of 6 chosen by entropy+diverse" in said
    assert "acme/sidewalk: 4 images added" in said
    assert "5 samples put into the labeling queue by margin" in said


def test_the_examples_run(world, tmp_path):
    said = {}
    programs = {
        "pipeline": [],
        "robot": ["example/model", "example/release/images"],
        "loop": ["acme/street"],
    }
    for program, argv in programs.items():
        said[program] = run([sys.executable, str(ROOT / f"examples/{program}.py"), *argv], world, tmp_path / "here")
    others = {f"{name}.py" for name in ("scene_parsing", "pets")}  # run by test_examples.py
    assert {f"{program}.py" for program in said} | others == {p.name for p in (ROOT / "examples").glob("*.py")}
    assert "12 classes, rows per split" in said["pipeline"]
    assert re.search(r"^mean IoU 0\.\d+; 38 overlays", said["pipeline"], re.MULTILINE)
    assert re.findall(r": (go|wait) \(", said["robot"])
    assert said["loop"].startswith("12 samples prelabeled by the model of v0.1\n")
    scores = r"^model of v0\.2: mean IoU 0\.\d{3}, that of v0\.1 0\.\d{3} on the same test images$"
    assert re.search(scores, said["loop"], re.MULTILINE)
    ledgers = (tmp_path / f"here/example-loop/rounds/{name}/dataset/ledger.json" for name in ("v0.1", "v0.2"))
    counted = [Counter(row["outcome"] for row in json.loads(path.read_text())["rows"]) for path in ledgers]
    assert (counted[0]["unlabeled"], counted[0].total()) == (2, 30)
    assert (counted[1]["filtered"], counted[1].total()) == (2, 40)  # prelabels that nobody looked at
    assert counted[1]["converted"] >= counted[0]["converted"] + 9


# ---------------------------------------------------------------- tables


def test_the_table_of_commands_has_every_command():
    listed = re.findall(r"^\| `labelsync (\w[\w-]*)", README, re.MULTILINE)
    assert listed == list(main.commands)


def test_every_flag_in_the_readme_is_a_flag():
    flags = {o for c in main.commands.values() for p in c.params for o in (*p.opts, *p.secondary_opts)}
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", README))
    assert mentioned
    assert mentioned <= flags


def test_the_layout_names_every_room():
    (layout,) = [text for kind, text in BLOCKS if not kind and text.startswith("labelsync/\n")]
    listed = set(re.findall(r"^  ([\w./]+)", layout, re.MULTILINE))
    rooms = {p.name + "/" * p.is_dir() for p in (ROOT / "labelsync").iterdir() if p.suffix in ("", ".py")}
    assert listed == rooms - {"__init__.py", "__main__.py", "__pycache__/"}
    assert all((ROOT / name).is_dir() for name in re.findall(r"^(\w+)/", layout, re.MULTILINE))


def test_every_link_in_the_readme_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []
