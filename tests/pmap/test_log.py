"""The commit log: replay equals the live map after every commit, for any schedule; and what each check refuses."""

from __future__ import annotations

import os
import random
import threading
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from pmap.entries import MAP, encode_totals
from pmap.history import History
from pmap.keyring import Keyring
from pmap.log import Commit, CommitLog, LogSettings, class_and_budget
from pmap.order import KeyOrder
from pmap.replay import Replay
from pmap.sweep import Sweep
from wire.alarm import Verdict, verify_alarm
from wire.checkpoint import verify_checkpoint
from wire.codec import unpack_authentic
from wire.crypto import sha256
from wire.errors import CorruptedStore, InvalidInput, LimitExceeded, StoreError, UnsupportedVersion
from wire.limits import (
    ENTRY_OVERHEAD_BYTES,
    LMDB_PAGE_BYTES,
    LMDB_PAGE_HEADER_BYTES,
    MAX_RECORD_BYTES,
    MAX_TRANSACTION_BYTES,
    MIB,
)
from wire.merkle import EMPTY_ROOT, Frontier
from wire.record import (
    HEADER_BYTES,
    RECORD_OVERHEAD_BYTES,
    SMALLEST_CLASS_BYTES,
    check_class,
    class_bytes,
    decode_header,
)

KEYRING = Keyring(bytes(range(16)), bytes(range(32)))
ENTRY_BYTES = 118
"""What each entry of some tests costs in a record."""


