"""The client's state: its encoding."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client import CorruptedStore, InboxMail
from client.state import ClientState, Pending, Pin, SessionKeys, StickyVerdict, Stream
from wire.alarm import Verdict, sign_alarm
from wire.checkpoint import Checkpoint, encode_evidence, sign_checkpoint
from wire.codec import pack, unpack
from wire.crypto import SigningKey, system_randomness
from wire.errors import ForkDetected, FreshnessError, RollbackDetected
from wire.mail import MAX_COUNTER, Request, RequestKind, seal_request

STORE_ID = bytes(range(16))
SIGNER = SigningKey(bytes(32))
KEY = bytes(range(32))

counters = st.integers(0, MAX_COUNTER)
topics = st.text("abcXYZ019-_.", min_size=1, max_size=12)
keys = st.builds(
    SessionKeys,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)


def checkpoint(size: int) -> Checkpoint:
    return sign_checkpoint(SIGNER, STORE_ID, size, size.to_bytes(8, "big") * 4)


checkpoints = st.none() | st.builds(checkpoint, st.integers(0, 1000))


@st.composite
def streams(draw: st.DrawFn, topic: str) -> Stream:
    sequence, evidence = draw(counters), draw(checkpoints)
    pending = None
    if draw(st.booleans()):
        session = draw(keys)
        kind = draw(st.sampled_from([RequestKind.MAIL, RequestKind.HEARTBEAT]))
        shown = encode_evidence(evidence), encode_evidence(draw(checkpoints))
        request = Request(kind, topic, sequence, *shown, draw(counters), draw(st.binary()))
        envelope = seal_request(request, session.id, session.secret, system_randomness)
        pending = Pending(request, envelope, session)
    elif sequence == 0 and evidence is None:
        sequence = 1  # else there is nothing to remember
    return Stream(sequence, evidence, pending)


@st.composite
def states(draw: st.DrawFn) -> ClientState:
    state = ClientState(draw(st.binary(min_size=32, max_size=32)), draw(counters))
    state.inbox_next, state.inbox_announced = draw(counters), draw(counters)
    state.inbox = draw(st.lists(st.builds(InboxMail, counters, st.binary()), max_size=3))
    if draw(st.booleans()):
        state.pin = Pin(STORE_ID, SIGNER.public, draw(st.binary(min_size=32, max_size=32)), draw(st.booleans()))
        state.session = draw(st.none() | keys)
        state.highest = draw(checkpoints)
        state.streams = {topic: draw(streams(topic)) for topic in draw(st.lists(topics, unique=True, max_size=3))}
        alarm = sign_alarm(SIGNER, Verdict.ROLLBACK, checkpoint(5), checkpoint(9), bytes(32))
        state.verdict = draw(
            st.none()
            | st.just(StickyVerdict(Verdict.ROLLBACK, "rolled back", alarm, None))
            | st.builds(StickyVerdict, st.just(Verdict.FORK), st.text(max_size=20), st.none(), checkpoints)
        )
    return state


@given(states())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_every_state_survives_its_encoding(state: ClientState) -> None:
    encoded = state.encode()
    assert ClientState.decode(encoded) == state
    assert ClientState.decode(encoded).encode() == encoded


def full_state() -> ClientState:
    session = SessionKeys(bytes(16), bytes(32), bytes(32))
    request = Request(RequestKind.MAIL, "t", 4, checkpoint(3).encode(), checkpoint(5).encode(), 1, b"body")
    pending = Pending(request, seal_request(request, session.id, session.secret, system_randomness), session)
    return ClientState(
        bytes(32),
        3,
        Pin(STORE_ID, SIGNER.public, bytes(32), True),
        session,
        {"t": Stream(4, checkpoint(3), pending)},
        checkpoint(5),
        1,
        2,
        [InboxMail(0, b"mail")],
        StickyVerdict(Verdict.FORK, "fork", None, checkpoint(5)),
    )


ALARM = sign_alarm(SIGNER, Verdict.ROLLBACK, checkpoint(5), checkpoint(9), bytes(32))
PIN = Pin(STORE_ID, SIGNER.public, b"r" * 32, False)


def test_every_field_of_a_state_comes_back() -> None:
    session = SessionKeys(b"i" * 16, b"s" * 32, b"e" * 32)
    request = Request(RequestKind.HEARTBEAT, "t", 4, checkpoint(3).encode(), checkpoint(5).encode(), 1, b"")
    pending = Pending(request, seal_request(request, session.id, session.secret, system_randomness), session)
    largest = ClientState(b"k" * 32, MAX_COUNTER, inbox_next=MAX_COUNTER, inbox_announced=MAX_COUNTER)
    for state in (
        ClientState(b"k" * 32),
        largest,
        ClientState(b"k" * 32, inbox=[InboxMail(0, b"one"), InboxMail(1, b"")]),
        ClientState(b"k" * 32, pin=PIN),
        full_state(),
        ClientState(b"k" * 32, 0, PIN, session, {"t": Stream(4, None, pending)}),
        ClientState(b"k" * 32, 0, PIN, None, {"b": Stream(1), "a": Stream(MAX_COUNTER, checkpoint(3))}, checkpoint(5)),
        ClientState(b"k" * 32, 0, PIN, None, {"t": Stream(0, checkpoint(3))}),
        ClientState(b"k" * 32, 0, PIN, verdict=StickyVerdict(Verdict.ROLLBACK, "why", ALARM, None)),
        ClientState(b"k" * 32, 0, PIN, verdict=StickyVerdict(Verdict.FORK, "why", None, checkpoint(7))),
    ):
        assert ClientState.decode(state.encode()) == state


def test_the_encoding_is_that_of_the_fields_in_order() -> None:
    state = ClientState(b"k" * 32, 3, PIN, SessionKeys(b"i" * 16, b"s" * 32, b"e" * 32))
    state.streams = {"b": Stream(1), "unused": Stream(), "a": Stream(2, checkpoint(3))}
    state.highest, state.inbox_next, state.inbox_announced = checkpoint(5), 6, 7
    state.inbox = [InboxMail(8, b"mail")]
    state.verdict = StickyVerdict(Verdict.ROLLBACK, "why", ALARM, checkpoint(9))
    assert unpack(state.encode(), 1 << 20, max_arrays=1000) == [
        b"k" * 32,
        3,
        [STORE_ID, SIGNER.public, b"r" * 32, False],
        [b"i" * 16, b"s" * 32, b"e" * 32],
        [["a", 2, checkpoint(3).encode(), None], ["b", 1, None, None]],
        checkpoint(5).encode(),
        6,
        7,
        [[8, b"mail"]],
        [1, "why", ALARM.encode(), checkpoint(9).encode()],
    ]


def test_a_new_client_has_drawn_its_key_and_knows_nothing() -> None:
    assert ClientState.new(lambda length: b"k" * length) == ClientState(b"k" * 32)


@pytest.mark.parametrize(
    "remembered",
    [
        {"session": SessionKeys(bytes(16), bytes(32), bytes(32))},
        {"streams": {"t": Stream(1)}},
        {"highest": checkpoint(5)},
        {"verdict": StickyVerdict(Verdict.FORK, "why", None, None)},
    ],
)
def test_evidence_without_the_store_that_it_is_about_is_corrupted(remembered: dict[str, Any]) -> None:
    ClientState.decode(ClientState(bytes(32), pin=PIN, **remembered).encode())
    with pytest.raises(CorruptedStore):
        ClientState.decode(ClientState(bytes(32), **remembered).encode())


@pytest.mark.parametrize("alarm", ["text", 5, True, b"", ALARM.encode()[:-1], b"\x03" + ALARM.encode()[1:]])
def test_a_verdict_with_what_is_no_alarm_is_corrupted(alarm: object) -> None:
    fields = unpack(full_state().encode(), 1 << 20, max_arrays=1000)
    fields[9][2] = alarm
    with pytest.raises(CorruptedStore):
        ClientState.decode(pack(fields))


@pytest.mark.parametrize(("verdict", "error"), [(Verdict.ROLLBACK, RollbackDetected), (Verdict.FORK, ForkDetected)])
def test_a_verdict_is_raised_with_its_text_and_proof(verdict: Verdict, error: type[FreshnessError]) -> None:
    raised = StickyVerdict(verdict, "why", ALARM, checkpoint(7)).error()
    assert type(raised) is error and str(raised) == "why"
    assert (raised.alarm, raised.checkpoint) == (ALARM, checkpoint(7))


def test_a_topic_with_nothing_to_remember_is_not_written() -> None:
    state = full_state()
    state.stream("unused")
    assert "unused" not in ClientState.decode(state.encode()).streams


@pytest.mark.parametrize("at", range(10))
def test_an_authentic_state_that_makes_no_sense_is_corrupted(at: int) -> None:
    may_be_missing = {3: None, 5: None, 9: None, 4: [], 8: []}
    for wrong in (b"", "text", -1, MAX_COUNTER + 1, [], [[]], [1, 2, 3, 4], True, None, b"x" * 33):
        if at in may_be_missing and may_be_missing[at] == wrong:
            continue
        fields = unpack(full_state().encode(), 1 << 20, max_arrays=1000)
        fields[at] = wrong
        with pytest.raises(CorruptedStore):
            ClientState.decode(pack(fields))


def test_a_pending_mail_in_another_place_is_corrupted() -> None:
    state = full_state()
    state.streams["t"].sequence = 5
    with pytest.raises(CorruptedStore):
        ClientState.decode(state.encode())


def test_secrets_are_not_in_what_is_printed() -> None:
    state = full_state()
    state.seed = b"secret seed".ljust(32)
    assert state.session is not None
    printed = repr(state) + repr(SessionKeys(b"", b"secret of the session", b""))
    assert "secret" not in printed.replace("secrets", "")
