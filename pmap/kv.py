"""The ready-made key-value enclave: one map, shared by all its clients. ``pmap serve`` runs it unless told otherwise.

A mail is a batch of operations (:mod:`wire.kv`) and one transaction: all of them happen, or none.
"""

from __future__ import annotations

from typing import ClassVar, Final

from pmap.enclave import Enclave, Mail, Rejected
from pmap.shards import Keeps, Shards
from wire.errors import InvalidInput, LimitExceeded
from wire.kv import (
    Delete,
    Get,
    Import,
    Install,
    KeyOperation,
    Operation,
    Page,
    PartitionScan,
    Purge,
    Put,
    Result,
    Scan,
    Size,
    Swap,
    Usage,
    decode_operations,
    swap_failed_text,
)
from wire.kv import Shards as ShardsAsked
from wire.kv_results import encode_results
from wire.limits import ENTRY_OVERHEAD_BYTES, MAX_BODY_BYTES, MAX_EXAMINED_KEYS, MAX_KEY_BYTES, MAX_OPERATIONS

_RESULT_BYTES: Final = 32
"""What a result costs beside the value or entries in it, at most."""
_RESULTS_BYTES: Final = MAX_BODY_BYTES - MAX_OPERATIONS * _RESULT_BYTES
"""What the values in one reply may take."""


class KeyValueEnclave(Enclave):
    """Get, put, delete, compare-and-swap, scan; in batches. One store by itself, or one of several (pmap.shards)."""

    persistent_map = True
    max_persistent_map_size = "64m"
    shard_owner: ClassVar[str | None] = None
    """Whose shard maps this enclave takes: an Ed25519 public key in hexadecimal. None: those of whoever signed its
    first one."""

    _shards: Shards | None = None

    def receive_mail(self, mail: Mail) -> bytes:
        """Carry out one batch."""
        results: list[Result] = []
        left = _RESULTS_BYTES
        for position, operation in enumerate(decode_operations(mail.body)):
            result = self._carry_out(mail.sender, position, operation, left)
            # Counted before anything is encoded: a batch may read one large value many times over.
            left -= _bytes_of(result)
            if left < 0:
                raise LimitExceeded("the results do not fit into one reply: ask in several mails")
            results.append(result)
        return encode_results(results)

    def _carry_out(self, sender: str, position: int, operation: Operation, left: int) -> Result:
        shards = self._shards or self._find_shards()
        match operation:
            case Get(key):
                shards.check_read(key)
                return self.map.get(key)
            case Put() | Delete() | Swap():
                shards.check_write(operation.key)
                return self._write(position, operation)
            case Scan():
                return self._scan(operation, left, shards.keeps())
            case Size():
                return Usage(len(self.map) - shards.foreign_entries(), self.map.size, self.map.max_size)
            case PartitionScan(partitions):
                return self._scan(operation, left, shards.keeps_of(partitions))
            case ShardsAsked():
                return shards.status()
            case Install(signed):
                return shards.install(signed)
            case Import(version, entries):
                return shards.take(sender, version, entries)
            case Purge(limit):
                return shards.purge(limit)

    def _write(self, position: int, operation: KeyOperation) -> Result:
        entries = self.map
        match operation:
            case Put(key, value):
                entries[key] = value
                return None
            case Delete(key):
                return entries.pop(key, None) is not None
            case Swap(key, expected, new):
                if entries.get(key) != expected:
                    raise Rejected(swap_failed_text(position))
                if new is not None:
                    entries[key] = new
                elif expected is not None:
                    del entries[key]
                return True
            case Get():
                raise AssertionError("a get writes nothing")

    def _scan(self, scan: Scan | PartitionScan, left: int, keeps: Keeps | None) -> Page:
        budget = min(scan.budget, left - MAX_KEY_BYTES)
        found: list[tuple[str, bytes]] = []
        used = examined = 0
        # One more than asked for: its key is where the next page begins.
        limit = scan.limit + 1 if keeps is None else None
        for key, value in self.map.range(scan.start, scan.stop, limit=limit):
            if keeps is not None:
                examined += 1
                if examined > MAX_EXAMINED_KEYS:
                    return Page(found, key)
                if not keeps(key):
                    continue
            used += _entry_bytes(key, value)
            if found and (len(found) == scan.limit or used > budget):
                return Page(found, key)
            found.append((key, value))
        return Page(found, None)

    def _find_shards(self) -> Shards:
        platform, owner = self._running(), None
        if self.shard_owner is not None:
            try:
                owner = bytes.fromhex(self.shard_owner)
            except ValueError as error:
                raise InvalidInput("shard_owner is a public key in hexadecimal") from error
        self._shards = Shards(platform.entries, self.map, platform.store_id, owner)
        return self._shards


def _bytes_of(result: Result) -> int:
    if isinstance(result, Page):
        return sum(_entry_bytes(key, value) for key, value in result.entries) + MAX_KEY_BYTES
    return len(result) if isinstance(result, bytes) else 0


def _entry_bytes(key: str, value: bytes) -> int:
    # A character has at most four bytes of UTF-8; exact counting would encode every key once more.
    return 4 * len(key) + len(value) + ENTRY_OVERHEAD_BYTES
