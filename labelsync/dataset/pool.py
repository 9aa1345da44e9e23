"""Shards over processes.

Processes are spawned, not forked: a caller may hold threads (torch, a server) whose locks a fork would copy. They do
not import the caller's script, so a plain script needs no `if __name__ == "__main__"`.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any, NoReturn

from tqdm import tqdm

from labelsync.dataset.cluster import watch_of, width_of
from labelsync.dataset.shards import Shard, ShardResult, keys_of, unknown, write_shard
from labelsync.dataset.sink import sink_of
from labelsync.dataset.spread import Spread

SAMPLES_PER_PROCESS = 16  # a process costs half a second to start; fewer samples than that are quicker without

_stop: Event | None = None  # in a worker process: the caller's signal to end


def write_shards(
    shards: Sequence[Shard], *, workers: int | None = None, executor: Executor | None = None, here: bool = False
) -> list[ShardResult]:
    """`write_shard` of each, in the order of `shards`, with a progress bar on stderr.

    Args:
        workers: processes, or how many shards `executor` works on at once; None = as many as there are CPUs, or as it
            says.
        executor: who does the work in place of processes of our own.
        here: do it in this process: others would not see the result.

    Raises:
        LabelsyncError: a worker process was killed, or a shard was lost for good.
        OSError: what a shard met, the disk full for one.
    """
    shards = [replace(s, keys=keys_of(s)) if s.old is not None else s for s in shards]
    bar: tqdm[NoReturn] = tqdm(
        total=sum(len(s.samples) for s in shards), desc="samples", unit="sample", disable=None, file=sys.stderr
    )
    with bar:
        if executor is not None:
            spread = Spread(
                executor,
                width=width_of(executor) if workers is None else lambda: workers,
                missing=lambda files: sink_of(shards[0].folder).missing(files),
                require_alive=watch_of(executor),
            )
            return spread.run(shards, lambda shard: bar.update(len(shard.samples)))
        count = 1 if here else _processes(shards, workers)
        if count > 1:
            return _spread(shards, count, bar)
        results = []
        for shard in shards:
            results.append(write_shard(shard))
            bar.update(len(shard.samples))
        return results


def _processes(shards: Sequence[Shard], workers: int | None) -> int:
    if multiprocessing.current_process().daemon:
        return 1  # a daemon, such as a loading process of torch, may have no children
    return min(workers or _cpus(), len(shards), sum(unknown(s) for s in shards) // SAMPLES_PER_PROCESS)


def _cpus() -> int:
    """CPUs that this process may use, which on a shared machine are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spread(shards: Sequence[Shard], count: int, bar: "tqdm[NoReturn]") -> list[ShardResult]:
    context = _Spawn()
    stop = context.Event()
    with ProcessPoolExecutor(count, mp_context=context, initializer=_prepare, initargs=(stop,)) as pool:
        try:
            spread = Spread(pool, width=lambda: count, work=_work, stop=stop.set)
            return spread.run(shards, lambda shard: bar.update(len(shard.samples)))
        finally:  # after an error or Ctrl-C: let none of them write on in a folder that goes away
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


# -------------------------------------------------------------------- in a worker process


def _prepare(stop: Event) -> None:
    global _stop  # noqa: PLW0603 - the one thing a worker keeps
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the caller tells us to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A caller that is killed cannot tell us to stop, and we would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(shard: Shard, attempt: str) -> ShardResult:  # noqa: ARG001 - of `spread.Work`
    return write_shard(shard, stopped=_stop.is_set if _stop is not None else lambda: False)


# -------------------------------------------------------------------- spawning without the caller's script


class _Process(SpawnProcess):
    """A spawned process that imports only what its work needs."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - multiprocessing's name
        with _no_main():
            return SpawnProcess._Popen(process_obj)


class _Spawn(SpawnContext):
    Process = _Process


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """While a process starts, `__main__` is a module without a file, which multiprocessing does not import there."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
