"""What a client accepts for a welcome: an enclave that is honest about its identity, and says anything it likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from client import AttestationError, ClientStale, Constraint, ForkDetected, HostUnavailable, PmapError, RollbackDetected
from client.effects import Deliver, FetchAttestation, Save, Wait
from client.session import Session
from client.state import ClientState
from wire.attestation import Attestation
from wire.checkpoint import sign_checkpoint
from wire.codec import pack
from wire.crypto import SigningKey, system_randomness
from wire.hpke import Kem, MailKey
from wire.mail import Outcome, Reply, open_hello, request_id, seal_reply, session_of
from wire.simulated import SIMULATED, SimulatedEvidence

STORE_ID, EPOCH = bytes(16), bytes(range(32))
SIGNER = SigningKey(bytes(32))
MAIL_KEY = MailKey(Kem.X25519, system_randomness)


def document() -> bytes:
    unsigned = Attestation(STORE_ID, EPOCH, MAIL_KEY.public, SIGNER.public, True, bytes(32), SIMULATED, b"")
    return replace(
        unsigned, evidence=SimulatedEvidence(bytes(32), bytes(32), 1, 1, unsigned.report_data()).encode()
    ).encode()


def say_hello(change: Callable[[Reply], Reply], size: int = 10, root: bytes = b"r" * 32) -> ClientState:
    """Run one hello of a client that holds a checkpoint of 9 commits; ``change`` alters the honest welcome."""
    state = ClientState.new(system_randomness)
    state.highest = sign_checkpoint(SIGNER, STORE_ID, 9, b"h" * 32)
    session = Session(state, Constraint.parse("SEC:INSECURE"), delays=())
    steps = session.renew(None)
    result: object = None
    saved = False
    while True:
        try:
            effect = steps.send(result)  # type: ignore[arg-type]
        except StopIteration:
            return state
        match effect:
            case FetchAttestation():
                result = document()
            case Save(durable):
                saved, result = saved or durable, None
            case Deliver(envelope):
                assert saved, "a hello's number must not be used twice"
                hello = open_hello(envelope, MAIL_KEY, STORE_ID)
                assert hello.highest == state.highest
                checkpoint = sign_checkpoint(SIGNER, STORE_ID, size, root)
                honest = Reply(Outcome.WELCOME, "hello", 0, request_id(envelope), checkpoint, 3, pack([0, 0]))
                result = seal_reply(change(honest), session_of(envelope), hello.secret, system_randomness)
            case Wait():
                result = None


def test_an_honest_welcome_opens_a_session_and_is_evidence() -> None:
    state = say_hello(lambda honest: honest)
    assert state.session is not None and state.session.epoch == EPOCH
    assert state.highest == sign_checkpoint(SIGNER, STORE_ID, 10, b"r" * 32)
    assert state.pin is not None and state.pin.checkpoint_key == SIGNER.public


@pytest.mark.parametrize(
    ("change", "size", "verdict"),
    [
        (lambda honest: honest, 9, RollbackDetected),
        (lambda honest: honest, 8, RollbackDetected),
        (
            lambda honest: honest._replace(checkpoint=replace(honest.checkpoint, signature=bytes(64))),
            10,
            AttestationError,
        ),
        (lambda honest: honest._replace(checkpoint=None), 10, HostUnavailable),
        (lambda honest: honest._replace(outcome=Outcome.HEARTBEAT), 10, HostUnavailable),
        (lambda honest: honest._replace(in_reply_to=bytes(32)), 10, HostUnavailable),
        (lambda honest: honest._replace(payload=b"junk"), 10, HostUnavailable),
        (lambda honest: honest._replace(payload=pack([1, 1])), 10, ClientStale),
    ],
)
def test_any_other_welcome_opens_none(change: Callable[[Reply], Reply], size: int, verdict: type[PmapError]) -> None:
    with pytest.raises(verdict) as refused:
        say_hello(change, size)
    assert type(refused.value) is verdict


def test_a_welcome_that_contradicts_what_another_stream_learnt_meanwhile_is_a_fork() -> None:
    state = ClientState.new(system_randomness)
    other = sign_checkpoint(SIGNER, STORE_ID, 10, b"another root".ljust(32))
    session = Session(state, Constraint.parse("SEC:INSECURE"), delays=())
    steps = session.renew(None)
    assert steps.send(None) == FetchAttestation()
    effect = steps.send(document())
    assert effect == Save(durable=True)
    effect = steps.send(None)
    assert isinstance(effect, Deliver)
    state.highest = other
    hello = open_hello(effect.envelope, MAIL_KEY, STORE_ID)
    checkpoint = sign_checkpoint(SIGNER, STORE_ID, 10, b"r" * 32)
    welcome = Reply(Outcome.WELCOME, "hello", 0, request_id(effect.envelope), checkpoint, 3, pack([0, 0]))
    with pytest.raises(ForkDetected):
        steps.send(seal_reply(welcome, session_of(effect.envelope), hello.secret, system_randomness))
