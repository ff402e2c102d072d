"""The ready-made key-value enclave: one map, shared by all its clients. ``pmap serve`` runs it unless told otherwise.

A mail is a batch of operations (:mod:`wire.kv`) and one transaction: all of them happen, or none.
"""

from __future__ import annotations

from typing import Final

from pmap.enclave import Enclave, Mail, Rejected
from wire.errors import LimitExceeded
from wire.kv import (
    Delete,
    Get,
    Operation,
    Page,
    Put,
    Result,
    Scan,
    Size,
    Swap,
    Usage,
    decode_operations,
    encode_results,
    swap_failed_text,
)
from wire.limits import ENTRY_OVERHEAD_BYTES, MAX_BODY_BYTES, MAX_KEY_BYTES, MAX_OPERATIONS

_RESULT_BYTES: Final = 32
"""What a result costs beside the value or entries in it, at most."""
_RESULTS_BYTES: Final = MAX_BODY_BYTES - MAX_OPERATIONS * _RESULT_BYTES
"""What the values in one reply may take."""


class KeyValueEnclave(Enclave):
    """Get, put, delete, compare-and-swap, scan; in batches."""

    persistent_map = True
    max_persistent_map_size = "64m"

    def receive_mail(self, mail: Mail) -> bytes:
        """Carry out one batch."""
        results: list[Result] = []
        left = _RESULTS_BYTES
        for position, operation in enumerate(decode_operations(mail.body)):
            result = self._carry_out(position, operation, left)
            # Counted before anything is encoded: a batch may read one large value many times over.
            left -= _bytes_of(result)
            if left < 0:
                raise LimitExceeded("the results do not fit into one reply: ask in several mails")
            results.append(result)
        return encode_results(results)

    def _carry_out(self, position: int, operation: Operation, left: int) -> Result:
        entries = self.map
        match operation:
            case Get(key):
                return entries.get(key)
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
            case Scan():
                return self._scan(operation, left)
            case Size():
                return Usage(len(entries), entries.size, entries.max_size)

    def _scan(self, scan: Scan, left: int) -> Page:
        budget = min(scan.budget, left - MAX_KEY_BYTES)
        found: list[tuple[str, bytes]] = []
        used = 0
        # One more than asked for: its key is where the next page begins.
        for key, value in self.map.range(scan.start, scan.stop, limit=scan.limit + 1):
            used += _entry_bytes(key, value)
            if found and (len(found) == scan.limit or used > budget):
                return Page(found, key)
            found.append((key, value))
        return Page(found, None)


def _bytes_of(result: Result) -> int:
    if isinstance(result, Page):
        return sum(_entry_bytes(key, value) for key, value in result.entries) + MAX_KEY_BYTES
    return len(result) if isinstance(result, bytes) else 0


def _entry_bytes(key: str, value: bytes) -> int:
    # A character has at most four bytes of UTF-8; exact counting would encode every key once more.
    return 4 * len(key) + len(value) + ENTRY_OVERHEAD_BYTES
