"""A team's folder before its first round: labelsync.toml for rounds of two steps, a model to start from, keys."""

import uuid
from pathlib import Path

import pytest

from tests.loopback.hub import WRITE_TOKEN
from tests.loopback.segments import KEY, LoopbackSegments
from tests.models import tiny_segformer

CONFIG = """
[segments]
datasets = ["{source}"]
[hub]
dataset = "{dataset}"
model = "{model}"
[train]
model = "start"
recipe = "demo"
image_size = "32"
set = ["max_steps=2"]
[gates]
require = {gates}
"""


def settle(
    folder: Path,
    platform: LoopbackSegments,
    monkeypatch: pytest.MonkeyPatch,
    *,
    source: str,
    gates: tuple[str, ...],
    more: str = "",
) -> dict[str, str]:
    """Fill the folder and set the environment; {"dataset", "model"} -> a repo of the team's own on the one Hub.

    Args:
        source: the dataset on the platform.
        gates: that a round must pass.
        more: sections of labelsync.toml.
    """
    tiny_segformer(folder / "start", 3)
    repos = {kind: f"acme/{kind}-{uuid.uuid4().hex[:8]}" for kind in ("dataset", "model")}
    text = CONFIG.format(source=source, gates=str([*gates]).replace("'", '"'), **repos)
    (folder / "labelsync.toml").write_text(text + more)
    for name, value in (("SEGMENTS_API_URL", platform.url), ("SEGMENTS_API_KEY", KEY), ("HF_TOKEN", WRITE_TOKEN)):
        monkeypatch.setenv(name, value)
    return repos
