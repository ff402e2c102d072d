"""Rows 38 to 50: states that never were, made of pieces of states that were."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from attack_steps import (
    Attack,
    fill_window,
    forget_state,
    load_refused,
    put_state,
    save_state,
    send_unheard,
    silently,
)
from attacked_enclaves import Ledger

from client import CorruptedStore, OutcomeUnknown, RollbackDetected, UnsupportedVersion
from host_store.adversary import MaliciousHost, Snapshot
from host_store.adversary.archive import EVERY_HOST
from host_store.adversary.snapshot import flip_byte
from wire.boundary import Incoming, IncomingKind
from wire.errors import StoreError
from wire.frames import encode_frame, read_command
from wire.messages import Deliver, Records
from wire.record import HEADER_BYTES, decode_header

VERSION_AT = 3  # bytes, in a record's header
TESTS = Path(__file__).resolve().parents[1]


def test_row_38_one_record_of_another_branch(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    fill_window(host, alice)
    other = host.clone()
    bob = other.client("bob")
    for _ in range(4):
        alice.send(b"add x 1")
        bob.send(b"add x 100")
    ours = {decode_header(record).n: record for record in host.records}
    theirs = {decode_header(record).n: record for record in other.records}
    for n in range(other.commits - 4, host.commits + 1):
        if ours[n] != theirs[n]:
            window = [theirs[n] if number == n else record for number, record in ours.items()]
            attack.refused_at_load(host, partial(host.feed, window), CorruptedStore)


def test_row_39_an_old_sweep_under_a_new_header(host: MaliciousHost, attack: Attack) -> None:
    fill_window(host, host.client("alice"))
    window = host.records
    for old in window[:-1]:
        for place in (-1, -2):
            torn = [*window]
            torn[place] = window[place][:HEADER_BYTES] + old[HEADER_BYTES:]
            if torn != window:
                attack.refused_at_load(host, partial(host.feed, torn), CorruptedStore)
    torn = [*window[:-1], window[0]]
    attack.refused_at_load(host, partial(host.feed, torn), CorruptedStore)


def test_row_40_an_older_head_than_its_window(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    fill_window(host, alice)
    window = host.records
    for _ in range(3 * len(window)):
        alice.heartbeat()
    first = decode_header(host.records[0]).n
    for record in host.records[:-1]:
        header = decode_header(record)
        if header.tail < first:  # it needs records that have been deleted since
            stale = host.records[: header.n - first + 1]
            attack.refused_at_load(host, partial(host.feed, stale), CorruptedStore)
            host.restore_disk()
    swapped = [*host.records[:-2], host.records[-1], host.records[-2]]
    attack.refused_at_load(host, partial(host.feed, swapped), CorruptedStore)


def test_row_41_a_record_inside_the_window_left_out(host: MaliciousHost, attack: Attack) -> None:
    fill_window(host, host.client("alice"))
    window = host.records
    for missing in range(len(window) - 1):
        fed = window[:missing] + window[missing + 1 :]
        attack.refused_at_load(host, partial(host.feed, fed), CorruptedStore)


def test_row_42_a_crash_between_any_two_writes(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"add x 0")
    points = [(call, before) for call in ("append", "outbox_item", "outbox") for before in (True, False)]
    points.remove(("outbox", False)), points.remove(("outbox_item", False))  # reading has no after
    for during_recovery in (None, *points):
        for call, before in points[:3]:
            alice.heartbeat()  # so that a session is open
            host.crash_at(call, before=before)
            with host.dropping("reply", times=1 if call == "outbox_item" else 0), pytest.raises(OutcomeUnknown):
                alice.send(b"add x 1")
            host.crash()
            if during_recovery is not None:
                host.crash_at(during_recovery[0], before=during_recovery[1])
                silently(alice.recover)
                host.crash()
            alice.recover()
    assert bob.send(b"get x").payload == str(3 * 5).encode()
    assert alice.verdict is bob.verdict is None
    attack.saw("ok")


def test_row_43_a_disk_that_lies_about_its_sync(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    on_the_disk = host.snapshot()
    alice.send(b"add x 1")  # "durable", says the disk
    host.crash()
    host.restore(on_the_disk)  # the power cut
    error = attack.refused_by_enclave(host, lambda: alice.send(b"get x"), RollbackDetected, alice)
    assert "holds this store's checkpoint of commit" in str(error) and "runs the enclave on commit" in str(error)


def test_row_44_an_old_page_inside_the_data_file(attack: Attack, tmp_path: Path) -> None:
    """In a process of its own: a crafted file may well end the one that maps it, which hurts the host alone."""
    outcomes: list[str] = []
    while not outcomes or outcomes[-1] != "end":
        command = [sys.executable, "-m", "attacks.page_replay", str(tmp_path / str(len(outcomes))), str(len(outcomes))]
        result = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=110, check=False)
        lines = result.stdout.split()
        outcomes += lines
        if not lines or lines[-1] != "end":
            assert result.returncode < 0, result.stderr  # killed by a signal: go on behind this page
            outcomes.append("died")
    outcomes.pop()
    assert set(outcomes) <= {
        "CorruptedStore",
        "StoreUnavailable",
        "RollbackDetected",
        "right",
        "died",
        "OutcomeUnknown",
    }
    assert "CorruptedStore" in outcomes, "a page of a record was exchanged"
    attack.saw("L or E, never a wrong answer")


def test_row_45_any_byte_turned_over_anything_cut_off(host: MaliciousHost, attack: Attack) -> None:
    fill_window(host, host.client("alice"))
    good, window = host.snapshot(), host.records
    newest = window[-1]
    for at in [*range(HEADER_BYTES), *range(HEADER_BYTES, len(newest), 397), len(newest) - 1]:
        flipped = flip_byte(newest, at, 1 << at % 8)
        with pytest.raises(StoreError) as caught:
            host.feed([*window[:-1], flipped])
        assert type(caught.value) is (UnsupportedVersion if at == VERSION_AT else CorruptedStore), at
    for at in (0, HEADER_BYTES - 1, HEADER_BYTES, 2000, len(newest) - 1):
        load_refused(host, partial(host.feed, [*window[:-1], newest[:at]]), CorruptedStore)
    host.restore(good)
    for n in (host.commits, host.commits - len(window) + 1):
        attack.refused_at_load(host, partial(host.flip, n, -1), CorruptedStore)
        host.restore(good)
        attack.refused_at_load(host, partial(host.truncate, n, 3000), CorruptedStore)
        host.restore(good)
    if not isinstance(good, Snapshot):
        return  # not in a file
    for length in (0, 100, 4096, 8192, len(good.data) // 2):
        attack.refused_at_load(host, lambda length=length: host.change_file(lambda data: data[:length]), CorruptedStore)  # type: ignore[misc]
        host.restore(good)


def test_row_46_a_record_deleted(host: MaliciousHost, attack: Attack) -> None:
    fill_window(host, host.client("alice"))
    good, n = host.snapshot(), host.commits
    for deleted in range(n - len(host.records) + 1, n + 1):
        attack.refused_at_load(host, partial(host.delete_record, deleted), CorruptedStore)
        host.restore(good)
    attack.refused_at_load(host, partial(host.feed, []), CorruptedStore)


def test_row_47_a_deleted_key_brought_back(host: MaliciousHost, attack: Attack) -> None:
    """Every run of records that the host ever saw: the ones that load are the states that were, and no others."""
    alice = host.client("alice")
    for number in range(8):
        alice.send(b"fill %02d 400" % number)
    alice.send(b"put secret treasure")
    alice.heartbeat()
    alice.send(b"delete secret ")
    for _ in range(3):
        alice.heartbeat()
    records, n, known = list(host.archive.records), host.commits, save_state(host, "alice")
    alice.close()
    loaded = []
    for stop in range(len(records), 0, -1):
        for start in range(stop):
            try:
                host.feed(records[start:stop])
            except CorruptedStore:
                continue
            loaded.append(stop)
            put_state(host, "alice", known)
            with host.client("alice") as again:
                if stop == n:
                    assert again.send(b"get secret").payload == b"nothing"
                else:
                    with host.refuses(RollbackDetected):
                        again.send(b"get secret")
    assert loaded == list(range(n, 0, -1)), "of each length exactly one"
    attack.saw("impossible")


def test_row_48_a_part_of_a_range_left_out(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    keys = [f"k{number:02}" for number in range(12)]
    for key in keys:
        alice.send(f"put {key} v".encode())
    fill_window(host, alice)
    whole = b" ".join(f"{key}=v".encode() for key in keys)
    window = host.records
    for missing in range(len(window) - 1):
        load_refused(host, partial(host.feed, window[:missing] + window[missing + 1 :]), CorruptedStore)
    host.restore_disk()
    assert alice.send(b"scan k ").payload == whole, "the enclave reads its own memory"
    attack.saw("impossible")


def take(left: list[memoryview], length: int) -> bytes:
    """Reads from a buffer without copying: the very bytes that the host goes on to change."""
    taken, left[0] = left[0][:length], left[0][length:]
    return taken  # type: ignore[return-value]


def test_row_49_a_buffer_changed_after_it_was_checked(attack: Attack) -> None:
    """What comes over the boundary is copied into objects that cannot change, before anything looks at it."""
    sent = [Deliver([Incoming(IncomingKind.MAIL, b"a" * 40)]), Records([b"b" * 40])]
    for command in sent:
        stream = bytearray(b"".join(encode_frame(command)))
        taken = read_command(partial(take, [memoryview(stream)]))
        stream[:] = bytes(len(stream))
        assert taken == command
        data = taken.batch[0].data if isinstance(taken, Deliver) else taken.untrusted_records[0]  # type: ignore[union-attr]
        assert type(memoryview(data).obj) is bytes
    attack.saw("impossible")


def test_row_50_a_key_and_nonce_for_two_plaintexts(
    host: MaliciousHost, attack: Attack, malicious_host: Callable[..., MaliciousHost]
) -> None:
    """Over everything that every host of this run made; and over what this test makes by itself."""
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"add x 1")
    old = host.snapshot()
    for _ in range(3):
        branch = host.clone(old)
        with branch.client("carol") as carol:
            carol.send(b"add x 1")
        forget_state(host, "carol")
        host.restore(old)
        with host.client("dave") as dave:
            dave.send(b"add x 1")
            with host.dropping("reply"):
                send_unheard(dave, b"add x 1")
        forget_state(host, "dave")
        host.crash()
        host.restart()
    malicious_host(Ledger).client("alice").send(b"add x 1")
    assert EVERY_HOST.reused == [] and len(EVERY_HOST) > 50
    attack.saw("none")


def test_the_ledger_of_nonces_finds_one_that_comes_twice() -> None:
    from host_store.adversary.archive import NonceLedger

    ledger = NonceLedger()
    record = b"pml\x01" + bytes(48) + (1).to_bytes(8, "big") * 2 + bytes(32) + bytes(100)
    for again in range(2):
        ledger.note_record(record)
        assert ledger.reused == [], again
    ledger.note_record(flip_byte(record, -1))
    assert len(ledger.reused) == 1
