"""The entries of one namespace, counted, bounded, and scanned safely: what the persistent map stands on.

Everything here is bytes: an *entry key* starts with the namespace. Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from operator import itemgetter, length_hint
from typing import Any, TypeAlias

from pmap.entries import Entries, successor
from wire.errors import InvalidInput, LimitExceeded, MapFull
from wire.limits import ENTRY_OVERHEAD_BYTES, MAX_TRANSACTION_BYTES

Autocommit = Callable[[], AbstractContextManager[None]]
"""Makes the transaction for one write: commits on a normal exit, aborts on an exception."""
Columns: TypeAlias = Callable[[list[bytes]], tuple[list[Any], *tuple[Sequence[Any], ...]]]
"""Of a run of entry keys, what a scan shows of each: a column of that for each key, or several side by side."""


class CountedEntries:
    """The entries under ``namespace``, of at most ``max_size`` bytes together.

    ``length`` and ``size`` are kept up to date through writes and aborts, so the namespace must have no other
    writer. ``version`` goes up whenever a key is added or removed. Found larger than ``max_size`` (the bound was
    lowered), the entries may be read, and shrunk, but not grown.
    """

    __slots__ = (
        "_autocommit",
        "_entries",
        "_noted",
        "_overhead",
        "_showing",
        "first",
        "length",
        "live",
        "max_size",
        "namespace",
        "past",
        "size",
        "version",
    )

    def __init__(self, entries: Entries, max_size: int, namespace: bytes, autocommit: Autocommit | None) -> None:
        if max_size < 0:
            raise InvalidInput(f"the size of a map is a number of bytes, at least 0, not {max_size}")
        self._entries = entries
        self._autocommit = autocommit
        self._noted = b""  # see _note
        self._showing: set[_Showing] = set()  # the runs that scans are in
        # What an entry takes beside its bytes. The namespace is among those bytes but not counted.
        self._overhead = ENTRY_OVERHEAD_BYTES - len(namespace)
        self.live: dict[bytes, bytes] = entries.live
        self.namespace = namespace
        self.first, self.past = namespace, successor(namespace)
        self.max_size = max_size
        self.version = 0
        known = entries.known_totals.pop(namespace, None)
        self.length, self.size = self._count() if known is None else known
        entries.counted.append(self)

    def _count(self) -> tuple[int, int]:
        keys = list(self._entries.scan(self.first, self.past))
        values = map(self.live.__getitem__, keys)
        return len(keys), len(keys) * self._overhead + sum(map(len, keys)) + sum(map(len, values))

    # --- reading ---

    def scan(self, low: bytes, high: bytes | None, reverse: bool = False) -> Iterator[bytes]:
        """Entry keys with ``low <= key < high`` in order; as :meth:`walk`."""
        return self.walk(low, high, reverse, lambda run: (run.copy(),))

    def walk(self, low: bytes, high: bytes | None, reverse: bool, columns: Columns) -> Iterator[Any]:
        """What ``columns`` shows of the entries with ``low <= key < high``, in order: an item for each, or a tuple.

        The iterator raises :class:`RuntimeError` if keys were added or removed since this call; values may be
        replaced, and are shown as they are then, and other namespaces written, meanwhile.
        """
        return chain.from_iterable(self._walk(low, high, reverse, columns, self.version))

    def _walk(
        self, low: bytes, high: bytes | None, reverse: bool, columns: Columns, version: int
    ) -> Iterator[Iterator[Any]]:
        runs = self._entries.order.runs(low, high, reverse)
        while version == self.version:
            run = next(runs, None)
            if run is None:
                return
            # A whole run at once, through C iterators only: a step of Python for each entry would cost more than all
            # the rest. A write ends them early.
            first, *others = columns(run)
            showing = _Showing(first)
            self._showing.add(showing)
            try:
                yield zip(showing.ahead, *others) if others else showing.ahead  # noqa: B905  # may end early
            finally:
                self._showing.discard(showing)
            if showing.shown is not None:
                yield self._walk_carefully(run[showing.shown :], columns, version)
        raise RuntimeError("keys were added or removed during the iteration")

    def _walk_carefully(self, run: list[bytes], columns: Columns, version: int) -> Iterator[Any]:
        """The rest of a run after a write: one by one, as they are then."""
        for entry in run:
            if version != self.version:
                return
            (item,) = zip(*columns([entry]), strict=True)
            yield item if len(item) > 1 else item[0]

    def values(self, run: list[bytes]) -> Sequence[bytes]:
        """A column of :meth:`walk`."""
        found: Sequence[bytes] = itemgetter(*run)(self.live) if len(run) > 1 else [self.live[run[0]]]
        return found

    # --- writing: in the open transaction, or else each call in one of its own ---

    def put(self, entry: bytes, value: bytes) -> None:
        """Write one entry.

        Raises, and nothing was changed then: :class:`MapFull`; :class:`LimitExceeded` if the transaction would write
        too much; :class:`InvalidInput` if there is none.
        """
        before = self.live.get(entry)
        added = before is None
        grows = self._overhead + len(entry) + len(value) if before is None else len(value) - len(before)
        if grows > 0 and self.size + grows > self.max_size:
            raise self._full(grows)
        if self._entries.in_transaction:
            self._put(entry, value, grows, added)
        else:
            with self._writing():
                self._put(entry, value, grows, added)

    def put_all(self, new: Mapping[bytes, bytes]) -> None:
        """Write all of these entries; else as :meth:`put`."""
        before = list(map(self.live.get, new))
        added = [entry for entry, value in zip(new, before, strict=True) if value is None]
        grows = len(added) * self._overhead + sum(map(len, added))
        grows += sum(map(len, new.values())) - sum(map(len, filter(None, before)))
        if grows > 0 and self.size + grows > self.max_size:
            raise self._full(grows)
        if new:
            with self._writing():
                self._check_fits(sum(map(len, new)) + sum(map(len, new.values())), len(new))
                self._note(next(iter(new)))
                self._entries.put_all(new, before, added)
                self.size += grows
                self.length += len(added)
                self.version += len(added)

    def delete_all(self, doomed: list[bytes]) -> None:
        """Remove entries that are there. Raises :class:`LimitExceeded`, :class:`InvalidInput`; then none is removed."""
        if doomed:
            with self._writing():
                self._check_fits(sum(map(len, doomed)), len(doomed))
                for entry in doomed:
                    self._delete(entry)

    def _full(self, grows: int) -> MapFull:
        free = max(0, self.max_size - self.size)
        return MapFull(f"this takes {grows} bytes more, but of the map's {self.max_size} bytes only {free} are free")

    def _check_fits(self, written: int, entries: int) -> None:
        # The entries check every write by itself; for all or none it has to be known before the first one.
        written += entries * ENTRY_OVERHEAD_BYTES + self._entries._written_bytes
        if written > MAX_TRANSACTION_BYTES:
            raise LimitExceeded(f"a transaction may write {MAX_TRANSACTION_BYTES} bytes, and this makes {written}")

    def _writing(self) -> AbstractContextManager[None]:
        """The open transaction, or one for this call."""
        if self._entries.in_transaction:
            return nullcontext()
        if self._autocommit is None:
            raise InvalidInput("no transaction is open; write inside a transaction")
        return self._autocommit()

    def _put(self, entry: bytes, value: bytes, grows: int, added: bool) -> None:
        self._note(entry)
        self._entries.put(entry, value)
        self.size += grows
        if added:
            self.length += 1
            self.version += 1

    def _delete(self, entry: bytes) -> None:
        self._note(entry)
        frees = self._overhead + len(entry) + len(self.live[entry])
        self._entries.delete(entry)
        self.size -= frees
        self.length -= 1
        self.version += 1

    def _note(self, entry: bytes) -> None:
        """Before ``entry`` is written: disturb the scans, and have an abort restore the counters."""
        if self._showing:
            self._disturb()
        undo = self._entries._undo
        assert undo is not None, "every write belongs to a transaction"
        # There is no other writer, so an undo that holds the entry noted last is that of the same transaction.
        if self._noted in undo:
            return
        size, length, version = self.size, self.length, self.version

        def restore() -> None:
            self._disturb()
            self.size, self.length = size, length
            if self.version != version:
                self.version += 1  # not back: iterators begun inside the transaction have to notice as well

        self._entries.on_abort(restore)
        self._noted = entry

    def _disturb(self) -> None:
        while self._showing:
            self._showing.pop().end()


class _Showing:
    """A run that a scan is in: ends as soon as it is told to, and knows then how many it has shown."""

    __slots__ = ("_column", "ahead", "shown")

    def __init__(self, column: list[Any]) -> None:
        self._column = column
        self.ahead = iter(column)
        self.shown: int | None = None

    def end(self) -> None:
        """Show no more."""
        self.shown = len(self._column) - length_hint(self.ahead)
        self._column.clear()  # an iterator over a list looks at its length at every step
