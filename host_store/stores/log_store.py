"""A store on any :class:`host_store.stores.engine.Engine`: one object for each commit, created in one round trip.

What the entries say is in memory (:mod:`host_store.stores.state`); the engine is read for records when the enclave
starts, and for old replies and hashes. New entries go to the log's end (:mod:`host_store.stores.log_end`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from host_store.arguments import Commit, check_address, check_keyring, check_place, check_range
from host_store.store import Head, OutboxItem, StoreStats
from host_store.stores.collector import Collector
from host_store.stores.engine import Engine, Patience
from host_store.stores.entry import NONCE_BYTES, encode_commit, encode_keyring
from host_store.stores.loading import check_format, entry_name, load, tile_name
from host_store.stores.log_end import LogEnd
from host_store.stores.objects import Objects, Parts
from host_store.stores.open_state import OpenState
from host_store.stores.state import LogState, Place
from host_store.stores.tenure import Tenure
from wire.errors import CorruptedStore, InvalidInput, StoreExists, StoreFenced, StoreMissing
from wire.limits import OUTBOX_READ_BYTES, RECORDS_PER_READ_BYTES


class LogStore:
    """A :class:`host_store.store.Store`; :meth:`open` makes one. The calls' contracts are there."""

    def __init__(self, objects: Objects, host: str, state: LogState, *, writable: bool) -> None:
        self._objects = objects
        self._host = host
        self._state = OpenState(state)
        self._end = LogEnd(objects, host, state, self._state.lock)
        self._writable = writable
        self._collector: Collector | None = None
        self._tenure: Tenure | None = None

    @classmethod
    def open(
        cls,
        engine: Engine,
        host: str,
        *,
        create: bool = True,
        read_only: bool = False,
        patience: Patience | None = None,
        tenure: Tenure | None = None,
    ) -> LogStore:
        """Open the log in ``engine``, and become the one who writes to it, unless ``read_only``.

        ``tenure`` and engine end with the store, and also when this raises.

        Raises:
            StoreMissing: there is no log, and ``create`` is not set.
            StoreUnavailable: the engine does not answer, or refuses.
            UnsupportedVersion: another version wrote it.
            CorruptedStore: it contradicts itself.
            InvalidInput: the engine lets two create one object.
        """
        objects = Objects(engine, patience or Patience())
        try:
            check_format(objects, create=create and not read_only)
            store = cls(objects, host, load(objects), writable=not read_only)
            if not read_only:
                store._begin_writing()
            if tenure is not None:
                tenure.check_with(store._end.taken_over)
                store._tenure = tenure
            return store
        except BaseException:
            if tenure is not None:
                tenure.stop()
            engine.close()
            raise

    def _begin_writing(self) -> None:
        self._end.claim()
        with self._state as state:
            self._objects.tenure = state.position
        self._collector = Collector(self._objects, state, self._state.lock)
        self._end.on_growth = self._collector.grown

    @property
    def engine(self) -> Engine:
        """What the log is in."""
        return self._objects.engine

    @property
    def patience(self) -> Patience:
        """How long calls wait."""
        return self._objects.patience

    @property
    def fenced(self) -> StoreFenced | None:
        """Set once another host has taken the store over."""
        return self._end.fenced

    def close(self) -> None:
        """Stop collecting, and give the engine back. Again is fine."""
        if not self._state.close():
            return
        if self._tenure is not None:
            self._tenure.stop()
        if self._collector is not None:
            self._collector.stop()
        self._objects.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- keyring ---

    def keyring(self) -> bytes | None:
        """The sealed keyring."""
        self._end.settle()
        with self._state as state:
            return state.keyring

    def create(self, keyring: bytes, record: bytes, leaf: bytes) -> None:
        """The first commit, which brings the keyring."""
        entry, data = encode_commit(self._host, Commit.checked(1, record, leaf, 0, (), ()), keyring)
        self._check_writable()
        with self._end.writing():
            with self._state as state:
                if state.keyring is not None or state.n:
                    raise StoreExists(f"a store was created in {self.engine.where} before")
            self._end.extend(entry, data)

    def replace_keyring(self, keyring: bytes) -> None:
        """An entry with the new keyring."""
        check_keyring(keyring)
        self._check_writable()
        with self._end.writing():
            with self._state as state:
                if state.keyring is None:
                    raise StoreMissing(f"{self.engine.where} has no keyring to replace: create a store first")
            data = encode_keyring(self._host, os.urandom(NONCE_BYTES), keyring)
            self._end.extend(self._end.decode(data, 0), data)

    # --- records and history ---

    def head(self) -> Head:
        """Which records are kept."""
        self._end.settle()
        with self._state as state:
            return state.head

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
        """One entry, in one round trip."""
        entry, data = encode_commit(self._host, Commit.checked(n, record, leaf, trim, outbox, drops))
        self._check_writable()
        with self._end.writing(data):
            with self._state as state:
                newest = state.n
                place = state.records.get(n)
            if n == newest and place is not None and self._holds(n, place, record, leaf):
                return
            if n != newest + 1:
                raise StoreFenced(f"record {n} does not follow the newest, {newest}: is another writer at work?")
            self._end.extend(entry, data)

    def _holds(self, n: int, place: Place, record: bytes, leaf: bytes) -> bool:
        return self.node(0, n - 1) == leaf and self._read(place) == record

    def _check_writable(self) -> None:
        if not self._writable:
            raise InvalidInput(f"{self.engine.where} was opened for reading only")

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Records ``start..stop-1`` in order."""
        check_range(start, stop)
        return self._read_records(start, stop)

    def _read_records(self, start: int, stop: int) -> Iterator[bytes]:
        n = start
        while n < stop:
            places: list[Place] = []
            size = 0
            with self._state as state:
                while n < stop and (not places or size < RECORDS_PER_READ_BYTES):
                    place = state.records.get(n)
                    if place is None:
                        break
                    places.append(place)
                    size += place.length
                    n += 1
            if not places:
                raise CorruptedStore(f"record {n} is not in {self.engine.where}")
            found = self._objects.get_all([entry_name(place.position) for place in places])
            for place, each in zip(places, found, strict=True):
                yield self._cut(place, each)

    def node(self, level: int, index: int) -> bytes:
        """Root of a complete subtree: from memory, or with one read."""
        while True:
            with self._state as state:
                wanted = state.tiles.wanted(level, index)
                if wanted is None:
                    return state.tiles.node(level, index)
            found = self._objects.get(tile_name(wanted))
            with self._state as state:
                state.tiles.offer(wanted, None if found is None else found[0])

    # --- outbox ---

    def outbox(self, address: bytes, limit: int = 256) -> list[OutboxItem]:
        """What waits for one session, oldest first."""
        check_address(address)
        chosen: list[tuple[int, int, Place]] = []
        size = 0
        with self._state as state:
            for n, index in state.places_of(address):
                place = state.waiting[n, index].place
                size += place.length
                if len(chosen) >= limit or (chosen and size > OUTBOX_READ_BYTES):
                    break
                chosen.append((n, index, place))
        messages: dict[int, bytes] = {}
        items = []
        for n, index, place in chosen:
            if place.position not in messages:
                messages.clear()  # one commit's messages come together
                messages[place.position] = self._whole(place, self._objects.get(entry_name(place.position)))
            message = messages[place.position][place.offset : place.offset + place.length]
            items.append(OutboxItem(n, index, address, message))
        return items

    def outbox_item(self, n: int, index: int) -> OutboxItem | None:
        """One waiting item by its place."""
        check_place(n, index)
        with self._state as state:
            waiting = state.waiting.get((n, index))
        return None if waiting is None else OutboxItem(n, index, waiting.address, self._read(waiting.place))

    def stats(self) -> StoreStats:
        """How large the store is."""
        with self._state as state:
            size = state.kept_bytes
            return StoreStats(size, size, len(state.records), len(state.waiting))

    # --- bytes ---

    def _read(self, place: Place) -> bytes:
        return self._cut(place, self._objects.get(entry_name(place.position)))

    def _cut(self, place: Place, found: tuple[bytes, Parts] | None) -> bytes:
        return self._whole(place, found)[place.offset : place.offset + place.length]

    def _whole(self, place: Place, found: tuple[bytes, Parts] | None) -> bytes:
        if found is None or len(found[0]) < place.offset + place.length:
            raise CorruptedStore(f"entry {place.position} of the log in {self.engine.where} is missing, or cut off")
        return found[0]
