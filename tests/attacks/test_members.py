"""Rows 54 to 58: the host changes whose word counts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attack_steps import Attack
from attacked_enclaves import with_voters
from raw_client import RawClient

from client import AttestationError
from host_store.adversary import MaliciousHost
from wire.mail import RequestKind


def voters(number: int) -> tuple[list[RawClient], dict[str, int]]:
    clients = [RawClient() for _ in range(number)]
    return clients, {client.name: 1 for client in clients}


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
