"""Rows 11 to 17b: the host runs two enclaves where there should be one."""

from __future__ import annotations

import os
import time

import pytest
from attack_steps import Attack, send_unheard
from attacked_enclaves import Ledger
from core_host import CoreHost
from raw_client import RawClient

from client import EnclaveClient, ForkDetected, HostUnavailable, RollbackDetected, SessionUnknown
from host_store.adversary import MaliciousHost
from wire.alarm import proves_fork
from wire.checkpoint import Checkpoint
from wire.errors import StoreFenced


def parted(host: MaliciousHost) -> tuple[MaliciousHost, EnclaveClient, EnclaveClient]:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"add x 1")
    other = host.clone()
    other.adopt("bob")
    return other, alice, bob


def test_row_11_two_enclaves_with_the_clients_parted(host: MaliciousHost, attack: Attack) -> None:
    _other, alice, bob = parted(host)
    payment = alice.send(b"add x 10")
    assert bob.send(b"add x 100").payload == b"102"
    attack.never_stable(alice, payment.receipt.commit)
    attack.found_by_comparing(alice, bob)


def test_row_12_the_same_two_mails_in_opposite_order(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"get x")
    other = host.clone()
    alice.send(b"add x 1")
    bob.send(b"add x 10")
    first, second = host.archive.sent("alice")[-1], host.archive.sent("bob")[-1]
    for mail in (second, first):
        attack.rejected_by_enclave(other, lambda mail=mail: other.replay(mail), SessionUnknown)  # type: ignore[misc]
    other.assert_no_handler_ran()


def test_row_13_a_client_led_to_the_other_fork(host: MaliciousHost, attack: Attack) -> None:
    other, alice, bob = parted(host)
    alice.send(b"add x 10")
    for _ in range(4):
        bob.send(b"add x 100")
    other.adopt("alice")
    attack.refused_by_enclave(other, lambda: alice.send(b"get x"), ForkDetected, alice)


def test_row_14_a_newcomer_enrolled_in_one_fork(host: MaliciousHost, attack: Attack) -> None:
    other, alice, _bob = parted(host)
    alice.send(b"add x 10")
    carol = other.client("carol")
    assert carol.send(b"get x").payload == b"2"
    attack.found_by_comparing(alice, carol)


def test_row_15_the_old_enclave_goes_on_after_the_store_has_moved(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    moved = host.clone()
    moved.adopt("alice")
    assert alice.send(b"add x 1").payload == b"2"
    host.adopt("alice")
    attack.refused_by_enclave(host, lambda: alice.send(b"add x 1"), RollbackDetected, alice)


def test_row_16_an_old_instance_that_serves_the_reads(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"put x old")
    stale = host.clone()
    alice.send(b"put x new")
    stale.adopt("alice")
    attack.refused_by_enclave(stale, lambda: alice.send(b"get x"), RollbackDetected, alice)


def test_row_17_a_running_enclave_resumed_twice(attack: Attack) -> None:
    """The TEE is trusted not to allow this (A1); signed checkpoints show it all the same."""
    host = CoreHost.found(Ledger)
    alice, bob = RawClient(), RawClient()
    for client in (alice, bob):
        client.hello(host.document, host.deliver)
        client.mail(b"add x 1", host.deliver)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            bob.mail(b"add x 100", host.deliver)
            assert bob.highest is not None
            os.write(write_end, bob.highest.encode())
        finally:
            os._exit(0)
    os.close(write_end)
    alice.mail(b"add x 10", host.deliver)
    with open(read_end, "rb") as pipe:
        sent = pipe.read()
    os.waitpid(child, 0)
    assert alice.attestation is not None and alice.highest is not None
    theirs = Checkpoint.decode(alice.attestation.store_id, sent)
    assert theirs.size == alice.highest.size, "one epoch, one number, two records"
    proves_fork(alice.highest, theirs, alice.attestation.checkpoint_key)
    attack.saw("X ForkDetected")


def test_row_17b_two_hosts_on_one_store(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"add x 1")
    twin = host.twin()
    twin.adopt("bob")
    assert alice.send(b"add x 10").payload == b"12"
    send_unheard(bob, b"add x 100")
    until = time.monotonic() + 60
    while twin.failure is None and time.monotonic() < until:
        time.sleep(0.01)  # bob is told before the host has drawn its conclusion
    assert isinstance(twin.failure, StoreFenced)
    attack.saw(type(twin.failure).__name__)
    with pytest.raises(HostUnavailable):
        bob.send(b"add x 100")
    host.adopt("bob")
    bob.recover(resend=False)
    assert alice.send(b"get x").payload == b"12", "what was not appended did not happen"
    assert alice.verdict is bob.verdict is None
