"""Fixtures of the tests that make things on a loopback Segments.ai."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from tests.loopback.segments import KEY, LoopbackSegments
from tests.releases import write_image

Cli = Callable[..., Result]

DATASET = "acme/sidewalk"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The test's own folder is the current one."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(cli: Cli, server: LoopbackSegments) -> Cli:
    """A command with the server's key; an error leaves nothing on stdout, and the key is shown nowhere."""

    def call(*argv: object, code: int = 0, env: dict[str, str | None] | None = None) -> Result:
        result = cli(*argv, code=code, env=server.env | (env or {}))
        if code:
            assert result.stdout == ""
        assert KEY not in result.output
        return result

    return call


def last(result: Result) -> str:
    """The closing line of what a command said."""
    return result.stderr.rstrip("\n").split("\n")[-1]


def record(result: Result) -> Any:
    """What `--json` printed."""
    return json.loads(result.stdout)


def draw_image(path: Path, seed: int, size: tuple[int, int] = (24, 32)) -> Path:
    """A small image of noise, another one for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8))
    return path
