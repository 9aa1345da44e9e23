"""A Dask cluster of two worker processes on this machine, and what becomes of a conversion when one is killed."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import labelsync
from labelsync.dataset import cluster, shards
from labelsync.errors import ServiceError
from tests.test_convert import digests, pulled

Cli = Callable[..., Result]

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """A scheduler and two workers, each a process of its own, one shard at a time each."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 4)


def test_two_workers_leave_the_same_bytes_as_this_process(tmp_path: Path, cli: Cli, dask: Any) -> None:
    release = pulled(tmp_path, samples=40)
    shown = cli("convert", release, "--out", tmp_path / "data", "--dask", dask.scheduler_address).stdout
    assert "40 samples: 40 converted" in shown
    expected = labelsync.convert(release, out=tmp_path / "plain", workers=1)
    assert digests(tmp_path / "data") == digests(tmp_path / "plain")
    with distributed.Client(dask.scheduler_address, set_as_default=False) as client:
        executor = client.get_executor()
        assert cluster.width_of(executor)() == 2
        again = labelsync.convert(release, out=tmp_path / "again", executor=executor)
        second = labelsync.convert(release, out=tmp_path / "b", executor=executor, previous=tmp_path / "again")
    assert again.digest == expected.digest
    assert (second.decoded, second.linked) == (0, second.shards)


def test_a_killed_worker_costs_time_and_nothing_else(tmp_path: Path, dask: Any) -> None:
    release = pulled(tmp_path, samples=60, size=(400, 600))
    done: list[Any] = []
    killed: list[str] = []
    with distributed.Client(dask.scheduler_address, set_as_default=False) as client:
        pids = client.run(os.getpid)

        def convert() -> None:
            done.append(labelsync.convert(release, out=tmp_path / "data", executor=client.get_executor()))

        thread = threading.Thread(target=convert)
        thread.start()
        while thread.is_alive() and not killed:
            written = list(tmp_path.glob(".data.*.partial/data/*.parquet"))
            busy = [worker for worker, keys in client.processing().items() if keys]
            if len(written) >= 2 and busy:
                os.kill(pids[busy[0]], signal.SIGKILL)
                killed.append(busy[0])
            time.sleep(0.005)
        thread.join(60)
    assert killed, "the conversion was over before a worker could be killed"
    assert done and done[0].outcomes["converted"] == 60
    labelsync.convert(release, out=tmp_path / "plain", workers=1)
    assert digests(tmp_path / "plain") == digests(tmp_path / "data")
    assert not list((tmp_path / "data").rglob(".*"))


def test_a_cluster_without_workers_is_not_waited_for_without_end(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "WORKER_SECONDS", 0.3)
    release = pulled(tmp_path, samples=4)
    with distributed.LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
    ) as empty:
        address = empty.scheduler_address
        stderr = cli("convert", release, "--out", tmp_path / "data", "--dask", address, code=1).stderr
        assert f"the Dask scheduler at {address} has no worker; start some with `dask worker {address}`" in stderr
        with distributed.Client(address, set_as_default=False) as client:
            require_alive = cluster.watch_of(client.get_executor())
            require_alive()
            time.sleep(0.4)
            with pytest.raises(ServiceError, match="has no worker"):
                require_alive()


def test_a_scheduler_that_is_not_there_is_one_line(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.3)
    flags = ("convert", pulled(tmp_path, samples=4), "--out", tmp_path / "data", "--dask")
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in cli(*flags, "tcp://127.0.0.1:9", code=1).stderr
    assert "is no address" in cli(*flags, "nothing://a", code=2).stderr
    assert not (tmp_path / "data").exists()


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    flags = ("convert", pulled(tmp_path, samples=4), "--out", tmp_path / "data", "--dask", "tcp://127.0.0.1:9")
    assert 'pip install "labelsync[dask]"' in cli(*flags, code=1).stderr
