"""Rows 18 to 24: old messages once more."""

from __future__ import annotations

from attack_steps import Attack, raise_refusal, refusal, send_unheard, silently
from raw_client import RawClient

from client import (
    ClientStale,
    Fate,
    HostUnavailable,
    OutcomeUnknown,
    ReplayRefused,
    SessionUnknown,
)
from host_store.adversary import Direction, MaliciousHost


def test_row_18_a_mail_replayed_in_the_same_epoch(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    for _ in range(3):
        alice.send(b"add x 1")
    mails = host.archive.sent("alice")
    for old in mails[:-1]:
        attack.refused_by_enclave(host, lambda old=old: raise_refusal(alice, host.replay(old)), ClientStale, alice)  # type: ignore[misc]
    host.reset_handlers()
    # The newest one may be one whose reply was lost: the same reply comes again, and nothing is executed.
    assert host.replay(mails[-1]) == host.archive.answers("alice")[-1].data
    with host.holding() as held:
        send_unheard(alice, b"add x 1000")
    (given_up,) = alice.recover(resend=False)
    assert given_up.fate is Fate.NOT_EXECUTED
    fenced = held.held[0][0]
    attack.refused_by_enclave(host, lambda: raise_refusal(alice, host.deliver(fenced)), ReplayRefused, alice)
    host.assert_no_handler_ran()
    assert alice.send(b"get x").payload == b"3"


def test_row_19_a_mail_replayed_after_a_restart(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    for _ in range(2):
        alice.send(b"add x 1")
    mails = host.archive.sent("alice")
    for end in (host.restart, host.crash):
        end()
        for mail in mails:
            attack.rejected_by_enclave(host, lambda mail=mail: host.replay(mail), SessionUnknown)  # type: ignore[misc]
    assert alice.send(b"get x").payload == b"2"


def test_row_20_a_hello_replayed(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"get x")
    hello = host.archive.hellos("alice")[-1]
    commits = host.commits
    attack.refused_by_enclave(host, lambda: raise_refusal(alice, host.replay(hello)), ReplayRefused, alice)
    assert host.commits == commits, "nothing is written about it"
    assert alice.send(b"get x").payload == b"nothing", "the session is the client's still"
    host.restart()
    attack.rejected_by_enclave(host, lambda: host.replay(hello), SessionUnknown)


def test_row_21_an_old_reply_for_an_answer(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    for _ in range(3):
        alice.send(b"add x 1")
    old = host.archive.answers("alice")[-3]
    with host.answering(old):
        error = attack.refused_by_client(host, lambda: alice.send(b"add x 1"), OutcomeUnknown)
    assert isinstance(error.__cause__, ReplayRefused)
    assert [one.fate for one in alice.recover()] == [Fate.EXECUTED]
    assert alice.send(b"get x").payload == b"4"


def test_row_22_the_same_reply_twice(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"add x 1")
    with host.answering(host.archive.answers("alice")[-1]):
        error = attack.refused_by_client(host, lambda: alice.send(b"add x 1"), OutcomeUnknown)
    assert isinstance(error.__cause__, ReplayRefused)
    with host.duplicating() as doubled:
        alice.recover()
    assert all(first == second for first, second in doubled.answers[-1:])
    assert alice.send(b"get x").payload == b"2"


def test_row_23_an_acknowledgement_replayed(host: MaliciousHost, attack: Attack) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for client in (alice, bob):
        client.send(b"get x")
    bob.heartbeat()
    old = host.archive.sent("bob")[-1]
    assert bob.checkpoint is not None
    shown = bob.checkpoint.size
    bob.heartbeat()
    attack.refused_by_enclave(host, lambda: raise_refusal(bob, host.replay(old)), ClientStale, bob)
    for _ in range(3):
        assert alice.heartbeat().stable <= shown, "it says nothing new of what bob holds"
        assert isinstance(refusal(bob, host.replay(old)), ClientStale)
    assert alice.heartbeat().stable == shown


def test_row_24_an_old_attestation(host: MaliciousHost, attack: Attack) -> None:
    alice = host.client("alice")
    alice.send(b"get x")
    old = host.attestation()
    host.restart()
    host.reset_handlers()
    with host.attesting(old):
        attack.refused_by_client(host, lambda: alice.send(b"add x 1"), OutcomeUnknown)
        newcomer = host.client("newcomer")
        attack.refused_by_client(host, lambda: newcomer.send(b"add x 1"), HostUnavailable)
    host.assert_no_handler_ran()
    assert alice.send(b"get x").payload == b"1", "what was under way is settled first"
    assert newcomer.send(b"add x 1").payload == b"2"


def test_no_request_however_old_makes_an_enclave_execute_anything_twice(host: MaliciousHost) -> None:
    alice, bob = host.client("alice"), host.client("bob")
    for number in range(4):
        alice.send(b"add x 1", topic=f"t{number % 2}")
        bob.send(b"add x 1")
        if number == 1:
            host.restart()
    raw = RawClient()
    raw.hello(host.attestation(), host.deliver)
    host.reset_handlers()
    for message in host.archive.find(direction=Direction.REQUEST):
        silently(lambda message=message: host.replay(message))  # type: ignore[misc]
    host.assert_no_handler_ran()
    assert alice.send(b"get x").payload == b"8"
