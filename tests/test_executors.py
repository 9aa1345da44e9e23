"""Shards on executors that are not our own: threads, processes, machines without the release folder, lost work."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import labelsync
from labelsync.dataset import shards, spread
from labelsync.dataset.pool import write_shards
from labelsync.dataset.shards import Shard, ShardResult, write_shard
from labelsync.dataset.sink import sink_of
from labelsync.errors import LabelsyncError, OptionError, SamplesFailed
from labelsync.release import transport
from labelsync.store.manifest import read_manifest, verify_files
from tests.loopback.segments import LoopbackSegments
from tests.releases import draw_release, sample_uuid
from tests.test_convert import LABELS, digests, ledger_of, pulled

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 4)


class Inline(Executor):
    """Does the work when it is told to, in its own order; keeps count of what is under way."""

    def __init__(self, *, workers: int = 2, before: Callable[[int], None] = lambda _: None) -> None:
        self.most = self.calls = 0
        self._max_workers = workers
        self._before = before
        self._waiting: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.append((future, fn, args))
            self.most = max(self.most, len(self._waiting))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
        return future

    def _run(self) -> None:
        while True:
            time.sleep(0.02)  # whoever submits without bound is done with it by now
            with self._lock:
                if not self._waiting:
                    return
                future, fn, args = self._waiting[-1]  # the newest first: results come in any order
            if not future.set_running_or_notify_cancel():
                self._done((future, fn, args))
                continue
            self.calls += 1
            try:
                self._before(self.calls)
                result = fn(*args)
            except Exception as e:  # noqa: BLE001 - as every executor does
                self._done((future, fn, args))
                future.set_exception(e)
            else:
                self._done((future, fn, args))
                future.set_result(result)

    def _done(self, entry: Any) -> None:
        with self._lock:
            self._waiting.remove(entry)


# -------------------------------------------------------------------- any executor


def test_any_executor_leaves_the_same_bytes(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=40)
    expected = labelsync.convert(release, out=tmp_path / "plain", workers=1)
    with ThreadPoolExecutor(3) as threads:
        labelsync.convert(release, out=tmp_path / "threads", executor=threads)
        assert threads.submit(int, "7").result() == 7, "it is the caller's, and is not shut down"
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        labelsync.convert(release, out=tmp_path / "processes", executor=processes)
    inline = Inline()
    record = labelsync.convert(release, out=tmp_path / "inline", executor=inline)
    assert record.digest == expected.digest
    assert (
        digests(tmp_path / "plain")
        == digests(tmp_path / "threads")
        == digests(tmp_path / "processes")
        == digests(tmp_path / "inline")
    )


@pytest.mark.parametrize(("workers", "most"), [(None, 4), (1, 2), (3, 6)])
def test_only_a_few_shards_for_each_worker_are_under_way(tmp_path: Path, workers: int | None, most: int) -> None:
    release = pulled(tmp_path, samples=60)
    executor = Inline(workers=2)
    record = labelsync.convert(release, out=tmp_path / "data", executor=executor, workers=workers)
    assert executor.most == most and executor.calls == record.shards > 12


def test_what_is_sent_and_what_comes_back_is_small_plain_data(tmp_path: Path) -> None:
    import pickle

    sent: list[int] = []
    back: list[int] = []

    class Weighed(Inline):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> "Future[Any]":
            sent.append(len(pickle.dumps((fn, args))))
            future = super().submit(fn, *args)
            future.add_done_callback(lambda f: back.append(len(pickle.dumps(f.result()))))
            return future

    release = pulled(tmp_path, samples=40, size=(200, 300))
    labelsync.convert(release, out=tmp_path / "data", executor=Weighed())
    smallest = min(p.stat().st_size for p in (release / "images").iterdir())
    assert len(sent) == len(back) == 10
    assert max(sent) < smallest / 2 and max(back) < smallest / 2


def test_two_who_would_do_the_work_are_one_too_many(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=4)
    with pytest.raises(OptionError, match="both say who does the work"):
        labelsync.convert(release, out=tmp_path / "data", executor=Inline(), dask="tcp://127.0.0.1:9")


def test_a_lost_sample_is_lost_on_an_executor_too(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=12, wrong_size=[2])
    with pytest.raises(SamplesFailed, match=r"frame_0002.jpg"):
        labelsync.convert(release, out=tmp_path / "data", executor=Inline())
    assert not (tmp_path / "data").exists() and not list(tmp_path.glob(".data.*.partial"))


# -------------------------------------------------------------------- lost work


def jobs(folder: Path, count: int = 6) -> list[Shard]:
    folder.mkdir()
    return [Shard(str(folder), "train", f"data/{i}", (), LABELS, names={}) for i in range(count)]


@pytest.mark.parametrize("error", [CancelledError(), ConnectionResetError("gone")])
def test_a_shard_whose_worker_was_lost_is_sent_again(tmp_path: Path, error: BaseException) -> None:
    release = pulled(tmp_path, samples=40)

    def lose(call: int) -> None:
        if call in (2, 3, 7):
            raise error

    executor = Inline(before=lose)
    record = labelsync.convert(release, out=tmp_path / "data", executor=executor)
    assert executor.calls == record.shards + 3
    labelsync.convert(release, out=tmp_path / "plain", workers=1)
    assert digests(tmp_path / "plain") == digests(tmp_path / "data")


def test_a_shard_that_is_always_lost_ends_the_run_in_one_line(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=12)

    def lose(_: int) -> None:
        raise CancelledError

    executor = Inline(before=lose)
    with pytest.raises(LabelsyncError, match=r"parquet was lost 3 times: CancelledError"):
        labelsync.convert(release, out=tmp_path / "data", executor=executor)
    assert executor.calls <= 3 * spread.ATTEMPTS
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_what_a_worker_says_it_wrote_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """A disk that one machine sees another way than the next: the digest decides, and the shard is made again."""
    release = pulled(tmp_path, samples=40)
    times: list[str] = []

    def work(shard: Shard) -> ShardResult:
        result = write_shard(shard)
        if len(times) < 2:
            times.append(shard.path)
            path = Path(shard.folder, shard.path)
            data = path.read_bytes()
            path.unlink()
            if damage != "gone":
                path.write_bytes(data[:-9] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
        return result

    monkeypatch.setattr(spread, "write_shard", work)
    executor = Inline()
    record = labelsync.convert(release, out=tmp_path / "data", executor=executor)
    assert len(times) == 2 and executor.calls == record.shards + 2
    assert verify_files(tmp_path / "data", read_manifest(tmp_path / "data")) == []


def test_an_error_of_the_work_itself_is_raised_at_once(tmp_path: Path) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    executor = Inline(before=full)
    with pytest.raises(OSError, match="No space left"):
        write_shards(jobs(tmp_path / "out"), executor=executor)
    assert executor.calls <= 4


def test_an_executor_that_cannot_import_labelsync_is_one_line(tmp_path: Path) -> None:
    def bare(_: int) -> None:
        raise ModuleNotFoundError("No module named 'labelsync'")

    with pytest.raises(LabelsyncError, match="a worker cannot run the work: No module named 'labelsync'") as e:
        write_shards(jobs(tmp_path / "out"), executor=Inline(before=bare))
    assert "install this labelsync" in e.value.hint


def test_a_shard_that_kills_every_dask_worker_is_one_line(tmp_path: Path) -> None:
    class KilledWorker(Exception):
        """What a scheduler answers once it has tried on several workers."""

    def killed(_: int) -> None:
        raise KilledWorker

    executor = Inline(before=killed)
    with pytest.raises(LabelsyncError, match="several Dask workers died at the same shard"):
        write_shards(jobs(tmp_path / "out"), executor=executor)
    assert executor.calls <= 4


def test_half_a_shard_of_a_killed_worker_is_not_part_of_the_dataset(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=40)

    def leave(call: int) -> None:
        if call == 2:
            (work,) = tmp_path.glob(".data.*.partial")
            (work / "data/.train-00000-of-00008.parquet.0badcafe.tmp").write_bytes(b"half")
            raise CancelledError

    labelsync.convert(release, out=tmp_path / "data", executor=Inline(before=leave))
    labelsync.convert(release, out=tmp_path / "plain", workers=1)
    assert digests(tmp_path / "plain") == digests(tmp_path / "data")


def test_a_shard_is_in_its_place_only_when_it_is_whole(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), sink_of(str(tmp_path)).file("data/a.parquet") as path:
        path.write_bytes(b"half")
        assert not (tmp_path / "data/a.parquet").exists()
        raise RuntimeError
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


# -------------------------------------------------------------------- a machine without the release folder


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(server, release folder, an executor whose workers do not see that folder's files)."""
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.01)
    with LoopbackSegments() as server:
        monkeypatch.setenv("SEGMENTS_API_URL", server.env["SEGMENTS_API_URL"])
        monkeypatch.setenv("SEGMENTS_API_KEY", server.env["SEGMENTS_API_KEY"])
        source = server.add_round(draw_release(tmp_path / "drawn", samples=12))
        release = Path(labelsync.pull(source, out=tmp_path / "v1").path)
        server.log.clear()

        def hide(_: int) -> None:
            for kind in ("images", "bitmaps"):
                if (release / kind).exists():
                    (release / kind).rename(tmp_path / f"hidden-{kind}")

        yield server, release, Inline(before=hide)


