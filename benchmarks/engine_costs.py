"""What a mail costs a shared engine, and what a host keeps in memory for its log: counted, not timed.

``python -m benchmarks.engine_costs`` lets enclaves execute real mails, and puts what they hand out into a
:class:`host_store.stores.log_store.LogStore` on an engine in memory that counts its calls: which engine it is makes no
difference. It prints the figures of docs/stores.md (a quarter of a minute).
"""

from __future__ import annotations

import gc
import statistics
import threading
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from benchmarks.distributed import record
from benchmarks.scale import CLIENTS
from host_store.arguments import Commit
from host_store.store import ADDRESS_BYTES, LEAF_BYTES, OutboxItem
from host_store.stores.entry import decode_entry, encode_commit
from host_store.stores.log_store import LogStore
from host_store.stores.objects import NO_PARTS
from host_store.stores.state import LogState
from wire.boundary import Delivery

COMMITS: Final = 600
STATE_ITEMS: Final = 20_000
"""Records, or replies, that a state is weighed with."""
_HOST: Final = "db1.internal (process 12345)"
_RECORD_BYTES: Final = 4080
_REPLY_BYTES: Final = 322


class CountingEngine:
    """An engine in memory. ``calls``: those of the thread that made it, which a reply waits for."""

    part_bytes = 1 << 30
    where = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.calls = 0
        self._thread = threading.current_thread()

    def _count(self) -> None:
        if threading.current_thread() is self._thread:
            self.calls += 1

    def create(self, name: str, value: bytes, seconds: float) -> bool:
        """See :class:`host_store.stores.engine.Engine`; the others as well."""
        self._count()
        return self.objects.setdefault(name, value) is value

    def put(self, name: str, value: bytes, seconds: float) -> None:
        self._count()
        self.objects[name] = value

    def get(self, name: str, seconds: float) -> bytes | None:
        self._count()
        return self.objects.get(name)

    def get_all(self, names: Sequence[str], seconds: float) -> list[bytes | None]:
        return [self.get(name, seconds) for name in names]

    def names(self, prefix: str, after: str, limit: int, seconds: float) -> list[str]:
        self._count()
        return sorted(name for name in list(self.objects) if name.startswith(prefix) and name > after)[:limit]

    def delete(self, names: Sequence[str], seconds: float) -> None:
        self._count()
        for name in names:
            self.objects.pop(name, None)

    def close(self) -> None:
        pass


class MailCosts(NamedTuple):
    """Of one commit, medians; bytes but for the first two."""

    mails: int
    trips: float
    entry: float
    record: float
    reply: float
    place: float


def mail_costs(mails: int, commits: int = COMMITS) -> MailCosts:
    """So many commits of so many mails each."""
    recorded = record(commits, mails)
    engine = CountingEngine()
    with LogStore.open(engine, _HOST) as store:
        genesis = recorded.genesis.commit
        assert genesis is not None
        store.create(recorded.keyring, genesis.record, genesis.leaf)
        for delivery in recorded.before:
            _append(store, _commit(delivery))
        trips, made = [], [_commit(delivery) for delivery in recorded.mails]
        for commit in made:
            before = engine.calls
            _append(store, commit)
            trips.append(engine.calls - before)
    median = statistics.median
    return MailCosts(
        mails,
        median(trips),
        median(_entry_bytes(commit) for commit in made),
        median(len(commit.record) for commit in made),
        median(len(item.message) for commit in made for item in commit.outbox),
        median(_place_bytes(commit) for commit in made),
    )


def _commit(delivery: Delivery) -> Commit:
    commit, number = delivery.commit, delivery.number
    assert commit is not None
    outbox = [OutboxItem(number, slot, address, message) for slot, address, message in delivery.outbox]
    return Commit.checked(commit.n, commit.record, commit.leaf, commit.tail, outbox, delivery.drops)


def _append(store: LogStore, commit: Commit) -> None:
    store.append(commit.n, commit.record, commit.leaf, trim=commit.trim, outbox=commit.outbox, drops=commit.drops)


def _entry_bytes(commit: Commit) -> int:
    return len(encode_commit(_HOST, commit)[1])


def _place_bytes(commit: Commit) -> float:
    """Of one reply, beside its own bytes: where it is, and what it takes the place of."""
    replies = sum(len(item.message) for item in commit.outbox)
    without = _entry_bytes(replace(commit, outbox=(), drops=()))
    return (_entry_bytes(commit) - without - replies) / max(1, len(commit.outbox))


class Held(NamedTuple):
    """Bytes for one more: in the host's memory, and in the index."""

    memory: float
    index: float


def held_by_records() -> Held:
    """For each record of the window."""
    return _held([_made(n, trim=1) for n in range(1, STATE_ITEMS + 1)])


def held_by_replies(mails: int) -> Held:
    """For each waiting reply, each of another client, with so many in a commit whose record is no longer needed."""
    commits = STATE_ITEMS // mails
    return _held([_made(n, trim=n, replies=mails) for n in range(1, commits + 1)])


def _made(n: int, trim: int, replies: int = 0) -> Commit:
    outbox = [OutboxItem(n, slot, _address(n, slot), bytes(_REPLY_BYTES)) for slot in range(replies)]
    return Commit.checked(n, bytes(_RECORD_BYTES), bytes(LEAF_BYTES), trim, outbox, ())


def _address(n: int, slot: int) -> bytes:
    return (n << 32 | slot).to_bytes(ADDRESS_BYTES, "big")


def _held(commits: list[Commit]) -> Held:
    """By a state that is made of these commits' bytes, as a host's is."""
    state, items = LogState(), max(len(commits), sum(len(commit.outbox) for commit in commits))
    tracemalloc.start()
    for commit in commits:
        state.apply(decode_entry(encode_commit(_HOST, commit)[1], "here"), NO_PARTS)
        state.dead.clear()  # as a collector does
        state.tiles.due.clear()
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return Held(memory / items, len(state.encode()) / items)


def lines() -> Iterator[str]:
    """What is printed."""
    one, many = mail_costs(1), mail_costs(CLIENTS)
    yield f"| | one client | {CLIENTS} clients, one batch |"
    yield "|---|---:|---:|"
    yield _row("mails in a commit", one.mails, many.mails)
    yield _row("round trips that a reply waits for", one.trips, many.trips)
    yield _row("bytes of the entry", one.entry, many.entry)
    yield _row("of it: the record", one.record, many.record)
    yield _row("of it: each reply", one.reply, many.reply)
    yield _row("of it: the place of each", one.place, many.place)
    yield ""
    for name, held in (
        ("record of the window", held_by_records()),
        ("waiting reply, alone in its commit", held_by_replies(1)),
        (f"waiting reply, {CLIENTS} in a commit", held_by_replies(CLIENTS)),
    ):
        yield f"for each {name}: {held.memory:.0f} bytes of memory, {held.index:.0f} of the index"


def _row(name: str, *values: float) -> str:
    return f"| {name} | {' | '.join(f'{value:,.0f}' for value in values)} |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
