"""The tables of a store in LMDB: their keys, and what one transaction reads and writes in them.

Every integer in a key is big-endian, so that LMDB's byte order is numeric order:

======== ============================== ===================== ==========================================
table    key                            value                 order of writing
======== ============================== ===================== ==========================================
meta     ``layout``, ``keyring``        as named              at creation; on rotation
meta     ``journal``                    the journal's id      while commits may stand in it alone
records  n (8)                          record                at the end; deleted from the start
leaves   row (8)                        127 leaf hashes       at the end; never deleted
nodes    level (1) ‖ index (8)          Merkle node (32)      one per 256 commits; never deleted
outbox   address (16) ‖ n (8) ‖ i (4)   message               anywhere
places   n (8) ‖ i (4)                  address (16)          at the end; deleted anywhere
======== ============================== ===================== ==========================================

Commits arrive in groups (:mod:`host_store.lmdb.commits`), so it matters little how many pages one transaction writes,
and much how full they are. Leaves and nodes are in :mod:`host_store.lmdb.history`.

Transactions here have ``buffers=True``: values are views into the map and are copied before they leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Final

from host_store.lmdb.history import LEAVES_PER_ROW, row_key
from host_store.pending import Pending
from host_store.store import ADDRESS_BYTES, LEAF_BYTES, Head, OutboxItem
from wire.errors import CorruptedStore
from wire.limits import OUTBOX_READ_BYTES

if TYPE_CHECKING:
    from host_store.lmdb.environment import Table, Transaction

TABLES: Final = ("meta", "records", "leaves", "nodes", "outbox", "places")
META, RECORDS, LEAVES, NODES, OUTBOX, PLACES = range(len(TABLES))
LAYOUT: Final = b"pmap-store/2"
KEYRING_KEY: Final = b"keyring"
JOURNAL_KEY: Final = b"journal"

record_key = Struct(">Q").pack
place_key = Struct(">QI").pack
_place: Final = Struct(">QI")


# --- records ---


def read_head(transaction: Transaction, tables: Sequence[Table]) -> Head:
    """The window as it is stored. Raises :class:`CorruptedStore`: the newest row of leaf hashes is no row."""
    with transaction.cursor(tables[LEAVES]) as cursor:
        if not cursor.last():
            return Head(0, 1)
        row, leaves = int.from_bytes(cursor.key(), "big"), len(cursor.value()) // LEAF_BYTES
    newest = row * LEAVES_PER_ROW + leaves
    kept = transaction.stat(tables[RECORDS])["entries"]
    return Head(newest, newest - kept + 1)


def check_window(transaction: Transaction, tables: Sequence[Table]) -> None:
    """Leaf hashes and records are without gaps and end at one number. Raises :class:`CorruptedStore`.

    Keys are unique and in order: if a table begins and ends where the number of its rows says, it has no gap.
    """
    head = read_head(transaction, tables)
    rows = -(-head.n // LEAVES_PER_ROW)
    if _ends(transaction, tables[LEAVES]) != _expected(row_key, 0, rows - 1) or (
        _ends(transaction, tables[RECORDS]) != _expected(record_key, head.first, head.n)
        or transaction.stat(tables[LEAVES])["entries"] != rows
        or (head.n > 0 and not 1 <= head.first <= head.n)
    ):
        raise CorruptedStore(f"the store up to record {head.n} has gaps: restore it from a copy")


def _ends(transaction: Transaction, table: Table) -> tuple[bytes, bytes] | None:
    with transaction.cursor(table) as cursor:
        if not cursor.first():
            return None
        first = bytes(cursor.key())
        cursor.last()
        return first, bytes(cursor.key())


def _expected(key: Callable[[int], bytes], first: int, last: int) -> tuple[bytes, bytes] | None:
    return (key(first), key(last)) if 0 <= first <= last else None


def holds_record(transaction: Transaction, tables: Sequence[Table], n: int, record: bytes) -> bool:
    """Whether exactly this record is stored as number n."""
    stored = transaction.get(record_key(n), db=tables[RECORDS])
    # Bytes, because comparing a view is slow.
    return stored is not None and len(stored) == len(record) and bytes(stored) == record


def replace_records(transaction: Transaction, tables: Sequence[Table], group: Pending) -> None:
    """Delete the records that a group trims, then add those of it that it does not trim itself."""
    records = tables[RECORDS]
    for n in range(group.base.first, min(group.first, group.base.n + 1)):
        transaction.delete(record_key(n), db=records)
    for commit in group.commits:
        if commit.n >= group.first:
            transaction.put(record_key(commit.n), commit.record, append=True, db=records)


# --- outbox ---


def change_outbox(transaction: Transaction, tables: Sequence[Table], group: Pending) -> None:
    """Take what a group drops out of the outbox, then add what it leaves there."""
    outbox, places = tables[OUTBOX], tables[PLACES]
    for n, index in group.dropped:
        place = place_key(n, index)
        address = transaction.pop(place, db=places)
        if address is not None:
            transaction.delete(bytes(address) + place, db=outbox)
    if not group.added:
        return
    rows = [(place_key(n, index), item) for (n, index), item in group.added.items()]
    with transaction.cursor(places) as cursor:
        cursor.putmulti([(place, item.address) for place, item in rows], append=True)
    with transaction.cursor(outbox) as cursor:
        cursor.putmulti([(item.address + place, item.message) for place, item in rows])


def read_outbox(
    transaction: Transaction, tables: Sequence[Table], pending: Pending, address: bytes, limit: int
) -> list[OutboxItem]:
    """What waits at one address, oldest first, within ``limit`` and ``OUTBOX_READ_BYTES``."""
    items: list[OutboxItem] = []
    size = 0
    for item in _waiting(transaction, tables, pending, address):
        size += len(item.message)
        if len(items) >= limit or (items and size > OUTBOX_READ_BYTES):
            break
        items.append(item)
    return items


def _waiting(
    transaction: Transaction, tables: Sequence[Table], pending: Pending, address: bytes
) -> Iterator[OutboxItem]:
    with transaction.cursor(tables[OUTBOX]) as cursor:
        found = cursor.set_range(address)
        while found:
            key, message = cursor.item()
            if key[:ADDRESS_BYTES] != memoryview(address):
                break
            n, index = _place.unpack_from(key, ADDRESS_BYTES)
            if (n, index) not in pending.dropped:
                yield OutboxItem(n, index, address, bytes(message))
            found = cursor.next()
    for item in pending.added.values():
        if item.address == address:
            yield item


def read_outbox_item(
    transaction: Transaction, tables: Sequence[Table], pending: Pending, n: int, index: int
) -> OutboxItem | None:
    """One waiting item by its place; None if it is not there (any more). Raises :class:`CorruptedStore`."""
    if n > pending.base.n:
        return pending.added.get((n, index))
    place = place_key(n, index)
    view = transaction.get(place, db=tables[PLACES])
    if view is None or (n, index) in pending.dropped:
        return None
    address = bytes(view)
    message = transaction.get(address + place, db=tables[OUTBOX])
    if message is None:
        raise CorruptedStore(f"the outbox lacks item {index} of commit {n}")
    return OutboxItem(n, index, address, bytes(message))


def count_outbox(transaction: Transaction, tables: Sequence[Table], pending: Pending) -> int:
    """How many items wait."""
    places = tables[PLACES]
    gone = sum(transaction.get(place_key(*place), db=places) is not None for place in pending.dropped)
    return int(transaction.stat(places)["entries"]) - gone + len(pending.added)
