"""The commit log: one encrypted record per commit, written here, replayed by :mod:`pmap.replay`.

Body of record n (msgpack, before padding)::

    [frontier, wrapped, totals, changes, sweep]

- ``frontier``: the Merkle frontier over records 1..n-1, so that a restart from any record knows the history before it;
- ``wrapped``: whether this record's sweep reached the end of the map;
- ``totals``: number and bytes of the entries of each counted namespace, so that a restart need not count them;
- ``changes``: ``[key, value or nil, ...]`` written or deleted since record n-1;
- ``sweep``: ``[key, value, ...]`` a slice of the map after the changes.

In the smallest class changes and frontier get at most a third, and the sweep's budget is the other two thirds; in
larger classes each gets a half. Whatever was written, the budget follows from the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pmap.entries import Entries, encode_totals
from pmap.history import History
from pmap.keyring import Keyring
from pmap.sweep import FULL, INCREMENTAL, Sweep, SweepPolicy, check_policy
from wire.alarm import Alarm, Verdict, sign_alarm
from wire.checkpoint import Checkpoint, sign_checkpoint
from wire.codec import pack
from wire.crypto import NONCE_BYTES, Randomness, sha256
from wire.limits import ENTRY_OVERHEAD_BYTES, LMDB_PAGE_HEADER_BYTES, MAX_RECORD_BYTES
from wire.merkle import leaf_hash
from wire.record import (
    LENGTH_BYTES,
    RECORD_OVERHEAD_BYTES,
    SMALLEST_CLASS_BYTES,
    check_class,
    class_bytes,
    encode_header,
)

_BODY_FIXED_BYTES: Final = 24
"""The body's own array and length prefixes: 1 + 5 + 1 + 5 + 5 + 5 bytes, rounded up."""


class Commit(NamedTuple):
    """What the host must store for one commit before any effect of it leaves.

    ``root`` is the history's root over records 1..n (32 bytes).
    """

    n: int
    record: bytes
    leaf: bytes
    tail: int
    root: bytes


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Choices of the trusted side: the sweep's policy and the smallest record class (bytes)."""

    sweep: SweepPolicy = INCREMENTAL
    smallest_class: int = SMALLEST_CLASS_BYTES

    def __post_init__(self) -> None:
        check_policy(self.sweep)
        check_class(self.smallest_class)


