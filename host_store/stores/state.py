"""What a log says: the fold over its entries. No I/O.

Every entry is applied in order, and what the store answers is read from here. The **index** is this state as bytes:
it is stored now and then, so that whoever opens the log reads the newest index and the few entries behind it. Once an
index is stored, entries up to it whose record was trimmed and whose messages were all dropped are **dead** and may be
deleted. Claims never die: of two hosts who believe to be the one that writes, the older finds the younger's claim where
it wants to put its next entry, also a year later.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

from host_store.store import ADDRESS_BYTES, Head
from host_store.stores.entry import Entry, Kind
from host_store.stores.objects import NO_PARTS, Parts
from host_store.stores.tiles import Tiles
from wire.codec import expect, pack, unpack
from wire.errors import CorruptedStore, Malformed, UnsupportedVersion

INDEX_VERSION: Final = 1
MAX_INDEX_BYTES: Final = 4 << 30
"""Largest index; 10**7 waiting messages make 0.5 GB."""
_ARRAYS: Final = 16


class Place(NamedTuple):
    """Bytes inside an entry."""

    position: int
    offset: int
    length: int


class Waiting(NamedTuple):
    """A message in the outbox."""

    address: bytes
    place: Place


class _Kept:
    """An entry that something still needs: its record, or ``uses`` - 1 messages of it."""

    __slots__ = ("parts", "size", "uses")

    def __init__(self, uses: int, size: int, parts: Parts) -> None:
        self.uses = uses
        self.size = size
        self.parts = parts


class LogState:
    """All entries up to ``position``, applied."""

    def __init__(self) -> None:
        self.position = 0
        """The newest entry's number; 0: none."""
        self.n = 0
        self.first = 1
        self.keyring: bytes | None = None
        self.tiles = Tiles()
        self.records: dict[int, Place] = {}
        """By commit, those of ``first..n``."""
        self.waiting: dict[tuple[int, int], Waiting] = {}
        self.dead: dict[int, Parts] = {}
        """Entries that nobody needs once an index behind them is stored."""
        self._by_address: dict[bytes, set[tuple[int, int]]] = {}
        self._kept: dict[int, _Kept] = {}

    @property
    def head(self) -> Head:
        """The window of records."""
        return Head(self.n, self.first)

    @property
    def kept_bytes(self) -> int:
        """Bytes of all entries that are needed."""
        return sum(kept.size for kept in list(self._kept.values()))

    def tokens(self) -> set[str]:
        """Of all parts that belong to an entry."""
        kept = {entry.parts.token for entry in self._kept.values()}
        return kept | {parts.token for parts in self.dead.values()}

    def places_of(self, address: bytes) -> list[tuple[int, int]]:
        """What waits for an address, oldest first."""
        return sorted(self._by_address.get(address, ()))

    def apply(self, entry: Entry, parts: Parts) -> None:
        """The next entry. Raises :class:`CorruptedStore` for a commit that is not the next one."""
        if entry.kind is Kind.COMMIT and entry.n != self.n + 1:
            raise CorruptedStore(f"the log has commit {entry.n} behind commit {self.n}")
        self.position += 1
        if entry.keyring is not None:
            self.keyring = entry.keyring
        if entry.kind is Kind.COMMIT:
            self._commit(entry, parts)
        elif entry.kind is Kind.KEYRING:
            self.dead[self.position] = parts

    def _commit(self, entry: Entry, parts: Parts) -> None:
        position, n = self.position, entry.n
        self._kept[position] = _Kept(1 + len(entry.messages), entry.size, parts)
        self.n = n
        self.records[n] = Place(position, entry.record_offset, entry.record_length)
        self.tiles.append(entry.leaf)
        while self.first < entry.trim:
            self._release(self.records.pop(self.first).position)
            self.first += 1
        for dropped in entry.drops:
            self._drop(dropped)
        for message in entry.messages:
            place = (n, message.slot)
            self._add(place, Waiting(message.address, Place(position, message.offset, message.length)))

    def _add(self, place: tuple[int, int], waiting: Waiting) -> None:
        self.waiting[place] = waiting
        self._by_address.setdefault(waiting.address, set()).add(place)

    def _drop(self, place: tuple[int, int]) -> None:
        waiting = self.waiting.pop(place, None)
        if waiting is None:
            return
        places = self._by_address[waiting.address]
        places.discard(place)
        if not places:
            del self._by_address[waiting.address]
        self._release(waiting.place.position)

    def _release(self, position: int) -> None:
        kept = self._kept[position]
        kept.uses -= 1
        if kept.uses == 0:
            self.dead[position] = self._kept.pop(position).parts

    # --- index ---

    def encode(self) -> bytes:
        """The index. Full tiles that are still due are not in it: store them first."""
        records = [field for n, place in self.records.items() for field in (n, *place)]
        waiting = [field for place, found in self.waiting.items() for field in (*place, found.address, *found.place)]
        kept = [field for at, each in self._kept.items() for field in (at, each.size, *each.parts)]
        dead = [field for at, parts in self.dead.items() for field in (at, *parts)]
        return pack(
            [
                INDEX_VERSION, self.position, self.n, self.first, self.keyring, self.tiles.growing,
                records, waiting, kept, dead,
            ]
        )  # fmt: skip

    @classmethod
    def decode(cls, data: bytes, where: str) -> LogState:
        """Undo :meth:`encode`. Raises :class:`UnsupportedVersion` and :class:`CorruptedStore`."""
        try:
            fields = unpack(data, MAX_INDEX_BYTES, max_items=MAX_INDEX_BYTES, max_arrays=_ARRAYS)
            if type(fields) is list and fields and type(fields[0]) is int and fields[0] != INDEX_VERSION:
                raise UnsupportedVersion(
                    f"{where} was written in version {fields[0]} of the log's format,"
                    f" and this program knows {INDEX_VERSION}"
                )
            return cls._decoded(fields)
        except (Malformed, KeyError) as error:
            raise CorruptedStore(f"{where} is damaged: {error}") from error

    @classmethod
    def _decoded(cls, fields: Any) -> LogState:
        state = cls()
        _version, state.position, state.n, state.first, state.keyring, growing, records, waiting, kept, dead = expect(
            fields, int, int, int, int, object, list, list, list, list, list
        )
        if not 1 <= state.first <= state.n + 1 or not state.n <= state.position:
            raise Malformed("its counters contradict each other")
        if not (state.keyring is None or type(state.keyring) is bytes):
            raise Malformed("its keyring is none")
        state.tiles = Tiles.decode(state.n, growing)
        for position, size, token, count in _rows(kept, int, int, str, int):
            state._kept[position] = _Kept(0, size, Parts(token, count))
        for n, position, offset, length in _rows(records, int, int, int, int):
            state.records[n] = Place(position, offset, length)
            state._kept[position].uses += 1
        for n, index, address, position, offset, length in _rows(waiting, int, int, bytes, int, int, int):
            if len(address) != ADDRESS_BYTES:
                raise Malformed("an address has another length")
            state._add((n, index), Waiting(address, Place(position, offset, length)))
            state._kept[position].uses += 1
        for position, token, count in _rows(dead, int, str, int):
            state.dead[position] = Parts(token, count)
        if list(state.records) != list(range(state.first, state.n + 1)):
            raise Malformed("its window has gaps")
        return state


def _rows(flat: list[Any], *types: type) -> Iterator[list[Any]]:
    if len(flat) % len(types):
        raise Malformed("its rows are not whole")
    fields = iter(flat)
    while row := list(islice(fields, len(types))):
        if any(type(field) is int and field < 0 for field in row):
            raise Malformed("a negative number")
        yield expect(row, *types)


__all__ = ["NO_PARTS", "LogState", "Place", "Waiting"]
