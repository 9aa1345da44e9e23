"""Shards over any `concurrent.futures.Executor`: a bounded number under way, lost ones sent again.

A shard is one call with plain data in and out, so an executor may be threads, processes or a cluster. What it answers
counts only when the files it names are there.
"""

import queue
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, wait
from dataclasses import dataclass

from labelsync.dataset.shards import Shard, ShardResult, write_shard
from labelsync.errors import LabelsyncError
from labelsync.store.manifest import FileEntry

PER_WORKER = 2  # shards under way for each worker: one at work and one at hand; the others wait here, not in its memory
ATTEMPTS = 3  # of a shard whose worker or whose files were lost
ALIVE_SECONDS = 5.0  # between looks at whether anybody is still working

Work = Callable[[Shard, str], ShardResult]


def work(shard: Shard, attempt: str) -> ShardResult:  # noqa: ARG001 - `attempt` keeps apart what a cluster would cache
    """`write_shard` in a worker."""
    return write_shard(shard)


@dataclass
class Spread:
    """One conversion on one executor.

    Attributes:
        width: how many shards the executor works on at once, asked again and again.
        missing: which of the files that a worker says it wrote are not there as it says.
        require_alive: raises LabelsyncError when nobody is left to work.
        work: what a worker calls.
        stop: tells workers to end their shard early; called when no result is wanted any more.
    """

    executor: Executor
    width: Callable[[], int]
    missing: Callable[[Mapping[str, FileEntry]], list[str]] = lambda _: []
    require_alive: Callable[[], None] = lambda: None
    work: Work = work
    stop: Callable[[], None] = lambda: None

    def run(self, shards: Sequence[Shard], finished: Callable[[Shard], object]) -> list[ShardResult]:
        """The result of each shard, in their order; `finished` is told of each as it ends.

        Raises:
            LabelsyncError: a shard was lost `ATTEMPTS` times, or the executor cannot run it.
            Exception: what `work` raised.
        """
        run = secrets.token_hex(4)
        waiting = deque((i, 1) for i in _largest_first(shards))
        running: dict[Future[ShardResult], tuple[int, int]] = {}
        ended: queue.SimpleQueue[Future[ShardResult]] = queue.SimpleQueue()
        results: dict[int, ShardResult] = {}
        try:
            while waiting or running:
                while waiting and len(running) < PER_WORKER * self.width():
                    index, attempt = waiting.popleft()
                    future = self._submit(shards[index], f"{run}-{attempt}")
                    running[future] = (index, attempt)
                    future.add_done_callback(ended.put)
                future = self._next(ended)
                index, attempt = running.pop(future)
                result = self._result(future, shards[index], attempt)
                if result is None:
                    waiting.append((index, attempt + 1))
                else:
                    results[index] = result
                    finished(shards[index])
        finally:
            self.stop()
            _cancel(running)
        return [results[i] for i in range(len(shards))]

    def _submit(self, shard: Shard, attempt: str) -> "Future[ShardResult]":
        try:
            return self.executor.submit(self.work, shard, attempt)
        except Exception as e:  # a pool that broke meanwhile says so here
            if _why_lost(e):
                self.require_alive()
            raise

    def _next(self, ended: "queue.SimpleQueue[Future[ShardResult]]") -> "Future[ShardResult]":
        while True:
            try:
                return ended.get(timeout=ALIVE_SECONDS)
            except queue.Empty:
                self.require_alive()

    def _result(self, future: "Future[ShardResult]", shard: Shard, attempt: int) -> ShardResult | None:
        """What a shard came to; None if it was lost and is to be sent again."""
        try:
            result = future.result()
        except LabelsyncError:
            raise
        except Exception as e:
            why = _why_lost(e)
            if not why:
                raise
        else:
            missing = self.missing(result.files)
            if not missing:
                return result
            why = f"{missing[0]} is not here as a worker wrote it"
        if attempt >= ATTEMPTS:
            raise LabelsyncError(
                f"{shard.path} was lost {attempt} times: {why}",
                hint="look at the workers' logs, and give an --out that all of them share",
            )
        return None


def _why_lost(error: Exception) -> str:
    """Why a shard's result did not come, "" where the work itself failed.

    Raises:
        LabelsyncError: another try would end alike.
    """
    name = type(error).__name__
    if isinstance(error, BrokenExecutor):
        raise LabelsyncError(
            "a worker process was killed, perhaps for want of memory", hint="try again with --workers 1"
        ) from None
    if isinstance(error, ImportError) or "deserializ" in str(error):  # the second is what a Dask scheduler says
        raise LabelsyncError(
            f"a worker cannot run the work: {error}", hint="install this labelsync where the workers run"
        ) from None
    if name == "KilledWorker":  # Dask's: it has tried on other workers already
        raise LabelsyncError(
            "several Dask workers died at the same shard, perhaps for want of memory",
            hint="give the workers more memory, or fewer threads each",
        ) from None
    of_dask = type(error).__module__.split(".")[0] == "distributed"
    return name if of_dask or isinstance(error, CancelledError | ConnectionError) else ""


def _largest_first(shards: Sequence[Shard]) -> list[int]:
    """So that no long shard is left for last."""
    return sorted(range(len(shards)), key=lambda i: -len(shards[i].samples))


def _cancel(running: Mapping["Future[ShardResult]", object]) -> None:
    """After an error or Ctrl-C: start nothing more, and wait for what cannot be stopped, as its folder goes away."""
    wait([future for future in running if not future.cancel()])
