"""A Dask cluster as an executor; `distributed` is the extra labelsync[dask]."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any

from labelsync.errors import LabelsyncError, OptionError, ServiceError

CONNECT_SECONDS = 10
WORKER_SECONDS = 60  # for a first worker, and for another one when all are gone


@contextlib.contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """The cluster of the scheduler at `address` ("tcp://host:8786").

    Raises:
        LabelsyncError: the package is not installed.
        OptionError: not an address.
        ServiceError: no scheduler answers, or it has no worker.
    """
    try:
        from distributed import Client
    except ImportError:
        raise LabelsyncError(
            "--dask needs the package distributed, which is not installed", hint='pip install "labelsync[dask]"'
        ) from None
    try:
        client: Any = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
    except ValueError as e:
        raise OptionError(f"--dask {address!r} is no address ({e})", hint="write tcp://host:8786") from None
    except OSError:  # TimeoutError is one
        raise ServiceError(
            f"no Dask scheduler answers at {address}", hint="start one with `dask scheduler`, or check the address"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError:
            raise _no_worker(address) from None
        yield client.get_executor()


def width_of(executor: Executor) -> Callable[[], int]:
    """A function that says how many calls an executor runs at once, as far as it lets us see; a cluster may grow."""
    client = _client_of(executor)
    known = int(getattr(executor, "_max_workers", 0) or os.cpu_count() or 1)

    def width() -> int:
        nonlocal known
        if client is not None:
            with contextlib.suppress(OSError, RuntimeError):  # the scheduler is away, perhaps for a moment
                known = sum(client.nthreads().values()) or known
        return known

    return width


def watch_of(executor: Executor) -> Callable[[], None]:
    """A function that raises ServiceError once a Dask cluster has had no worker for a minute; others end by themselves.

    A cluster whose workers all died would else be waited for without end.
    """
    client = _client_of(executor)
    seen = time.monotonic()

    def require_alive() -> None:
        nonlocal seen
        try:
            workers = client.nthreads()
        except (OSError, RuntimeError):  # the scheduler is away, perhaps for a moment
            workers = {}
        if workers:
            seen = time.monotonic()
        elif time.monotonic() - seen > WORKER_SECONDS:
            raise _no_worker(client.scheduler.address)

    return require_alive if client is not None else lambda: None


def _client_of(executor: Executor) -> Any:
    """The Dask client behind an executor, None for any other."""
    return getattr(executor, "_client", None) if type(executor).__module__.startswith("distributed.") else None


def _no_worker(address: str) -> ServiceError:
    return ServiceError(
        f"the Dask scheduler at {address} has no worker", hint=f"start some with `dask worker {address}`"
    )
