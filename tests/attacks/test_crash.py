"""Rows 70 to 75: crashes of an honest host. Nothing acknowledged is lost, nothing is executed twice, no alarm."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attack_steps import Attack, send_unheard
from attacked_enclaves import Ledger

from client import EnclaveClient, Fate, MailFailed, OutcomeUnknown
from host_store.adversary import MaliciousHost
from wire.mail import EnvelopeKind, envelope_kind


@pytest.fixture
def alice(host: MaliciousHost) -> EnclaveClient:
    client = host.client("alice")
    client.send(b"add x 1")
    return client


def settles(host: MaliciousHost, alice: EnclaveClient, attack: Attack, *, ran: int) -> None:
    """The mail that was under way is executed, once; ``ran``: how often its handler was run in all."""
    (resolved,) = alice.recover()
    assert resolved.fate is Fate.EXECUTED and resolved.reply is not None
    assert resolved.reply.payload == alice.send(b"get x").payload == b"11"
    assert host.handled.count(b"add x 10") == ran
    bob = host.client("bob")
    assert bob.send(b"get x").payload == b"11"
    assert alice.verdict is bob.verdict is None
    host.restart()
    assert alice.send(b"get x").payload == b"11"
    attack.saw("ok")


def test_row_70_before_the_append(host: MaliciousHost, alice: EnclaveClient, attack: Attack) -> None:
    with host.crashing("append", before=True), pytest.raises(OutcomeUnknown):
        alice.send(b"add x 10")
    settles(host, alice, attack, ran=2)  # the first run happened in memory that is gone


def test_row_71_after_the_append(host: MaliciousHost, alice: EnclaveClient, attack: Attack) -> None:
    with host.crashing("append", before=False), pytest.raises(OutcomeUnknown):
        alice.send(b"add x 10")
    settles(host, alice, attack, ran=1)


def test_row_72_before_the_reply(host: MaliciousHost, alice: EnclaveClient, attack: Attack) -> None:
    def crash(envelope: bytes, forward: Callable[[bytes], bytes]) -> bytes:
        forward(envelope)
        host.crash()
        return b""

    with host.answering(crash, times=1), host.dropping("request"):
        send_unheard(alice, b"add x 10")
    with host.answering(crash, times=1):
        settled = alice.recover()
    assert [one.fate for one in settled] == [Fate.EXECUTED]
    assert alice.send(b"get x").payload == b"11" and host.handled.count(b"add x 10") == 1
    attack.saw("ok")


def test_row_73_after_the_reply(host: MaliciousHost, alice: EnclaveClient, attack: Attack) -> None:
    alice.send(b"add x 10")
    evidence = alice.checkpoint
    host.crash()
    assert alice.recover() == [] and alice.checkpoint == evidence
    assert alice.send(b"get x").payload == b"11" and host.handled.count(b"add x 10") == 1
    assert alice.verdict is None
    attack.saw("ok")


def test_row_74_a_handler_that_raises_after_it_changed_the_state(
    host: MaliciousHost, alice: EnclaveClient, attack: Attack
) -> None:
    def state() -> list[tuple[str, bytes]]:
        channel = host.running()._supervisor._channel
        return list(channel._core.map.items())  # type: ignore[union-attr, attr-defined]

    alice.send(b"put y 1")
    before = state()
    for body in (b"spoil x", b"crash y", b"spoil new", b"fill y 9999999", b"add y no-number"):
        with pytest.raises(MailFailed):
            alice.send(body)
        assert state() == before
    assert alice.poll() == [], "nor was anything sent"
    host.restart()
    with pytest.raises(MailFailed):
        alice.send(b"spoil x")
    assert state() == before
    attack.saw("state equal")


class Restarting:
    """Restarts the enclave around the mails that come: before the second, and after the third was processed."""

    def __init__(self, host: MaliciousHost) -> None:
        self.host = host
        self.count = 0

    def __call__(self, envelope: bytes, forward: Callable[[bytes], bytes]) -> bytes:
        if envelope_kind(envelope) is EnvelopeKind.MAIL:
            self.count += 1
            if self.count == 3:
                forward(envelope)
            if self.count in (2, 3):
                self.host.restart()
        return forward(envelope)


def test_row_75_two_restarts_during_recover(host: MaliciousHost, alice: EnclaveClient, attack: Attack) -> None:
    alice.close()
    alice = host.client("alice", retry_delays=(0.0,) * 6)
    for was_executed in (True, False):
        total = int(alice.send(b"get x").payload or b"")
        with host.dropping("reply" if was_executed else "request"):
            send_unheard(alice, b"add x 10")
        host.restart()
        mails = Restarting(host)
        with host.answering(mails), host.polling(lambda messages: [], times=1):
            (resolved,) = alice.recover()
        assert mails.count > 3 and resolved.fate is Fate.EXECUTED
        assert alice.send(b"get x").payload == str(total + 10).encode()
    assert alice.verdict is None
    attack.saw("ok")


def test_a_crash_of_the_enclave_process_loses_nothing(malicious_host: Callable[..., MaliciousHost]) -> None:
    host = malicious_host(Ledger, process=True)
    alice = host.client("alice")
    alice.send(b"add x 1")
    with host.crashing("append", before=False), pytest.raises(OutcomeUnknown):
        alice.send(b"add x 10")
    alice.recover()
    assert alice.send(b"get x").payload == b"11" and alice.verdict is None