class Window:
    """The records that an honest host keeps, trimmed as each record's tail says."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}

    def store(self, commit: Commit) -> None:
        self.records[commit.n] = commit.record
        for n in [n for n in self.records if n < commit.tail]:
            del self.records[n]

    def replay(
        self, keyring: Keyring = KEYRING, log_settings: LogSettings | None = None, *, ahead: bool = True
    ) -> CommitLog:
        replay = Replay(keyring)
        if ahead:
            replay.show_last(self.records[max(self.records)])
        replay.feed(self.records[n] for n in sorted(self.records))
        return replay.finish(os.urandom, log_settings)


def write(log: CommitLog, *changes: tuple[bytes, bytes | None]) -> Commit:
    with log.entries.transaction():
        for key, value in changes:
            if value is not None:
                log.entries.put(MAP + key, value)
            elif MAP + key in log.entries.live:
                log.entries.delete(MAP + key)
    return log.commit()


keys = st.integers(0, 40).map(lambda i: b"k%02d" % i) | st.binary(max_size=300)
values = st.none() | st.binary(max_size=60) | st.integers(0, 9000).map(lambda n: b"v" * n)
schedules = st.lists(
    st.lists(st.tuples(keys, values), max_size=12) | st.sampled_from(["restart", "abort", "full", "incremental"]),
    min_size=1,
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(schedules)
def test_replay_equals_the_live_map_after_every_commit(schedule):
    log, window, policy = CommitLog(KEYRING, os.urandom), Window(), LogSettings()
    window.store(log.commit())
    for step in schedule:
        if step == "restart":
            log = window.replay(log_settings=policy)
        elif step in ("full", "incremental"):
            policy = LogSettings(step)
            log = window.replay(log_settings=policy)
        elif step == "abort":
            before = dict(log.entries.live)
            with pytest.raises(ZeroDivisionError), log.entries.transaction():
                log.entries.put(MAP + b"k00", b"never")
                log.entries.put(MAP + b"new", b"never")
                raise ZeroDivisionError
            assert dict(log.entries.live) == before
        else:
            window.store(write(log, *step))
            for ahead in (True, False):
                again = window.replay(ahead=ahead)
                assert dict(again.entries.live) == dict(log.entries.live)
                assert list(again.entries.order) == sorted(log.entries.live)
                assert (again.n, again.tail, again.history.root) == (log.n, log.tail, log.history.root)


@pytest.mark.parametrize("seed", range(20), ids="seed{}".format)
def test_replay_equals_the_live_map_over_long_random_schedules(seed):
    rng = random.Random(seed)
    log, window = CommitLog(KEYRING, os.urandom), Window()
    for _ in range(rng.randrange(50, 300)):
        changes = [
            (b"%d" % rng.randrange(200), rng.choice([None, rng.randbytes(rng.randrange(400))]))
            for _ in range(rng.randrange(8))
        ]
        window.store(write(log, *changes))
        assert dict(window.replay().entries.live) == dict(log.entries.live)
        if rng.random() < 0.05:
            log = window.replay()
    assert dict(window.replay().entries.live) == dict(log.entries.live)


def test_the_whole_map_is_encrypted_again_within_one_cycle():
    log, window = CommitLog(KEYRING, os.urandom), Window()
    window.store(write(log, *((b"%05d" % i, b"x" * (ENTRY_BYTES - 6 - ENTRY_OVERHEAD_BYTES)) for i in range(2000))))
    first = log.n
    commits = 0
    while log.tail <= first:
        window.store(log.commit())
        commits += 1
    # Two thirds of what a 4 KiB record holds are the sweep's. The load itself swept all, so this is one cycle exactly.
    entries_per_record = (SMALLEST_CLASS_BYTES - RECORD_OVERHEAD_BYTES) * 2 // 3 // ENTRY_BYTES
    assert commits == -(-2000 // entries_per_record)


@pytest.mark.parametrize("smallest", [SMALLEST_CLASS_BYTES, 4 * LMDB_PAGE_BYTES - LMDB_PAGE_HEADER_BYTES])
def test_a_records_length_follows_from_all_that_is_in_it_beside_the_sweep(smallest):
    log, window = CommitLog(KEYRING, os.urandom, settings=LogSettings(smallest_class=smallest)), Window()
    log.entries.counted.append(SimpleNamespace(namespace=MAP, length=5, size=7))
    assert len(CommitLog(KEYRING, os.urandom, settings=LogSettings("full", smallest)).commit().record) == smallest
    # Many small entries, so that the sweep takes all of its own share in every record.
    window.store(write(log, *((b"%05d" % i, b"") for i in range(5000))))
    seen = set()
    for length in [0, *range(smallest // 3 - 300, smallest // 3, 2), smallest, 3 * smallest]:
        frontier = log.history.frontier.encode()
        commit = write(log, (b"key", bytes(length)))
        content = 24 + len(frontier) + len(encode_totals(log.entries.counted)) + 4 + length + ENTRY_OVERHEAD_BYTES
        assert len(commit.record) == class_and_budget(content, smallest)[0]
        window.store(commit)
        seen.add(len(commit.record))
    assert len(seen) >= 3
    assert window.replay().entries.live == log.entries.live


def test_a_change_behind_the_cursor_is_kept_wherever_in_the_cycle_the_last_record_is():
    """A replay that knows the last record leaves out what the sweep repeats, and nothing else."""
    log, window = CommitLog(KEYRING, os.urandom), Window()
    window.store(write(log, *((b"%04d" % i, b"x" * 500) for i in range(20))))
    starts = 0
    for i in range(30):
        changes = [(b"%04d" % key, b"%d" % i * 500) for key in (0, i % 20)]
        before = log.tail
        window.store(write(log, *changes, (b"%04d" % (i % 7 + 20), None if i % 2 else b"y")))
        starts += log.tail != before
        for ahead in (True, False):
            again = window.replay(ahead=ahead)
            assert again.entries.live == log.entries.live
            assert list(again.entries.order) == sorted(log.entries.live)
    assert starts > 5


def test_the_order_of_the_keys_is_whole_wherever_the_last_record_stops(monkeypatch):
    """One key to a step and few to a chunk: the stop meets every place of the chunks of the cycle before."""
    monkeypatch.setattr("pmap.replay.CHUNK_KEYS", 4)
    monkeypatch.setattr("pmap.replay._MANY", 1)  # never sorted anew
    log, window = CommitLog(KEYRING, os.urandom), Window()
    window.store(write(log, *((b"%04d" % i, b"x" * 1500) for i in range(0, 40, 2))))
    for i in range(80):
        key = b"%04d" % (i * 7 % 40)
        changes = [(key, None if MAP + key in log.entries.live else b"y" * 1500)] if i % 3 else []
        window.store(write(log, *changes))
        again = window.replay()
        assert list(again.entries.order) == sorted(log.entries.live)
        assert again.entries.live == log.entries.live


def test_a_full_sweep_after_one_that_stopped_at_the_first_key_lists_no_key_twice(monkeypatch):
    monkeypatch.setattr("pmap.replay._MANY", 1)
    log, window = CommitLog(KEYRING, os.urandom), Window()
    window.store(write(log, *((b"%d" % i, b"x" * 3000) for i in range(5))))
    window.store(log.commit())  # one entry is more than the budget, and taken alone
    log = window.replay(log_settings=LogSettings("full"))
    window.store(log.commit())
    assert len(window.records) == 2
    again = window.replay()
    assert list(again.entries.order) == sorted(log.entries.live)
    assert again.entries.live == log.entries.live


def test_a_restarted_log_goes_on_as_the_one_before_would_have():
    chosen = LogSettings(smallest_class=2 * LMDB_PAGE_BYTES - LMDB_PAGE_HEADER_BYTES)
    log, window = CommitLog(KEYRING, os.urandom, settings=chosen), Window()
    log.entries.counted.append(SimpleNamespace(namespace=MAP, length=5, size=7))
    window.store(write(log, *((b"%04d" % i, b"x" * 500) for i in range(50))))
    for _ in range(3):
        window.store(log.commit())
    again = window.replay(log_settings=chosen)
    assert again.settings == chosen
    assert again.entries.known_totals == {MAP: (5, 7)}
    for _ in range(30):
        ours, theirs = log.commit(), again.commit()
        assert (ours.n, ours.tail, len(ours.record)) == (theirs.n, theirs.tail, len(theirs.record))


def test_a_record_is_its_header_and_length_body_and_zeros_encrypted_under_the_epochs_key():
    log = CommitLog(KEYRING, os.urandom)
    for n in (1, 2):
        record = write(log, (b"key", b"value")).record
        cipher = AESGCM(KEYRING.log_key(decode_header(record).epoch))
        plaintext = cipher.decrypt(n.to_bytes(12, "big"), record[HEADER_BYTES:], record[:HEADER_BYTES])
        length = int.from_bytes(plaintext[:4], "big")
        _, wrapped, totals, changes, swept = unpack_authentic(plaintext[4 : 4 + length])
        assert (wrapped, totals, changes) == (True, b"", [MAP + b"key", b"value"])
        assert swept == changes
        assert plaintext[4 + length :] == bytes(len(plaintext) - 4 - length)


def test_an_epoch_follows_from_fresh_randomness_and_the_place_in_the_history():
    asked = []

    def randomness(length: int) -> bytes:
        asked.append(length)
        return b"r" * length

    log = CommitLog(KEYRING, randomness)
    assert log.epoch == KEYRING.epoch(sha256(b"pmap/1 epoch" + b"r" * 32 + bytes(8) + bytes(32)))
    leaf = log.commit().leaf
    other = Keyring(KEYRING.store_id, b"another secret, also of 32 bytes")
    log.begin_epoch(other, randomness)
    assert log.keyring is other
    assert log.epoch == other.epoch(sha256(b"pmap/1 epoch" + b"r" * 32 + bytes(7) + b"\x01" + leaf))
    assert asked == [32, 32]


# --- the sweep by itself ------------------------------------------------------------------------------------


def test_a_step_takes_exactly_what_its_budget_holds():
    live = {b"%03d" % i: b"x" * i for i in range(50)}
    order = KeyOrder(sorted(live))
    cost = 0
    for taken, (key, value) in enumerate(sorted(live.items()), 1):
        cost += len(key) + len(value) + ENTRY_OVERHEAD_BYTES
        whole = [part for each in sorted(live)[:taken] for part in (each, live[each])]
        assert Sweep().take(live, order, cost) == (whole, cost, taken == 50)
        if taken < 50:
            assert Sweep().take(live, order, cost + 1) == (whole, cost, False)


def test_an_entry_over_the_budget_is_taken_alone_and_ends_the_cycle_if_it_is_the_last():
    live = {b"a": b"x" * 100, b"b": b"x" * 100}
    sweep, order = Sweep(), KeyOrder([b"a", b"b"])
    assert sweep.take(live, order, 10) == ([b"a", live[b"a"]], 101 + ENTRY_OVERHEAD_BYTES, False)
    sweep.advance(1, b"a", False)
    assert sweep.take(live, order, 10) == ([b"b", live[b"b"]], 101 + ENTRY_OVERHEAD_BYTES, True)
    empty = Sweep()
    assert empty.take({}, KeyOrder(), 10) == ([], 0, True)
    empty.advance(1, None, True)
    alone = {b"a": b"x" * 100}
    assert empty.take(alone, KeyOrder([b"a"]), 10) == ([b"a", alone[b"a"]], 101 + ENTRY_OVERHEAD_BYTES, True)


def test_the_cursor_stops_right_behind_a_key_that_the_next_ones_begin_with():
    live = {b"k" + bytes(i): b"x" * 100 for i in range(6)}
    sweep, order, seen, wrapped = Sweep(), KeyOrder(sorted(live)), [], False
    while not wrapped:
        swept, _, wrapped = sweep.take(live, order, 10)
        sweep.advance(len(seen) + 1, swept[-2], wrapped)
        seen += swept[::2]
    assert seen == sorted(live)


def test_the_tail_is_the_oldest_step_whose_range_the_cursor_has_not_passed():
    sweep = Sweep()
    assert sweep.tail == 1
    cycle = [(b"b", False), (b"d", False), (b"f", False), (b"h", True)]
    tails = [sweep.advance(n, *cycle[(n - 1) % 4]) for n in range(1, 13)]
    # A step that starts where the one of the cycle before did replaces all before it.
    assert tails == [1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert sweep.tail == 9


def test_a_full_sweep_of_more_than_a_record_holds_takes_as_much_of_the_map_as_does(monkeypatch):
    live = {b"%03d" % i: b"x" * i for i in range(50)}
    order = KeyOrder(sorted(live))
    cost = sum(len(key) + len(value) + ENTRY_OVERHEAD_BYTES for key, value in live.items())
    whole = [part for key in sorted(live) for part in (key, live[key])]
    monkeypatch.setattr("pmap.sweep.MAX_FULL_SWEEP_BYTES", cost)
    moved = Sweep()
    moved.advance(1, b"010", False)
    assert Sweep().take(live, order, None) == moved.take(live, order, None) == (whole, cost, True)
    monkeypatch.setattr("pmap.sweep.MAX_FULL_SWEEP_BYTES", cost - 1)
    last = 3 + 49 + ENTRY_OVERHEAD_BYTES
    assert Sweep().take(live, order, None) == (whole[:-2], cost - last, False)


def test_the_class_holds_what_was_written_and_the_whole_budget_of_the_sweep():
    room, rooms = SMALLEST_CLASS_BYTES - RECORD_OVERHEAD_BYTES, set()
    for content in range(0, 5 * SMALLEST_CLASS_BYTES, 7):
        record_bytes, budget = class_and_budget(content, SMALLEST_CLASS_BYTES)
        assert content + budget <= record_bytes - RECORD_OVERHEAD_BYTES
        assert (record_bytes == SMALLEST_CLASS_BYTES) == (3 * content <= room)
        rooms.add((record_bytes, budget))
    # One budget for each class: it tells nothing that the record's length does not.
    assert len(rooms) == len({record_bytes for record_bytes, _ in rooms}) > 3


@pytest.mark.parametrize("smallest", [SMALLEST_CLASS_BYTES, 2 * LMDB_PAGE_BYTES - LMDB_PAGE_HEADER_BYTES])
def test_a_third_of_the_smallest_class_is_for_what_was_written_and_half_of_each_larger_one(smallest):
    room = smallest - RECORD_OVERHEAD_BYTES
    assert class_and_budget(room // 3, smallest) == (smallest, 2 * room // 3)
    larger = 2 * smallest + LMDB_PAGE_HEADER_BYTES
    for content in (room // 3 + 1, room // 2, room // 2 + 1, 2 * room // 3, room, 5 * room):
        record_bytes, budget = class_and_budget(content, smallest)
        assert record_bytes == class_bytes(2 * content, larger) == check_class(record_bytes)
        assert budget == (record_bytes - RECORD_OVERHEAD_BYTES) // 2
        assert type(budget) is int


def test_the_largest_class_as_the_smallest_one_still_takes_half_of_itself():
    largest = MAX_RECORD_BYTES - LMDB_PAGE_HEADER_BYTES
    room = largest - RECORD_OVERHEAD_BYTES
    assert class_and_budget(room // 2, largest) == class_and_budget(0, largest) == (largest, room // 2)
    with pytest.raises(LimitExceeded):
        class_and_budget(room // 2 + 1, largest)


def test_the_window_stays_within_twice_the_live_bytes():
    rng = random.Random(7)
    log, window = CommitLog(KEYRING, os.urandom), Window()
    for _ in range(30):
        window.store(write(log, *((b"%04d" % rng.randrange(1000), rng.randbytes(100)) for _ in range(100))))
    for _ in range(1500):
        window.store(write(log, (b"%04d" % rng.randrange(1000), rng.randbytes(100))))
    live = sum(len(k) + len(v) for k, v in log.entries.live.items())
    assert sum(map(len, window.records.values())) <= 2.0 * live


def test_a_full_sweep_puts_the_whole_map_into_every_record():
    log, window = CommitLog(KEYRING, os.urandom, settings=LogSettings("full")), Window()
    for i in range(50):
        commit = write(log, (b"%d" % i, b"x" * 200))
        window.store(commit)
        assert commit.tail == commit.n
        assert list(window.records) == [commit.n]
    assert dict(window.replay().entries.live) == dict(log.entries.live)


def test_an_entry_over_the_budget_makes_that_record_grow_and_is_swept_whole():
    log, window = CommitLog(KEYRING, os.urandom), Window()
    window.store(write(log, (b"big", b"b" * 100_000), (b"small", b"s")))
    sizes = set()
    for _ in range(10):
        commit = log.commit()
        window.store(commit)
        sizes.add(len(commit.record))
        assert dict(window.replay().entries.live) == dict(log.entries.live)
    assert class_bytes(100_000) in sizes


def test_checkpoints_are_signed_over_the_whole_history():
    log, frontier = CommitLog(KEYRING, os.urandom), Frontier()
    assert (log.checkpoint.size, log.checkpoint.root) == (0, EMPTY_ROOT)
    for i in range(20):
        commit = write(log, (b"k", b"%d" % i))
        frontier.append(commit.leaf)
        assert (log.checkpoint.size, log.checkpoint.root) == (commit.n, commit.root) == (i + 1, frontier.root())
        verify_checkpoint(log.checkpoint, log.public_key)


def test_an_alarm_says_where_this_epochs_history_stands():
    log = CommitLog(KEYRING, os.urandom)
    write(log, (b"k", b"v"))
    contradiction = log.sign(9, bytes(32))
    alarm = log.sign_alarm(Verdict.ROLLBACK, contradiction)
    assert alarm.verdict is Verdict.ROLLBACK
    assert (alarm.enclave, alarm.client, alarm.epoch) == (log.checkpoint, contradiction, log.epoch)
    verify_alarm(alarm, log.public_key)


def test_after_a_restart_the_roots_of_the_whole_window_are_known_and_none_before_it():
    log, window = CommitLog(KEYRING, os.urandom), Window()
    for i in range(120):
        window.store(write(log, (b"%03d" % (i % 60), b"x" * 150)))
    first = min(window.records)
    assert first > 2
    roots = {size: log.history.root_at(size) for size in range(log.n + 1)}
    again = window.replay().history
    assert again.recent_root(first) is None and again.recent_root(log.n) == roots[log.n]
    assert [again.root_at(size) for size in (first - 2, log.n + 1)] == [None, None]
    assert again.root_at(0) == EMPTY_ROOT
    sizes = {first - 1, first + 3, log.n}
    assert again.roots_at(sizes) == {size: roots[size] for size in sizes}
    for size in range(first - 1, log.n + 1):
        assert again.root_at(size) == roots[size]
    assert again.recent_root(first) == roots[first], "hashed once, and kept"


def test_the_newest_roots_are_remembered_and_the_windows_own_even_longer(monkeypatch):
    monkeypatch.setattr("pmap.history.RECENT_ROOTS", 8)
    leaves = [bytes([i]) * 32 for i in range(30)]
    frontier, roots = Frontier(), [EMPTY_ROOT]
    for leaf in leaves:
        frontier.append(leaf)
        roots.append(frontier.root())
    history_ = History(Frontier(), leaves[:5])
    assert (history_.n, history_.root, history_.previous) == (5, roots[5], leaves[4])
    for leaf in leaves[5:]:
        history_.append(leaf)
        assert (history_.previous, history_.root) == (leaf, roots[history_.n])
    assert [history_.root_at(size) for size in range(6, 31)] == [None] * 17 + roots[23:]
    assert [history_.root_at(size) for size in range(6)] == roots[:6]


def test_no_key_and_nonce_come_twice_over_restarts_rollbacks_and_clones():
    window, seen, epochs = Window(), set(), set()
    log = CommitLog(KEYRING, os.urandom)
    window.store(log.commit())
    for _ in range(30):
        clones = [window.replay() for _ in range(3)]
        for clone in clones:
            epochs.add(clone.epoch)
            for i in range(3):
                record = write(clone, (b"k", b"%d" % i)).record
                header = decode_header(record)
                assert (header.epoch, header.n) not in seen
                seen.add((header.epoch, header.n))
        window.store(log.commit())
    assert len(epochs) == 90


def test_a_repeated_random_value_still_gives_another_epoch_in_another_state():
    frozen = bytes  # a "random" source that repeats itself
    first = CommitLog(KEYRING, frozen)
    window = Window()
    window.store(first.commit())
    replay = Replay(KEYRING)
    replay.feed(window.records.values())
    assert replay.finish(frozen).epoch != first.epoch


# --- what a host can hand over instead of the window ---------------------------------------------------


def history(commits: int, keyring: Keyring = KEYRING) -> tuple[CommitLog, list[bytes]]:
    log = CommitLog(keyring, os.urandom)
    return log, [write(log, (b"%03d" % (i % 60), b"x" * 150)).record for i in range(commits)]


def window_of(records: list[bytes]) -> list[bytes]:
    return records[decode_header(records[-1]).tail - 1 :]


def replay_of(records: list[bytes], keyring: Keyring = KEYRING) -> CommitLog:
    replay = Replay(keyring)
    replay.feed(records)
    return replay.finish(os.urandom)


def test_every_flipped_byte_of_a_record_is_refused():
    _, records = history(3)
    window = window_of(records)
    for at in [*range(HEADER_BYTES + 40), *range(HEADER_BYTES + 40, len(window[-1]), 97), len(window[-1]) - 1]:
        altered = bytearray(window[-1])
        altered[at] ^= 1
        with pytest.raises((CorruptedStore, UnsupportedVersion)):
            replay_of([*window[:-1], bytes(altered)])


def test_a_dropped_repeated_or_reordered_record_is_refused():
    _, records = history(120)
    window = window_of(records)
    assert len(window) >= 4
    for bad in (
        window[:1] + window[2:],
        window[:2] + window[1:],
        [window[1], window[0], *window[2:]],
        window[1:],
        window[::-1],
    ):
        with pytest.raises(CorruptedStore):
            replay_of(bad)


def test_another_record_shown_as_the_last_one_is_refused():
    _, records = history(120)
    window = window_of(records)
    for shown in (window[0], window[-2], records[0]):
        replay = Replay(KEYRING)
        replay.show_last(shown)
        replay.feed(window)
        with pytest.raises(CorruptedStore, match="shown as the last"):
            replay.finish(os.urandom)


def test_a_cut_off_end_opens_as_an_older_state_only_where_its_window_is_whole():
    log, records = history(120)
    older = window_of(records[:-1])
    assert replay_of(older).n == log.n - 1  # that is a rollback: the clients' evidence finds it
    with pytest.raises(CorruptedStore):
        replay_of(window_of(records)[:-40][1:])


def test_an_old_record_in_a_new_window_is_refused():
    fork_point = history(60)
    _, records = fork_point
    one, other = replay_of(window_of(records)), replay_of(window_of(records))
    left = [write(one, (b"k", b"left")).record for _ in range(3)]
    right = [write(other, (b"k", b"right")).record for _ in range(3)]
    with pytest.raises(CorruptedStore):
        replay_of([*window_of(records), left[0], right[1]])
    with pytest.raises(CorruptedStore):
        replay_of([*window_of(records)[:-1], left[0], left[1]])


def test_another_stores_records_are_refused():
    _, ours = history(3)
    other = Keyring(bytes(16), bytes(range(32)))
    _, theirs = history(3, other)
    with pytest.raises(CorruptedStore, match="another store"):
        replay_of(window_of(theirs))
    with pytest.raises(CorruptedStore):
        replay_of([*ours[:-1], theirs[-1]])


def test_records_of_another_master_secret_are_refused():
    _, theirs = history(3, Keyring(KEYRING.store_id, os.urandom(32)))
    with pytest.raises(CorruptedStore, match="altered, or never written"):
        replay_of(window_of(theirs))


def test_no_records_at_all_is_refused():
    with pytest.raises(CorruptedStore, match="removed"):
        replay_of([])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=6000))
def test_garbage_for_a_record_is_refused(garbage):
    with pytest.raises(StoreError):
        replay_of([garbage])


def test_a_record_of_another_version_says_so():
    _, records = history(1)
    newer = bytearray(records[0])
    newer[3] = 9
    with pytest.raises(UnsupportedVersion, match="version 9"):
        replay_of([bytes(newer)])


# --- large records, which threads open ahead -------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> tuple[CommitLog, list[bytes]]:
    """Records of 1 MiB with small ones between them, more than are opened ahead at once."""
    log, window = CommitLog(KEYRING, os.urandom), Window()
    window.store(write(log, *((b"s%05d" % i, b"s" * 100) for i in range(20_000))))
    for i in range(60):
        window.store(write(log, (b"%d" % (i % 30), b"l" * 300_000), (b"gone%d" % (i - 1), None), (b"gone%d" % i, b"")))
        for _ in range(3):
            window.store(write(log, (b"small", b"%d" % i)))
    return log, [window.records[n] for n in sorted(window.records)]


@pytest.mark.parametrize("ahead", [True, False])
def test_large_and_small_records_replay_to_the_live_map(large, ahead):
    log, records = large
    sizes = [len(record) for record in records]
    assert sum(size >= 300_000 for size in sizes) > 20
    assert sum(size < 200_000 for size in sizes) > 5
    threads = threading.active_count()
    replay = Replay(KEYRING)
    if ahead:
        replay.show_last(records[-1])
    replay.feed(records)
    again = replay.finish(os.urandom)
    assert again.entries.live == log.entries.live
    assert list(again.entries.order) == sorted(log.entries.live)
    assert (again.n, again.tail, again.history.root) == (log.n, log.tail, log.history.root)
    assert threading.active_count() == threads


@pytest.mark.parametrize("at", [0, 1, 20, -1])
def test_an_altered_large_record_is_refused_whoever_opens_it(large, at):
    _, records = large
    threads = threading.active_count()
    altered = bytearray(records[at])
    altered[-100] ^= 1
    bad = list(records)
    bad[at] = bytes(altered)
    with pytest.raises(CorruptedStore, match="altered"):
        replay_of(bad)
    with pytest.raises(CorruptedStore):
        replay_of(records[:at] + records[at:][1:] if at else records[1:])
    garbage = list(records)
    garbage[at] = bytes(len(records[at]))
    with pytest.raises(CorruptedStore, match="not a record"):
        replay_of(garbage)
    assert threading.active_count() == threads


# --- bounds ---------------------------------------------------------------------------------------------


def test_a_transaction_that_would_not_fit_into_a_record_is_refused_before_it_changes_anything():
    log = CommitLog(KEYRING, os.urandom)
    chunk = bytes(64 * MIB)
    with pytest.raises(LimitExceeded), log.entries.transaction():
        for i in range(MAX_TRANSACTION_BYTES // len(chunk) + 1):
            log.entries.put(MAP + b"%d" % i, chunk)
    assert not log.entries.live
    assert not log.entries.changes


@pytest.mark.parametrize("wrong", [0, 4096, 4000, 3 * 4096 - 16, 2**40])
def test_a_record_class_that_is_none_is_refused(wrong):
    with pytest.raises(InvalidInput):
        LogSettings(smallest_class=wrong)


def test_a_sweep_policy_that_is_none_is_refused():
    with pytest.raises(InvalidInput, match="incremental"):
        LogSettings(sweep="sometimes")
