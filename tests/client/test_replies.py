"""Everything that a host can hand a client in the place of the right answer: none of it is taken for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from adversarial_host import AdversarialHost, connect, executed

from client import (
    Constraint,
    ForkDetected,
    HostUnavailable,
    Malformed,
    OutcomeUnknown,
    ReplayRefused,
    ReplyWithheld,
    RollbackDetected,
)
from client.acceptance import check_answer, find_reply, open_answer, refusal_of
from client.effects import PollMail
from client.session import Session
from client.state import ClientState, Pending, Pin, SessionKeys, Stream
from wire.checkpoint import sign_checkpoint
from wire.crypto import SigningKey, system_randomness
from wire.errors import LimitExceeded, PmapError
from wire.mail import Outcome, Reply, Request, RequestKind, reply_digest, seal_reply, seal_request
from wire.padding import no_padding

KEYS = SessionKeys(bytes(16), bytes(range(32)), bytes(32))
SIGNER = SigningKey(bytes(32))
PIN = Pin(bytes(16), SIGNER.public, bytes(32), True)
MAIL = b"m" * 32
REQUEST = Request(RequestKind.MAIL, "t", 3, b"", b"", 0, b"body")
EVIDENCE = sign_checkpoint(SIGNER, PIN.store_id, 9, bytes(32))
REPLY = Reply(Outcome.EXECUTED, "t", 3, MAIL, sign_checkpoint(SIGNER, PIN.store_id, 10, b"r" * 32), 4, b"payload")


def sealed(reply: Reply, keys: SessionKeys = KEYS) -> bytes:
    return seal_reply(reply, keys.id, keys.secret, system_randomness, no_padding)


def judge(untrusted: bytes, stream: Stream | None = None, highest_root: bytes = b"r" * 32) -> Reply:
    state = ClientState(bytes(32), pin=PIN, highest=sign_checkpoint(SIGNER, PIN.store_id, 10, highest_root))
    answer = open_answer(untrusted, KEYS, PIN, MAIL)
    check_answer(answer, REQUEST, stream or Stream(3, EVIDENCE), state)
    return answer


def test_the_right_answer_is_accepted() -> None:
    assert judge(sealed(REPLY)) == REPLY


def test_an_answer_with_any_byte_changed_is_refused() -> None:
    envelope = sealed(REPLY)
    for position in range(len(envelope)):
        for bit in (0x01, 0x80):
            altered = bytearray(envelope)
            altered[position] ^= bit
            with pytest.raises(Malformed):
                judge(bytes(altered))


def test_an_answer_cut_off_anywhere_is_refused() -> None:
    envelope = sealed(REPLY)
    for length in range(len(envelope)):
        with pytest.raises(Malformed):
            judge(envelope[:length])
    with pytest.raises(Malformed):
        judge(envelope + b"\0")


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"in_reply_to": b"n" * 32}, ReplayRefused),
        ({"topic": "u"}, Malformed),
        ({"sequence": 2}, Malformed),
        ({"outcome": Outcome.HEARTBEAT}, Malformed),
        ({"outcome": Outcome.FENCED}, Malformed),
        ({"outcome": Outcome.WELCOME}, Malformed),
        ({"outcome": Outcome.INBOX}, Malformed),
        ({"checkpoint": None}, Malformed),
        ({"checkpoint": EVIDENCE}, RollbackDetected),
        ({"checkpoint": sign_checkpoint(SIGNER, PIN.store_id, 10, b"other root, same size".ljust(32))}, ForkDetected),
        ({"outcome": Outcome.REFUSED, "in_reply_to": bytes(32)}, ReplayRefused),
    ],
)
def test_an_authentic_answer_to_something_else_is_refused(changed: dict[str, object], verdict: type) -> None:
    with pytest.raises(verdict) as refused:
        judge(sealed(REPLY._replace(**changed)))
    assert type(refused.value) is verdict


def test_a_fetched_reply_must_have_the_digest_that_the_enclave_named() -> None:
    pending = Pending(REQUEST, seal_request(REQUEST, KEYS.id, KEYS.secret, system_randomness), KEYS)
    reply = REPLY._replace(in_reply_to=pending.id)
    others = [sealed(REPLY), sealed(reply._replace(outcome=Outcome.INBOX)), sealed(reply._replace(topic="u")), b"junk"]
    assert find_reply([*others, sealed(reply)], pending, PIN) == reply
    digest = reply_digest(reply.outcome, reply.payload)
    assert find_reply([*others, sealed(reply)], pending, PIN, digest) == reply
    for changed in ({"payload": b"other"}, {"payload": None}, {"outcome": Outcome.HANDLER_FAILED}):
        assert find_reply([*others, sealed(reply._replace(**changed))], pending, PIN, digest) is None
    refused = reply._replace(outcome=Outcome.REFUSED)
    assert find_reply([sealed(refused)], pending, PIN) is None


def test_an_answer_of_another_session_is_refused() -> None:
    with pytest.raises(Malformed):
        judge(sealed(REPLY, SessionKeys(bytes(16), b"another secret".ljust(32), bytes(32))))


def test_a_refusal_that_is_none_is_malformed() -> None:
    state = ClientState(bytes(32), pin=PIN)
    for payload in (None, b"", b"\x90", b"x" * 9000):
        with pytest.raises(Malformed):
            refusal_of(state, REPLY._replace(outcome=Outcome.REFUSED, payload=payload))
    assert state.verdict is None


# --- through the whole client ----------------------------------------------------------------------------------


def test_an_altered_reply_leaves_the_outcome_open_until_the_host_is_honest(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")

        def alter(envelope: bytes) -> bytes:
            answer = bytearray(host.honest(envelope))
            answer[-1] ^= 1
            return bytes(answer)

        host.tamper = alter
        host.tamper_poll = lambda messages: [bytes([*message[:-1], message[-1] ^ 1]) for message in messages]
        with pytest.raises(OutcomeUnknown, match="not made by the enclave"):
            client.send(b"25")
        host.tamper = host.honest
        host.tamper_poll = lambda messages: messages
        assert client.recover()[0].reply is not None
        assert client.send(b"after").payload == b"done after"
    assert executed == [b"before", b"25", b"after"]


def test_an_old_reply_is_not_taken_for_a_new_one(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"same body")
        old = host.answered[-1]

        def replay(envelope: bytes) -> bytes:
            host.tamper = host.honest
            return old

        host.tamper = replay
        assert client.send(b"count").payload == b"2", "the question was put again until it was answered"
        host.tamper = lambda envelope: old
        host.tamper_poll = lambda messages: [old, old, *messages]
        with pytest.raises(OutcomeUnknown) as open_:
            client.send(b"count")
        assert isinstance(open_.value.__cause__, PmapError)
        host.tamper = host.honest
        (resolved,) = client.recover()
        assert resolved.reply is not None and resolved.reply.payload == b"3"


def test_the_reply_to_one_client_means_nothing_to_another(host: AdversarialHost) -> None:
    with connect(host) as alice, connect(host) as bob:
        alice.send(b"a")
        alices = host.answered[-1]
        bob.send(b"b")
        swapped: list[bytes] = []

        def swap(envelope: bytes) -> bytes:
            swapped.append(host.honest(envelope))
            return alices

        host.tamper = swap
        host.tamper_poll = lambda messages: [alices]
        with pytest.raises(OutcomeUnknown):
            bob.send(b"c")
        host.tamper = host.honest
        (resolved,) = bob.recover()
        assert resolved.reply is not None and resolved.reply.payload == b"done c"
    assert executed == [b"a", b"b", b"c"]


def test_the_reply_on_one_topic_means_nothing_on_another(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"x", topic="a")
        answer = host.answered[-1]

        def other(envelope: bytes) -> bytes:
            host.tamper = host.honest
            return answer

        client.send(b"x", topic="b")
        host.tamper = other
        assert client.send(b"y", topic="b").payload == b"done y"


def test_a_host_that_garbles_one_mails_answers_is_asked_in_other_ways(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"before")
        garbled: list[bytes] = []

        def garble(envelope: bytes) -> bytes:
            answer = host.honest(envelope)
            if not garbled or envelope in garbled:
                garbled.append(envelope)
                return answer[::-1]
            return answer

        host.tamper = garble
        assert client.send(b"25").payload == b"done 25", "its outbox had the reply"
        garbled.clear()
        host.tamper_poll = lambda messages: []
        with pytest.raises(ReplyWithheld):
            client.send(b"26")
    assert executed == [b"before", b"25", b"26"]


def test_a_reply_in_the_outbox_that_is_not_later_than_the_evidence_is_a_rollback() -> None:
    state = ClientState(bytes(32), pin=PIN, session=KEYS)
    pending = Pending(REQUEST, seal_request(REQUEST, KEYS.id, KEYS.secret, system_randomness), KEYS)
    state.streams["t"] = Stream(3, EVIDENCE, pending)
    steps = Session(state, Constraint.parse("SEC:INSECURE"), delays=()).resolve("t", resend=False)
    assert steps.send(None) == PollMail(KEYS.id)
    with pytest.raises(RollbackDetected):
        steps.send([sealed(REPLY._replace(in_reply_to=pending.id, checkpoint=EVIDENCE))])
    assert state.streams["t"].pending == pending


@pytest.mark.parametrize("garbage", [b"", b"\x01", bytes(100), b"\x01\x03" + bytes(200), b"\xff" * 5000])
def test_garbage_for_an_answer_is_no_answer(host: AdversarialHost, garbage: bytes) -> None:
    with connect(host) as client:
        client.heartbeat()
        host.tamper = lambda envelope: garbage
        host.tamper_poll = lambda messages: [garbage]
        with pytest.raises(OutcomeUnknown):
            client.send(b"25")
        host.tamper = host.honest
        assert client.send(b"after").payload == b"done after"


def test_garbage_for_a_welcome_opens_no_session(host: AdversarialHost) -> None:
    host.tamper = lambda envelope: bytes(300)
    with connect(host) as client:
        with pytest.raises(HostUnavailable, match="no session"):
            client.send(b"x")
        assert executed == []
        host.tamper = host.honest
        assert client.send(b"y").payload == b"done y"


def test_garbage_for_an_attestation_is_refused(host: AdversarialHost) -> None:
    genuine = host.attestation
    host.attestation = lambda: b"garbage"  # type: ignore[method-assign]
    with pytest.raises(HostUnavailable, match="attestation"):
        connect(host)
    host.attestation = genuine  # type: ignore[method-assign]
    assert connect(host).identity is not None


def test_a_mail_that_another_topics_mails_overtook_is_executed_all_the_same(host: AdversarialHost) -> None:
    with connect(host) as client:
        client.send(b"a", topic="a")
        client.send(b"b", topic="b")

        def delay(envelope: bytes) -> bytes:
            host.tamper = host.honest
            client.send(b"b overtakes", topic="b")
            client.send(b"b overtakes again", topic="b")
            return host.honest(envelope)

        for twice in (False, True):
            host.tamper = delay
            if twice:
                host.tamper = lambda envelope: (host.honest(envelope), delay(envelope))[1]
            assert client.send(b"25", topic="a").payload == b"done 25"
        assert client.send(b"26", topic="a").payload == b"done 26"
    assert executed == [
        b"a",
        b"b",
        *[b"b overtakes", b"b overtakes again", b"25"],
        *[b"25", b"b overtakes", b"b overtakes again"],
        b"26",
    ]


def test_too_many_topics_are_refused_and_leave_the_others_alone(
    host: AdversarialHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pmap.mailroom.MAX_STREAMS_PER_CLIENT", 2)
    with connect(host, state=tmp_path / "s") as client:
        client.send(b"1", topic="a")
        client.send(b"2", topic="b")
        with pytest.raises(LimitExceeded, match="at most 2 streams"):
            client.send(b"3", topic="c")
        host.restart()
        with pytest.raises(LimitExceeded):
            client.send(b"4", topic="d")
        assert client.recover() == []
        assert client.send(b"5", topic="a").payload == b"done 5"
    assert executed == [b"1", b"2", b"5"]
