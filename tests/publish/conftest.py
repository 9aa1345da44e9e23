"""Fixtures of the tests that publish on a loopback Hub."""

from collections.abc import Iterator

import pytest

from labelsync.hub import client, publish
from tests.loopback.hub import WRITE_TOKEN, LoopbackHub


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub of the test's own, a token that may write, and no waiting between tries."""
    monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
    monkeypatch.setattr(client, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(publish, "BACKOFF", (0.0, 0.0, 0.0))
    with LoopbackHub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
