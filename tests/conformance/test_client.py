"""The client, as users of enclaves know it: constraints, restarts, polling, rollbacks, saved state."""

from __future__ import annotations

import pytest
from attack_steps import put_state, save_state
from attacked_enclaves import Weaker

from client import AttestationError, InvalidInput, RollbackDetected
from host_store.adversary import MaliciousHost
from wire.errors import IdentityMismatch


def test_the_constraint_is_checked_at_the_start(host: MaliciousHost) -> None:
    with pytest.raises(AttestationError):
        host.client("alice", constraint=f"S:{'0' * 64} SEC:INSECURE")
    with pytest.raises(InvalidInput):
        host.client("alice", constraint="anything goes")
    assert host.handlers_ran == 0 and host.archive.hellos("alice") == [], "not even a hello left the client"


def test_the_constraint_is_checked_again_after_the_enclave_restarted(host: MaliciousHost) -> None:
    with host.client("alice") as alice:
        alice.send(b"put x 1")
        assert alice.identity is not None
        code = f"C:{alice.identity.measurement.hex()} SEC:INSECURE"
    alice = host.client("alice", constraint=code)
    assert alice.send(b"get x").payload == b"1"
    host.restart()
    assert alice.send(b"get x").payload == b"1", "the same code is accepted"
    host.clone(enclave=Weaker).adopt("alice")
    with host.refuses(IdentityMismatch):
        alice.send(b"get x")


def test_mail_with_and_without_a_response(host: MaliciousHost) -> None:
    alice = host.client("alice")
    assert alice.send(b"put x 1").payload == b"put"
    silent = alice.send(b"quietly x 2")
    assert silent.payload is None and silent.receipt.commit > 0, "a receipt comes all the same"
    assert alice.send(b"get x").payload == b"2"


def test_asynchronous_mail_is_polled(host: MaliciousHost) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    bob.send(b"get x")
    assert bob.poll() == []
    alice.send(f"mail {bob.client_id} first".encode())
    assert [(mail.number, mail.body) for mail in bob.poll()] == [(0, b"first")]
    host.restart()
    alice.send(f"mail {bob.client_id} second".encode())
    assert [(mail.number, mail.body) for mail in bob.poll()] == [(1, b"second")]
    assert bob.poll() == []


def test_a_restart_is_told_once(host: MaliciousHost) -> None:
    told: list[str] = []
    alice = host.client("alice", on_restart=lambda: told.append("restarted"))
    alice.send(b"put x 1")
    assert told == []
    host.restart()
    alice.send(b"get x")
    alice.send(b"get x")
    assert told == ["restarted"]


def test_a_rollback_raises_and_by_explicit_choice_is_accepted(host: MaliciousHost) -> None:
    alice = host.client("alice")
    alice.send(b"put x 1")
    old = host.snapshot()
    alice.send(b"put x 2")
    host.restore(old)
    with host.refuses(RollbackDetected):
        alice.send(b"get x")
    host.restore(old)  # where the enclave is not quarantined
    alice.accept_rollback()
    assert alice.send(b"get x").payload == b"1"


@pytest.mark.parametrize("round_trips", [0, 1, 2])
@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_saved_client_goes_on(host: MaliciousHost, round_trips: int, more: int) -> None:
    with host.client("alice") as alice:
        for _ in range(round_trips):
            alice.send(b"add x 1")
        name = alice.client_id
    saved = save_state(host, "alice")
    host.restart()
    put_state(host, "alice", saved)
    with host.client("alice") as alice:
        assert alice.client_id == name
        for _ in range(more):
            alice.send(b"add x 1")
        assert alice.send(b"get x").payload == (str(round_trips + more).encode() if round_trips + more else b"nothing")
