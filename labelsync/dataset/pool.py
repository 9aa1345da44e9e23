"""Shards over processes, or over threads where there is too little to do to start any.

The codecs let go of the interpreter's lock for half of their time, so two threads do as much as 1.6 processes, at once.
Processes are spawned, not forked: a caller may hold threads (torch, a server) whose locks a fork would copy. They do
not import the caller's script, so a plain script needs no `if __name__ == "__main__"`.
"""

import contextlib
import multiprocessing
import os
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, NoReturn

from tqdm import tqdm

from labelsync.dataset import worker
from labelsync.dataset.cluster import watch_of, width_of
from labelsync.dataset.shards import Shard, ShardResult, keys_of, unknown_bytes, write_shard
from labelsync.dataset.sink import sink_of
from labelsync.dataset.spread import Spread
from labelsync.release.parse import uncollected

# A process costs half a second to start, in which a core converts some 20 MB of images and bitmaps
BYTES_FOR_PROCESSES = 64 << 20
THREADS = 4  # more would wait for the lock

Finished = Callable[[Shard], object]


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
    with uncollected():
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
        count = min(workers or _cpus(), len(shards))
        run = _on_processes if not here and _may_have_processes(shards, count) else _on_threads
        return run(shards, count, lambda shard: bar.update(len(shard.samples)))


def _may_have_processes(shards: Sequence[Shard], count: int) -> bool:
    if count < 2 or multiprocessing.current_process().daemon:
        return False  # a daemon, such as a loading process of torch, may have no children
    return sum(map(unknown_bytes, shards)) >= BYTES_FOR_PROCESSES


def _cpus() -> int:
    """CPUs that this process may use, which on a shared machine are fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_threads(shards: Sequence[Shard], count: int, finished: Finished) -> list[ShardResult]:
    stop = threading.Event()

    def work(shard: Shard, attempt: str) -> ShardResult:  # noqa: ARG001 - of `spread.Work`
        return write_shard(shard, stopped=stop.is_set)

    count = max(1, min(count, THREADS))
    with ThreadPoolExecutor(count, thread_name_prefix="convert") as pool:
        return Spread(pool, width=lambda: count, work=work, stop=stop.set).run(shards, finished)


def _on_processes(shards: Sequence[Shard], count: int, finished: Finished) -> list[ShardResult]:
    context = _Spawn()
    stop = context.Event()
    with ProcessPoolExecutor(count, mp_context=context, initializer=worker.prepare, initargs=(stop,)) as pool:
        try:
            return Spread(pool, width=lambda: count, work=worker.work, stop=stop.set).run(shards, finished)
        finally:  # after an error or Ctrl-C: let none of them write on in a folder that goes away
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)


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
