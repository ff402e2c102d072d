"""What every store owes its host, whatever engine it rests on.

To put another store under this contract, add its opener to ``STORES``: a function from a folder (made for one test, not
there yet) to an open store. It is called again with the same folder after a close. The stores on shared engines run on
real ones (``benchmarks/engine_servers.py``), and on one in memory.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from memory_engine import MemoryEngine
from shared_engines import engine

from benchmarks.engine_servers import KINDS
from host_store.lmdb.journal import PAGE_BYTES
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.store import Head, OutboxItem, Store
from host_store.stores import url
from host_store.stores.log_store import LogStore
from wire.errors import (
    CorruptedStore,
    InvalidInput,
    LimitExceeded,
    StoreError,
    StoreExists,
    StoreFenced,
    StoreMissing,
)
from wire.limits import MAX_KEYRING_BYTES, MIB, OUTBOX_READ_BYTES


def in_memory(folder: Path) -> Store:
    return LogStore.open(MemoryEngine.of(str(folder)), "here")


def on_engine(kind: str) -> Callable[[Path], Store]:
    # Names must differ, not be safe: a folder is made for one test.
    return lambda folder: url.open_store(engine(kind).url(folder.parent.name))


STORES: dict[str, Callable[[Path], Store]] = {
    "lmdb": LmdbStore.open,
    "lmdb, two commits in the journal": partial(LmdbStore.open, journal_bytes=3 * PAGE_BYTES),
    "memory": in_memory,
    **{kind: on_engine(kind) for kind in KINDS},
}
EXAMPLES = {"lmdb": 25, "lmdb, two commits in the journal": 25, "memory": 25}
"""How many of the machine's runs are made on each store; 3 on every other."""

# Nothing here cuts the power, so the stores may live in memory, where a thousand commits are quick.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

ALICE, BOB = b"alice".ljust(16, b"\0"), b"bob".ljust(16, b"\0")
LOWEST, HIGHEST = bytes(16), b"\xff" * 16


def record(n: int) -> bytes:
    return hashlib.sha512(b"record %d" % n).digest() * (1 + n % 3)


def leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\0" + content).digest()


def append(store: Store, n: int, *, trim: int = 0, content: bytes | None = None, **more: Any) -> None:
    content = record(n) if content is None else content
    store.append(n, content, leaf(content), trim=trim, **more)


def mail(n: int, index: int, address: bytes = ALICE) -> OutboxItem:
    return OutboxItem(n, index, address, b"mail %d of commit %d" % (index, n))


def state(store: Store) -> object:
    """Everything that can be read from a store."""
    head = store.head()
    return (
        store.keyring(),
        head,
        list(store.read(head.first, head.n + 1)),
        [store.node(0, index) for index in range(head.n)],
        [store.outbox(address) for address in (LOWEST, ALICE, BOB, HIGHEST)],
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name, "store")


@pytest.fixture(params=sorted(STORES))
def open_store(request: pytest.FixtureRequest, folder: Path) -> Iterator[Callable[[], Store]]:
    opened: list[Store] = []

    def open_it() -> Store:
        opened.append(STORES[request.param](folder))
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


# --- keyring ---


def test_a_new_store_is_empty(store: Store) -> None:
    assert store.keyring() is None
    assert store.head() == Head(n=0, first=1)
    assert list(store.read(1, 1)) == []
    assert store.outbox(ALICE) == []


def create(store: Store, keyring: bytes = b"sealed") -> None:
    store.create(keyring, record(1), leaf(record(1)))


def test_a_store_is_created_once_with_its_first_record(store: Store) -> None:
    create(store)
    for keyring in (b"sealed", b"another"):
        with pytest.raises(StoreExists):
            create(store, keyring)
    assert store.keyring() == b"sealed"
    assert store.head() == Head(n=1, first=1)
    assert list(store.read(1, 2)) == [record(1)]
    assert store.node(0, 0) == leaf(record(1))
    append(store, 1)
    append(store, 2)


def test_a_store_with_records_is_not_created_again(store: Store) -> None:
    append(store, 1)
    with pytest.raises(StoreExists):
        create(store)
    assert store.keyring() is None


