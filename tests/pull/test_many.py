"""Many samples over a network that is bad now and then: the small sister of `tests.benchmarks.pull_many`."""

from pathlib import Path

import pytest

from labelsync import pull
from tests.benchmarks import pull_many
from tests.loopback.segments import LoopbackSegments


def test_two_hundred_samples_with_passing_faults_end_complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pull_many, "EVERY", 20)  # 5 %: a fault of every kind, five times
    server = LoopbackSegments()
    files, faults = pull_many.prepare(server, samples=200)
    for key, value in server.env.items():
        monkeypatch.setenv(key, str(value))
    with server:
        record = pull(pull_many.NAME, out=tmp_path / "out")
    assert record.outcomes["pulled"] == 200
    assert faults.made == 20
    assert record.bytes_fetched == sum(map(len, files.values()))
    assert pull_many.missing(tmp_path / "out", files) == []
