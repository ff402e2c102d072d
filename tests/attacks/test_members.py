"""Rows 54 to 58, 67 to 69 and 90: the host changes whose word counts, and what becomes of those whose word counts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy

import pytest
from attack_steps import Attack
from attacked_enclaves import Club, with_voters
from raw_client import RawClient

from client import AttestationError, ClientStale, ForkDetected, HostUnavailable, MailFailed, RollbackDetected
from host_store.adversary import MaliciousHost
from wire.errors import NotEnrolled, SessionUnknown
from wire.mail import Outcome, RequestKind


def acknowledge(host: MaliciousHost, *members: RawClient) -> int:
    """Heartbeats; what is stable after the last one."""
    return [member.send(b"", host.deliver, kind=RequestKind.HEARTBEAT).stable for member in members][-1]


def voters(number: int) -> tuple[list[RawClient], dict[str, int]]:
    clients = [RawClient() for _ in range(number)]
    return clients, {client.name: 1 for client in clients}


def test_row_54_a_removal_undone(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    """Who is a member is the author's to say, as a part of the state; so it goes back with the state, or not at all."""
    host = malicious_host(Club)
    chair, mallory = host.client("chair"), host.client("mallory")
    chair.send(b"get x")
    mallory.send(b"put x 1")
    before = host.snapshot()
    chair.send(b"close")
    chair.send(f"remove {mallory.client_id}".encode())
    with pytest.raises(MailFailed):
        mallory.send(b"put x 2")
    host.restore(before)
    # She was told of her removal, so even her own mail proves the rollback; and so does any other member's.
    attack.refused_by_enclave(host, lambda: mallory.send(b"put x 2"), RollbackDetected, mallory)
    host.restore(before)
    attack.refused_by_enclave(host, lambda: chair.send(b"get x"), RollbackDetected, chair)


