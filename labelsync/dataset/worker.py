"""What a worker process of `pool` runs. It imports what a shard needs and no more, since that is most of its start."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.synchronize import Event

from labelsync.dataset.shards import Shard, ShardResult, write_shard

_stop: Event | None = None  # the caller's signal to end


def prepare(stop: Event) -> None:
    """Get a new process ready; `stop` = the caller's signal to end."""
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


def work(shard: Shard, attempt: str) -> ShardResult:  # noqa: ARG001 - of `spread.Work`
    """`write_shard`, until the caller says stop."""
    return write_shard(shard, stopped=_stop.is_set if _stop is not None else lambda: False)
