"""What a client accepts for a welcome: an enclave that is honest about its identity, and says anything it likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from core_host import CoreHost, Rejected

from client import AttestationError, ClientStale, Constraint, ForkDetected, HostUnavailable, PmapError, RollbackDetected
from client.comparison import compare
from client.effects import Deliver, FetchAttestation, FetchConsistency, PollMail, Renew, Save, Steps, Wait
from client.session import Session
from client.state import ClientState
from pmap import Enclave, Mail
from wire.attestation import Attestation
from wire.checkpoint import sign_checkpoint
from wire.codec import pack
from wire.crypto import SigningKey, system_randomness
from wire.errors import SessionUnknown
from wire.hpke import Kem, MailKey
from wire.mail import EnvelopeKind, Outcome, Reply, envelope_kind, open_hello, request_id, seal_reply, session_of
from wire.merkle import Frontier, leaf_hash, prove_consistency
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


class Counter(Enclave):
    """Counts every mail and every call."""

    persistent_map = True
    mail_key = Kem.X25519

    def receive_mail(self, mail: Mail) -> bytes:
        count = int(self.map.get("n", b"0")) + 1
        self.map["n"] = b"%d" % count
        return self.map["n"]

    def receive_from_host(self, data: bytes) -> None:
        self.map["calls"] = data


def proof_by(host: CoreHost, size1: int, size2: int) -> list[bytes]:
    def node(level: int, index: int) -> bytes:
        frontier = Frontier()
        for record in host.records[index << level : (index + 1) << level]:
            frontier.append(leaf_hash(record))
        return frontier.root()

    return prove_consistency(size1, size2, node)


class TwoForks:
    """What a host does to one client's operations, each of which can be left waiting for its answer."""

    def __init__(self) -> None:
        self.state = ClientState.new(system_randomness)
        self.session = Session(self.state, Constraint.parse("SEC:INSECURE"), delays=(0.0,))
        self.host = CoreHost.found(Counter)

    def run(
        self,
        steps: Steps[object],
        answer: object = None,
        *,
        hold_kind: EnvelopeKind | None = None,
        hold_proof: bool = False,
    ) -> object:
        """The operation's result; or, with ``hold_kind``, the first answer to such an envelope, not yet handed over."""
        error: PmapError | None = None
        while True:
            try:
                effect = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            answer = error = None
            match effect:
                case Deliver(envelope):
                    try:
                        answer = self.host.deliver(envelope)
                    except Rejected:
                        error = SessionUnknown("rejected")
                        continue
                    if envelope_kind(envelope) is hold_kind:
                        return answer
                case FetchAttestation():
                    answer = self.host.document
                case PollMail(address):
                    answer = self.host.polled(address)
                case Renew(dead):
                    self.run(self.session.renew(dead))
                case FetchConsistency(size1, size2):
                    if hold_proof:
                        return effect
                    answer = proof_by(self.host, size1, size2)


def test_a_welcome_of_a_longer_fork_does_not_hide_what_another_stream_learnt_meanwhile() -> None:
    """The model's counterexample (model/Malicious.tla, without R-67): a fork joins another unseen."""
    world = TwoForks()
    world.run(world.session.open())
    first = world.host
    world.host = longer = first.start()
    for _ in range(3):
        longer.call(b"so that this fork is the longer one")
    # Topic "one" sends a mail to the first enclave, and a new session is opened with the other one at the same time.
    world.host = first
    mail = world.session.send("one", b"")
    reply = world.run(mail, hold_kind=EnvelopeKind.MAIL)
    world.host = longer
    assert world.state.session is not None
    renewal = world.session.renew(world.state.session.id)
    welcome = world.run(renewal, hold_kind=EnvelopeKind.HELLO)
    # The mail's reply comes first, then the welcome of the enclave that knows nothing of it.
    assert world.run(mail, reply).payload == b"1"  # type: ignore[attr-defined]
    with pytest.raises(ForkDetected) as caught:
        world.run(renewal, welcome)
        world.run(world.session.send("two", b""))
    assert caught.value.alarm is not None


def test_a_welcome_that_came_late_in_one_history_is_followed_by_another_hello() -> None:
    world = TwoForks()
    world.run(world.session.open())
    before = world.state.session
    mail = world.session.send("one", b"")
    reply = world.run(mail, hold_kind=EnvelopeKind.MAIL)
    world.host = world.host.start()
    assert before is not None
    renewal = world.session.renew(before.id)
    welcome = world.run(renewal, hold_kind=EnvelopeKind.HELLO)
    assert world.run(mail, reply).payload == b"1"  # type: ignore[attr-defined]
    world.run(renewal, welcome)
    assert world.state.session is not None and world.state.session.epoch == world.host.core.attestation.epoch
    assert world.state.hello_number == 3
    assert world.run(world.session.send("two", b"")).payload == b"2"  # type: ignore[attr-defined]


def test_a_comparison_does_not_hide_what_another_stream_learnt_meanwhile() -> None:
    """As above, with the checkpoint of somebody who was shown the longer fork."""
    world = TwoForks()
    world.run(world.session.open())
    first = world.host
    longer = first.start()
    for _ in range(3):
        longer.call(b"so that this fork is the longer one")
    ours, theirs = world.state.highest, longer.core.checkpoint
    assert ours is not None
    comparison = compare(world.session, theirs)
    assert world.run(comparison, hold_proof=True) == FetchConsistency(ours.size, theirs.size)
    assert world.run(world.session.send("one", b"")).payload == b"1"  # type: ignore[attr-defined]
    proof = proof_by(longer, ours.size, theirs.size)
    world.host = longer  # it answers with proofs of its own fork
    with pytest.raises(ForkDetected):
        world.run(comparison, proof)
    assert world.state.highest != theirs
