"""Reading what a host says to its enclave process (:mod:`wire.messages`): each function takes a payload's fields.

Every function raises :class:`Malformed`.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from wire.boundary import Incoming, IncomingKind
from wire.codec import expect
from wire.crypto import HASH_BYTES
from wire.errors import Malformed
from wire.frame_fields import columns, commit_number, each_bytes, kinds_of, one_message, optional_bytes
from wire.limits import MAX_BATCH_MAILS, MAX_ENDORSEMENTS_BYTES, MAX_HANDOVER_BYTES, MAX_PROOF_HASHES
from wire.messages import (
    Attest,
    Deliver,
    End,
    HandOver,
    Invite,
    Learn,
    Prepare,
    Receive,
    Records,
    Start,
    Stop,
    TakeOver,
)

RECORD_LENGTH: Final = Struct(">I")
"""Of each record its length comes first."""
_INCOMING_KINDS: Final = {int(kind): kind for kind in IncomingKind}


def decode_prepare(fields: Any) -> Prepare:
    (keyring,) = expect(fields, object)
    return Prepare(optional_bytes(keyring))


def decode_start(fields: Any) -> Start:
    keyring, rotate = expect(fields, object, bool)
    return Start(optional_bytes(keyring), rotate)


def decode_records(payload: bytes) -> Records:
    # Views of memory that nobody can change any more: bytes() copies, unless these are such bytes already.
    view, records, at = memoryview(bytes(payload)), [], 0
    while at < len(view):
        start = at + RECORD_LENGTH.size
        if start > len(view):
            raise Malformed("records end inside a length")
        at = start + RECORD_LENGTH.unpack_from(view, start - RECORD_LENGTH.size)[0]
        if at > len(view):
            raise Malformed("records end inside a record")
        records.append(view[start:at])
    return Records(records)


def decode_end(fields: Any) -> End:
    expect(fields)
    return End()


def decode_deliver(fields: Any) -> Deliver:
    (batch,) = expect(fields, list)
    if len(batch) > MAX_BATCH_MAILS:
        raise Malformed(f"a batch of {len(batch)} items; at most {MAX_BATCH_MAILS} are allowed")
    kinds, data = columns(batch, int, bytes)
    return Deliver(list(map(Incoming, kinds_of(_INCOMING_KINDS, kinds), data)))


def decode_learn(fields: Any) -> Learn:
    size, root, to_size, proof = expect(fields, int, bytes, int, list)
    if len(proof) > MAX_PROOF_HASHES or any(len(step) != HASH_BYTES for step in [root, *each_bytes(proof)]):
        raise Malformed("a proof that is too long, or not made of hashes")
    return Learn(commit_number(size), root, commit_number(to_size), proof)


def decode_attest(fields: Any) -> Attest:
    expect(fields)
    return Attest()


def decode_invite(fields: Any) -> Invite:
    expect(fields)
    return Invite()


def decode_hand_over(fields: Any) -> HandOver:
    return HandOver(*_message_and_endorsements(fields))


def decode_take_over(fields: Any) -> TakeOver:
    return TakeOver(*_message_and_endorsements(fields))


def _message_and_endorsements(fields: Any) -> tuple[bytes, bytes]:
    message, endorsements = expect(fields, bytes, bytes)
    if len(message) > MAX_HANDOVER_BYTES or len(endorsements) > MAX_ENDORSEMENTS_BYTES:
        raise Malformed("a hand-over's message that is too long")
    return message, endorsements


def decode_receive(fields: Any) -> Receive:
    return Receive(*one_message(fields, MAX_HANDOVER_BYTES))


def decode_stop(fields: Any) -> Stop:
    expect(fields)
    return Stop()
