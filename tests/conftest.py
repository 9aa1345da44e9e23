"""What every test stands on: an empty home, a loopback Hub, no way out of this machine.

huggingface_hub reads its endpoint and folders when it is imported, so all of this happens before any test module is.
"""

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from click.testing import CliRunner, Result

assert "huggingface_hub" not in sys.modules, "imported before its environment was set"

_HOME = tempfile.TemporaryDirectory(prefix="labelsync-tests-")
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens, so every way out ends at once

# Keys, caches and servers of whoever runs the tests have no part in them.
for _name in [n for n in os.environ if n.startswith(("HF_", "HUGGING", "SEGMENTS_", "LABELSYNC_", "TRANSFORMERS_"))]:
    del os.environ[_name]
os.environ |= {
    "HF_HOME": f"{_HOME.name}/huggingface",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",  # a compiled client with threads of its own; tests/publish/test_xet.py has it on
    "LABELSYNC_CACHE": f"{_HOME.name}/labelsync",
    "SEGMENTS_API_URL": NOWHERE,
    "MPLCONFIGDIR": f"{_HOME.name}/matplotlib",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "OMP_NUM_THREADS": "1",  # tiny models: threads cost more than they give, and sums keep their order
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
} | {name: NOWHERE for way in ("http_proxy", "https_proxy", "all_proxy") for name in (way, way.upper())}

from tests.commands import Commands  # noqa: E402 - after the environment is set
from tests.loopback.hub import LoopbackHub  # noqa: E402
from tests.loopback.segments import LoopbackSegments  # noqa: E402

_HUB = LoopbackHub().__enter__()
os.environ["HF_ENDPOINT"] = _HUB.url
assert "huggingface_hub" not in sys.modules

hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("tests")


def pytest_unconfigure() -> None:
    """Stop the Hub and forget the home."""
    _HUB.__exit__(None, None, None)
    _HOME.cleanup()


@pytest.fixture(scope="session")
def hub() -> LoopbackHub:
    """The loopback Hub that huggingface_hub, datasets and transformers talk to. One for all: name repos per test."""
    return _HUB


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackSegments]:
    """An empty loopback Segments.ai; between tries and polls pass hundredths of seconds."""
    monkeypatch.setattr("labelsync.release.transport.BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr("labelsync.release.client._POLL_SECONDS", (0.02, 0.05))
    with LoopbackSegments() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _no_way_out() -> Iterator[None]:
    """A connection to another machine, or a look-up of its name, fails the test that tried."""

    def is_here(host: object) -> bool:
        text = host.decode() if isinstance(host, bytes) else str(host or "")
        return text in ("", "localhost", "::1", "0.0.0.0") or text.startswith("127.")  # noqa: S104

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: socket.socket, address: Any) -> Any:
            if self.family != socket.AF_UNIX and not is_here(address[0]):
                raise RuntimeError(f"a test tried to reach {address[0]}")
            return original(self, address)

        return call

    def look_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_here(host):
            raise RuntimeError(f"a test tried to look up {host}")
        return getaddrinfo(host, *args, **kwargs)

    getaddrinfo = socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", look_up)
        yield


@pytest.fixture(autouse=True)
def _the_same_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Dataset.map(num_proc=...)` leaves a copy in the place of os.environ: put the real one back after each test."""
    monkeypatch.setattr(os, "environ", os.environ)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An asset cache of the test's own, at LABELSYNC_CACHE."""
    path = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("LABELSYNC_CACHE", str(path))
    return path


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run the real command in process: `cli("pull", path, "--json")`, `code=1` where an error is expected.

    An unexpected exception goes through; a known error must be one closing line on stderr, without a traceback.
    """

    def run(*argv: object, code: int = 0, env: dict[str, str | None] | None = None) -> Result:
        from labelsync.cli.main import main

        result = CliRunner().invoke(main, [str(a) for a in argv], env=env, catch_exceptions=False)
        assert result.exit_code == code, f"exit code {result.exit_code}, expected {code}\n{result.output}"
        if code in (1, 3):
            assert "Traceback" not in result.output
            assert result.stderr.rstrip("\n").split("\n")[-1].startswith("labelsync: "), result.stderr
        return result

    return run


@pytest.fixture
def commands(cli: Callable[..., Result], server: LoopbackSegments, tmp_path: Path) -> Commands:
    """`pull` from the server and `convert`, in the test's own folder."""
    return Commands(cli, server, tmp_path)
