"""Objects of any length: one that is longer than an engine's values is kept in parts.

The parts are written first, under a random name that nobody knows yet; the object itself, which then only names them,
is created last. So an object of any length is there as a whole or not at all. Parts whose object never came to be are
garbage: :meth:`Objects.stray_parts` finds them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from host_store.stores.engine import Engine, Patience, all_names
from wire.codec import expect, pack, unpack
from wire.errors import CorruptedStore, Malformed

PARTS: Final = "part/"
READ_OBJECTS: Final = 32
"""How many objects are asked for at once."""
DELETED_OBJECTS: Final = 100
"""How many objects are deleted by one call."""
MAX_OBJECT_BYTES: Final = 4 << 30
"""Longest object: an index over 10**8 waiting messages."""

_WHOLE: Final = b"\x00"
_IN_PARTS: Final = b"\x01"
_MANIFEST_BYTES: Final = 256
_POSITION_DIGITS: Final = 20
_RANDOM_BYTES: Final = 8


class Parts(NamedTuple):
    """The parts of one object; ``pieces`` 0: it has none."""

    token: str
    pieces: int


NO_PARTS: Final = Parts("", 0)


class Objects:
    """An engine's objects, of any length. Raises :class:`wire.errors.StoreUnavailable` as the engine does."""

    def __init__(self, engine: Engine, patience: Patience) -> None:
        self.engine = engine
        self.patience = patience
        self.tenure = 0
        """The log position from which on we are the ones to write: parts are named by it."""

    def create(self, name: str, value: bytes) -> Parts | None:
        """Store an object whose name is free; None if it is taken. (Also by ourselves, a moment ago.)"""
        engine = self.engine
        stored, parts = self._store_parts(value)
        created = self.patience(lambda seconds: engine.create(name, stored, seconds))
        return parts if created else None

    def put(self, name: str, value: bytes) -> Parts:
        """Store an object in the place of any other of its name, whose parts stay."""
        engine = self.engine
        stored, parts = self._store_parts(value)
        self.patience(lambda seconds: engine.put(name, stored, seconds))
        return parts

    def get(self, name: str) -> tuple[bytes, Parts] | None:
        """An object and the parts that it has. Raises :class:`CorruptedStore` where a part is missing."""
        engine = self.engine
        stored = self.patience(lambda seconds: engine.get(name, seconds))
        return None if stored is None else self._whole(name, stored)

    def get_all(self, names: Sequence[str]) -> Iterator[tuple[bytes, Parts] | None]:
        """As :meth:`get`, one after the other, asked for many at once."""
        engine = self.engine
        for start in range(0, len(names), READ_OBJECTS):
            some = names[start : start + READ_OBJECTS]
            found = self.patience(lambda seconds, some=some: engine.get_all(some, seconds))  # type: ignore[misc]
            for name, stored in zip(some, found, strict=True):
                yield None if stored is None else self._whole(name, stored)

    def names(self, prefix: str, after: str = "") -> Iterator[str]:
        """Every name with a prefix, in order."""
        return all_names(self.engine, self.patience, prefix, after)

    def delete(self, names: Sequence[str], parts: Sequence[Parts] = ()) -> None:
        """Delete objects, then the parts that they had."""
        engine = self.engine
        every = [*names, *(name for each in parts for name in _part_names(each))]
        for start in range(0, len(every), DELETED_OBJECTS):
            some = every[start : start + DELETED_OBJECTS]
            self.patience(lambda seconds, some=some: engine.delete(some, seconds))  # type: ignore[misc]

    def stray_parts(self, known: set[str]) -> Iterator[str]:
        """Names of parts that no object names: not of ``known`` tokens, and written before our tenure."""
        for name in self.names(PARTS):
            token = name.removeprefix(PARTS).partition("/")[0]
            tenure = token.partition("-")[0]
            if token not in known and tenure.isdecimal() and int(tenure) < self.tenure:
                yield name

    def _store_parts(self, value: bytes) -> tuple[bytes, Parts]:
        size = self.engine.part_bytes - 1
        if len(value) <= size:
            return _WHOLE + value, NO_PARTS
        engine = self.engine
        token = f"{self.tenure:0{_POSITION_DIGITS}d}-{os.urandom(_RANDOM_BYTES).hex()}"
        parts = Parts(token, -(-len(value) // size))
        for number, name in enumerate(_part_names(parts)):
            part = value[number * size : (number + 1) * size]
            self.patience(lambda seconds, name=name, part=part: engine.put(name, part, seconds))  # type: ignore[misc]
        return _IN_PARTS + pack([token, parts.pieces, len(value)]), parts

    def _whole(self, name: str, stored: bytes) -> tuple[bytes, Parts]:
        if stored[:1] == _WHOLE:
            return stored[1:], NO_PARTS
        try:
            if stored[:1] != _IN_PARTS:
                raise Malformed("no object begins like this")
            token, count, length = expect(unpack(stored[1:], _MANIFEST_BYTES), str, int, int)
            if not 1 <= count <= length <= MAX_OBJECT_BYTES:
                raise Malformed("its parts are out of range")
        except Malformed as error:
            raise CorruptedStore(f"the object {name} in {self.engine.where} is damaged: {error}") from error
        parts, engine = Parts(token, count), self.engine
        joined = bytearray()
        for part in _part_names(parts):
            found = self.patience(lambda seconds, part=part: engine.get(part, seconds))  # type: ignore[misc]
            if found is None:
                raise CorruptedStore(f"the object {name} in {self.engine.where} lacks its part {part}")
            joined += found
            if not found or len(joined) > length:  # nothing endless is read
                break
        if len(joined) != length:
            raise CorruptedStore(f"the object {name} in {self.engine.where} has {len(joined)} of {length} bytes")
        return bytes(joined), parts


def _part_names(parts: Parts) -> Iterator[str]:
    for number in range(parts.pieces):
        yield f"{PARTS}{parts.token}/{number:06d}"
