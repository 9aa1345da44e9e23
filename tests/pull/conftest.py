"""Fixtures of the tests that pull from a loopback Segments.ai."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.loopback.segments import KEY, LoopbackSegments
from tests.releases import draw_release, edit_release

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The test's own folder is the current one."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def platform(server: LoopbackSegments, tmp_path: Path) -> Callable[..., str]:
    """Draw a release at drawn/<its name>, put it on the server and say "owner/dataset@release".

    `change` edits the list of samples first; `add` are arguments of `LoopbackSegments.add_round`.
    """

    def put(
        change: Callable[[list[Any]], None] = lambda _: None, *, add: dict[str, Any] | None = None, **draw: Any
    ) -> str:
        path = draw_release(tmp_path / "drawn" / draw.get("name", "v1.0"), **({"samples": 4} | draw))
        edit_release(path, lambda d: change(d["dataset"]["samples"]))
        return server.add_round(path, **(add or {}))

    return put


@pytest.fixture
def run(cli: Cli, server: LoopbackSegments) -> Cli:
    """`labelsync pull` with the server's key; where it fails, no folder and nothing on stdout may be left."""

    def call(*argv: object, code: int = 0, env: dict[str, str | None] | None = None) -> Result:
        before = set(Path.cwd().iterdir())
        result = cli("pull", *argv, code=code, env=server.env | (env or {}))
        if code:
            assert result.stdout == ""
            assert {p for p in set(Path.cwd().iterdir()) - before if p.suffix != ".lock"} == set()
        assert KEY not in result.output
        return result

    return call


def last(result: Result) -> str:
    """The closing line on stderr."""
    return result.stderr.rstrip("\n").rsplit("\n", 1)[-1]