def test_a_worker_without_the_folder_fetches_from_the_releases_urls(tmp_path: Path, remote: Any) -> None:
    server, release, executor = remote
    labelsync.convert(release, out=tmp_path / "data", executor=executor)
    assert len(server.log.find("GET", "/images/")) == len(server.log.find("GET", "/bitmaps/")) == 12
    for kind in ("images", "bitmaps"):
        (tmp_path / f"hidden-{kind}").rename(release / kind)
    server.log.clear()
    labelsync.convert(release, out=tmp_path / "plain", workers=1)
    assert digests(tmp_path / "plain") == digests(tmp_path / "data")
    assert len(server.log) == 0, "where the folder is nothing is fetched"


def test_a_url_that_says_no_loses_its_sample_with_the_reason(tmp_path: Path, remote: Any) -> None:
    server, release, executor = remote
    server.faults.status(403, path="/images/frame_0003", times=None)
    record = labelsync.convert(release, out=tmp_path / "data", executor=executor, allow_failed=1)
    assert record.outcomes["failed"] == 1
    outcome, reason = ledger_of(tmp_path / "data")["frame_0003.jpg"]
    assert outcome == "failed" and "its image is not on this machine, and http://" in reason
    assert "/images/frame_0003.jpg: 403 Forbidden (signed URLs expire" in reason


