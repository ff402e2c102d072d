"""The enclave's one ordered map of everything persistent, and transactions over it.

An entry is ``key -> value`` (bytes); the first byte of the key is its namespace. A transaction writes in place
and remembers what stood there before, so reads and scans need no overlay; an abort puts everything back.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import chain
from types import TracebackType
from typing import Final, Protocol

from pmap.order import KeyOrder
from wire.errors import InvalidInput, LimitExceeded
from wire.limits import ENTRY_OVERHEAD_BYTES, MAX_TRANSACTION_BYTES

# --- namespaces: the first byte of every key ---
META: Final = b"\x00"
CLIENTS: Final = b"\x01"
STREAMS: Final = b"\x02"
INBOX: Final = b"\x03"
INBOX_PLACES: Final = b"\x04"
MAP: Final = b"\x10"
SHARDS: Final = b"\x11"
FILES: Final = b"\x20"


def successor(prefix: bytes) -> bytes | None:
    """The smallest key greater than every key that starts with ``prefix``; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


class Counted(Protocol):
    """Somebody who counts the entries of one namespace: how many, and their bytes."""

    namespace: bytes
    length: int
    size: int


Totals = dict[bytes, tuple[int, int]]
"""Of each counted namespace the number of entries and their bytes."""

_total = struct.Struct(">cQQ")


def encode_totals(counted: Iterable[Counted]) -> bytes:
    """17 bytes for each: namespace, number, bytes."""
    return b"".join([_total.pack(each.namespace, each.length, each.size) for each in counted])


def decode_totals(data: bytes) -> Totals:
    """Our own bytes back."""
    return {namespace: (length, size) for namespace, length, size in _total.iter_unpack(data)}


class Participant(Protocol):
    """Somebody who keeps state beside the entries that has to follow the transactions: open files, other storage."""

    def settle(self) -> None:
        """The open transaction is about to commit: write what you still hold back. If this raises, it aborts."""
        ...

    def committed(self) -> None:
        """The transaction was committed."""
        ...

    def aborted(self) -> None:
        """The transaction was undone."""
        ...