def test_row_57_a_removed_members_name_again(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    """A name is a key, and an enclave never forgets one."""
    host = malicious_host(Club)
    chair, mallory = host.client("chair"), RawClient()
    chair.send(b"get x")
    mallory.hello(host.attestation(), host.deliver)
    old_mail = mallory.seal(b"put x 1")
    assert mallory.accept(host.deliver(old_mail)).outcome is Outcome.EXECUTED
    chair.send(b"close")
    chair.send(f"remove {mallory.name}".encode())
    for end in (lambda: None, host.restart, host.crash):
        end()
        again, stranger = RawClient(key=mallory.key, hellos=9), RawClient()
        attack.rejected_by_enclave(host, lambda: again.hello(host.attestation(), host.deliver), ClientStale)  # noqa: B023
        attack.rejected_by_enclave(host, lambda: stranger.hello(host.attestation(), host.deliver), NotEnrolled)  # noqa: B023
        host.reset_handlers()
        with suppress(SessionUnknown):
            host.deliver(old_mail)
        host.assert_no_handler_ran()


def test_row_55_made_up_members(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    members, roster = voters(3)
    host = malicious_host(with_voters(roster))
    for member in members:
        member.hello(host.attestation(), host.deliver)
    payment = members[0].send(b"add x 1", host.deliver)
    assert payment.checkpoint is not None
    for number in range(8):
        phantom = host.client(f"phantom-{number}")
        for _ in range(2):
            stable = phantom.heartbeat().stable
        assert stable < payment.checkpoint.size, "strangers do not count, however many they are"
    attack.saw("S not stable")
    for member in members[:2] * 2:
        stable = member.send(b"", host.deliver, kind=RequestKind.HEARTBEAT).stable
    assert stable >= payment.checkpoint.size

    # In the list itself they would show: it is attested, and every client has pinned it.
    alice = host.client("alice")
    alice.send(b"get x")
    phantoms = {f"{number:064x}": 1 for number in range(8)}
    inflated = host.clone(enclave=with_voters(roster | phantoms))
    inflated.adopt("alice")
    attack.refused_by_client(inflated, lambda: alice.send(b"add x 1"), AttestationError)
    inflated.assert_no_handler_ran()


def test_row_56_members_evicted(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    members, roster = voters(3)
    host = malicious_host(with_voters(roster))
    alice = host.client("alice")
    alice.send(b"get x")
    fewer = dict(list(roster.items())[:1])
    for changed in (with_voters(fewer), with_voters(roster, quorum=1), with_voters({})):
        other = host.clone(enclave=changed)
        other.adopt("alice")
        with host.refuses(AttestationError):
            attack.refused_by_client(other, lambda: alice.send(b"add x 1"), AttestationError)
            alice.send(b"add x 1")
        other.restart()
        with host.refuses(AttestationError):
            alice.send(b"add x 1")
    host.adopt("alice")
    alice.recover(resend=False)
    assert alice.send(b"get x").payload == b"nothing"
    assert len(members) == 3


def test_row_58_an_old_list_of_voters_to_a_newcomer(
    malicious_host: Callable[..., MaliciousHost], attack: Attack
) -> None:
    _members, roster = voters(3)
    host = malicious_host(with_voters(roster))
    alice = host.client("alice")
    alice.send(b"get x")
    invite = alice.invite()
    old = host.clone(enclave=with_voters(dict(list(roster.items())[:2])))
    attack.refused_by_client(old, lambda: old.client("invited", invite=invite), AttestationError)
    assert host.client("invited-here", invite=invite).send(b"get x").payload == b"nothing"
    with pytest.raises(AttestationError):
        old.client("invited-again", invite=invite)


# --- voters as witnesses ---------------------------------------------------------------------------------------


def voted_host(malicious_host: Callable[..., MaliciousHost]) -> tuple[MaliciousHost, list[RawClient]]:
    """Three voters, of whom two are a quorum."""
    members, roster = voters(3)
    host = malicious_host(with_voters(roster))
    for member in members:
        member.hello(host.attestation(), host.deliver)
        member.send(b"get x", host.deliver)
    return host, members


def test_row_67_a_voter_that_lost_its_memory(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    host, (one, two, three) = voted_host(malicious_host)
    payment = two.send(b"add x 1", host.deliver)
    assert payment.checkpoint is not None
    empty = RawClient(key=one.key, hellos=9)
    for end in (lambda: None, host.restart):
        end()
        attack.rejected_by_enclave(host, lambda: empty.hello(host.attestation(), host.deliver), ClientStale)
    # It has no voice any more: with one of the others silent, nothing becomes stable.
    two.hello(host.attestation(), host.deliver)
    assert acknowledge(host, *[two] * 4) < payment.checkpoint.size
    attack.saw("S not stable")
    three.hello(host.attestation(), host.deliver)
    assert acknowledge(host, three, two, three) >= payment.checkpoint.size


def test_row_68_a_voter_that_was_itself_put_back(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    host, (one, two, three) = voted_host(malicious_host)
    before, of_then = host.snapshot(), deepcopy(one.__dict__ | {"key": None})
    alice = host.client("alice")
    payment = alice.send(b"add x 1").receipt
    assert acknowledge(host, one, two, three, one, two) >= payment.commit
    # The host goes back, and takes one voter with it.
    host.restore(before)
    with_host = RawClient(**of_then | {"key": one.key, "hellos": one.hellos})
    with_host.hello(host.attestation(), host.deliver)
    again = with_host.send(b"add x 5", host.deliver)
    assert again.checkpoint is not None
    assert acknowledge(host, *[with_host] * 4) < again.checkpoint.size, "one of three is no quorum"
    attack.saw("S not stable")
    attack.refused_by_enclave(host, lambda: alice.send(b"get x"), ForkDetected, alice)
    for other in (two, three):
        with host.refuses(ForkDetected):
            other.hello(host.attestation(), host.deliver)


def test_row_69_two_stores_with_one_voter(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    shared = RawClient()
    for number in range(2):
        host = malicious_host(with_voters({shared.name: 1}))
        voter, alice = RawClient(key=shared.key), host.client("alice")
        voter.hello(host.attestation(), host.deliver)
        for _ in range(3 * number):
            alice.send(b"add x 1")
        payment = alice.send(b"add x 1").receipt
        assert acknowledge(host, voter, voter) >= payment.commit
        host.restart()
        voter.hello(host.attestation(), host.deliver)
        alice.wait_stable(payment)
        assert alice.verdict is None
    attack.saw("ok")


def test_row_90_a_slow_voter(malicious_host: Callable[..., MaliciousHost], attack: Attack) -> None:
    """How many may be slow is the quorum, which every client has pinned; mails are executed all the same."""
    host, (one, two, three) = voted_host(malicious_host)
    alice = host.client("alice")
    payment = alice.send(b"add x 1").receipt
    assert acknowledge(host, one, two, one, two) >= payment.commit, "one of three may be slow"
    alice.wait_stable(payment)
    later = alice.send(b"add x 1").receipt
    assert acknowledge(host, *[one] * 4) < later.commit, "two may not"
    attack.never_stable(alice, later.commit)
    with pytest.raises(HostUnavailable, match="not become stable"):
        alice.wait_stable(later, timeout=0.0)
    assert acknowledge(host, three, one, three) >= later.commit
    alice.wait_stable(later)