def test_a_url_that_gives_another_file_than_was_pulled_is_not_believed(tmp_path: Path, remote: Any) -> None:
    _, release, executor = remote
    (tmp_path / "drawn/images/frame_0003.jpg").write_bytes((tmp_path / "drawn/images/frame_0004.jpg").read_bytes())
    labelsync.convert(release, out=tmp_path / "data", executor=executor, allow_failed=1)
    assert ledger_of(tmp_path / "data")["frame_0003.jpg"][1].endswith("what comes is not what was pulled")


def test_a_file_that_is_missing_in_a_folder_that_is_there_is_an_error(tmp_path: Path, remote: Any) -> None:
    """On the machine that pulled, silence about a deleted file would hide that the folder is damaged."""
    server, release, _ = remote
    next((release / "images").glob(f"{sample_uuid(3)}.*")).unlink()
    with pytest.raises(SamplesFailed, match="cannot be read"):
        labelsync.convert(release, out=tmp_path / "data", workers=1)
    assert len(server.log) == 0


def test_only_urls_of_the_web_go_along(tmp_path: Path) -> None:
    from labelsync.dataset.select import select
    from labelsync.release.folder import open_release

    release = pulled(tmp_path, samples=4)
    assert {s.image.url for s in select(open_release(release), status=["LABELED"]).samples} == {""}


def test_plain_bitmaps_go_through_an_executor_too(tmp_path: Path) -> None:
    release = pulled(tmp_path, samples=20)
    one = labelsync.convert(release, out=tmp_path / "a", executor=Inline(), format="bitmaps")
    two = labelsync.convert(release, out=tmp_path / "b", workers=1, format="bitmaps")
    assert one.digest == two.digest and replace(one, path="") == replace(two, path="")
