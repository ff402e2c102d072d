"""The tables of a store in LMDB: their keys, and what one transaction reads and writes in them.

Every integer in a key is big-endian, so that LMDB's byte order is numeric order:

======== ============================== ===================== ==========================================
table    key                            value                 order of writing
======== ============================== ===================== ==========================================
meta     ``layout``, ``keyring``        as named              at creation; on rotation
records  n (8) ‖ 0                      leaf hash (32)        at the end; never deleted
records  n (8) ‖ 1                      record                at the end; deleted from the start
nodes    level (1) ‖ index (8)          Merkle node (32)      one per 256 commits; never deleted
outbox   address (16) ‖ n (8) ‖ i (4)   message               anywhere
places   n (8) ‖ i (4)                  address (16)          at the end; deleted anywhere
======== ============================== ===================== ==========================================

Leaf hashes and records share a table because that saves every commit a page (12 % of its time on the disk measured);
the price is that leaf hashes, once alone, fill their pages to two thirds.

Transactions here have ``buffers=True``: values are views into the map and are copied before they leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING, Final

from host_store.store import ADDRESS_BYTES, Head, OutboxItem
from wire.errors import CorruptedStore, InvalidInput, StoreFenced
from wire.limits import OUTBOX_READ_BYTES
from wire.merkle import node_hash

if TYPE_CHECKING:
    from host_store.lmdb_environment import Table, Transaction

TABLES: Final = ("meta", "records", "nodes", "outbox", "places")
META, RECORDS, NODES, OUTBOX, PLACES = range(len(TABLES))
LAYOUT: Final = b"pmap-store/1"
KEYRING_KEY: Final = b"keyring"

_NODE_LEVELS: Final = 8  # every eighth level of the tree is stored: another node costs at most 127 hashes
_SUBTREE_LEAVES: Final = 1 << _NODE_LEVELS

_row_key: Final = Struct(">QB").pack
_node_key: Final = Struct(">BQ").pack
_place: Final = Struct(">QI")


# --- records ---


def leaf_key(n: int) -> bytes:
    """Where the leaf hash of record n is."""
    return _row_key(n, 0)


def record_key(n: int) -> bytes:
    """Where record n is."""
    return _row_key(n, 1)


def read_head(transaction: Transaction, tables: Sequence[Table]) -> Head:
    """The window as it is stored."""
    records = tables[RECORDS]
    with transaction.cursor(records) as cursor:
        newest = int.from_bytes(cursor.key()[:8], "big") if cursor.last() else 0
    kept = transaction.stat(records)["entries"] - newest  # one leaf hash for each number, and the records
    return Head(newest, newest - kept + 1)


def check_window(transaction: Transaction, tables: Sequence[Table]) -> None:
    """Leaf hashes and records are without gaps and end at one number. Raises :class:`CorruptedStore`.

    The first kept record follows from the newest number and the number of rows; a row too few or too many shifts it
    away from where the records do begin.
    """
    records = tables[RECORDS]
    head = read_head(transaction, tables)
    if head == Head(0, 1):
        return
    with transaction.cursor(records) as cursor:
        begins = cursor.first() and bytes(cursor.key()) == leaf_key(1)
    if (
        not begins
        or not 1 <= head.first <= head.n
        or transaction.get(record_key(head.n), db=records) is None
        or transaction.get(record_key(head.first), db=records) is None
        or transaction.get(record_key(head.first - 1), db=records) is not None
    ):
        raise CorruptedStore(f"the store up to record {head.n} has gaps: restore it from a copy")


def claim_number(transaction: Transaction, tables: Sequence[Table], n: int, record: bytes, leaf: bytes) -> bool:
    """Write the leaf of record n; False if exactly this record is the head already. Raises :class:`StoreFenced`."""
    records = tables[RECORDS]
    # Written only if n is above every other number; with n-1 there too, it is exactly the next.
    if transaction.put(leaf_key(n), leaf, overwrite=False, append=True, db=records):
        if n > 1 and transaction.get(leaf_key(n - 1), db=records) is None:
            raise StoreFenced(f"record {n} does not follow the stored ones: record {n - 1} is missing")
        return True
    newest = read_head(transaction, tables).n
    if n == newest and holds_record(transaction, tables, n, record, leaf):
        return False
    raise StoreFenced(f"record {n} exists already, the newest is {newest}: is another writer at work?")


def put_record(transaction: Transaction, tables: Sequence[Table], n: int, record: bytes) -> None:
    """Write a record whose number was claimed."""
    transaction.put(record_key(n), record, append=True, db=tables[RECORDS])


def holds_record(transaction: Transaction, tables: Sequence[Table], n: int, record: bytes, leaf: bytes) -> bool:
    """Whether exactly this record is stored as number n."""
    stored = transaction.get(record_key(n), db=tables[RECORDS])
    if stored is None or len(stored) != len(record) or bytes(stored) != record:  # comparing a view is slow
        return False
    return transaction.get(leaf_key(n), db=tables[RECORDS]) == memoryview(leaf)


def delete_records_below(transaction: Transaction, tables: Sequence[Table], n: int) -> None:
    """Delete every record with a smaller number than n: downwards, to the first that is gone already."""
    n -= 1
    while n > 0 and transaction.delete(record_key(n), db=tables[RECORDS]):
        n -= 1


# --- outbox ---


class OutboxChange:
    """The rows that one append adds to the outbox and takes from it, made before its transaction begins."""

    __slots__ = ("_dropped", "_messages", "_places")

    def __init__(self, n: int, items: Sequence[OutboxItem], drops: Sequence[tuple[int, int]]) -> None:
        """Raises :class:`InvalidInput`: an item of another commit than n, a length or number out of range."""
        messages: list[tuple[bytes, bytes]] = []
        places: list[tuple[bytes, bytes]] = []
        for item in items:
            address = item.address
            if item.n != n or len(address) != ADDRESS_BYTES:
                raise InvalidInput(f"append {n} with an item of commit {item.n} for {len(address)} bytes of address")
            place = place_key(n, item.index)
            messages.append((address + place, item.message))
            places.append((place, address))
        places.sort()
        self._messages = messages
        self._places = places
        self._dropped = [place_key(m, index) for m, index in drops]

    def apply(self, transaction: Transaction, tables: Sequence[Table]) -> None:
        """Drop, then add. Raises :class:`InvalidInput`: two items at one place."""
        outbox, places = tables[OUTBOX], tables[PLACES]
        for place in self._dropped:
            address = transaction.pop(place, db=places)
            if address is not None:
                transaction.delete(bytes(address) + place, db=outbox)
        if not self._messages:
            return
        with transaction.cursor(places) as cursor:
            _consumed, added = cursor.putmulti(self._places, overwrite=False, append=True)
        if added != len(self._places):
            raise InvalidInput("two items of one commit have the same index")
        with transaction.cursor(outbox) as cursor:
            cursor.putmulti(self._messages)


def place_key(n: int, index: int) -> bytes:
    """The key of an item in the table of places. Raises :class:`InvalidInput`."""
    try:
        return _place.pack(n, index)
    except StructError as error:
        raise InvalidInput(f"item {index} of commit {n} is outside 0..2**32-1 of 0..2**64-1") from error


def read_outbox(transaction: Transaction, tables: Sequence[Table], address: bytes, limit: int) -> list[OutboxItem]:
    """What waits at one address, oldest first, within ``limit`` and ``OUTBOX_READ_BYTES``."""
    items: list[OutboxItem] = []
    size = 0
    with transaction.cursor(tables[OUTBOX]) as cursor:
        found = cursor.set_range(address)
        while found and len(items) < limit:
            key, message = cursor.item()
            size += len(message)
            if key[:ADDRESS_BYTES] != memoryview(address) or (items and size > OUTBOX_READ_BYTES):
                break
            n, index = _place.unpack_from(key, ADDRESS_BYTES)
            items.append(OutboxItem(n, index, address, bytes(message)))
            found = cursor.next()
    return items


# --- history ---


def read_node(transaction: Transaction, tables: Sequence[Table], level: int, index: int) -> bytes:
    """Root of a complete subtree: at most 128 reads and 127 hashes. Raises :class:`CorruptedStore`."""
    stored_level = level - level % _NODE_LEVELS
    count = 1 << (level - stored_level)
    return _fold(_stored_nodes(transaction, tables, stored_level, index * count, count))


def store_completed_nodes(transaction: Transaction, tables: Sequence[Table], leaves: int) -> None:
    """Store the roots (levels 8, 16, ...) of the subtrees that the newest leaf, number ``leaves``, completes."""
    level = _NODE_LEVELS
    while leaves % (1 << level) == 0:
        index = (leaves >> level) - 1
        children = _stored_nodes(transaction, tables, level - _NODE_LEVELS, index * _SUBTREE_LEAVES, _SUBTREE_LEAVES)
        transaction.put(_node_key(level, index), _fold(children), db=tables[NODES])
        level += _NODE_LEVELS


def _stored_nodes(transaction: Transaction, tables: Sequence[Table], level: int, start: int, count: int) -> list[bytes]:
    """``count`` adjacent nodes of a level that is stored (0, 8, 16, ...). Raises :class:`CorruptedStore`."""
    if level == 0:
        table, keys = tables[RECORDS], [leaf_key(index + 1) for index in range(start, start + count)]
    else:
        table, keys = tables[NODES], [_node_key(level, index) for index in range(start, start + count)]
    with transaction.cursor(table) as cursor:
        nodes = [bytes(node) for _key, node in cursor.getmulti(keys)]
    if len(nodes) != count:
        raise CorruptedStore(f"the history lacks nodes of level {level} between {start} and {start + count}")
    return nodes


def _fold(nodes: list[bytes]) -> bytes:
    """Root over adjacent nodes, as many as a power of two."""
    while len(nodes) > 1:
        nodes = [node_hash(nodes[at], nodes[at + 1]) for at in range(0, len(nodes), 2)]
    return nodes[0]