def test_a_keyring_is_replaced_only_where_there_is_one(store: Store) -> None:
    with pytest.raises(StoreMissing):
        store.replace_keyring(b"new")
    assert store.keyring() is None
    create(store)
    store.replace_keyring(b"new, and longer")
    assert store.keyring() == b"new, and longer"


def test_a_creation_that_makes_no_sense_leaves_the_store_empty(store: Store) -> None:
    with pytest.raises(LimitExceeded):
        create(store, bytes(MAX_KEYRING_BYTES + 1))
    with pytest.raises(InvalidInput):
        store.create(b"sealed", record(1), b"short")
    assert store.keyring() is None
    assert store.head() == Head(n=0, first=1)
    create(store, bytes(MAX_KEYRING_BYTES))
    with pytest.raises(LimitExceeded):
        store.replace_keyring(bytes(MAX_KEYRING_BYTES + 1))
    assert store.keyring() == bytes(MAX_KEYRING_BYTES)


# --- records ---


def test_records_come_back_in_order(store: Store) -> None:
    for n in range(1, 13):
        append(store, n)
        assert store.head() == Head(n=n, first=1)
    assert list(store.read(1, 13)) == [record(n) for n in range(1, 13)]
    assert list(store.read(9, 11)) == [record(9), record(10)]


@pytest.mark.parametrize("n", [1, 2, 4, 6, 1000])
def test_only_the_next_number_can_be_appended_and_a_refused_append_changes_nothing(store: Store, n: int) -> None:
    for earlier in range(1, 5):
        append(store, earlier, outbox=[mail(earlier, 0)])
    before = state(store)
    with pytest.raises(StoreFenced):
        append(store, n, trim=min(n, 3), content=b"by another writer", outbox=[mail(n, 7)], drops=[(1, 0)])
    assert state(store) == before
    append(store, 5)


def test_the_first_record_is_number_one(store: Store) -> None:
    with pytest.raises(StoreFenced):
        append(store, 2)
    assert store.head() == Head(n=0, first=1)
    with pytest.raises(InvalidInput):
        append(store, 0)
    append(store, 1)


def test_repeating_the_newest_append_succeeds_and_changes_nothing(store: Store) -> None:
    append(store, 1, outbox=[mail(1, 0)])
    append(store, 2, trim=2, outbox=[mail(2, 0), mail(2, 1, BOB)], drops=[(1, 0)])
    before = state(store)
    append(store, 2, trim=2, outbox=[mail(2, 0), mail(2, 1, BOB)], drops=[(1, 0)])
    assert state(store) == before
    append(store, 3)


def test_an_older_record_is_fenced_also_with_its_own_bytes(store: Store) -> None:
    append(store, 1)
    append(store, 2)
    with pytest.raises(StoreFenced):
        append(store, 1)


def test_a_repeated_append_with_another_leaf_is_fenced(store: Store) -> None:
    append(store, 1)
    with pytest.raises(StoreFenced):
        store.append(1, record(1), leaf(b"something else"), trim=0)
    assert store.node(0, 0) == leaf(record(1))


@pytest.mark.parametrize(
    "arguments",
    [
        {"n": -1},
        {"n": 1 << 64},
        {"trim": -1},
        {"trim": 4},
        {"leaf": b""},
        {"leaf": bytes(33)},
        {"outbox": [mail(2, 0)]},
        {"outbox": [mail(3, 1), mail(3, 0), mail(3, 1, BOB)]},
        {"outbox": [mail(3, -1)]},
        {"outbox": [mail(3, 1 << 32)]},
        {"outbox": [mail(3, 0, b"short")]},
        {"outbox": [mail(3, 0, bytes(17))]},
        {"drops": [(1, -1)]},
        {"drops": [(1, 1 << 32)]},
    ],
    ids=str,
)
def test_an_append_that_makes_no_sense_changes_nothing(store: Store, arguments: dict[str, Any]) -> None:
    append(store, 1, outbox=[mail(1, 0)])
    append(store, 2)
    before = state(store)
    sensible: dict[str, Any] = {
        "n": 3, "record": record(3), "leaf": leaf(record(3)), "trim": 2, "outbox": [mail(3, 0)], "drops": [(1, 0)],
    }  # fmt: skip
    with pytest.raises(InvalidInput):
        store.append(**(sensible | arguments))
    assert state(store) == before
    store.append(**sensible)
    assert store.head() == Head(n=3, first=2)


