"""Decode the next images in threads while the model works on the present ones."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from labelsync.errors import BitmapError

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

_WORKERS = 4  # Pillow decodes without the interpreter lock; more threads than this only wait for the model


@dataclass(frozen=True)
class Loading(Generic[Item, Loaded]):
    """One item and what became of it: `value`, or `problem` saying why there is none."""

    item: Item
    value: Loaded | None
    problem: str = ""


def load_ahead(
    items: Iterable[Item], load: Callable[[Item], Loaded], *, batch_size: int
) -> Iterator[list[Loading[Item, Loaded]]]:
    """Batches of `batch_size` items in their order, each loaded in a thread; at most two batches wait in memory.

    A BitmapError of `load` becomes that item's problem; any other error ends the iteration.
    """
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="labelsync-load") as pool:
        waiting: deque[Future[Loading[Item, Loaded]]] = deque()
        batch: list[Loading[Item, Loaded]] = []
        try:
            for item in items:
                waiting.append(pool.submit(_load, load, item))
                if len(waiting) > batch_size:
                    batch.append(waiting.popleft().result())
                if len(batch) == batch_size:
                    yield batch
                    batch = []
            while waiting:
                batch.append(waiting.popleft().result())
                if len(batch) == batch_size or not waiting:
                    yield batch
                    batch = []
        finally:
            for future in waiting:
                future.cancel()


def _load(load: Callable[[Item], Loaded], item: Item) -> Loading[Item, Loaded]:
    try:
        return Loading(item, load(item))
    except BitmapError as e:
        return Loading(item, None, e.message)
