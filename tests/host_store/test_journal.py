"""The journal in front of LMDB: torn, lost, mixed up, failing, full. What was acknowledged is there, or it is said."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import host_store.lmdb.journal as journal_module
from host_store.arguments import Commit
from host_store.lmdb import journal_frame
from host_store.lmdb.journal import JOURNAL_BYTES, JOURNAL_FILE, MAX_FRAME_BYTES, PAGE_BYTES, Journal
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.lmdb.store_folder import DATA_FILE
from host_store.store import Head, OutboxItem
from wire.errors import CorruptedStore, StoreError, StoreFenced, StoreUnavailable

ALICE = b"alice".ljust(16, b"\0")
SECTOR = 512  # bytes
Image = dict[str, bytes]
"""The files of a store by their names: what a disk holds."""


def record(n: int, size: int = 4080) -> bytes:
    return random.Random(n).randbytes(size)


def leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\0" + content).digest()


def append(store: LmdbStore, n: int, *, size: int = 4080) -> None:
    """One that changes everything that an append can change: each keeps five records and two replies."""
    outbox = [OutboxItem(n, index, ALICE, b"reply %d of %d" % (index, n)) for index in (0, 7)]
    content = record(n, size)
    store.append(n, content, leaf(content), trim=max(0, n - 4), outbox=outbox, drops=[(n - 1, 0), (max(0, n - 2), 7)])


def check(store: LmdbStore, n: int, size: Callable[[int], int] = lambda n: 4080) -> None:
    """The store is what it is after ``n`` appends."""
    assert store.head() == Head(n, max(1, n - 4))
    kept = range(max(1, n - 4), n + 1)
    assert list(store.read(kept.start, kept.stop)) == [record(m, size(m)) for m in kept]
    assert [store.node(0, m - 1) for m in range(1, n + 1)] == [leaf(record(m, size(m))) for m in range(1, n + 1)]
    places = [(n - 1, 7), (n, 0), (n, 7)]
    expected = [OutboxItem(m, i, ALICE, b"reply %d of %d" % (i, m)) for m, i in places if m > 0]
    assert store.outbox(ALICE) == expected
    assert store.stats().outbox_items == len(expected)


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name, "store")


def image(path: Path) -> Image:
    """The store's files as the kernel shows them now: what a killed process leaves."""
    return {name: (path / name).read_bytes() for name in (DATA_FILE, JOURNAL_FILE) if (path / name).exists()}


def put(path: Path, files: Image) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


# --- frames ---

ITEMS = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.binary(min_size=16, max_size=16), st.binary(max_size=300)), max_size=5
)
DROPS = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)), max_size=5)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2**63 - 1), st.binary(max_size=600), ITEMS, DROPS, st.randoms(use_true_random=False))
def test_a_frame_is_read_as_it_was_written_and_not_otherwise(
    n: int, content: bytes, items: Any, drops: Any, source: random.Random
) -> None:
    outbox = [OutboxItem(n, *item) for item in {item[0]: item for item in items}.values()]
    commit = Commit.checked(n, content, leaf(content), n, outbox, drops)
    key, previous = source.randbytes(16), source.randbytes(32)
    length = journal_frame.frame_length(commit)
    frame = bytearray(length + 100)
    assert journal_frame.encode_into(memoryview(frame), key, commit, previous) == length
    found = journal_frame.decode(memoryview(frame), key)
    assert found is not None and (found.previous_leaf, found.length) == (previous, length)
    again = Commit.checked(found.n, found.record, found.leaf, found.trim, found.outbox, found.drops)
    assert (again.n, again.record, again.leaf, again.trim) == (n, content, leaf(content), n)
    assert (list(again.outbox), list(again.drops)) == (list(commit.outbox), drops)
    assert journal_frame.decode(memoryview(frame), bytes([key[0] ^ 1]) + key[1:]) is None
    assert journal_frame.decode(memoryview(frame)[: length - 1], key) is None
    frame[source.randrange(length)] ^= 1 << source.randrange(8)
    assert journal_frame.decode(memoryview(frame), key) is None


# --- closed and killed ---


