"""Frames: what one side encodes the other reads, and nothing else gets through."""

from __future__ import annotations

import contextlib
import io
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.boundary import (
    Answer,
    AnswerKind,
    Delivery,
    Incoming,
    IncomingKind,
    OutboxMessage,
    ProofWanted,
    StoredCommit,
)
from wire.codec import pack
from wire.errors import (
    CorruptedStore,
    HostUnavailable,
    InvalidInput,
    LimitExceeded,
    Malformed,
    MapFull,
    PmapError,
    StoreFenced,
    WrongKey,
)
from wire.frames import HEADER_BYTES, encode_frame, read_command, read_effect
from wire.limits import (
    MAX_ATTESTATION_BYTES,
    MAX_BATCH_MAILS,
    MAX_ENDORSEMENTS_BYTES,
    MAX_HANDOVER_BYTES,
    MAX_KEYRING_BYTES,
    MAX_PROOF_HASHES,
    MAX_REFUSAL_TEXT_CHARACTERS,
    MAX_TREE_SIZE,
)
from wire.messages import (
    REFUSALS,
    Attest,
    Attested,
    Command,
    Declined,
    Deliver,
    Delivered,
    Effect,
    End,
    HandedOver,
    HandOver,
    Invite,
    Invited,
    Learn,
    Learned,
    Prepare,
    Prepared,
    Ready,
    Receive,
    Received,
    Records,
    Refused,
    Requested,
    Start,
    Stop,
    TakeOver,
)

HASH = bytes(range(32))
DELIVERY = Delivery(
    7,
    StoredCommit(7, b"record", HASH, 3),
    [OutboxMessage(0, bytes(16), b"reply"), OutboxMessage(1, bytes(16), b"")],
    [(6, 0), (5, 2**32 - 1)],
    [
        Answer(0, AnswerKind.BOXED, 7, 0),
        Answer(1, AnswerKind.DIRECT, data=b"welcome"),
        Answer(2, AnswerKind.REJECTED, slot=2),
        Answer(3, AnswerKind.CALL_DONE, data=None),
        Answer(4, AnswerKind.CALL_FAILED, data=b"no"),
    ],
    [ProofWanted(1, 2)],
)
EMPTY = Delivery(0, None, [], [], [], [])

COMMANDS: list[Command] = [
    Start(None),
    Start(b"keyring"),
    Records([b"one", b"", b"three"]),
    End(),
    Deliver([]),
    Deliver([Incoming(IncomingKind.MAIL, b"mail"), Incoming(IncomingKind.CALL, b"")]),
    Learn(1, HASH, 2, [HASH] * MAX_PROOF_HASHES),
    Stop(),
    Start(b"keyring", True),
    Attest(),
    Invite(),
    HandOver(b"request", b"endorsements"),
    TakeOver(b"invitation", b"endorsements"),
    Receive(b"package"),
    Prepare(None),
    Prepare(b"keyring"),
]
EFFECTS: list[Effect] = [
    Ready(b"attestation", 0, None, None),
    Ready(b"attestation", 1, b"keyring", DELIVERY),
    Delivered(True, EMPTY),
    Delivered(False, DELIVERY),
    Learned(None),
    Learned("it leads elsewhere"),
    Refused("WrongKey", "the key does not open this store"),
    Attested(b"attestation"),
    Invited(b"invitation"),
    HandedOver(b"package"),
    Requested(b"request"),
    Received(b"keyring"),
    Declined("IdentityMismatch", "another signer"),
    Prepared(),
]


def reader(data: bytes) -> Any:
    return io.BytesIO(data).read


def frame(message: Command | Effect) -> bytes:
    return b"".join(encode_frame(message))


def raw_frame(kind: int, *fields: object) -> bytes:
    payload = pack(list(fields))
    return struct.pack(">IB", len(payload), kind) + payload


@pytest.mark.parametrize("command", COMMANDS, ids=repr)
def test_commands_arrive_as_they_were_sent(command: Command) -> None:
    read = reader(frame(command) + frame(Stop()))
    received = read_command(read)
    assert received == command
    assert type(received) is type(command)
    assert read_command(read) == Stop(), "nothing of the next frame was consumed"
    assert read_command(read) is None


@pytest.mark.parametrize("effect", EFFECTS, ids=repr)
def test_effects_arrive_as_they_were_sent(effect: Effect) -> None:
    received = read_effect(reader(frame(effect)))
    assert received == effect
    assert type(received) is type(effect)


def test_kinds_arrive_as_members_not_as_bare_numbers() -> None:
    received = read_effect(reader(frame(Delivered(True, DELIVERY))))
    assert isinstance(received, Delivered)
    assert [type(answer.kind) for answer in received.delivery.answers] == [AnswerKind] * 5
    command = read_command(reader(frame(COMMANDS[5])))
    assert isinstance(command, Deliver)
    assert [type(item.kind) for item in command.batch] == [IncomingKind] * 2


