"""The outbox of an enclave that keeps no state: in memory, bounded, gone with the host."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from host_store.store import OutboxItem
from wire.limits import MAX_MEMORY_OUTBOX_BYTES, OUTBOX_READ_BYTES


class MemoryOutbox:
    """Keeps each message until it is dropped or until the newer ones take all the room.

    An epoch can name its own items only, but what an earlier one left can still be polled: it may hold the
    answer that tells a client what became of its last mail.
    """

    def __init__(self, max_bytes: int = MAX_MEMORY_OUTBOX_BYTES) -> None:
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._bytes = 0
        self._epoch = 0
        self._items: OrderedDict[tuple[int, int, int], OutboxItem] = OrderedDict()
        self._by_address: dict[bytes, dict[tuple[int, int, int], OutboxItem]] = {}

    def begin_epoch(self) -> None:
        """From here on, numbers are another incarnation's."""
        with self._lock:
            self._epoch += 1

    def change(self, added: Iterable[OutboxItem], drops: Iterable[tuple[int, int]]) -> None:
        """Drop, then add, as :meth:`host_store.store.Store.append` does."""
        with self._lock:
            for n, index in drops:
                self._remove((self._epoch, n, index))
            for item in added:
                place = (self._epoch, item.n, item.index)
                self._remove(place)
                self._items[place] = item
                self._by_address.setdefault(item.address, {})[place] = item
                self._bytes += len(item.message)
            while self._bytes > self._max_bytes:
                self._remove(next(iter(self._items)))

    def outbox(self, address: bytes, limit: int = 256) -> list[OutboxItem]:
        """What waits for one session, oldest first, within ``limit`` and ``OUTBOX_READ_BYTES``."""
        found: list[OutboxItem] = []
        size = 0
        with self._lock:
            for item in self._by_address.get(address, {}).values():
                size += len(item.message)
                if len(found) >= limit or (found and size > OUTBOX_READ_BYTES):
                    break
                found.append(item)
        return found

    def outbox_item(self, n: int, index: int) -> OutboxItem | None:
        """One waiting item of this epoch by its place; None if it is not there (any more)."""
        return self._items.get((self._epoch, n, index))

    def _remove(self, place: tuple[int, int, int]) -> None:
        item = self._items.pop(place, None)
        if item is not None:
            self._bytes -= len(item.message)
            of_address = self._by_address[item.address]
            del of_address[place]
            if not of_address:
                del self._by_address[item.address]