def test_a_store_closed_in_order_is_its_data_file_alone(memory: Path) -> None:
    for n in range(1, 20, 3):
        with LmdbStore.open(memory) as store:
            for m in range(n, n + 3):
                append(store, m)
        (memory / JOURNAL_FILE).unlink()
        with LmdbStore.open(memory) as store:
            check(store, n + 2)
    with LmdbStore.open(memory) as store:  # and a journal of yesterday does no harm
        append(store, 22)
        old = image(memory)
        append(store, 23)
    (memory / JOURNAL_FILE).write_bytes(old[JOURNAL_FILE])
    with LmdbStore.open(memory) as store:
        check(store, 23)


def test_most_commits_do_not_touch_the_data_file(memory: Path) -> None:
    with LmdbStore.open(memory) as store:
        append(store, 1)
        before = (memory / DATA_FILE).read_bytes()
        groups = 0
        for n in range(2, 400):
            append(store, n)
            if (after := (memory / DATA_FILE).read_bytes()) != before:
                before, groups = after, groups + 1
        assert 1 <= groups <= 4
        check(store, 399)
        assert (memory / JOURNAL_FILE).stat().st_size == JOURNAL_BYTES


def test_killed_after_any_append_it_has_all_of_them(memory: Path) -> None:
    """Of any size: in the journal, too large for it, and when it is full."""
    size = {n: random.Random(n).choice([0, 100, 4080, 60_000, MAX_FRAME_BYTES]) for n in range(1, 60)}
    with LmdbStore.open(memory) as store:
        for n in range(1, 60):
            append(store, n, size=size[n])
            copy = put(memory.with_name("copy"), image(memory))
            for _ in range(2):
                with LmdbStore.open(copy) as again:
                    check(again, n, size.__getitem__)
            with LmdbStore.open(copy) as again:
                append(again, n + 1, size=50)
                check(again, n + 1, lambda m, n=n: 50 if m == n + 1 else size[m])  # type: ignore[misc]


