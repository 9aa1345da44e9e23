import threading

import pytest

from labelsync.errors import BitmapError
from labelsync.model.ahead import load_ahead


def test_batches_come_in_order_and_problems_stay_with_their_item() -> None:
    def load(item: int) -> int:
        if item == 3:
            raise BitmapError("cut short")
        return item * 10

    batches = list(load_ahead(range(7), load, batch_size=3))
    assert [[b.item for b in batch] for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [b.value for batch in batches for b in batch] == [0, 10, 20, None, 40, 50, 60]
    assert [b.problem for batch in batches for b in batch if b.problem] == ["cut short"]
    assert list(load_ahead([], load, batch_size=3)) == []


@pytest.mark.parametrize("batch_size", [1, 4])
def test_no_more_than_two_batches_are_loaded_before_they_are_wanted(batch_size: int) -> None:
    loaded: list[int] = []
    batches = load_ahead(range(1000), loaded.append, batch_size=batch_size)
    for taken in range(1, 50):
        next(batches)
        assert taken * batch_size <= len(loaded) <= (taken + 1) * batch_size + 1
    batches.close()
    assert len(loaded) <= 51 * batch_size + 1
    assert not [t for t in threading.enumerate() if t.name.startswith("labelsync-load")]


def test_the_next_batch_is_loaded_while_this_one_is_worked_on() -> None:
    third = threading.Event()
    batches = load_ahead(range(4), lambda item: third.set() if item == 2 else None, batch_size=2)
    next(batches)
    assert third.wait(10)
    batches.close()


def test_other_errors_end_it() -> None:
    def load(item: int) -> int:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(load_ahead(range(9), load, batch_size=2))