class CommitLog:
    """The live end of one store's log in one epoch.

    A record is made once. If the host could not store it, the host stores the same bytes later, or the
    enclave restarts and with it begins another epoch; a second record n of this epoch never exists.
    """

    def __init__(
        self,
        keyring: Keyring,
        randomness: Randomness,
        *,
        settings: LogSettings | None = None,
        entries: Entries | None = None,
        history: History | None = None,
        sweep: Sweep | None = None,
    ) -> None:
        self.store_id = keyring.store_id
        self.settings = LogSettings() if settings is None else settings
        self.entries = Entries() if entries is None else entries
        self.history = History() if history is None else history
        self._sweep = Sweep() if sweep is None else sweep
        self._signing_key = keyring.signing_key()
        self.public_key = self._signing_key.public
        self.begin_epoch(keyring, randomness)
        self._checkpoint: Checkpoint | None = None

    def begin_epoch(self, keyring: Keyring, randomness: Randomness) -> None:
        """Start a new epoch, under a keyring of this very store: at the start, and again if its key is rotated then."""
        # 32 fresh random bytes make the epoch's key one that no other start, rollback or clone can have; the
        # position is mixed in as well, so that even a repeated random value would need the same state.
        self.keyring = keyring
        unique = sha256(b"pmap/1 epoch" + randomness(32) + self.n.to_bytes(8, "big") + self.history.previous)
        self.epoch = keyring.epoch(unique)
        self._cipher = AESGCM(keyring.log_key(self.epoch))

    @property
    def n(self) -> int:
        """The number of the newest record; 0 before the first."""
        return self.history.frontier.size

    @property
    def tail(self) -> int:
        """The oldest record that a restart needs."""
        return self._sweep.tail

    @property
    def checkpoint(self) -> Checkpoint:
        """The signed checkpoint of the newest commit. Signed when it is first asked for: a signature costs more
        than the rest of a small commit."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            checkpoint = self._checkpoint = self.sign(self.history.frontier.size, self.history.root)
        return checkpoint

    def sign(self, size: int, root: bytes) -> Checkpoint:
        """A checkpoint of this history, of now or of before. Signatures are deterministic: always the same one."""
        return sign_checkpoint(self._signing_key, self.store_id, size, root)

    def commit(self) -> Commit:
        """Make record n+1 of everything committed in :attr:`entries` since the last one (also of nothing)."""
        entries, history, sweep = self.entries, self.history, self._sweep
        n = history.frontier.size + 1
        changes, changes_bytes = _flatten(entries.take_changes())
        frontier = history.frontier.encode()
        totals = encode_totals(entries.counted)
        content_bytes = _BODY_FIXED_BYTES + len(frontier) + len(totals) + changes_bytes
        record_bytes, budget = self.settings.smallest_class, None
        if self.settings.sweep != FULL:
            record_bytes, budget = class_and_budget(content_bytes, record_bytes)
        swept, swept_bytes, wrapped = sweep.take(entries.live, entries.order, budget)
        if budget is None or swept_bytes > budget:
            record_bytes = class_bytes(content_bytes + swept_bytes, record_bytes)
        previous = history.previous
        tail = sweep.advance(n, swept[-2] if swept else None, wrapped)
        header = encode_header(self.store_id, self.epoch, n, tail, previous)
        body = pack([frontier, wrapped, totals, changes, swept])
        plaintext = len(body).to_bytes(LENGTH_BYTES, "big") + body
        plaintext = plaintext.ljust(record_bytes - RECORD_OVERHEAD_BYTES + LENGTH_BYTES, b"\x00")
        # The epoch's key encrypts record n once: n only grows, and a record is never made again.
        record = header + self._cipher.encrypt(n.to_bytes(NONCE_BYTES, "big"), plaintext, header)
        leaf = leaf_hash(record)
        self._checkpoint = None
        return Commit(n, record, leaf, tail, history.append(leaf))

    def sign_alarm(self, verdict: Verdict, contradiction: Checkpoint) -> Alarm:
        """A portable statement: this epoch's history stands here, while a client proved ``contradiction``."""
        return sign_alarm(self._signing_key, verdict, self.checkpoint, contradiction, self.epoch)


def class_and_budget(content_bytes: int, smallest: int) -> tuple[int, int]:
    """The class (bytes of the whole record) for so much beside the sweep, and the sweep's budget (bytes).

    The budget follows from the class alone, so the tail's pace does not tell how much was written. Most records are of
    the smallest class and far from full: there the sweep takes two thirds, which keeps the window short. Larger ones
    are as large as what was written makes them, and a half is enough. Raises :class:`LimitExceeded`.
    """
    room = smallest - RECORD_OVERHEAD_BYTES
    larger = 2 * smallest + LMDB_PAGE_HEADER_BYTES
    if larger > MAX_RECORD_BYTES:
        larger = smallest
    elif 3 * content_bytes <= room:
        return smallest, 2 * room // 3
    record_bytes = class_bytes(2 * content_bytes, larger)
    return record_bytes, (record_bytes - RECORD_OVERHEAD_BYTES) // 2


def _flatten(changes: dict[bytes, bytes | None]) -> tuple[list[bytes | None], int]:
    flat: list[bytes | None] = [None] * (2 * len(changes))
    flat[::2] = changes
    flat[1::2] = changes.values()
    size = sum(map(len, changes)) + len(changes) * ENTRY_OVERHEAD_BYTES
    return flat, size + sum(map(len, filter(None, changes.values())))