def test_readers_see_one_state_while_a_group_moves(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before LMDB has it, and between its commit and the return: pending commits never count twice."""
    with LmdbStore.open(memory, journal_bytes=7 * PAGE_BYTES) as store:
        real, moved = store._environment.update, 0

        def moving(*arguments: Any) -> None:
            nonlocal moved
            check(store, n - 1)
            real(*arguments)
            check(store, n)
            moved += 1

        monkeypatch.setattr(store._environment, "update", moving)
        for n in range(1, 20):
            append(store, n)
            check(store, n)
        assert moved == 5
        monkeypatch.undo()


def test_a_reader_during_the_creation_does_not_keep_the_empty_window(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LmdbStore.open(memory) as store:
        real = store._environment.update

        def watched(*arguments: Any) -> None:
            assert store.head() == Head(0, 1)
            real(*arguments)

        monkeypatch.setattr(store._environment, "update", watched)
        store.create(b"sealed", record(1), leaf(record(1)))
        monkeypatch.undo()
        assert store.head() == Head(1, 1)
        append(store, 2)


# --- power cuts ---


def differing(old: bytes, new: bytes, unit: int) -> list[int]:
    length = max(len(old), len(new))
    return [at for at in range(0, length, unit) if old[at : at + unit] != new[at : at + unit]]


def partly(old: bytes, new: bytes, unit: int, source: random.Random, spared: int = 0) -> Iterator[bytes]:
    """What a disk can hold while ``new`` is on its way over ``old``: any part of the units that change.

    All of their subsets if there are few; else each prefix, each suffix, each alone missing, and some at random.
    ``spared``: what is below this many bytes stays old.
    """
    changed = [at for at in differing(old, new, unit) if at >= spared]
    if len(changed) <= 5:
        chosen = [{at for bit, at in enumerate(changed) if mask >> bit & 1} for mask in range(1 << len(changed))]
    else:
        cuts = sorted(source.sample(range(len(changed) + 1), min(4, len(changed))))
        chosen = [set(changed[:cut]) for cut in cuts] + [set(changed[cut:]) for cut in cuts]
        chosen += [set(changed) - {at} for at in source.sample(changed, 2)]
        chosen += [{at for at in changed if source.random() < 0.5} for _ in range(4)]
    old = old.ljust(len(new), b"\0")
    for written in chosen:
        torn = bytearray(old)
        for at in written:
            torn[at : at + unit] = new[at : at + unit].ljust(min(unit, len(old) - at), b"\0")
        yield bytes(torn)


def disks(before: Image, after: Image, source: random.Random) -> Iterator[Image]:
    """The disks that a power cut can leave between two moments. The journal is written before LMDB's pages are.

    LMDB writes a meta page (pages 0 and 1) only once all others are on the disk.
    """
    if JOURNAL_FILE in before and JOURNAL_FILE in after:
        for torn in partly(before[JOURNAL_FILE], after[JOURNAL_FILE], SECTOR, source):
            yield before | {JOURNAL_FILE: torn}
    if before[DATA_FILE] != after[DATA_FILE]:
        for torn in partly(before[DATA_FILE], after[DATA_FILE], PAGE_BYTES, source, spared=2 * PAGE_BYTES):
            yield after | {DATA_FILE: torn}
    yield after


@pytest.mark.parametrize("seed", range(int(os.environ.get("PMAP_POWER_CUTS", "1"))))
def test_a_power_cut_at_any_moment_loses_nothing_acknowledged(memory: Path, seed: int) -> None:
    """Appends, a full journal, a large record, an orderly close, a kill and the recovery after it."""
    source = random.Random(seed)
    copy, cuts, n, size = memory.with_name("copy"), 0, 0, {}
    store = LmdbStore.open(memory)
    append(store, 1)
    n, size[1] = 1, 4080

    def survive(before: Image, after: Image, acknowledged: int, under_way: int) -> None:
        nonlocal cuts
        for disk in disks(before, after, source):
            cuts += 1
            with LmdbStore.open(put(copy, disk)) as again:
                head = again.head().n
                assert head in (acknowledged, under_way)
                check(again, head, size.__getitem__)

    for step in range(40):
        before = image(memory)
        match step % 20:
            case 7:
                size[n + 1] = MAX_FRAME_BYTES
            case _:
                size[n + 1] = source.choice([100, 4080, 60_000 if step > 20 else 20_000])
        if step % 20 == 13:
            store.close()
            survive(before, image(memory), n, n)
            store = LmdbStore.open(memory)
        elif step % 20 == 17:  # killed, and the power goes while the next process recovers
            store.close()
            put(memory, before)
            store = LmdbStore.open(memory)
            survive(before, image(memory), n, n)
        else:
            append(store, n + 1, size=size[n + 1])
            n += 1
            survive(before, image(memory), n - 1, n)
    store.close()
    assert cuts > 300


# --- lost, mixed up ---


def a_killed_store(memory: Path, n: int = 8) -> Image:
    """What is left of a store that was killed after ``n`` appends, all but the first of them in the journal."""
    with LmdbStore.open(memory) as store:
        for m in range(1, n + 1):
            append(store, m)
        return image(memory)


def frames_of(content: bytes) -> list[int]:
    """Where the frames begin: here, each takes two pages."""
    return [at for at in range(PAGE_BYTES, len(content), 2 * PAGE_BYTES) if any(content[at : at + PAGE_BYTES])]


def refuse(path: Path, files: Image) -> None:
    for _ in range(2):
        with pytest.raises(CorruptedStore, match="restore the whole folder"):
            LmdbStore.open(put(path, files))
        assert image(path) == files


def test_a_missing_cut_or_strange_journal_is_refused_and_left_alone(memory: Path) -> None:
    files = a_killed_store(memory)
    content = files[JOURNAL_FILE]
    refuse(memory, {DATA_FILE: files[DATA_FILE]})
    for strange in (b"", content[:20], bytes(14) + content[14:], content[:14] + bytes(16) + content[30:]):
        refuse(memory, files | {JOURNAL_FILE: strange})
    other = a_killed_store(memory.with_name("other"))
    refuse(memory, files | {JOURNAL_FILE: other[JOURNAL_FILE]})
    refuse(memory, other | {JOURNAL_FILE: content})


def test_a_lost_frame_in_the_middle_is_noticed(memory: Path) -> None:
    """A disk that said "durable" and lost it: frames behind it show that there was one."""
    files = a_killed_store(memory)
    content = files[JOURNAL_FILE]
    frames = frames_of(content)
    assert len(frames) == 7
    for at in frames[:-1]:
        for damaged in (at, at + 40, at + PAGE_BYTES):
            lost = content[:damaged] + bytes([content[damaged] ^ 1]) + content[damaged + 1 :]
            refuse(memory, files | {JOURNAL_FILE: lost})
    with LmdbStore.open(put(memory, files | {JOURNAL_FILE: content[: frames[-1]]})) as store:
        check(store, 7)  # the last one alone: nobody can know


def test_data_and_journal_of_different_moments_are_refused_or_whole(memory: Path) -> None:
    images = []
    with LmdbStore.open(memory) as store:
        for n in range(1, 400):
            append(store, n)
            if n % 37 == 0:
                images.append((n, image(memory)))
    whole = refused = 0
    for n, data in images:
        for m, other in images:
            files = {DATA_FILE: data[DATA_FILE], JOURNAL_FILE: other[JOURNAL_FILE]}
            try:
                with LmdbStore.open(put(memory, files)) as store:
                    assert store.head().n >= min(n, m)
                    check(store, store.head().n)
                whole += 1
            except CorruptedStore:
                assert m > n, "the journal is newer than the data file"
                refused += 1
    assert whole >= len(images) and refused > 0


def test_another_branch_of_the_same_store_is_not_continued(memory: Path) -> None:
    """The data file of one branch, the journal of another."""
    files = a_killed_store(memory)
    with LmdbStore.open(put(memory, files)) as store:
        for n in range(9, 12):
            store.append(n, b"other", leaf(b"other"), trim=0)
        other = image(memory)
    refused = {DATA_FILE: files[DATA_FILE], JOURNAL_FILE: other[JOURNAL_FILE]}
    refuse(memory, refused)


# --- failing, full, interrupted ---


@contextmanager
def failing_writes(monkeypatch: pytest.MonkeyPatch, *, took_place: bool, times: int = 1) -> Iterator[None]:
    """The next writes to the journal fail, perhaps after they have taken place."""
    real, left = Journal._write, times

    def failing(self: Journal, length: int, at: int) -> None:
        nonlocal left
        if left == 0:
            return real(self, length, at)
        left -= 1
        if took_place:
            real(self, length, at)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_write", failing)
        yield


@pytest.mark.parametrize("took_place", [False, True])
@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_commit_that_the_journal_refuses_goes_to_lmdb(
    memory: Path, monkeypatch: pytest.MonkeyPatch, took_place: bool, times: int
) -> None:
    with LmdbStore.open(memory) as store:
        for n in range(1, 5):
            append(store, n)
        with failing_writes(monkeypatch, took_place=took_place, times=times):
            for n in range(5, 12):
                append(store, n)
                check(store, n)
                with LmdbStore.open(put(memory.with_name("copy"), image(memory))) as again:
                    check(again, n)
        append(store, 12)


@pytest.mark.parametrize("took_place", [False, True])
def test_where_neither_journal_nor_lmdb_can_be_written_nothing_acknowledged_is_lost(
    memory: Path, monkeypatch: pytest.MonkeyPatch, took_place: bool
) -> None:
    with LmdbStore.open(memory) as store:
        for n in range(1, 5):
            append(store, n)
        size = (memory / DATA_FILE).stat().st_size
        with failing_writes(monkeypatch, took_place=took_place), limited_files(size):
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    store.append(5, bytes(60_000), leaf(b"first try"), trim=0)
                check(store, 4)
        killed = image(memory)
        append(store, 5)  # another record of this number: the enclave was started anew
        check(store, 5)
        with LmdbStore.open(put(memory.with_name("copy"), image(memory))) as again:
            check(again, 5)
    with LmdbStore.open(put(memory, killed)) as store:
        assert store.head().n == (5 if took_place else 4)


@contextmanager
def limited_files(soft: int) -> Iterator[None]:
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))


def test_without_room_for_a_journal_commits_go_to_lmdb(memory: Path) -> None:
    with LmdbStore.open(memory) as store:
        with limited_files(JOURNAL_BYTES // 2):
            for n in range(1, 30):
                append(store, n)
                check(store, n)
        assert [name.name for name in memory.iterdir() if name.name.startswith(JOURNAL_FILE)] == []
        for n in range(30, 300):
            append(store, n)
        assert (memory / JOURNAL_FILE).exists()
        check(store, 299)


def test_a_full_journal_over_a_full_disk_refuses_and_loses_nothing(memory: Path) -> None:
    def add(store: LmdbStore, n: int) -> None:
        store.append(n, record(n, 60_000), leaf(record(n, 60_000)), trim=0)

    def whole(store: LmdbStore, n: int) -> None:
        assert store.head() == Head(n, 1)
        assert list(store.read(1, n + 1)) == [record(m, 60_000) for m in range(1, n + 1)]

    with LmdbStore.open(memory) as store, limited_files(JOURNAL_BYTES):
        n = 0
        with suppress(StoreUnavailable):
            while n < 100:
                add(store, n + 1)
                n += 1
        assert 10 < n < 100
        whole(store, n)
        store.close()  # cannot move them, and says nothing: they are where they are
        with LmdbStore.open(memory) as again:
            whole(again, n)
            with pytest.raises(StoreUnavailable):
                add(again, n + 1)
    with LmdbStore.open(memory) as store:
        whole(store, n)
        add(store, n + 1)
        whole(store, n + 1)


def test_an_interrupt_around_a_journal_write_leaves_no_second_commit_of_a_number(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Journal.write
    for after in (False, True):
        shutil.rmtree(memory, ignore_errors=True)
        with LmdbStore.open(memory) as store:
            for n in range(1, 4):
                append(store, n)

            def interrupted(self: Journal, *arguments: Any, after: bool = after) -> None:
                if after:
                    real(self, *arguments)
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(Journal, "write", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    store.append(4, b"interrupted", leaf(b"interrupted"), trim=0)
            assert store.head().n == 3
            for n in range(4, 9):
                append(store, n)
                with LmdbStore.open(put(memory.with_name("copy"), image(memory))) as again:
                    check(again, n)


def test_who_is_taken_over_during_a_write_does_not_acknowledge_it(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever got past the lock writes its name first, and then reads a journal that may not have this commit yet."""
    real = Journal.write
    with LmdbStore.open(memory) as store:
        for n in range(1, 4):
            append(store, n)

        def overtaken(self: Journal, *arguments: Any) -> None:
            real(self, *arguments)
            (memory / "host.lock").write_bytes(b"1 elsewhere and-so-on")

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "write", overtaken)
            with pytest.raises(StoreFenced):
                append(store, 4)
        with pytest.raises(StoreFenced):
            append(store, 4)


