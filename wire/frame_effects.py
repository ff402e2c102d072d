"""Reading what an enclave process says to its host (:mod:`wire.messages`): each function takes a payload's fields.

Every function raises :class:`Malformed`.
"""

from __future__ import annotations

from typing import Any, Final

from wire.boundary import Answer, AnswerKind, Delivery, OutboxMessage, ProofWanted, StoredCommit
from wire.codec import expect
from wire.crypto import HASH_BYTES
from wire.errors import Malformed
from wire.frame_fields import as_bytes, check_numbers, columns, commit_number, kinds_of, one_message
from wire.limits import (
    MAX_ATTESTATION_BYTES,
    MAX_BATCH_MAILS,
    MAX_HANDOVER_BYTES,
    MAX_KEYRING_BYTES,
    MAX_REFUSAL_TEXT_CHARACTERS,
    MAX_TREE_SIZE,
)
from wire.mail import SESSION_BYTES
from wire.messages import (
    REFUSALS,
    Attested,
    Declined,
    Delivered,
    HandedOver,
    Invited,
    Learned,
    Prepared,
    Ready,
    Received,
    Refused,
    Requested,
)

_MAX_SLOT: Final = (1 << 32) - 1
_ANSWER_KINDS: Final = {int(kind): kind for kind in AnswerKind}


def decode_prepared(fields: Any) -> Prepared:
    expect(fields)
    return Prepared()


def decode_ready(fields: Any) -> Ready:
    attestation, n, keyring, genesis = expect(fields, bytes, int, object, object)
    if len(attestation) > MAX_ATTESTATION_BYTES:
        raise Malformed(f"an attestation of {len(attestation)} bytes; at most {MAX_ATTESTATION_BYTES} are allowed")
    if keyring is not None and len(as_bytes(keyring)) > MAX_KEYRING_BYTES:
        raise Malformed(f"a keyring of {len(keyring)} bytes; at most {MAX_KEYRING_BYTES} are allowed")
    return Ready(attestation, commit_number(n), keyring, None if genesis is None else _decode_delivery(genesis))


def decode_delivered(fields: Any) -> Delivered:
    last, delivery = expect(fields, bool, list)
    return Delivered(last, _decode_delivery(delivery))


def _decode_delivery(fields: Any) -> Delivery:
    number, commit, outbox, drops, answers, proofs = expect(fields, int, object, list, list, list, list)
    return Delivery(
        commit_number(number),
        None if commit is None else _decode_commit(commit),
        _decode_outbox(outbox),
        _decode_places(drops),
        _decode_answers(answers),
        [_decode_proof_wanted(proof) for proof in proofs],
    )


def _decode_commit(fields: Any) -> StoredCommit:
    n, record, leaf, tail = expect(fields, int, bytes, bytes, int)
    if not 1 <= tail <= n <= MAX_TREE_SIZE or len(leaf) != HASH_BYTES:
        raise Malformed("a commit whose numbers or leaf hash make no sense")
    return StoredCommit(n, record, leaf, tail)


# Once per mail each, and so in columns: checks over all rows at once.


def _decode_outbox(rows: list[Any]) -> list[OutboxMessage]:
    slots, addresses, messages = columns(rows, int, bytes, bytes)
    check_numbers(slots, _MAX_SLOT)
    if not set(map(len, addresses)) <= {SESSION_BYTES}:
        raise Malformed("a message for something that is no session")
    return list(map(OutboxMessage, slots, addresses, messages))


def _decode_places(rows: list[Any]) -> list[tuple[int, int]]:
    numbers, slots = columns(rows, int, int)
    check_numbers(numbers, MAX_TREE_SIZE)
    check_numbers(slots, _MAX_SLOT)
    return list(zip(numbers, slots, strict=True))


def _decode_answers(rows: list[Any]) -> list[Answer]:
    positions, kinds, numbers, slots, data = columns(rows, int, int, int, int, object)
    check_numbers(positions, MAX_BATCH_MAILS - 1)
    check_numbers(numbers, MAX_TREE_SIZE)
    check_numbers(slots, _MAX_SLOT)
    if not set(map(type, data)) <= {bytes, type(None)}:
        raise Malformed("an answer of a type that is none")
    return list(map(Answer, positions, kinds_of(_ANSWER_KINDS, kinds), numbers, slots, data))


def _decode_proof_wanted(fields: Any) -> ProofWanted:
    position, size = expect(fields, int, int)
    return ProofWanted(commit_number(position), commit_number(size))


def decode_learned(fields: Any) -> Learned:
    (refused,) = expect(fields, object)
    if refused is not None and type(refused) is not str:
        raise Malformed("a reason is a text")
    return Learned(refused)


def decode_attested(fields: Any) -> Attested:
    return Attested(*one_message(fields, MAX_ATTESTATION_BYTES))


def decode_invited(fields: Any) -> Invited:
    return Invited(*one_message(fields, MAX_HANDOVER_BYTES))


def decode_handed_over(fields: Any) -> HandedOver:
    return HandedOver(*one_message(fields, MAX_HANDOVER_BYTES))


def decode_requested(fields: Any) -> Requested:
    return Requested(*one_message(fields, MAX_HANDOVER_BYTES))


def decode_received(fields: Any) -> Received:
    return Received(*one_message(fields, MAX_KEYRING_BYTES))


def decode_declined(fields: Any) -> Declined:
    return Declined(*decode_refused(fields))


def decode_refused(fields: Any) -> Refused:
    name, text = expect(fields, str, str)
    if name not in REFUSALS:
        raise Malformed("an error that an enclave process does not end with")
    return Refused(name, text[:MAX_REFUSAL_TEXT_CHARACTERS])
