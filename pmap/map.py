"""The persistent map: a ``MutableMapping[str, bytes]`` in key order, over the entries of one namespace.

The contract is that of ``dict`` wherever both have a method; where it differs, the method says so.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from itertools import islice
from typing import Any, Final, NoReturn, Self, TypeVar, overload

from pmap.counted import Autocommit, Columns, CountedEntries
from pmap.entries import MAP, Entries, successor
from wire.errors import InvalidInput, LimitExceeded
from wire.limits import MAX_KEY_BYTES, MAX_VALUE_BYTES

T = TypeVar("T")
Value = bytes | bytearray | memoryview
"""What may be stored. It is kept, and read back, as ``bytes``."""

_MISSING: Final[Any] = object()
# The unbound method takes str only, so one call both checks and encodes. UTF-8 keeps the order of code points,
# which is the order of str, so the entries stand in the order of their keys.
_encode: Final[Callable[[Any], bytes]] = str.encode


class PersistentMap(MutableMapping[str, bytes]):
    """An ordered map from ``str`` to ``bytes`` that takes at most ``max_size`` bytes.

    Args:
        entries: where the entries live; those already there are counted. Only this map may write its namespace.
        max_size: bound on :attr:`size`, in bytes. A map found larger than that (the bound was lowered) can be
            read and shrunk, but not grown.
        namespace: what the keys of its entries start with.
        autocommit: makes the transaction for a method call that writes while none is open: one call, one
            transaction. Without it such a call raises :class:`InvalidInput`.

    What cannot be a key (not a ``str``, or with lone surrogates) is never in the map: looking it up, deleting it
    and popping it find nothing, writing it raises :class:`TypeError` or :class:`InvalidInput`. An iterator raises
    :class:`RuntimeError` once keys have been added or removed; replacing values does not disturb it.
    Not safe for use by several threads.
    """

    __slots__ = ("_counted", "_live", "_mark", "_namespace")

    def __init__(
        self, entries: Entries, max_size: int, namespace: bytes = MAP, autocommit: Autocommit | None = None
    ) -> None:
        self._counted = CountedEntries(entries, max_size, namespace, autocommit)
        # Here as well, to be at hand for the lookups.
        self._live = self._counted.live
        self._namespace = namespace
        # The namespace as text, if it is one: see _names.
        self._mark = namespace.decode() if namespace.isascii() else ""

    @property
    def size(self) -> int:
        """Bytes in use: of every entry the key in UTF-8, the value, and ``ENTRY_OVERHEAD_BYTES``."""
        return self._counted.size

    @property
    def max_size(self) -> int:
        """The bound on :attr:`size`, in bytes."""
        return self._counted.max_size

    def __len__(self) -> int:
        return self._counted.length

    def __repr__(self) -> str:
        # Counts only: what the map keeps secret must not get into a log with it.
        return f"<{type(self).__name__}: {len(self)} entries, {self.size} of {self.max_size} bytes>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # A second map over these entries would count on its own, and both wrongly.
        raise TypeError("a PersistentMap cannot be pickled or copied; its copy() makes a dict")

    # --- reading ---

    def __getitem__(self, key: str) -> bytes:
        try:
            return self._live[self._namespace + _encode(key)]
        except (KeyError, TypeError, UnicodeEncodeError):
            hash(key)  # looking for something unhashable is a TypeError, as it is in dict
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        try:
            return self._namespace + _encode(key) in self._live
        except (TypeError, UnicodeEncodeError):
            hash(key)
            return False

    @overload
    def get(self, key: str, /) -> bytes | None: ...
    @overload
    def get(self, key: str, /, default: bytes) -> bytes: ...
    @overload
    def get(self, key: str, /, default: T) -> bytes | T: ...
    def get(self, key: str, /, default: Any = None) -> Any:
        """The value of ``key``, or ``default`` if it is not there."""
        try:
            return self._live.get(self._namespace + _encode(key), default)
        except (TypeError, UnicodeEncodeError):
            hash(key)
            return default

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if len(other) != len(self):
            return False
        return all(other.get(key, _MISSING) == value for key, value in self.range())

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __or__(self, other: Mapping[str, T]) -> dict[str, bytes | T]:
        """A plain ``dict`` of both, in which ``other`` wins."""
        return {**self.copy(), **other} if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Mapping[str, T]) -> dict[str, bytes | T]:
        return {**other, **self.copy()} if isinstance(other, Mapping) else NotImplemented

    def copy(self) -> dict[str, bytes]:
        """The entries as a plain ``dict``."""
        return dict(self.range())

    # --- iterating ---

    def __iter__(self) -> Iterator[str]:
        return self._keys()

    def __reversed__(self) -> Iterator[str]:
        return self._keys(reverse=True)

    def keys(self) -> MapKeys:
        """The keys in order, as a set-like view."""
        return MapKeys(self)

    def values(self) -> MapValues:
        """The values in the order of their keys, as a view."""
        return MapValues(self)

    def items(self) -> MapItems:
        """The pairs in the order of their keys, as a set-like view."""
        return MapItems(self)

    def range(
        self, start: str | None = None, stop: str | None = None, *, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Pairs with ``start <= key < stop`` (None: no bound) in order, or from the last to the first.

        At most ``limit`` of them. Raises, at the call, :class:`TypeError` or :class:`InvalidInput` for a bound
        that cannot be a key, and :class:`InvalidInput` for a negative limit.
        """
        low = self._counted.first if start is None else self._encoded(start)
        high = self._counted.past if stop is None else self._encoded(stop)
        return self._pairs(low, high, reverse, limit)

    def prefix(self, prefix: str, *, reverse: bool = False, limit: int | None = None) -> Iterator[tuple[str, bytes]]:
        """Pairs whose key starts with ``prefix``; the rest as in :meth:`range`."""
        low = self._encoded(prefix)
        return self._pairs(low, successor(low), reverse, limit)

    def _pairs(self, low: bytes, high: bytes | None, reverse: bool, limit: int | None) -> Iterator[tuple[str, bytes]]:
        if limit is not None and limit < 0:
            raise InvalidInput(f"a limit is a number of entries, at least 0, not {limit}")
        names, values = self._names, self._counted.values
        pairs = self._counted.walk(low, high, reverse, lambda run: (names(run), values(run)))
        return pairs if limit is None else islice(pairs, limit)

    def _keys(self, reverse: bool = False) -> Iterator[str]:
        return self._all(reverse, lambda run: (self._names(run),))

    def _values(self, reverse: bool = False) -> Iterator[bytes]:
        return self._all(reverse, lambda run: (list(self._counted.values(run)),))

    def _all(self, reverse: bool, columns: Columns) -> Iterator[Any]:
        return self._counted.walk(self._counted.first, self._counted.past, reverse, columns)

    def _names(self, run: list[bytes]) -> list[str]:
        """The keys of a run of entries."""
        mark = self._mark
        if mark:
            # All of them at once: each begins with the namespace, so that is what stands between two keys.
            names = b"".join(run).decode()[len(mark) :].split(mark)
            if len(names) == len(run):
                return names
        # Some key holds that character itself.
        skip = len(self._namespace)
        return [entry[skip:].decode() for entry in run]

    # --- writing ---

    def __setitem__(self, key: str, value: Value) -> None:
        """Store a copy of ``value``. If this raises, nothing was changed.

        Raises:
            TypeError: the key is not a ``str``, or the value not ``bytes``, ``bytearray`` or ``memoryview``.
            InvalidInput: the key has lone surrogates, or no transaction is open.
            LimitExceeded: over ``MAX_KEY_BYTES`` or ``MAX_VALUE_BYTES``, or too much for one transaction.
            MapFull: the map would grow over ``max_size``.
        """
        self._counted.put(self._entry(key), _stored(value))

    def setdefault(self, key: str, default: Value | None = None, /) -> bytes:
        """The value of ``key``; if it is not there, ``default`` is stored first (and must be bytes-like then)."""
        value = self.get(key)
        if value is None:
            value = _stored(default)
            self[key] = value
        return value

    def update(self, other: Any = (), /, **items: Value) -> None:
        """Write the pairs of a mapping or iterable, then ``items``. Unlike in ``dict``: all of them or none.

        Raises as writing each pair does; :class:`MapFull` is about them all together.
        """
        new = dict(other, **items)
        entries = self._entries_of(new)
        if entries is None:
            entries = {self._entry(key): _stored(value) for key, value in new.items()}
        self._counted.put_all(entries)

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc]  # takes more than __or__, as it does in dict
        self.update(other)
        return self

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    @overload
    def pop(self, key: str, /) -> bytes: ...
    @overload
    def pop(self, key: str, /, default: bytes) -> bytes: ...
    @overload
    def pop(self, key: str, /, default: T) -> bytes | T: ...
    def pop(self, key: str, /, default: Any = _MISSING) -> Any:
        """Remove ``key`` and return its value. Not there: ``default``, or :class:`KeyError` without one."""
        value = self.get(key)
        if value is not None:
            self._counted.delete_all([self._encoded(key)])
            return value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[str, bytes]:
        """Remove and return the pair with the last key in order. Raises :class:`KeyError` if there is none."""
        for pair in self.range(reverse=True, limit=1):
            del self[pair[0]]
            return pair
        raise KeyError("popitem(): the map is empty")

    def clear(self) -> None:
        """Remove every entry, or raise :class:`LimitExceeded` if that is too much for one transaction."""
        counted = self._counted
        counted.delete_all(list(counted.scan(counted.first, counted.past, reverse=True)))

    def _encoded(self, key: str) -> bytes:
        """Where the entry of ``key`` stands in the order."""
        try:
            return self._namespace + _encode(key)
        except TypeError:
            raise TypeError(f"a key is a str, not {type(key).__name__}") from None
        except UnicodeEncodeError as error:
            raise InvalidInput("a key must have a form in UTF-8, so it cannot hold lone surrogates") from error

    def _entries_of(self, new: dict[str, Value]) -> dict[bytes, bytes] | None:
        """All of them at once, if they are as they should be; else None, and one by one they say what is wrong."""
        if not new or set(map(type, new.values())) != {bytes} or max(map(len, new.values())) > MAX_VALUE_BYTES:
            return None
        try:
            entries = list(map(self._namespace.__add__, map(_encode, new)))
        except (TypeError, UnicodeEncodeError):
            return None
        if max(map(len, entries)) > MAX_KEY_BYTES:  # perhaps: the namespace is in this length
            return None
        return dict(zip(entries, new.values(), strict=True))  # type: ignore[arg-type]  # all are bytes

    def _entry(self, key: str) -> bytes:
        """The entry of a ``key`` that may be written."""
        entry = self._encoded(key)
        if len(entry) > MAX_KEY_BYTES:  # perhaps: the namespace is in this length
            key_bytes = len(entry) - len(self._namespace)
            if key_bytes > MAX_KEY_BYTES:
                raise LimitExceeded(f"a key may have {MAX_KEY_BYTES} bytes of UTF-8, this one has {key_bytes}")
        return entry


