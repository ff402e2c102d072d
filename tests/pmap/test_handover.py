"""Handing a store to an attested successor, and refusing everybody else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from copy import copy
from functools import partial

import pytest
from sealed_store import Counter, SealedStore

from pmap.handover import Predecessor, Successor
from pmap.keyring import Keyring
from pmap.startup import hand_over_store, receive_store, take_over_store
from pmap.tee import SIGNER, SealPolicy
from pmap.tee.simulated import DEFAULT_SIGNER, SimulatedTee
from wire.codec import pack, unpack
from wire.constraint import Constraint
from wire.errors import (
    AttestationError,
    EvidenceForged,
    EvidenceMalformed,
    IdentityMismatch,
    InvalidInput,
    Malformed,
    ReportDataMismatch,
    TcbUnacceptable,
    WrongKey,
)
from wire.identity import Identity
from wire.tee.verify import verify_evidence

NOW = 1_800_000_000
OLD_CODE, NEW_CODE = b"\x01" * 32, b"\x02" * 32


class OldCounter(Counter):
    seal_to = "code"
    successors = f"C:{NEW_CODE.hex()} PROD:1 SEC:INSECURE"


class NewCounter(Counter):
    seal_to = "code"
    security_version = 2
    predecessors = f"C:{OLD_CODE.hex()} S:{DEFAULT_SIGNER.hex()} SEC:INSECURE"


def verify(kind: str, evidence: bytes, report_data: bytes) -> Identity:
    return verify_evidence(kind, evidence, report_data, NOW)


def _trusting(kind: str, evidence: bytes, report_data: bytes) -> Identity:
    return verify_evidence("simulated", evidence, report_data, NOW)


def old_tee(**identity: object) -> SimulatedTee:
    return SimulatedTee(b"\x11" * 32, OLD_CODE, **identity)  # type: ignore[arg-type]


def new_tee(code: bytes = NEW_CODE, **identity: object) -> SimulatedTee:
    return SimulatedTee(b"\x22" * 32, code, **identity)  # type: ignore[arg-type]


def predecessor(store: SealedStore) -> Predecessor:
    return hand_over_store(store.keyring, OldCounter, old_tee(), verify, os.urandom)


def successor(tee: SimulatedTee | None = None) -> Successor:
    return take_over_store(NewCounter, tee or new_tee(), verify, os.urandom)


def store_with(commits: int) -> SealedStore:
    store = SealedStore.found(OldCounter, old_tee())
    for _ in range(commits):
        store.count(OldCounter, old_tee())
    return store


def test_a_store_moves_to_new_code_on_another_machine() -> None:
    store = store_with(3)
    with pytest.raises(WrongKey):
        store.restart(NewCounter, new_tee())
    source, target = predecessor(store), successor()
    package = source.answer(target.request(source.invitation, NOW), NOW)
    store.keyring = receive_store(target, package, NewCounter, new_tee(), os.urandom)
    assert store.count(NewCounter, new_tee()) == 4
    with pytest.raises(WrongKey):
        store.restart(OldCounter, old_tee())


def test_a_store_keeps_its_id_and_its_checkpoint_key_over_a_hand_over() -> None:
    store = store_with(1)
    source, target = predecessor(store), successor()
    keyring = target.receive(source.answer(target.request(source.invitation, NOW), NOW))
    core, _ = store.restart(OldCounter, old_tee())
    assert (keyring.store_id, keyring.signing_key().public) == (
        core.attestation.store_id,
        core.attestation.checkpoint_key,
    )


@pytest.mark.parametrize(
    "tee",
    [new_tee(b"\x03" * 32), new_tee(OLD_CODE), new_tee(product=2)],
    ids=["other code", "the old code", "other product"],
)
def test_a_successor_of_a_wrong_identity_gets_nothing(tee: SimulatedTee) -> None:
    source = predecessor(store_with(0))
    with pytest.raises(IdentityMismatch):
        source.answer(successor(tee).request(source.invitation, NOW), NOW)


@pytest.mark.parametrize("tee", [new_tee(), old_tee(signer=bytes(32))], ids=["other code", "other signer"])
def test_a_store_is_not_taken_from_a_stranger(tee: SimulatedTee) -> None:
    stranger = Predecessor(Keyring.generate(os.urandom), tee, Constraint.parse("SEC:INSECURE"), verify, os.urandom)
    with pytest.raises(IdentityMismatch):
        successor().request(stranger.invitation, NOW)


def test_a_successor_below_the_asked_for_security_gets_nothing() -> None:
    source = Predecessor(
        Keyring.generate(os.urandom), old_tee(), Constraint.parse(f"C:{NEW_CODE.hex()}"), verify, os.urandom
    )
    with pytest.raises(TcbUnacceptable):
        source.answer(successor().request(source.invitation, NOW), NOW)


def test_real_hardware_hands_nothing_to_a_simulated_enclave_whatever_the_constraint_says() -> None:
    class Hardware(SimulatedTee):
        name = "sgx"

    source = Predecessor(
        Keyring.generate(os.urandom),
        Hardware(bytes(32), OLD_CODE),
        Constraint.parse("SEC:INSECURE"),
        verify,
        os.urandom,
    )
    # Its invitation announces SGX, so it is answered by hand: what matters is who asks.
    target = Successor(new_tee(), Constraint.parse("SEC:INSECURE"), _trusting, os.urandom)
    with pytest.raises(IdentityMismatch, match="simulated"):
        source.answer(target.request(source.invitation, NOW), NOW)


def test_a_class_that_names_nobody_hands_over_to_nobody_and_takes_from_nobody() -> None:
    store = SealedStore.found(Counter, old_tee())
    with pytest.raises(InvalidInput, match="successors"):
        hand_over_store(store.keyring, Counter, old_tee(), verify, os.urandom)
    with pytest.raises(InvalidInput, match="predecessors"):
        take_over_store(Counter, new_tee(), verify, os.urandom)


def test_another_enclave_cannot_hand_over_a_store_that_it_cannot_open() -> None:
    with pytest.raises(WrongKey):
        hand_over_store(store_with(0).keyring, OldCounter, new_tee(), verify, os.urandom)


# --- the hosts in between ---------------------------------------------------------------------------------


def test_a_request_for_another_invitation_is_refused() -> None:
    store = store_with(0)
    first, second = predecessor(store), predecessor(store)
    with pytest.raises(ReportDataMismatch):
        second.answer(successor().request(first.invitation, NOW), NOW)


def test_a_request_with_the_hosts_own_key_is_refused() -> None:
    source = predecessor(store_with(0))
    request = unpack(successor().request(source.invitation, NOW), 1 << 20)
    mine = unpack(successor().request(source.invitation, NOW), 1 << 20)
    with pytest.raises(ReportDataMismatch):
        source.answer(pack([*request[:2], mine[2], *request[3:]]), NOW)


def test_a_package_for_one_successor_does_not_open_for_another() -> None:
    source = predecessor(store_with(0))
    first, second = successor(), successor()
    request = first.request(source.invitation, NOW)
    second.request(source.invitation, NOW)
    with pytest.raises(EvidenceForged):
        second.receive(source.answer(request, NOW))


def test_a_package_by_another_than_the_inviter_is_refused() -> None:
    store = store_with(0)
    source, other = predecessor(store), predecessor(store)
    target = successor()
    target.request(source.invitation, NOW)
    with pytest.raises(EvidenceForged):
        target.receive(other.answer(successor().request(other.invitation, NOW), NOW))


def test_a_hand_over_is_made_once() -> None:
    source, target = predecessor(store_with(0)), successor()
    request = target.request(source.invitation, NOW)
    source.answer(request, NOW)
    with pytest.raises(InvalidInput, match="once"):
        source.answer(request, NOW)


def test_a_refused_successor_does_not_use_the_hand_over_up() -> None:
    source, target = predecessor(store_with(0)), successor()
    with pytest.raises(IdentityMismatch):
        source.answer(successor(new_tee(OLD_CODE)).request(source.invitation, NOW), NOW)
    target.receive(source.answer(target.request(source.invitation, NOW), NOW))


def test_there_is_no_package_before_a_request() -> None:
    with pytest.raises(InvalidInput, match="before"):
        successor().receive(b"")


def test_every_flipped_byte_of_every_message_is_refused() -> None:
    store = store_with(0)

    def refused(message: bytes, take: Callable[[bytes], object]) -> None:
        for offset in range(len(message)):
            changed = bytearray(message)
            changed[offset] ^= 1 << offset % 8
            with pytest.raises((AttestationError, Malformed)):
                take(bytes(changed))

    source, target = predecessor(store), successor()

    def follow(changed_invitation: bytes) -> None:
        # Simulated evidence is not signed, so a change in it may pass at first; but the other side knows what it sent.
        source.answer(successor().request(changed_invitation, NOW), NOW)

    refused(source.invitation, follow)
    request = target.request(source.invitation, NOW)
    refused(request, lambda changed: target.receive(copy(source).answer(changed, NOW)))
    package = source.answer(request, NOW)
    refused(package, target.receive)
    target.receive(package)


@pytest.mark.parametrize("message", [b"", b"\xc0", pack([]), pack([2, b"", b""]), bytes(200_000)], ids=len)
def test_what_is_no_message_is_malformed(message: bytes) -> None:
    source, target = predecessor(store_with(0)), successor()
    takes: list[Callable[[], object]] = [
        partial(target.request, message, NOW),
        partial(source.answer, message, NOW),
    ]
    for take in takes:
        with pytest.raises((Malformed, EvidenceMalformed)):
            take()


PROCESS = """
import os, sys
sys.path.insert(0, {tests!r})
import test_handover as side
from sealed_store import SealedStore
read = lambda: bytes.fromhex(sys.stdin.readline())
write = lambda data: print(data.hex(), flush=True)
if sys.argv[1] == "old":
    source = side.predecessor(SealedStore(read()))
    write(source.invitation)
    write(source.answer(read(), side.NOW))
