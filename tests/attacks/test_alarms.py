"""Rows 63 to 69: alarms that stay, and clients who lie about what they hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from attack_steps import Attack
from attacked_enclaves import with_voters
from raw_client import RawClient

from client import EvidenceInvalid, OutcomeUnknown, RollbackDetected
from host_store.adversary import MaliciousHost
from host_store.adversary.snapshot import flip_byte
from wire.checkpoint import Checkpoint
from wire.errors import FreshnessError, HandlerFailed
from wire.mail import RequestKind


def test_row_63_restarted_after_an_alarm(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"add x 1")
    old = host.snapshot()
    alice.send(b"add x 1")
    host.restore(old)
    verdict = attack.refused_by_enclave(host, lambda: alice.send(b"get x"), RollbackDetected, alice)
    assert isinstance(verdict, FreshnessError)
    for end in (host.restart, host.crash, host.restart):
        end()
        with host.refuses(RollbackDetected) as told:
            bob.send(b"get x")
        with pytest.raises(HandlerFailed, match="quarantined"):
            host.call(b"put x 9")
        assert isinstance(told[0], FreshnessError) and told[0].alarm == verdict.alarm
    host.reset_handlers()
    quarantined = host.clone()
    with quarantined.refuses(RollbackDetected):
        quarantined.client("carol").send(b"get x")


def test_row_64_a_client_makes_evidence_up(host: MaliciousHost, attack: Attack) -> None:
    bob = host.client("bob")
    bob.send(b"add x 1")
    client = RawClient()
    client.hello(host.attestation(), host.deliver)
    client.mail(b"add x 1", host.deliver)
    true = client.highest
    assert true is not None
    forged = (
        Checkpoint(true.store_id, true.size + 1000, true.root, true.signature),
        Checkpoint(true.store_id, true.size, bytes(32), true.signature),
        replace(true, size=true.size + 1, signature=bytes(64)),
    )
    for evidence in forged:
        for of_stream in (False, True):
            client.highest, client.stream("t").evidence = (true, evidence) if of_stream else (evidence, true)
            attack.rejected_by_enclave(host, lambda: client.mail(b"add x 10", host.deliver), EvidenceInvalid)
    client.highest = client.stream("t").evidence = true
    assert client.mail(b"get x", host.deliver) == b"2", "the next mail, with true evidence, is processed"
    host.restart()
    assert bob.send(b"get x").payload == b"2" and bob.verdict is None


def test_row_65_voters_who_collude(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    """They can hold back the truth about what they remember, but no more than their own weight of it."""
    alice, bob, mallory = (RawClient() for _ in range(3))
    host = malicious_host(with_voters({alice.name: 2, bob.name: 2, mallory.name: 1}))
    for client in (alice, bob, mallory):
        client.hello(host.attestation(), host.deliver)
    payment = alice.send(b"add x 1", host.deliver)
    assert payment.checkpoint is not None
    for _ in range(6):
        stable = mallory.send(b"", host.deliver, kind=RequestKind.HEARTBEAT).stable
        assert stable < payment.checkpoint.size
    # Evidence that she was never given cannot be acknowledged at all.
    mallory.highest = replace(payment.checkpoint, size=payment.checkpoint.size + 50)
    with host.refuses(EvidenceInvalid):
        mallory.send(b"", host.deliver, kind=RequestKind.HEARTBEAT)
    attack.saw("S not stable")
    for client in (alice, bob, alice, bob):
        stable = client.send(b"", host.deliver, kind=RequestKind.HEARTBEAT).stable
    assert stable >= payment.checkpoint.size


def test_row_66_a_forged_stable_size(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice", retry_delays=())
    alice.send(b"add x 1")
    for at in (0, 1, 5, 20, 60, 120, 200, -17, -1):

        def forge(envelope: bytes, forward: Callable[[bytes], bytes], at: int = at) -> bytes:
            return flip_byte(forward(envelope), at)

        with host.answering(forge), host.polling(lambda messages: [flip_byte(one, -1) for one in messages]):
            attack.refused_by_client(host, lambda: alice.send(b"add x 1"), OutcomeUnknown)
        alice.recover()
    assert alice.send(b"get x").payload == b"10" and alice.verdict is None
