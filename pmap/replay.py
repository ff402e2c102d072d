"""Restart: rebuild the map from the records that an untrusted host hands over.

Checked for every record, before its content is used: format and version, this store's id, its number, that it decrypts
under the epoch key with its own header as AAD, that it names the record before it by hash, and that the first
one starts where the last one says the window starts. The records so far cannot say whether they are the
*newest*; that is what the clients' evidence is for (:mod:`pmap.freshness`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pmap.entries import Entries, decode_totals
from pmap.history import History
from pmap.keyring import Keyring
from pmap.log import CommitLog, LogSettings
from pmap.order import KeyOrder
from pmap.sweep import Sweep
from wire.codec import unpack_authentic
from wire.crypto import NONCE_BYTES, Randomness
from wire.errors import CorruptedStore, Malformed
from wire.merkle import Frontier, leaf_hash
from wire.record import HEADER_BYTES, LENGTH_BYTES, NO_RECORD, Header, decode_header


class Replay:
    """Feed the window's records in order, in as many calls as you like, then :meth:`finish`."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._ciphers: dict[bytes, AESGCM] = {}
        self._live: dict[bytes, bytes] = {}
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
        return set(self._ciphers)

    def feed(self, untrusted_records: Iterable[bytes]) -> None:
        """Check and apply records.

        Raises:
            CorruptedStore: a record that this store's enclave did not write, or not in this place.
            UnsupportedVersion: a record of another format version.
        """
        live, update = self._live, self._live.update
        for untrusted_record in untrusted_records:
            header = decode_header(untrusted_record)
            self._check_place(header)
            frontier, wrapped, self._totals, changes, swept = self._open(header, untrusted_record)
            if self._last is None:
                self._base = Frontier.decode(header.n - 1, frontier)
            self._sweep.advance(header.n, swept[-2] if swept else None, wrapped)
            if self._stop is not None:
                changes = self._not_swept_later(changes, wrapped)
                self._wrap_seen |= wrapped
            pairs = iter(changes)
            update(zip(pairs, pairs, strict=True))
            if None in changes:
                # Each key is listed once per record, and is there now because the update put nil under it.
                for key in [changes[at - 1] for at in range(1, len(changes), 2) if changes[at] is None]:
                    del live[key]
            pairs = iter(swept)
            update(zip(pairs, pairs, strict=True))
            self._leaves.append(leaf_hash(untrusted_record))
            self._last = header

    def show_last(self, untrusted_record: bytes) -> None:
        """Optionally, before the first :meth:`feed`: the window's last record, which will be fed last as well.

        Knowing where its sweep ends, the replay leaves out changes that a later step of the sweep repeats. That is
        for speed alone: the same bytes must come again at the end, or :meth:`finish` refuses.
        Raises as :meth:`feed`.
        """
        _, wrapped, _, _, swept = self._open(decode_header(untrusted_record), untrusted_record)
        self._stop = swept[-2] if swept else b""
        self._last_wrapped = wrapped
        self._shown_leaf = leaf_hash(untrusted_record)

    def _not_swept_later(self, changes: list[Any], wrapped: bool) -> list[Any]:
        """The changes of the record just advanced over, without those that a later step of the sweep repeats.

        Later steps run from this record's cursor on: to the last record's stop if that is in this cycle, else to the
        end of the map, and then from the start of the map to that stop. Deletions always stay.
        """
        cursor, stop = self._sweep.cursor, self._stop
        assert stop is not None
        kept: list[Any] = []
        for at in range(0, len(changes), 2):
            key, value = changes[at], changes[at + 1]
            if self._last_wrapped:
                later = not wrapped and key >= cursor
            elif wrapped:
                later = key <= stop
            elif self._wrap_seen or self._first == 1:
                # From record 1 on, the window can lie in one cycle; what is left out in both cases is the overlap.
                later = cursor <= key <= stop
            else:
                later = key >= cursor or key <= stop
            if value is None or not later:
                kept += (key, value)
        return kept

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
            # In the order in which they were replayed, which is nearly sorted already.
            order = KeyOrder(sorted(live))
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

    def _open(self, header: Header, untrusted_record: bytes) -> tuple[bytes, bool, bytes, list[Any], list[bytes]]:
        cipher = self._ciphers.get(header.epoch)
        if cipher is None:
            self._ciphers[header.epoch] = cipher = AESGCM(self._keyring.log_key(header.epoch))
        # A view, because records of a filesystem's bulk writes are tens of megabytes.
        view = memoryview(untrusted_record)
        try:
            plaintext = cipher.decrypt(header.n.to_bytes(NONCE_BYTES, "big"), view[HEADER_BYTES:], view[:HEADER_BYTES])
        except InvalidTag as error:
            raise CorruptedStore(f"record {header.n} was altered, or never written by this store's enclave") from error
        # From here on the bytes are this enclave code's own: exact, bounded by the record, never the host's.
        length = int.from_bytes(plaintext[:LENGTH_BYTES], "big")
        try:
            body = unpack_authentic(memoryview(plaintext)[LENGTH_BYTES : LENGTH_BYTES + length])
            frontier, wrapped, totals, changes, swept = body
        except (Malformed, ValueError) as error:
            raise CorruptedStore(f"record {header.n} is authentic but of an unknown layout") from error
        return frontier, wrapped, totals, changes, swept


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Ordering a million keys makes a thousand lists and no garbage; collecting meanwhile doubles the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