def test_trimming_deletes_older_records_only(store: Store) -> None:
    for n in range(1, 6):
        append(store, n)
    append(store, 6, trim=4)
    assert store.head() == Head(n=6, first=4)
    assert list(store.read(4, 7)) == [record(4), record(5), record(6)]
    append(store, 7, trim=2)  # what is gone stays gone, and nothing else goes
    assert store.head() == Head(n=7, first=4)
    append(store, 8, trim=8)
    assert store.head() == Head(n=8, first=8)
    assert [store.node(0, n - 1) for n in range(1, 9)] == [leaf(record(n)) for n in range(1, 9)]


def test_a_missing_record_is_never_skipped(store: Store) -> None:
    for n in range(1, 6):
        append(store, n, trim=max(0, n - 2))
    for start, stop in ((2, 4), (3, 7), (1, 2), (6, 7)):
        with pytest.raises(CorruptedStore):
            list(store.read(start, stop))


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (2, 1), (-1, 1), (1, 1 << 64)])
def test_a_range_that_makes_no_sense_is_refused_at_the_call(store: Store, start: int, stop: int) -> None:
    append(store, 1)
    with pytest.raises(InvalidInput):
        store.read(start, stop)


def test_reading_goes_on_over_an_append(store: Store) -> None:
    large = [bytes([n]) * (3 * MIB) for n in range(1, 5)]
    for n, content in enumerate(large, 1):
        append(store, n, content=content)
    records = store.read(1, 5)
    assert next(records) == large[0]
    append(store, 5)
    assert list(records) == large[1:]


