"""Restart: rebuild the map from the records that an untrusted host hands over.

Checked for every record, before its content is used: format and version, this store's id, its number, that it decrypts
under the epoch key with its own header as AAD, that it names the record before it by hash, and that the first
one starts where the last one says the window starts. The records so far cannot say whether they are the
*newest*; that is what the clients' evidence is for (:mod:`pmap.freshness`).
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import compress, islice, repeat
from operator import and_, gt, is_, lt, or_
from typing import Any, Final

from pmap.entries import Entries, decode_totals
from pmap.history import History
from pmap.keyring import Keyring
from pmap.log import CommitLog, LogSettings
from pmap.opening import OpenedRecord, Opener
from pmap.order import CHUNK_KEYS, KeyOrder
from pmap.sweep import Sweep
from wire.codec import unpack_authentic
from wire.crypto import Randomness
from wire.errors import CorruptedStore, Malformed
from wire.merkle import Frontier
from wire.record import NO_RECORD, Header

_MANY: Final = 16
"""If more than one key in so many came or went beside the sweep, all keys are sorted instead."""


class Replay:
    """Feed the window's records in order, in as many calls as you like, then :meth:`finish`."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._opener = Opener(keyring)
        self._live: dict[bytes, bytes] = {}
        self._order = _SweptOrder()
        self._totals = b""
        self._sweep = Sweep()
        self._leaves: list[bytes] = []
        self._base = Frontier()
        self._first = 0
        self._last: Header | None = None
        # Of the last record, if it was shown ahead: the last key that it swept, whether it ended the cycle, its leaf.
        self._stop: bytes | None = None
        self._last_wrapped = False
        self._shown_leaf: bytes | None = None
        self._wrap_seen = False

    @property
    def n(self) -> int:
        """The number of the last record fed; 0 before the first."""
        return 0 if self._last is None else self._last.n

    @property
    def epochs(self) -> set[bytes]:
        """The epochs of the records fed so far."""
        return self._opener.epochs

    def feed(self, untrusted_records: Iterable[bytes | memoryview]) -> None:
        """Check and apply records.

        Raises:
            CorruptedStore: a record that this store's enclave did not write, or not in this place.
            UnsupportedVersion: a record of another format version.
        """
        with _no_garbage_collection(), closing(self._opener.open(untrusted_records)) as opened:
            for record in opened:
                self._check_place(record.header)
                self._apply(record)
                self._leaves.append(record.leaf)
                self._last = record.header

    def _apply(self, record: OpenedRecord) -> None:
        frontier, wrapped, self._totals, changes, swept = _decode(record)
        n, live = record.header.n, self._live
        if self._last is None:
            self._base = Frontier.decode(n - 1, frontier)
        self._sweep.advance(n, swept[-2] if swept else None, wrapped)
        keys, values = changes[::2], changes[1::2]
        deletes = any(map(is_, values, repeat(None)))  # as `None in values`, which would compare every value
        if self._stop is not None:
            keys, values = self._not_swept_later(keys, values, wrapped, deletes)
            self._wrap_seen |= wrapped
        before = len(live)
        live.update(zip(keys, values, strict=True))
        if len(live) > before:
            self._order.came_or_went(islice(reversed(live), len(live) - before))  # the newest stand last
        if deletes:
            # Each key is listed once per record, and is there now because the update put nil under it.
            gone = list(compress(keys, map(is_, values, repeat(None))))
            for key in gone:
                del live[key]
            self._order.came_or_went(gone)
        keys = swept[::2]
        live.update(zip(keys, swept[1::2], strict=True))
        self._order.swept(keys, wrapped)

    def show_last(self, untrusted_record: bytes | memoryview) -> None:
        """Optionally, before the first :meth:`feed`: the window's last record, which will be fed last as well.

        Knowing where its sweep ends, the replay leaves out changes that a later step of the sweep repeats. That is
        for speed alone: the same bytes must come again at the end, or :meth:`finish` refuses.
        Raises as :meth:`feed`.
        """
        with closing(self._opener.open([untrusted_record])) as opened:
            record = next(opened)
            _, wrapped, _, _, swept = _decode(record)
            self._stop = swept[-2] if swept else b""
            self._last_wrapped = wrapped
            self._shown_leaf = record.leaf

    def _not_swept_later(
        self, keys: list[bytes], values: list[Any], wrapped: bool, deletes: bool
    ) -> tuple[list[bytes], list[Any]]:
        """The changes of the record just advanced over, without those that a later step of the sweep repeats.

        Later steps run from this record's cursor on: to the last record's stop if that is in this cycle, else to the
        end of the map, and then from the start of the map to that stop. Deletions always stay.
        """
        cursor, stop = self._sweep.cursor, self._stop
        assert stop is not None
        # Through C iterators: a step of Python for each key takes as long as to apply it.
        before_cursor, after_stop = map(lt, keys, repeat(cursor)), map(gt, keys, repeat(stop))
        kept: Iterator[bool]
        if self._last_wrapped:
            if wrapped:
                return keys, values
            kept = before_cursor
        elif wrapped:
            kept = after_stop
        elif self._wrap_seen or self._first == 1:
            # From record 1 on, the window can lie in one cycle; what is left out in both cases is the overlap.
            kept = map(or_, before_cursor, after_stop)
        else:
            kept = map(and_, before_cursor, after_stop)
        if deletes:
            kept = map(or_, kept, map(is_, values, repeat(None)))
        chosen = list(kept)
        return list(compress(keys, chosen)), list(compress(values, chosen))

    def finish(self, randomness: Randomness, settings: LogSettings | None = None) -> CommitLog:
        """The log, ready for the next commit, in a new epoch.

        Raises:
            CorruptedStore: no record at all, or not the whole window that the last record needs.
        """
        last = self._last
        if last is None:
            raise CorruptedStore("the store has a keyring but no records: they were removed")
        if last.tail != self._first:
            raise CorruptedStore(f"the window starts at record {self._first}, but record {last.n} needs {last.tail}")
        if self._shown_leaf not in (None, self._leaves[-1]):
            raise CorruptedStore("the record that was shown as the last one is not the last one given")
        assert self._sweep.tail == last.tail, "replay and commit agree on the tail"
        history = History(self._base, self._leaves)
        live = self._live
        with _no_garbage_collection():
            order = self._order.of(live)
        entries = Entries(live, order, decode_totals(self._totals))
        return CommitLog(
            self._keyring, randomness, settings=settings, entries=entries, history=history, sweep=self._sweep
        )

    def _check_place(self, header: Header) -> None:
        if header.store_id != self._keyring.store_id:
            raise CorruptedStore(f"record {header.n} is another store's")
        last = self._last
        if last is None:
            self._first = header.n
            self._sweep.tail = header.n
            if header.n == 1 and header.previous != NO_RECORD:
                raise CorruptedStore("record 1 names a record before it")
        elif header.n != last.n + 1:
            raise CorruptedStore(f"record {header.n} where record {last.n + 1} belongs")
        elif header.previous != self._leaves[-1]:
            raise CorruptedStore(f"record {header.n} follows another record {last.n} than the one given")


