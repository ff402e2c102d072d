"""Rows 25 to 30: messages in another order, late, or never."""

from __future__ import annotations

import pytest
from attack_steps import Attack, open_answer, raise_refusal, send_unheard, silently
from raw_client import RawClient

from client import (
    ClientStale,
    EnclaveClient,
    EvidenceUnproven,
    Fate,
    GapRefused,
    HostUnavailable,
    OutcomeUnknown,
    ReplayRefused,
    SessionUnknown,
    StoreUnavailable,
)
from host_store.adversary import MaliciousHost
from wire.errors import Fault
from wire.mail import Outcome


def test_row_25_two_mails_of_one_stream_exchanged(host: MaliciousHost, attack: Attack) -> None:
    client = RawClient()
    client.hello(host.attestation(), host.deliver)
    first = client.seal(b"add x 1")
    client.stream("t").next = 1  # as a client would that does not wait for answers
    client.seal(b"add x 10")
    attack.rejected_by_enclave(host, lambda: client.accept(host.deliver(client.stream("t").pending or b"")), GapRefused)
    host.assert_no_handler_ran()
    client.stream("t").next, client.stream("t").pending = 0, first
    assert client.accept(host.deliver(first)).outcome is Outcome.EXECUTED
    host.restart()
    client.hello(host.attestation(), host.deliver)
    client.stream("t").next = 5
    with host.refuses(GapRefused):
        client.mail(b"add x 10", host.deliver)


def test_row_26_a_reply_dropped_and_a_crash_pretended(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    for end in (host.restart, host.crash):
        with host.dropping("reply"):
            send_unheard(alice, b"add x 1")
        end()
        (resolved,) = alice.recover()
        assert resolved.fate is Fate.EXECUTED and resolved.reply is not None
    assert resolved.reply.payload == alice.send(b"get x").payload == b"3"
    assert host.handlers_ran == 4 and alice.verdict is None
    attack.saw("ok")


def test_row_27_a_request_dropped(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    with host.dropping("request"), pytest.raises(OutcomeUnknown) as caught:
        alice.send(b"add x 1")
    assert host.handlers_ran == 1 and caught.value.fault is Fault.NETWORK
    attack.saw(f"T {type(caught.value).__name__}")
    assert [one.fate for one in alice.recover()] == [Fate.EXECUTED]
    assert alice.send(b"get x").payload == b"2" and alice.verdict is None


def test_row_28_a_mail_held_back_until_it_is_no_longer_wanted(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"put door locked")
    with host.holding() as held:
        send_unheard(alice, b"put door open")
    (given_up,) = alice.recover(resend=False)
    assert given_up.fate is Fate.NOT_EXECUTED
    (late, *_) = held.held

    def release() -> None:
        (answer,) = held.release([0])
        assert isinstance(answer, bytes), answer
        raise_refusal(alice, answer)

    attack.refused_by_enclave(host, release, ReplayRefused, alice)
    assert alice.send(b"put door locked").payload == b"put"
    attack.refused_by_enclave(host, release, ClientStale, alice)
    host.restart()
    with pytest.raises(SessionUnknown):
        host.deliver(late[0])
    assert alice.send(b"get door").payload == b"locked"


def test_row_29_acknowledgements_starved(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"get x")
    payment = alice.send(b"add x 1").receipt
    with host.dropping("request", client="bob"):
        with pytest.raises(OutcomeUnknown):
            bob.heartbeat()
        attack.never_stable(alice, payment.commit)
        with pytest.raises(HostUnavailable, match="has not become stable"):
            alice.wait_stable(payment, timeout=0.05)
    bob.heartbeat()
    bob.heartbeat()
    alice.wait_stable(payment)


def test_row_30_a_mail_of_the_enclave_dropped(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"get x")
    for number in range(3):
        alice.send(f"mail {bob.client_id} {number}".encode())
    lost: list[bytes] = []

    def lose_the_first(messages: list[bytes]) -> list[bytes]:
        if not lost:
            lost.append(inbox_mail(bob, messages, 0))
        return [message for message in messages if message not in lost]

    with host.polling(lose_the_first, client="bob"):
        with pytest.raises(GapRefused) as caught:
            bob.poll()
        assert caught.value.fault is Fault.HOST
        attack.saw(f"N {type(caught.value).__name__}")
        with pytest.raises(GapRefused):
            bob.poll()
    assert [mail.body for mail in bob.poll()] == [b"0", b"1", b"2"], "nothing is lost once the host gives in"


def inbox_mail(client: EnclaveClient, messages: list[bytes], number: int) -> bytes:
    for message in messages:
        reply = open_answer(client, message)
        if (reply.outcome, reply.sequence) == (Outcome.INBOX, number):
            return message
    raise AssertionError(f"no mail {number} waits")


def test_a_mail_that_was_refused_for_want_of_a_proof_is_not_executed_later(
    host: MaliciousHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pmap.history.RECENT_ROOTS", 3)  # so that commits are forgotten soon
    alice, bob = host.client("alice"), host.client("bob")
    alice.send(b"put door locked")
    bob.send(b"get door")
    note = bob.checkpoint
    assert note is not None
    for _ in range(5):
        bob.send(b"get door")
    alice.compare(note)  # now her highest evidence, of a commit that the enclave does not remember

    def withhold(level: int, index: int) -> bytes:
        raise StoreUnavailable("no proof today")

    store = host.running_store()
    with monkeypatch.context() as withholding:
        withholding.setattr(store, "node", withhold)
        with host.refuses(EvidenceUnproven):
            alice.send(b"put door open")
    late = host.archive.sent("alice")[-1]
    if alice._session.pending_topics:
        return  # the client knows that the outcome is open
    host.reset_handlers()
    silently(lambda: host.replay(late))
    host.assert_no_handler_ran()