def test_an_append_that_waited_while_the_store_was_closed_does_not_touch_the_journal(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LmdbStore.open(memory)
    store.create(b"keyring", record(1), leaf(record(1)))
    append(store, 2)
    append(store, 3)
    commits = store._commits
    checked = threading.Event()
    refuse_misuse = commits._environment.refuse_misuse

    def late() -> None:
        with suppress(StoreError):
            append(store, 4)

    def passed() -> None:
        refuse_misuse()
        if threading.current_thread() is thread:
            checked.set()

    def give_up() -> None:  # in the middle of the closing, which holds up all appends
        give_up_journal()
        thread.start()
        assert checked.wait(60)

    thread = threading.Thread(target=late)
    give_up_journal = commits._give_up_journal
    monkeypatch.setattr(commits._environment, "refuse_misuse", passed)
    monkeypatch.setattr(commits, "_give_up_journal", give_up)
    before = (memory / JOURNAL_FILE).read_bytes()
    store.close()
    thread.join(60)
    assert (memory / JOURNAL_FILE).read_bytes() == before, "it may be somebody else's by now"
    with LmdbStore.open(memory) as again:
        check(again, 3)


def test_a_file_system_that_insists_on_its_page_cache_is_served(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def cached(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(journal_module.os, "open", cached)
    with LmdbStore.open(memory) as store:
        for n in range(1, 6):
            append(store, n)
        files = image(memory)
    assert len(frames_of(files[JOURNAL_FILE])) == 4
    with LmdbStore.open(put(memory, files)) as store:
        check(store, 5)
