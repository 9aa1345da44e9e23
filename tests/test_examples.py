"""The examples on data that others published run as they stand, against stand-ins under the same ids on a Hub."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModelForSemanticSegmentation

from tests import foreign
from tests.conftest import NOWHERE
from tests.loopback.hub import LoopbackHub
from tests.models import tiny_config, tiny_segformer

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody with a Hub where the datasets, the class names and the models are."""
    tiny_segformer(tmp_path / "segformer", 4, weights=True)
    for kind in ("mobilevit", "upernet"):
        model = AutoModelForSemanticSegmentation.from_config(tiny_config(kind))
        model.save_pretrained(tmp_path / kind)
    ids = {
        "segformer": "nvidia/mit-b0",
        "mobilevit": "apple/deeplabv3-mobilevit-small",
        "upernet": "openmmlab/upernet-convnext-tiny",
    }
    with LoopbackHub() as hub:
        for kind, name in ids.items():
            hub.add_repo(name, {p.name: p.read_bytes() for p in (tmp_path / kind).iterdir()}, kind="model")
        foreign.scene_parse(hub)
        foreign.label_files(hub)
        foreign.pets(hub)
        yield os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_CACHE": str(tmp_path / "home/hub"),
            "SEGMENTS_API_URL": NOWHERE,
        }


def run(world: dict[str, str], folder: Path, program: str, *argv: str) -> str:
    """Run an example in a folder; what it prints."""
    folder.mkdir()
    argv = (sys.executable, str(EXAMPLES / program), *argv)
    done = subprocess.run(argv, cwd=folder, env=world, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_scene_parsing_with_three_architectures(world: dict[str, str], tmp_path: Path) -> None:
    said = run(world, tmp_path / "here", "scene_parsing.py", "out", "1", "64")
    assert "ADE_validation_00000012.jpg: image (48, 64, 3), label (48, 64), 150 classes" in said
    assert len(re.findall(r"^[\w/.-]+: [\d,]+ parameters, mean IoU 0\.\d{4}$", said, re.MULTILINE)) == 3
    assert len(re.findall(r"^  wall: IoU (?:0\.\d+|None), accuracy", said, re.MULTILINE)) == 3
    assert re.search(r"^do_reduce_labels True: \d\.\.\d to \d\.\.(?:\d|255)$", said, re.MULTILINE)
    assert re.search(r"^in the image: (?:wall|building|sky|class \d+|[\w ]+)", said, re.MULTILINE)


def test_pets_with_a_recipe_of_its_own(world: dict[str, str], tmp_path: Path) -> None:
    said = run(world, tmp_path / "here", "pets.py", "out", "2")
    assert re.search(r"^8 steps, kept step \d; on the test split mean IoU 0\.\d{4}$", said, re.MULTILINE)
    assert re.findall(r"^  (pet|background|border): (?:0\.\d{4}|absent)$", said, re.MULTILINE) == [
        "pet",
        "background",
        "border",
    ]
    seen = re.findall(r"^the same six validation images after every epoch, (\S+) to (\S+): (\S+)$", said, re.MULTILINE)
    assert len(seen) == 1 and seen[0][0] != seen[0][1]
    assert (tmp_path / "here" / seen[0][2] / seen[0][1]).exists()
    rates = [json.loads(line) for line in (tmp_path / "here/out/model/metrics.jsonl").read_text().splitlines()]
    assert {r["learning_rate"] for r in rates if "learning_rate" in r} == {6e-5}  # the first fall is after ten epochs


def test_every_example_is_short() -> None:
    assert [p.name for p in EXAMPLES.glob("*.py") if len(p.read_text().splitlines()) > 60] == []