def test_neither_side_takes_its_own_kinds() -> None:
    for command in COMMANDS:
        with pytest.raises(Malformed, match="unknown kind"):
            read_effect(reader(frame(command)))
    for effect in EFFECTS:
        with pytest.raises(Malformed, match="unknown kind"):
            read_command(reader(frame(effect)))


@pytest.mark.parametrize("message", [COMMANDS[5], EFFECTS[3]], ids=["command", "effect"])
def test_a_stream_cut_anywhere_inside_a_frame_is_malformed(message: Command | Effect) -> None:
    data = frame(message)
    read_message = read_command if isinstance(message, Deliver) else read_effect
    assert read_message(reader(b"")) is None
    for length in range(1, len(data)):
        with pytest.raises(Malformed, match="ends inside"):
            read_message(reader(data[:length]))


def test_a_length_over_the_kinds_bound_is_refused_before_anything_of_it_is_read() -> None:
    header = struct.pack(">IB", MAX_KEYRING_BYTES + 1000, 1)
    asked: list[int] = []

    def read(length: int) -> bytes:
        asked.append(length)
        return header

    with pytest.raises(Malformed, match="at most"):
        read_command(read)
    assert asked == [HEADER_BYTES]


def test_a_length_of_exactly_the_kinds_bound_is_read() -> None:
    asked: list[int] = []

    def read(length: int) -> bytes:
        asked.append(length)
        return struct.pack(">IB", 16, 6) if length == HEADER_BYTES else b""

    with pytest.raises(Malformed, match=r"ends inside a frame$"):
        read_command(read)
    assert asked == [HEADER_BYTES, 16]


def test_a_frame_over_the_bound_is_not_even_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.frames.MAX_FRAME_BYTES", 100)
    records = Records([bytes(46), bytes(46)])
    assert read_command(reader(frame(records))) == records
    with pytest.raises(LimitExceeded, match="101 bytes; at most 100"):
        encode_frame(Records([bytes(46), bytes(47)]))


LARGEST: list[Command | Effect] = [
    Deliver([Incoming(IncomingKind.MAIL, b"")] * MAX_BATCH_MAILS),
    Learn(MAX_TREE_SIZE, HASH, 0, []),
    Learn(0, HASH, MAX_TREE_SIZE, [HASH] * MAX_PROOF_HASHES),
    Start(bytes(MAX_KEYRING_BYTES), True),
    Prepare(bytes(MAX_KEYRING_BYTES)),
    HandOver(bytes(MAX_HANDOVER_BYTES), bytes(MAX_ENDORSEMENTS_BYTES)),
    TakeOver(bytes(MAX_HANDOVER_BYTES), bytes(MAX_ENDORSEMENTS_BYTES)),
    Receive(bytes(MAX_HANDOVER_BYTES)),
    Ready(bytes(MAX_ATTESTATION_BYTES), MAX_TREE_SIZE, bytes(MAX_KEYRING_BYTES), None),
    Attested(bytes(MAX_ATTESTATION_BYTES)),
    Invited(bytes(MAX_HANDOVER_BYTES)),
    HandedOver(bytes(MAX_HANDOVER_BYTES)),
    Requested(bytes(MAX_HANDOVER_BYTES)),
    Received(bytes(MAX_KEYRING_BYTES)),
    Delivered(
        True,
        Delivery(
            MAX_TREE_SIZE,
            StoredCommit(MAX_TREE_SIZE, b"", HASH, MAX_TREE_SIZE),
            [OutboxMessage(2**32 - 1, bytes(16), b"")],
            [(MAX_TREE_SIZE, 2**32 - 1), (0, 0)],
            [Answer(MAX_BATCH_MAILS - 1, AnswerKind.BOXED, MAX_TREE_SIZE, 2**32 - 1)],
            [ProofWanted(MAX_TREE_SIZE, MAX_TREE_SIZE), ProofWanted(0, 0)],
        ),
    ),
    Delivered(False, Delivery(0, StoredCommit(1, b"", HASH, 1), [], [], [], [])),
]


@pytest.mark.parametrize("message", LARGEST, ids=lambda message: type(message).__name__)
def test_a_message_that_is_as_large_as_it_may_be_arrives(message: Command | Effect) -> None:
    read_message = read_command if isinstance(message, Command) else read_effect
    assert read_message(reader(frame(message))) == message