def test_a_record_of_32_mib_is_kept(open_store: Callable[[], Store]) -> None:
    store = open_store()
    large = bytes(range(256)) * (32 * MIB // 256)
    append(store, 1, content=large)
    append(store, 2, content=b"")
    append(store, 2, content=b"")
    store.close()
    assert list(open_store().read(1, 3)) == [large, b""]


# --- outbox ---


def test_mail_waits_in_order_of_commit_and_place(store: Store) -> None:
    append(store, 1, outbox=[mail(1, 300), mail(1, 2), mail(1, 0, BOB), mail(1, 1)])
    append(store, 2, outbox=[mail(2, 0), mail(2, 2**32 - 1)])
    for n in range(3, 300):
        append(store, n, outbox=[mail(n, 0)] if n in (256, 299) else [])
    expected = [mail(1, 1), mail(1, 2), mail(1, 300), mail(2, 0), mail(2, 2**32 - 1), mail(256, 0), mail(299, 0)]
    assert store.outbox(ALICE) == expected
    assert store.outbox(ALICE, limit=3) == expected[:3]
    assert store.outbox(ALICE, limit=0) == []
    assert store.outbox(BOB) == [mail(1, 0, BOB)]


def test_mail_of_neighbouring_addresses_stays_apart(store: Store) -> None:
    addresses = [LOWEST, bytes(15) + b"\1", HIGHEST[:15] + b"\xfe", HIGHEST]
    append(store, 1, outbox=[mail(1, index, address) for index, address in enumerate(addresses)])
    for index, address in enumerate(addresses):
        assert store.outbox(address) == [mail(1, index, address)]
    assert store.outbox(ALICE) == []
    with pytest.raises(InvalidInput):
        store.outbox(b"")


def test_dropped_mail_is_gone_and_unknown_drops_are_ignored(store: Store) -> None:
    append(store, 1, outbox=[mail(1, 0), mail(1, 1), mail(1, 2, BOB)])
    append(store, 2, outbox=[mail(2, 0)], drops=[(1, 0), (1, 2), (1, 77), (99, 0)])
    assert store.outbox(ALICE) == [mail(1, 1), mail(2, 0)]
    assert store.outbox(BOB) == []
    append(store, 3, drops=[(1, 0), (1, 1), (1, 1), (2, 0)])
    assert store.outbox(ALICE) == []


def test_a_drop_does_not_touch_what_the_same_append_adds(store: Store) -> None:
    append(store, 1, outbox=[mail(1, 0)])
    append(store, 2, outbox=[mail(2, 0)], drops=[(1, 0), (2, 0)])
    assert store.outbox(ALICE) == [mail(2, 0)]


def test_one_item_is_found_by_its_place(store: Store) -> None:
    append(store, 1, outbox=[mail(1, 0), mail(1, 9, BOB)])
    assert store.outbox_item(1, 9) == mail(1, 9, BOB)
    assert store.outbox_item(1, 1) is None
    assert store.outbox_item(2, 0) is None
    append(store, 2, drops=[(1, 9)])
    assert store.outbox_item(1, 9) is None
    with pytest.raises(InvalidInput):
        store.outbox_item(1, -1)


def test_trimming_leaves_mail_alone(store: Store) -> None:
    append(store, 1, outbox=[mail(1, 0)])
    append(store, 2, trim=2)
    assert store.outbox(ALICE) == [mail(1, 0)]


def test_a_read_of_the_outbox_is_bounded_in_bytes_but_never_empty(store: Store) -> None:
    large = [OutboxItem(1, 0, ALICE, bytes(OUTBOX_READ_BYTES + 1)), OutboxItem(1, 1, ALICE, b"small")]
    append(store, 1, outbox=large)
    assert store.outbox(ALICE) == large[:1]
    append(store, 2, drops=[(1, 0)])
    assert store.outbox(ALICE) == large[1:]


# --- history ---


def test_every_node_of_every_tree_up_to_1000_leaves_is_the_rfc_9162_subtree_root(store: Store) -> None:
    levels: list[list[bytes]] = [[]]
    for n in range(1, 1001):
        content = b"%d" % n
        store.append(n, content, leaf(content), trim=n)
        levels[0].append(leaf(content))
        level = 0
        while n % (1 << (level + 1)) == 0:  # the newest leaf completes a subtree one level up
            level += 1
            if level == len(levels):
                levels.append([])
            left, right = levels[level - 1][-2:]
            levels[level].append(hashlib.sha256(b"\1" + left + right).digest())
            assert store.node(level, len(levels[level]) - 1) == levels[level][-1]
    assert len(levels) == 10
    for level, nodes in enumerate(levels):
        assert [store.node(level, index) for index in range(len(nodes))] == nodes


def test_a_subtree_is_served_only_when_it_is_complete(store: Store) -> None:
    with pytest.raises(InvalidInput):
        store.node(0, 0)
    for n in range(1, 4):
        append(store, n)
    for level, index in ((0, 3), (1, 1), (2, 0), (8, 0), (-1, 0), (0, -1), (64, 0), (10_000_000, 0)):
        with pytest.raises(InvalidInput):
            store.node(level, index)
    append(store, 4)
    assert len(store.node(2, 0)) == 32


# --- life ---


def test_everything_is_there_after_reopening(open_store: Callable[[], Store]) -> None:
    store = open_store()
    create(store)
    for n in range(2, 20):
        append(store, n, trim=max(0, n - 5), outbox=[mail(n, 0), mail(n, 1, BOB)], drops=[(n - 3, 0)] if n > 3 else [])
    before = state(store)
    store.close()
    store = open_store()
    assert state(store) == before
    append(store, 19)  # the retry of one whose outcome the last process did not learn
    append(store, 20)


def test_a_closed_store_refuses_everything_but_closing(store: Store) -> None:
    append(store, 1, outbox=[mail(1, 0)])
    reading = store.read(1, 2)
    store.close()
    store.close()
    uses: list[Callable[[], object]] = [
        store.keyring, store.head, lambda: create(store), lambda: store.replace_keyring(b""),
        lambda: append(store, 2), lambda: next(reading), lambda: store.node(0, 0), lambda: store.outbox(ALICE),
        lambda: store.outbox_item(1, 0),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(StoreError):
            use()


def test_threads_read_whole_commits_while_one_appends(store: Store) -> None:
    done = threading.Event()
    seen: list[list[int]] = [[], []]
    wrong: list[object] = []

    def watch(mine: list[int]) -> None:
        while not done.is_set():
            head = store.head()
            if head.n:
                waiting = store.outbox(ALICE)
                if len(waiting) != 1 or waiting[0].n < head.n or store.node(0, head.n - 1) != leaf(record(head.n)):
                    wrong.append((head, waiting))
                mine.append(head.n)

    watchers = [threading.Thread(target=watch, args=(mine,)) for mine in seen]
    for watcher in watchers:
        watcher.start()
    n = 0
    while n < 100 or (min(map(len, seen)) < 50 and all(watcher.is_alive() for watcher in watchers)):
        n += 1
        append(store, n, trim=n, outbox=[mail(n, 0)], drops=[(n - 1, 0)] if n > 1 else [])
    done.set()
    for watcher in watchers:
        watcher.join()
    assert wrong == []
    assert all(len(mine) >= 50 and mine == sorted(mine) for mine in seen)


class StoreAgainstModel(RuleBasedStateMachine):
    """Any order of calls: the store says what a few Python containers say."""

    open_store: Callable[[Path], Store]

    @initialize()
    def begin(self) -> None:
        self.scratch = tempfile.TemporaryDirectory(dir=MEMORY)
        self.folder = Path(self.scratch.name, "store")
        self.store = type(self).open_store(self.folder)
        self.records: dict[int, bytes] = {}
        self.n = 0
        self.waiting: dict[tuple[int, int], OutboxItem] = {}

    @rule(
        content=st.binary(max_size=6000),
        back=st.integers(0, 6),
        mails=st.lists(st.tuples(st.integers(0, 9), st.sampled_from([ALICE, BOB])), unique_by=lambda mail: mail[0]),
        drop=st.data(),
    )
    def append(self, content: bytes, back: int, mails: list[tuple[int, bytes]], drop: st.DataObject) -> None:
        n = self.n + 1
        trim = max(0, n - back)
        outbox = [mail(n, index, address) for index, address in mails]
        known = st.sampled_from(sorted(self.waiting)) if self.waiting else st.nothing()
        drops = drop.draw(st.lists(known | st.tuples(st.integers(0, self.n), st.integers(0, 9)), max_size=5))
        self.store.append(n, content, leaf(content), trim=trim, outbox=outbox, drops=drops)
        self.n = n
        self.records = {at: kept for at, kept in self.records.items() if at >= trim} | {n: content}
        for place in drops:
            self.waiting.pop(place, None)
        self.waiting |= {(item.n, item.index): item for item in outbox}
        self.last = (n, content, leaf(content), trim)

    @precondition(lambda self: self.n > 0)
    @rule()
    def repeat(self) -> None:
        n, content, digest, trim = self.last
        self.store.append(n, content, digest, trim=trim)

    @precondition(lambda self: self.n > 0)
    @rule(offset=st.sampled_from([-2, -1, 0, 2, 3]))
    def append_out_of_turn(self, offset: int) -> None:
        n = max(1, self.n + offset)
        with pytest.raises(StoreFenced):
            self.store.append(n, b"x" * 7000, bytes(32), trim=n, outbox=[mail(n, 99)], drops=list(self.waiting))

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = type(self).open_store(self.folder)

    @invariant()
    def agrees(self) -> None:
        head = self.store.head()
        assert head == Head(self.n, min(self.records, default=self.n + 1))
        assert list(self.store.read(head.first, head.n + 1)) == [self.records[n] for n in sorted(self.records)]
        for address in (ALICE, BOB):
            expected = [item for _place, item in sorted(self.waiting.items()) if item.address == address]
            assert self.store.outbox(address, limit=1000) == expected

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.scratch.cleanup()


@pytest.mark.parametrize("name", sorted(STORES))
def test_any_order_of_calls_agrees_with_a_model(name: str) -> None:
    class Machine(StoreAgainstModel):
        open_store = staticmethod(STORES[name])

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=EXAMPLES.get(name, 3), stateful_step_count=25, deadline=None)
    )