else:
    target = side.successor()
    write(target.request(read(), side.NOW))
    write(side.receive_store(target, read(), side.NewCounter, side.new_tee(), os.urandom))
"""


def test_two_processes_hand_a_store_over_through_their_hosts() -> None:
    store = store_with(2)
    here = os.path.dirname(__file__)
    script = f"import sys; sys.path.insert(0, {here!r})\n" + PROCESS.format(tests=os.path.dirname(here))
    sides = [
        subprocess.Popen(
            [sys.executable, "-c", script, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for name in ("old", "new")
    ]
    old, new = sides

    def carry(to: subprocess.Popen[str], line: str) -> None:
        assert to.stdin is not None
        to.stdin.write(line)

    def message(of: subprocess.Popen[str]) -> str:
        assert of.stdout is not None
        return of.stdout.readline()

    try:
        carry(old, store.keyring.hex() + "\n")
        carry(new, message(old))
        carry(old, message(new))
        carry(new, message(old))
        store.keyring = bytes.fromhex(message(new))
        assert [side.wait(60) for side in sides] == [0, 0]
    finally:
        for side in sides:
            side.kill()
            side.communicate()
    assert store.count(NewCounter, new_tee()) == 3


def test_the_sealing_policy_of_the_successors_class_is_what_it_seals_to() -> None:
    asked: list[SealPolicy] = []

    class Watched(SimulatedTee):
        def sealing_key(self, policy: SealPolicy = SIGNER) -> bytes:
            asked.append(policy)
            return super().sealing_key(policy)

    source, target = predecessor(store_with(0)), successor()
    package = source.answer(target.request(source.invitation, NOW), NOW)
    receive_store(target, package, NewCounter, Watched(bytes(32), NEW_CODE), os.urandom)
    assert asked == ["code"]