class _SweptOrder:
    """The order of the keys as the sweep walked along them, which is most often all of it.

    Taken while the keys are at hand: to touch a million of them once more takes longer than to sort them.
    """

    def __init__(self) -> None:
        self._previous: list[list[bytes]] = []
        self._current: list[list[bytes]] = []
        self._others: set[bytes] = set()

    def swept(self, keys: list[bytes], wrapped: bool) -> None:
        """The next slice, in order."""
        current = self._current
        if keys and current and keys[0] <= current[-1][-1]:
            current = self._current = []  # a sweep of the whole map starts anew, wherever the last one stood
        if current and len(current[-1]) + len(keys) <= CHUNK_KEYS:
            current[-1] += keys
        else:
            current += [keys[at : at + CHUNK_KEYS] for at in range(0, len(keys), CHUNK_KEYS)]
        if wrapped:
            self._previous, self._current = current, []

    def came_or_went(self, keys: Iterable[bytes]) -> None:
        """Keys that were added or removed beside the sweep."""
        self._others.update(keys)

    def of(self, live: dict[bytes, bytes]) -> KeyOrder:
        """The order of the keys that there are in the end."""
        chunks = self._current
        if chunks:
            last = chunks[-1][-1]
            # Of the cycle before, what this one has not come to yet.
            for chunk in self._previous:
                if chunk[-1] > last:
                    chunks.append(chunk if chunk[0] > last else chunk[bisect_right(chunk, last) :])
        else:
            chunks = self._previous
        if len(self._others) > len(live) // _MANY:
            return KeyOrder(sorted(live))
        order = KeyOrder.of_chunks(chunks)
        for key in self._others:
            if key not in live:
                if key in order:
                    order.remove(key)
            elif key not in order:
                order.add(key)
        assert len(order) == len(live), "every key was swept, or came beside the sweep"
        return order


def _decode(record: OpenedRecord) -> tuple[bytes, bool, bytes, list[Any], list[bytes]]:
    body = record.body()
    try:
        frontier, wrapped, totals, changes, swept = unpack_authentic(body)
    except (Malformed, ValueError) as error:
        raise CorruptedStore(f"record {record.header.n} is authentic but of an unknown layout") from error
    return frontier, wrapped, totals, changes, swept


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A replay makes millions of objects and no garbage; looking for it takes longer than the replay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
