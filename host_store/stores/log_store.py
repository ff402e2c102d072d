"""A store on any :class:`host_store.stores.engine.Engine`: one object for each commit, created in one round trip.

Entry p of the log is the object ``log/p``, and of all who create it the engine lets one succeed. That is all of the
fencing: a host that opens the store puts a *claim* behind the newest entry, and any other host, which would put its
next commit there, finds it taken. What the entries say is in memory (:mod:`host_store.stores.state`); the engine is
read for records when the enclave starts, and for old replies and hashes.

**Unknown outcomes.** When a call to create an entry got no answer, the entry may be there, or may still come to be,
long after. Whoever calls again with the same bytes learns it: they are created now, or found. Anything else first
*settles* it: a claim of our own takes the place, and if the entry was there before it, it counts.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from host_store.store import ADDRESS_BYTES, Head, OutboxItem, StoreStats
from host_store.stores.collector import Collector
from host_store.stores.engine import Engine, Patience
from host_store.stores.entry import (
    NONCE_BYTES,
    Entry,
    check_keyring,
    check_place,
    decode_entry,
    encode_claim,
    encode_commit,
    encode_keyring,
)
from host_store.stores.loading import FORMAT, FORMAT_NAME, check_format, entry_name, load, tile_name
from host_store.stores.objects import Objects, Parts
from host_store.stores.state import LogState, Place
from host_store.stores.tenure import Tenure
from wire.errors import (
    CorruptedStore,
    InvalidInput,
    StoreError,
    StoreExists,
    StoreFenced,
    StoreMissing,
    StoreUnavailable,
)
from wire.limits import MAX_TREE_SIZE, OUTBOX_READ_BYTES, RECORDS_PER_READ_BYTES

_log: Final = logging.getLogger("pmap.host")
CLAIM_ATTEMPTS: Final = 1000
"""How many entries of others may come between looking for the newest one and claiming the place behind it."""


class LogStore:
    """A :class:`host_store.store.Store`; :meth:`open` makes one. The calls' contracts are there."""

    def __init__(self, objects: Objects, host: str, state: LogState, *, writable: bool) -> None:
        self._objects = objects
        self._host = host
        self._state = state
        self._nonce = os.urandom(NONCE_BYTES)
        self._lock = threading.Lock()  # for the state: held for moments
        self._writing = threading.Lock()  # for the log's end: held over calls to the engine
        self._unsettled: bytes | None = None
        """An entry that was sent and got no answer."""
        self._fenced: StoreFenced | None = None
        self._closed = False
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
                store._claim(settling=False)
                objects.tenure = store._state.position
                store._collector = Collector(objects, store._state, store._lock)
            if tenure is not None:
                tenure.check_with(store._taken_over)
                store._tenure = tenure
            return store
        except BaseException:
            if tenure is not None:
                tenure.stop()
            engine.close()
            raise

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
        return self._fenced

    def close(self) -> None:
        """Stop collecting, and give the engine back. Again is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
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
        self._settle()
        with self._open_state() as state:
            return state.keyring

    def create(self, keyring: bytes, record: bytes, leaf: bytes) -> None:
        """The first commit, which brings the keyring."""
        entry, data = encode_commit(self._host, 1, record, leaf, 0, (), (), keyring)
        with self._writing:
            self._settle_now()
            with self._open_state() as state:
                if state.keyring is not None or state.n:
                    raise StoreExists(f"a store was created in {self.engine.where} before")
            self._extend(entry, data)

    def replace_keyring(self, keyring: bytes) -> None:
        """An entry with the new keyring."""
        check_keyring(keyring)
        with self._writing:
            self._settle_now()
            with self._open_state() as state:
                if state.keyring is None:
                    raise StoreMissing(f"{self.engine.where} has no keyring to replace: create a store first")
            data = encode_keyring(self._host, os.urandom(NONCE_BYTES), keyring)
            self._extend(self._decode(data, 0), data)

    # --- records and history ---

    def head(self) -> Head:
        """Which records are kept."""
        self._settle()
        with self._open_state() as state:
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
        entry, data = encode_commit(self._host, n, record, leaf, trim, outbox, drops)
        with self._writing:
            if self._unsettled is not None and self._unsettled != data:
                self._settle_now()
            with self._open_state() as state:
                newest = state.n
                place = state.records.get(n)
            if n == newest and place is not None and self._holds(place, record, leaf):
                return
            if n != newest + 1:
                raise StoreFenced(f"record {n} does not follow the newest, {newest}: is another writer at work?")
            self._extend(entry, data)

    def _holds(self, place: Place, record: bytes, leaf: bytes) -> bool:
        return self.node(0, self._state.n - 1) == leaf and self._read(place) == record

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Records ``start..stop-1`` in order."""
        if not 1 <= start <= stop <= MAX_TREE_SIZE + 1:
            raise InvalidInput(f"{start} to {stop} (exclusive) is no range of records")
        return self._read_records(start, stop)

    def _read_records(self, start: int, stop: int) -> Iterator[bytes]:
        n = start
        while n < stop:
            places: list[Place] = []
            size = 0
            with self._open_state() as state:
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
            with self._open_state() as state:
                wanted = state.tiles.wanted(level, index)
                if wanted is None:
                    return state.tiles.node(level, index)
            found = self._objects.get(tile_name(wanted))
            with self._open_state() as state:
                state.tiles.offer(wanted, None if found is None else found[0])

    # --- outbox ---

    def outbox(self, address: bytes, limit: int = 256) -> list[OutboxItem]:
        """What waits for one session, oldest first."""
        if len(address) != ADDRESS_BYTES:
            raise InvalidInput(f"an address of {len(address)} bytes; it has {ADDRESS_BYTES}")
        chosen: list[tuple[int, int, Place]] = []
        size = 0
        with self._open_state() as state:
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
                messages[place.position] = self._entry_bytes(place)
            message = messages[place.position][place.offset : place.offset + place.length]
            items.append(OutboxItem(n, index, address, message))
        return items

    def outbox_item(self, n: int, index: int) -> OutboxItem | None:
        """One waiting item by its place."""
        check_place(n, index)
        with self._open_state() as state:
            waiting = state.waiting.get((n, index))
        return None if waiting is None else OutboxItem(n, index, waiting.address, self._read(waiting.place))

    def stats(self) -> StoreStats:
        """How large the store is."""
        with self._open_state() as state:
            size = state.kept_bytes
            return StoreStats(size, size, len(state.records), len(state.waiting))

    # --- the log's end ---

    def _settle(self) -> None:
        """If an entry got no answer: find out what became of it, and keep it from coming to be later."""
        if self._unsettled is not None:
            with self._writing:
                self._settle_now()

    def _settle_now(self) -> None:
        if self._unsettled is not None:
            self._claim(settling=True)

    def _claim(self, *, settling: bool) -> None:
        """Take the place behind the newest entry. ``settling``: only an entry of ours may be there already."""
        claim = encode_claim(self._host, self._nonce)
        for _attempt in range(CLAIM_ATTEMPTS):
            position = self._state.position + 1
            parts = self._objects.create(entry_name(position), claim)
            if parts is not None:
                self._apply(self._decode(claim, position), parts)
                break
            found, parts = self._found(position)
            if settling and found not in (self._unsettled, claim):
                raise self._fence(found, position)
            self._apply(self._decode(found, position), parts)
            if found == claim:  # of an attempt that got no answer
                break
        else:
            raise StoreUnavailable(f"{self.engine.where} grows too fast to be claimed: is another host at work?")
        self._unsettled = None

    def _extend(self, entry: Entry, data: bytes) -> None:
        """Create the next entry, which may be one that was sent before."""
        if not self._writable:
            raise InvalidInput(f"{self.engine.where} was opened for reading only")
        if self._fenced is not None:
            raise StoreFenced(*self._fenced.args)
        position = self._state.position + 1
        try:
            parts = self._objects.create(entry_name(position), data)
            if parts is None:
                found, parts = self._found(position)
                if found != data:
                    raise self._fence(found, position)
        except StoreUnavailable:
            self._unsettled = data
            raise
        self._unsettled = None
        self._apply(entry, parts)

    def _taken_over(self) -> bool:
        """Whether another host's entry is where our next one would go."""
        with self._writing:
            if self._fenced is None and self._unsettled is None:
                position = self._state.position + 1
                found = self._objects.get(entry_name(position))
                if found is not None:
                    self._fence(found[0], position)
            return self._fenced is not None

    def _found(self, position: int) -> tuple[bytes, Parts]:
        found = self._objects.get(entry_name(position))
        if found is None:
            raise StoreUnavailable(f"{self.engine.where} says that entry {position} is there, and that it is not")
        return found

    def _apply(self, entry: Entry, parts: Parts) -> None:
        with self._lock:
            self._state.apply(entry, parts)
        if self._collector is not None:
            self._collector.grown()

    def _fence(self, found: bytes, position: int) -> StoreFenced:
        other = self._decode(found, position)
        self._fenced = StoreFenced(
            f"the host {other.host} has taken over the store in {self.engine.where}: this one wrote its last commit,"
            f" number {self._state.n}, before that, and can write no more"
        )
        return self._fenced

    def _decode(self, data: bytes, position: int) -> Entry:
        return decode_entry(data, f"entry {position} of the log in {self.engine.where}")

    # --- bytes ---

    def _read(self, place: Place) -> bytes:
        return self._entry_bytes(place)[place.offset : place.offset + place.length]

    def _entry_bytes(self, place: Place) -> bytes:
        return self._whole(place, self._objects.get(entry_name(place.position)))

    def _cut(self, place: Place, found: tuple[bytes, Parts] | None) -> bytes:
        return self._whole(place, found)[place.offset : place.offset + place.length]

    def _whole(self, place: Place, found: tuple[bytes, Parts] | None) -> bytes:
        if found is None or len(found[0]) < place.offset + place.length:
            raise CorruptedStore(f"entry {place.position} of the log in {self.engine.where} is missing, or cut off")
        return found[0]

    def _open_state(self) -> _OpenState:
        return _OpenState(self)


class _OpenState:
    """The state of a store that is open, under its lock."""

    def __init__(self, store: LogStore) -> None:
        self._store = store

    def __enter__(self) -> LogState:
        self._store._lock.acquire()
        if self._store._closed:
            self._store._lock.release()
            raise StoreError("the store is closed")
        return self._store._state

    def __exit__(self, *_: object) -> None:
        self._store._lock.release()


__all__ = ["FORMAT", "FORMAT_NAME", "LogStore"]