@pytest.mark.parametrize(
    "message",
    [
        HandOver(bytes(MAX_HANDOVER_BYTES + 1), b""),
        HandOver(b"", bytes(MAX_ENDORSEMENTS_BYTES + 1)),
        TakeOver(bytes(MAX_HANDOVER_BYTES + 1), b""),
        TakeOver(b"", bytes(MAX_ENDORSEMENTS_BYTES + 1)),
        Receive(bytes(MAX_HANDOVER_BYTES + 1)),
        Attested(bytes(MAX_ATTESTATION_BYTES + 1)),
        Invited(bytes(MAX_HANDOVER_BYTES + 1)),
        HandedOver(bytes(MAX_HANDOVER_BYTES + 1)),
        Requested(bytes(MAX_HANDOVER_BYTES + 1)),
        Received(bytes(MAX_KEYRING_BYTES + 1)),
        Ready(bytes(MAX_ATTESTATION_BYTES + 1), 0, None, None),
        Ready(b"", MAX_TREE_SIZE + 1, None, None),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_that_is_one_larger_is_refused(message: Command | Effect) -> None:
    read_message = read_command if isinstance(message, Command) else read_effect
    with pytest.raises(Malformed, match=r"too long|at most|out of range"):
        read_message(reader(frame(message)))


def test_the_text_of_a_refusal_is_cut_off_at_its_bound() -> None:
    name, text = "WrongKey", "x" * (MAX_REFUSAL_TEXT_CHARACTERS + 1)
    for kind in (Refused, Declined):
        assert read_effect(reader(frame(kind(name, text)))) == kind(name, text[:-1])


BAD_COMMANDS = {
    "start without a field": raw_frame(1),
    "start with a text": raw_frame(1, "keyring"),
    "start with two fields": raw_frame(1, None, None),
    "records of text": raw_frame(2, ["record"]),
    "records that are none": raw_frame(2, b"record"),
    "end with a field": raw_frame(3, 1),
    "unknown kind of item": raw_frame(4, [[2, b"mail"]]),
    "truth as a kind": raw_frame(4, [[True, b"mail"]]),
    "item without data": raw_frame(4, [[0]]),
    "item with text": raw_frame(4, [[0, "mail"]]),
    "too many items": raw_frame(4, [[0, b""]] * (MAX_BATCH_MAILS + 1)),
    "proof of short hashes": raw_frame(5, 1, HASH, 2, [HASH[:31]]),
    "proof of text": raw_frame(5, 1, HASH, 2, ["x" * 32]),
    "proof that is too long": raw_frame(5, 1, HASH, 2, [HASH] * (MAX_PROOF_HASHES + 1)),
    "root that is too short": raw_frame(5, 1, HASH[:31], 2, []),
    "proof with one text": raw_frame(5, 1, HASH, 2, [HASH, "x" * 32]),
    "negative second size": raw_frame(5, 1, HASH, -1, []),
    "second size over the largest tree": raw_frame(5, 1, HASH, 1 << 63, []),
    "one item of two with text": raw_frame(4, [[0, b""], [0, "mail"]]),
    "one item of two without data": raw_frame(4, [[0, b""], [0]]),
    "an item that is no array": raw_frame(4, [[0, b""], b"ab"]),
    "attest with a field": raw_frame(7, None),
    "invite with a field": raw_frame(8, None),
    "negative size": raw_frame(5, -1, HASH, 2, []),
    "size over the largest tree": raw_frame(5, 1 << 63, HASH, 2, []),
    "stop with a field": raw_frame(6, None),
    "not an array": struct.pack(">IB", 1, 6) + b"\x01",
    "not msgpack": struct.pack(">IB", 1, 6) + b"\xc1",
    "bytes behind the array": struct.pack(">IB", 2, 6) + b"\x90\x90",
    "a map": struct.pack(">IB", 1, 6) + b"\x80",
}


@pytest.mark.parametrize("data", BAD_COMMANDS.values(), ids=BAD_COMMANDS.keys())
def test_an_enclave_refuses_commands_of_any_other_shape(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_command(reader(data))


def delivered(**changes: Any) -> bytes:
    fields = {"number": 1, "commit": None, "outbox": [], "drops": [], "answers": [], "proofs": []} | changes
    return raw_frame(18, True, list(fields.values()))


BAD_EFFECTS = {
    "ready with a long attestation": raw_frame(17, bytes(1 << 19), 0, None, None),
    "ready with a long keyring": raw_frame(17, b"", 0, bytes(MAX_KEYRING_BYTES + 1), None),
    "ready with a number as genesis": raw_frame(17, b"", 0, None, 1),
    "last that is no truth": raw_frame(18, 1, list(EMPTY)),
    "delivery that is none": raw_frame(18, True, []),
    "negative number": delivered(number=-1),
    "commit below 1": delivered(commit=[0, b"", HASH, 0]),
    "tail beyond the commit": delivered(commit=[1, b"", HASH, 2]),
    "short leaf": delivered(commit=[1, b"", HASH[:31], 1]),
    "message to nobody": delivered(outbox=[[0, b"", b""]]),
    "message without a slot": delivered(outbox=[[-1, bytes(16), b""]]),
    "message of text": delivered(outbox=[[0, bytes(16), "text"]]),
    "drop of three": delivered(drops=[[1, 2, 3]]),
    "drop of nothing": delivered(drops=[None]),
    "negative drop": delivered(drops=[[-1, 0]]),
    "unknown answer": delivered(answers=[[0, 5, 0, 0, None]]),
    "answer to nobody": delivered(answers=[[-1, 0, 0, 0, None]]),
    "answer beyond every batch": delivered(answers=[[MAX_BATCH_MAILS, 0, 0, 0, None]]),
    "answer in text": delivered(answers=[[0, 0, 0, 0, "text"]]),
    "truth as an answer": delivered(answers=[[0, True, 0, 0, None]]),
    "answer of a number beyond every tree": delivered(answers=[[0, 0, MAX_TREE_SIZE + 1, 0, None]]),
    "answer in no slot": delivered(answers=[[0, 0, 0, 2**32, None]]),
    "one answer of two in text": delivered(answers=[[0, 0, 0, 0, b""], [0, 0, 0, 0, "text"]]),
    "message in no slot": delivered(outbox=[[2**32, bytes(16), b""]]),
    "one message of two to nobody": delivered(outbox=[[0, bytes(16), b""], [0, bytes(15), b""]]),
    "drop beyond every tree": delivered(drops=[[MAX_TREE_SIZE + 1, 0]]),
    "drop in no slot": delivered(drops=[[0, 2**32]]),
    "commit beyond every tree": delivered(commit=[MAX_TREE_SIZE + 1, b"", HASH, 1]),
    "number beyond every tree": delivered(number=MAX_TREE_SIZE + 1),
    "proof beyond every tree": delivered(proofs=[[0, MAX_TREE_SIZE + 1]]),
    "proof for nobody": delivered(proofs=[[-1, 1]]),
    "number as a reason": raw_frame(19, 1),
    "refusal of an unknown class": raw_frame(20, "SystemExit", "0"),
    "refusal without words": raw_frame(20, "WrongKey", None),
}


@pytest.mark.parametrize("data", BAD_EFFECTS.values(), ids=BAD_EFFECTS.keys())
def test_a_host_refuses_effects_of_any_other_shape(data: bytes) -> None:
    with pytest.raises(Malformed):
        read_effect(reader(data))


@given(st.binary(max_size=64), st.sampled_from([*range(1, 7), *range(17, 21)]))
def test_arbitrary_payloads_end_in_a_message_or_malformed(payload: bytes, kind: int) -> None:
    data = struct.pack(">IB", len(payload), kind) + payload
    for read_message in (read_command, read_effect):
        with contextlib.suppress(Malformed):
            assert read_message(reader(data)) is not None


@given(st.data())
def test_altered_frames_end_in_a_message_or_malformed(data: st.DataObject) -> None:
    message = data.draw(st.sampled_from([*COMMANDS, *EFFECTS]))
    altered = bytearray(frame(message))
    at = data.draw(st.integers(HEADER_BYTES, max(HEADER_BYTES, len(altered) - 1)).filter(lambda at: at < len(altered)))
    altered[at] ^= data.draw(st.integers(1, 255))
    read_message = read_command if message in COMMANDS else read_effect
    with contextlib.suppress(Malformed):
        assert read_message(reader(bytes(altered))) is not None


@pytest.mark.parametrize("error", REFUSALS.values())
def test_a_refusal_carries_its_class_and_sentence(error: type[PmapError]) -> None:
    received = read_effect(reader(frame(Refused.of(error("that is why")))))
    assert isinstance(received, Refused)
    raised = received.error()
    assert type(raised) is error
    assert str(raised) == "that is why"


@pytest.mark.parametrize(
    ("error", "nearest"), [(MapFull, "LimitExceeded"), (StoreFenced, "StoreError"), (HostUnavailable, "PmapError")]
)
def test_a_class_that_may_not_cross_arrives_as_the_nearest_that_may(error: type[PmapError], nearest: str) -> None:
    assert Refused.of(error("x")).name == nearest
    assert {WrongKey, CorruptedStore, InvalidInput} <= set(REFUSALS.values())


def test_records_that_end_inside_a_length_or_a_record_are_refused() -> None:
    records = [b"one", b"", b"three"]
    payload = frame(Records(records))[HEADER_BYTES:]
    whole = [0, 7, 11, len(payload)]  # where a record ends
    for length in range(len(payload) + 1):
        read = reader(struct.pack(">IB", length, 2) + payload[:length])
        if length in whole:
            assert read_command(read) == Records(records[: whole.index(length)])
        else:
            with pytest.raises(Malformed, match="records end inside"):
                read_command(read)
