"""Rows 1 to 10: the host puts an older state in the place of the newest."""

from __future__ import annotations

import struct
from functools import partial

import pytest
from attack_steps import Attack, send_unheard
from attacked_enclaves import Ledger

from client import Fate, ForkDetected, RollbackDetected
from host_store.adversary import MaliciousHost, Snapshot

PAGE = 4096  # bytes
META_AT = 16  # bytes: a page's header
TRANSACTION = struct.Struct("=Q")
TRANSACTION_AT = META_AT + 128


@pytest.mark.parametrize("commits", [2, 3, 5])
def test_row_01_a_store_put_back_several_commits(host: MaliciousHost, attack: Attack, commits: int) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    old = host.snapshot()
    for _ in range(commits):
        alice.send(b"add x 1")
    host.restore(old)
    attack.refused_by_enclave(host, lambda: alice.send(b"add x 1"), RollbackDetected, alice)


def test_row_02_a_store_put_back_one_acknowledged_commit(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    old = host.snapshot()
    alice.send(b"add x 1")
    host.restore(old)
    attack.refused_by_enclave(host, lambda: alice.send(b"get x"), RollbackDetected, alice)


def test_row_03_an_unacknowledged_commit_is_lost_and_the_mail_sent_again(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    alice.send(b"add x 1")
    bob.send(b"get x")
    old = host.snapshot()
    with host.dropping("reply", client="alice"):
        send_unheard(alice, b"add x 10")
    host.restore(old)
    (resolved,) = alice.recover()
    assert (resolved.fate, resolved.reply and resolved.reply.payload) == (Fate.EXECUTED, b"11")
    assert bob.send(b"get x").payload == b"11"
    assert alice.verdict is bob.verdict is None
    attack.saw("ok")


def test_row_04_rolled_back_and_shown_only_to_those_who_do_not_know_better(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"add x 1")
    old = host.snapshot()
    for _ in range(20):
        alice.send(b"add x 1")
    host.restore(old)
    reply = bob.send(b"get x")
    assert reply.payload == b"2", "nothing that bob holds speaks against it"
    attack.never_stable(bob, reply.receipt.commit)
    attack.found_when_caught_up(bob, alice)


def test_row_05_rolled_back_over_mails_that_were_answered_with_nothing(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"put x 1")
    old = host.snapshot()
    assert alice.send(b"quietly x 2").payload is None
    host.restore(old)
    attack.refused_by_enclave(host, lambda: alice.send(b"quietly x 3"), RollbackDetected, alice)


def test_row_06_a_mail_to_a_third_client_about_an_old_state(host: MaliciousHost, attack: Attack) -> None:
    alice, bob, carol = host.client("alice"), host.client("bob"), host.client("carol")
    for client in (alice, bob, carol):
        client.send(b"get x")
    old = host.snapshot()
    for _ in range(20):
        alice.send(b"add x 1")
    host.restore(old)
    bob.send(f"mail {carol.client_id} x-is-nothing".encode())
    assert [mail.body for mail in carol.poll()] == [b"x-is-nothing"]
    attack.never_stable(carol, carol.heartbeat().commit)
    attack.found_when_caught_up(carol, alice)


def overwrite_newest_meta(data: bytes) -> bytes:
    """LMDB's data file with the newer of its two meta pages overwritten by the older one."""
    ids = [TRANSACTION.unpack_from(data, page * PAGE + TRANSACTION_AT)[0] for page in (0, 1)]
    newer, older = (0, 1) if ids[0] > ids[1] else (1, 0)
    meta = data[older * PAGE + META_AT : (older + 1) * PAGE]
    return data[: newer * PAGE + META_AT] + meta + data[(newer + 1) * PAGE :]


def test_row_07_the_newest_meta_page_destroyed(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    alice.send(b"add x 1")
    commits = host.commits
    host.change_file(overwrite_newest_meta)
    assert host.commits == commits, "LMDB opens the transaction before, and the journal has all that is missing"
    host.change_file(overwrite_newest_meta, journal=lambda content: content[:PAGE].ljust(len(content), b"\0"))
    assert host.commits < commits, "without its frames there is nothing to go on from"
    attack.refused_by_enclave(host, lambda: alice.send(b"get x"), RollbackDetected, alice)


def test_row_08_two_old_states_in_turn(host: MaliciousHost, attack: Attack) -> None:
    clients = [host.client(name) for name in ("alice", "bob", "carol", "dave")]
    states: list[Snapshot] = []
    for _ in range(2):
        for client in clients:
            client.send(b"add x 1")
        states.append(host.snapshot())
    for client in clients:
        client.send(b"add x 1")
    for number, client in enumerate(clients):
        host.restore(states[number % 2])
        attack.refused_by_enclave(host, partial(client.send, b"get x"), RollbackDetected, client)


def test_row_09_rolled_back_and_refilled_to_the_same_number(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    alice.send(b"put x 1")
    bob.send(b"get x")
    old = host.snapshot()
    alice.send(b"put x 2")
    alice.send(b"put x 3")
    number = host.commits
    host.restore(old)
    while host.commits < number:
        bob.send(b"put x other")
    assert host.commits >= number
    attack.refused_by_enclave(host, lambda: alice.send(b"get x"), ForkDetected, alice)


def test_row_10_only_the_waiting_replies_put_back(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    old = host.snapshot()
    with host.dropping("reply"):
        send_unheard(alice, b"add x 10")
    host.restore_outbox_only(old)
    (resolved,) = alice.recover()
    assert resolved.fate is Fate.WITHHELD, "it was executed, and that is all that is left to be said"
    assert alice.send(b"get x").payload == b"11"
    with host.dropping("reply"):
        send_unheard(alice, b"add x 100")
    empty = host.clone(old)
    host.restore_outbox_only(empty.snapshot())
    alice.recover()
    assert alice.send(b"get x").payload == b"111" and alice.verdict is None
    attack.saw("ok")


def test_the_enclave_as_a_process_refuses_a_rollback_as_well(malicious_host) -> None:  # type: ignore[no-untyped-def]
    host = malicious_host(Ledger, process=True)
    alice = host.client("alice")
    alice.send(b"add x 1")
    old = host.snapshot()
    alice.send(b"add x 1")
    host.restore(old)
    with host.refuses(RollbackDetected):
        alice.send(b"get x")
    host.crash()
    with host.refuses(RollbackDetected):
        host.client("bob").send(b"get x")
