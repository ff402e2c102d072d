"""Stores that an adversary sees through, ends at any call, or makes up."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from host_store.adversary.archive import Archive
from host_store.store import Head, OutboxItem, Store
from wire.errors import CorruptedStore, StoreError, StoreFenced
from wire.merkle import leaf_hash
from wire.record import decode_header


class Crashed(StoreError):
    """The machine went down at this call, by the test's wish."""


@dataclass(frozen=True, slots=True)
class StoreCall:
    """What an observer of the store sees of one call.

    ``length``: bytes of the record; ``tail``: the oldest record kept after it; ``outbox``: lengths of the messages put
    into the outbox, ``drops``: how many leave it. 0 or empty where a call has no such thing.
    """

    call: str
    n: int = 0
    length: int = 0
    tail: int = 0
    outbox: tuple[int, ...] = ()
    drops: int = 0


class RecordingStore:
    """Any store, with everything kept (:class:`Archive`, ``trace``) and a place to crash at.

    See :class:`host_store.store.Store` for the calls.
    """

    def __init__(self, store: Store, archive: Archive) -> None:
        self.inner = store
        self.trace: list[StoreCall] = []
        self.quiet = threading.RLock()
        """Held while something is written: whoever has it sees the store between two commits."""
        self._archive = archive
        self._dead = False
        self._crash: tuple[str, bool, int] | None = None
        self.reached = threading.Event()
        """Set when a crash that was ordered has happened."""

    def crash_at(self, call: str, *, before: bool, skip: int = 0) -> None:
        """Go down at a coming call (``append``, ``create``, ``read``, ...), before or after it is carried out.

        ``skip``: how many of them to let pass first.
        """
        self.reached.clear()
        self._crash = (call, before, skip)

    def die(self) -> None:
        """Go down now: no call reaches the store any more."""
        self._dead = True

    def keyring(self) -> bytes | None:
        """See :class:`host_store.store.Store`."""
        self._pass("keyring", True)
        return self.inner.keyring()

    def head(self) -> Head:
        """See :class:`host_store.store.Store`."""
        self._pass("head", True)
        return self.inner.head()

    def create(self, keyring: bytes, record: bytes, leaf: bytes) -> None:
        """See :class:`host_store.store.Store`."""
        with self.quiet:
            self._pass("create", True)
            self._archive.keep_keyring(keyring)
            self._archive.keep_record(record)
            self.trace.append(StoreCall("create", 1, len(record), 1))
            self.inner.create(keyring, record, leaf)
            self._pass("create", False)

    def replace_keyring(self, keyring: bytes) -> None:
        """See :class:`host_store.store.Store`."""
        with self.quiet:
            self._pass("replace_keyring", True)
            self._archive.keep_keyring(keyring)
            self.inner.replace_keyring(keyring)
            self._pass("replace_keyring", False)

    def append(
        self,
        n: int,
        record: bytes,
        leaf: bytes,
        *,
        trim: int,
        outbox: Sequence[OutboxItem] = (),
        drops: Sequence[tuple[int, int]] = (),
    ) -> None:
        """See :class:`host_store.store.Store`."""
        with self.quiet:
            self._archive.keep_record(record)
            for item in outbox:
                self._archive.keep_outbox(item.message)
            lengths = tuple(len(item.message) for item in outbox)
            self._pass("append", True)
            self.trace.append(StoreCall("append", n, len(record), trim, lengths, len(drops)))
            self.inner.append(n, record, leaf, trim=trim, outbox=outbox, drops=drops)
            self._pass("append", False)

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """See :class:`host_store.store.Store`."""
        self._pass("read", True)
        self.trace.append(StoreCall("read", start, 0, stop))
        return self.inner.read(start, stop)

    def node(self, level: int, index: int) -> bytes:
        """See :class:`host_store.store.Store`."""
        self._pass("node", True)
        return self.inner.node(level, index)

    def outbox(self, address: bytes, limit: int = 256) -> list[OutboxItem]:
        """See :class:`host_store.store.Store`."""
        self._pass("outbox", True)
        return self.inner.outbox(address, limit)

    def outbox_item(self, n: int, index: int) -> OutboxItem | None:
        """See :class:`host_store.store.Store`."""
        self._pass("outbox_item", True)
        return self.inner.outbox_item(n, index)

    def close(self) -> None:
        """See :class:`host_store.store.Store`."""
        self.inner.close()

    def _pass(self, call: str, before: bool) -> None:
        if not self._dead and self._crash is not None and self._crash[:2] == (call, before):
            skip = self._crash[2]
            self._crash = (call, before, skip - 1)
            self._dead = skip == 0
            if self._dead:
                self.reached.set()
        if self._dead:
            raise Crashed(f"the machine went down {'before' if before else 'after'} {call}")


class FedStore:
    """A store that is not there: a keyring and records that the adversary chose, kept in memory.

    See :class:`host_store.store.Store` for the calls. The records are handed over in the order given, whatever their
    headers say.
    """

    def __init__(self, keyring: bytes | None, records: Sequence[bytes]) -> None:
        self._keyring = keyring
        self._records = list(records)
        try:
            self._n = decode_header(self._records[-1]).n if records else 0
        except StoreError:
            self._n = len(self._records)
        self._items: dict[tuple[int, int], OutboxItem] = {}

    def keyring(self) -> bytes | None:
        """What was given."""
        return self._keyring

    def head(self) -> Head:
        """The last record's number, and as many records as there are."""
        return Head(self._n, self._n - len(self._records) + 1)

    def create(self, keyring: bytes, record: bytes, leaf: bytes) -> None:
        """Begin anew."""
        self._keyring, self._records, self._n = keyring, [record], 1

    def replace_keyring(self, keyring: bytes) -> None:
        """Take it."""
        self._keyring = keyring

    def append(
        self,
        n: int,
        record: bytes,
        leaf: bytes,
        *,
        trim: int,
        outbox: Sequence[OutboxItem] = (),
        drops: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Keep it, without trimming anything."""
        if n != self._n + 1 or leaf != leaf_hash(record):
            raise StoreFenced(f"record {n} does not follow record {self._n}")
        self._records.append(record)
        self._n = n
        for place in drops:
            self._items.pop(place, None)
        self._items.update({(item.n, item.index): item for item in outbox})

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The records by their place."""
        first = self.head().first
        return iter(self._records[start - first : stop - first])

    def node(self, level: int, index: int) -> bytes:
        """There is no history to prove anything from."""
        raise CorruptedStore("this store has no history")

    def outbox(self, address: bytes, limit: int = 256) -> list[OutboxItem]:
        """What waits for a session."""
        return [item for item in self._items.values() if item.address == address][:limit]

    def outbox_item(self, n: int, index: int) -> OutboxItem | None:
        """One item."""
        return self._items.get((n, index))

    def close(self) -> None:
        """Nothing to let go of."""