def _stored(value: Value | None) -> bytes:
    """A value as the bytes to keep."""
    if type(value) is bytes:
        _check_value_bytes(len(value))
        return value
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"a value is bytes, bytearray or memoryview, not {type(value).__name__}")
    with memoryview(value) as view:
        _check_value_bytes(view.nbytes)  # before the copy
        return bytes(view)


def _check_value_bytes(value_bytes: int) -> None:
    if value_bytes > MAX_VALUE_BYTES:
        raise LimitExceeded(f"a value may have {MAX_VALUE_BYTES} bytes, this one has {value_bytes}")


class MapKeys(KeysView[str]):
    """The keys of a :class:`PersistentMap`, in order."""

    __slots__ = ()
    _mapping: PersistentMap

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._mapping)


class MapValues(ValuesView[bytes]):
    """The values of a :class:`PersistentMap`, in the order of their keys."""

    __slots__ = ()
    _mapping: PersistentMap

    def __contains__(self, value: object) -> bool:
        return any(value == stored for stored in self)

    def __iter__(self) -> Iterator[bytes]:
        return self._mapping._values()

    def __reversed__(self) -> Iterator[bytes]:
        return self._mapping._values(reverse=True)


class MapItems(ItemsView[str, bytes]):
    """The pairs of a :class:`PersistentMap`, in the order of their keys."""

    __slots__ = ()
    _mapping: PersistentMap

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        found = self._mapping.get(item[0])
        return found is not None and found == item[1]

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return self._mapping.range()

    def __reversed__(self) -> Iterator[tuple[str, bytes]]:
        return self._mapping.range(reverse=True)