class Entries:
    """Ordered entries with one transaction at a time.

    ``live`` and ``order``, its keys in order, may be read freely; they are written through :meth:`put` and
    :meth:`delete` only. ``begun`` counts the transactions so far. One transaction writes at most
    ``max_transaction_bytes``.
    """

    __slots__ = (
        "_on_abort",
        "_participants",
        "_single",
        "_undo",
        "_written_bytes",
        "begun",
        "changes",
        "counted",
        "known_totals",
        "live",
        "max_transaction_bytes",
        "order",
        "pending_bytes",
    )

    def __init__(
        self,
        live: dict[bytes, bytes] | None = None,
        order: KeyOrder | None = None,
        known_totals: Totals | None = None,
        *,
        max_transaction_bytes: int = MAX_TRANSACTION_BYTES,
    ) -> None:
        """``order``: the keys of ``live``; sorted here if it is left out."""
        self.live: dict[bytes, bytes] = {} if live is None else live
        self.order = KeyOrder(sorted(self.live)) if order is None else order
        self.max_transaction_bytes = max_transaction_bytes
        self.begun = 0
        self._single = False
        self._participants: list[Participant] = []
        # Whose totals go into each record; and those that the last record held.
        self.counted: list[Counted] = []
        self.known_totals: Totals = known_totals or {}
        # What the next record has to say: key -> value, or None for a deletion. Filled by commits only.
        self.changes: dict[bytes, bytes | None] = {}
        # How much the changes take, at most (bytes): the bound that keeps a commit inside a record.
        self.pending_bytes = 0
        self._written_bytes = 0
        self._undo: dict[bytes, bytes | None] | None = None
        self._on_abort: list[Callable[[], None]] = []

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._undo is not None

    def join(self, participant: Participant) -> None:
        """Have ``participant`` told of every transaction from now on, but those of single calls."""
        self._participants.append(participant)

    def transaction(self, *, single: bool = False) -> AbstractContextManager[None]:
        """Commit on a normal exit, undo everything on an exception (which goes on).

        ``single``: the transaction of one library call, which knows by itself all that belongs to it; participants
        hear nothing of it.
        """
        return _Transaction(self, single)

    def begin(self, *, single: bool = False) -> None:
        """Open a transaction. Raises :class:`InvalidInput` inside another one: they do not nest."""
        if self._undo is not None:
            raise InvalidInput("a transaction is open already; transactions do not nest")
        self._undo = {}
        self._single = single
        self._written_bytes = 0
        self.begun += 1

    def settle(self) -> None:
        """Have participants write what they still hold back, before :meth:`commit`. If this raises, abort."""
        if not self._single:
            for participant in self._participants:
                participant.settle()

    def commit(self) -> None:
        """Keep what was written; it goes into the next record."""
        assert self._undo is not None
        undo = self._undo
        self.changes.update(zip(undo, map(self.live.get, undo), strict=True))
        self.pending_bytes += self._written_bytes
        self._undo = None
        self._on_abort.clear()
        if not self._single:
            for participant in self._participants:
                participant.committed()

    def abort(self) -> None:
        """Put back every entry as it was when the transaction began."""
        assert self._undo is not None
        live, order = self.live, self.order
        for key, before in self._undo.items():
            if before is None:
                if live.pop(key, None) is not None:
                    order.remove(key)
            else:
                if key not in live:
                    order.add(key)
                live[key] = before
        self._undo = None
        for restore in self._on_abort:
            restore()
        self._on_abort.clear()
        if not self._single:
            for participant in self._participants:
                participant.aborted()

    def take_changes(self) -> dict[bytes, bytes | None]:
        """Everything committed since the last call, for the next record."""
        changes, self.changes, self.pending_bytes = self.changes, {}, 0
        return changes

    def on_abort(self, restore: Callable[[], None]) -> None:
        """Call ``restore`` if the open transaction aborts: for counters kept beside the entries."""
        assert self._undo is not None
        self._on_abort.append(restore)

    def put(self, key: bytes, value: bytes) -> None:
        """Write one entry inside the open transaction.

        Raises :class:`LimitExceeded`, before anything changes, if the transaction would not fit into a record.
        """
        undo = self._undo
        assert undo is not None, "every write belongs to a transaction"
        before = self.live.get(key)
        if key not in undo:
            written = self._written_bytes + len(key) + len(value) + ENTRY_OVERHEAD_BYTES
        else:
            # A record lists a key once: what was written over in the same transaction does not count.
            written = self._written_bytes + len(value) - (0 if before is None else len(before))
        if written > self.max_transaction_bytes:
            raise self._over_limit()
        self._written_bytes = written
        undo.setdefault(key, before)
        if before is None:
            self.order.add(key)
        self.live[key] = value

    def put_all(self, new: Mapping[bytes, bytes], before: list[bytes | None], added: list[bytes]) -> None:
        """Write many entries inside the open transaction, as :meth:`put` does one by one.

        ``before``: what stands there now, in the order of ``new``; ``added``: where nothing does.
        """
        undo = self._undo
        assert undo is not None, "every write belongs to a transaction"
        if not undo.keys().isdisjoint(new):
            for key, value in new.items():
                self.put(key, value)
            return
        written = sum(map(len, new)) + sum(map(len, new.values())) + len(new) * ENTRY_OVERHEAD_BYTES
        self.check_room(written)
        self._written_bytes += written
        undo.update(zip(new, before, strict=True))
        for key in added:
            self.order.add(key)
        self.live.update(new)

    def delete(self, key: bytes) -> None:
        """Remove one entry inside the open transaction. Raises :class:`KeyError` and :class:`LimitExceeded`."""
        undo = self._undo
        assert undo is not None, "every write belongs to a transaction"
        if self._written_bytes + len(key) + ENTRY_OVERHEAD_BYTES > self.max_transaction_bytes:
            raise self._over_limit()
        before = self.live.pop(key)
        self.order.remove(key)
        if key in undo:
            self._written_bytes -= len(before)
        else:
            self._written_bytes += len(key) + ENTRY_OVERHEAD_BYTES
            undo[key] = before

    def check_room(self, written: int) -> None:
        """Raises :class:`LimitExceeded` unless the open transaction may write that many bytes more."""
        if self._written_bytes + written > self.max_transaction_bytes:
            raise self._over_limit()

    def _over_limit(self) -> LimitExceeded:
        return LimitExceeded(f"a transaction may write {self.max_transaction_bytes} bytes; this one is over that")

    def scan(self, start: bytes, stop: bytes | None, *, reverse: bool = False) -> Iterator[bytes]:
        """Keys with ``start <= key < stop`` (``stop`` None: to the end), in order.

        Taken in runs: a key that is added or removed meanwhile may or may not be noticed.
        """
        return chain.from_iterable(self.order.runs(start, stop, reverse))


class _Transaction:
    """See :meth:`Entries.transaction`. A class, because a generator takes three times as long, twice a mail."""

    __slots__ = ("_entries", "_single")

    def __init__(self, entries: Entries, single: bool) -> None:
        self._entries = entries
        self._single = single

    def __enter__(self) -> None:
        self._entries.begin(single=self._single)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entries = self._entries
        if kind is not None:
            entries.abort()
            return
        try:
            entries.settle()
        except BaseException:
            entries.abort()
            raise
        entries.commit()
