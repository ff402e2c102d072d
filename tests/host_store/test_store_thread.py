"""The thread behind a slow store: in order, and whatever goes wrong in it, nobody waits for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from host_store.store_thread import StoreThread
from wire.errors import HostUnavailable, PmapError, StoreUnavailable


class Batches:
    """Numbers in the place of batches, and what became of them. Number 0 cannot be stored."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.stored: list[int] = []
        self.failed: list[tuple[int, str]] = []
        self.told = 0
        self.thread = StoreThread(self.store, self.fail, self.tell)

    def store(self, batch: int) -> None:
        if not batch:
            raise self.error
        self.stored.append(batch)

    def fail(self, batch: int, reason: PmapError) -> None:
        self.failed.append((batch, str(reason)))
        if batch == 13:
            raise ValueError("a promise that raises")

    def tell(self) -> None:
        self.told += 1


@pytest.fixture(params=[StoreUnavailable("the disk is full"), ValueError("a bug")], ids=["refused", "broken"])
def batches(request: pytest.FixtureRequest) -> Iterator[Batches]:
    made = Batches(request.param)
    yield made
    made.thread.stop()


def test_batches_are_stored_in_order() -> None:
    batches = Batches(ValueError())
    for number in range(1, 100):
        batches.thread.put(number)
    batches.thread.wait()
    assert batches.stored == list(range(1, 100)) and not batches.thread.busy
    batches.thread.put(100)
    batches.thread.stop()
    assert batches.stored[-1] == 100 and not batches.failed and not batches.told


def test_whatever_keeps_a_batch_from_the_store_fails_all_behind_it_until_the_next_epoch(batches: Batches) -> None:
    for number in (1, 0, 13, 2):
        batches.thread.put(number)
    broken = isinstance(batches.error, ValueError)
    text = "the host broke down: ValueError" if broken else "the disk is full"
    for _ in range(2):
        with pytest.raises(HostUnavailable if broken else StoreUnavailable, match=text):
            batches.thread.wait()
    assert batches.stored == [1]
    assert batches.failed == [(13, text), (2, text)]
    assert batches.told == 1
    batches.thread.begin_epoch()
    batches.thread.put(3)
    batches.thread.wait()
    assert batches.stored == [1, 3]
