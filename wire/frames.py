"""The frames that carry messages (:mod:`wire.messages`) between a host and its enclave process, without I/O.

::

    frame = length of the payload (4, big-endian) ‖ kind (1) ‖ payload (a msgpack array: the message's fields)

Records alone have another payload, because at a start hundreds of megabytes of them come this way: of each record its
length (4) and its bytes, which are then not copied again on either side.

Neither side trusts the other, so each takes only the other's kinds, each with its own bound, and checks the shape of
every field. That the encoding is *canonical* is not checked: nothing is signed or hashed over frame bytes, and to
encode a batch a second time would be the most expensive thing on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final, TypeAlias, TypeVar

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
from wire.codec import expect, pack, unpack_authentic
from wire.crypto import HASH_BYTES
from wire.errors import LimitExceeded, Malformed
from wire.limits import (
    MAX_ATTESTATION_BYTES,
    MAX_BATCH_BYTES,
    MAX_BATCH_MAILS,
    MAX_ENDORSEMENTS_BYTES,
    MAX_FRAME_BYTES,
    MAX_HANDOVER_BYTES,
    MAX_KEYRING_BYTES,
    MAX_PROOF_HASHES,
    MAX_REFUSAL_TEXT_CHARACTERS,
    MAX_TREE_SIZE,
)
from wire.mail import SESSION_BYTES
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

_header: Final = Struct(">IB")
_length: Final = Struct(">I")
HEADER_BYTES: Final = _header.size
_ITEM_OVERHEAD_BYTES: Final = 16
_SMALL_FRAME_BYTES: Final = 16 * 1024
_HANDOVER_FRAME_BYTES: Final = MAX_HANDOVER_BYTES + MAX_ENDORSEMENTS_BYTES + 2 * _ITEM_OVERHEAD_BYTES
_MAX_SLOT: Final = (1 << 32) - 1

Read: TypeAlias = Callable[[int], bytes]
"""Reads exactly so many bytes of a stream, fewer only at its end."""


# --- frames ---------------------------------------------------------------------------------------------


def encode_frame(message: Command | Effect) -> tuple[bytes | memoryview, ...]:
    """The pieces of a frame, to be written one after the other. Raises :class:`LimitExceeded`."""
    if isinstance(message, Records):
        payload = [part for record in message.untrusted_records for part in (_length.pack(len(record)), record)]
    else:
        payload = [pack(message)]
    length = sum(map(len, payload))
    if length > MAX_FRAME_BYTES:
        raise LimitExceeded(f"a frame of {length} bytes; at most {MAX_FRAME_BYTES} are allowed")
    return _header.pack(length, _KINDS[type(message)]), *payload


def read_command(read: Read) -> Command | None:
    """The next message of the host; None at the end of the stream. Raises :class:`Malformed`."""
    command: Command | None = _read(read, _COMMANDS)
    return command


def read_effect(read: Read) -> Effect | None:
    """The next message of the enclave; None at the end of the stream. Raises :class:`Malformed`."""
    effect: Effect | None = _read(read, _EFFECTS)
    return effect


def _read(read: Read, kinds: _Kinds) -> Any:
    header = read(HEADER_BYTES)
    if not header:
        return None
    if len(header) != HEADER_BYTES:
        raise Malformed("the stream ends inside a frame's header")
    length, number = _header.unpack(header)
    kind = kinds.get(number)
    if kind is None:
        raise Malformed(f"a frame of unknown kind {number}")
    max_bytes, decode = kind
    if length > max_bytes:
        raise Malformed(f"a frame of kind {number} with {length} bytes, where at most {max_bytes} are allowed")
    payload = read(length)
    if len(payload) != length:
        raise Malformed("the stream ends inside a frame")
    return decode(payload if kind is _RECORDS else unpack_authentic(payload))


# --- decoding the host's messages -----------------------------------------------------------------------


def _decode_prepare(fields: Any) -> Prepare:
    (keyring,) = expect(fields, object)
    return Prepare(_optional_bytes(keyring))


def _decode_start(fields: Any) -> Start:
    keyring, rotate = expect(fields, object, bool)
    return Start(_optional_bytes(keyring), rotate)


def _decode_records(payload: bytes) -> Records:
    # Views of memory that nobody can change any more: bytes() copies, unless these are such bytes already.
    view, records, at = memoryview(bytes(payload)), [], 0
    while at < len(view):
        start = at + _length.size
        if start > len(view):
            raise Malformed("records end inside a length")
        at = start + _length.unpack_from(view, start - _length.size)[0]
        if at > len(view):
            raise Malformed("records end inside a record")
        records.append(view[start:at])
    return Records(records)


def _decode_end(fields: Any) -> End:
    expect(fields)
    return End()


def _decode_deliver(fields: Any) -> Deliver:
    (batch,) = expect(fields, list)
    if len(batch) > MAX_BATCH_MAILS:
        raise Malformed(f"a batch of {len(batch)} items; at most {MAX_BATCH_MAILS} are allowed")
    kinds, data = _columns(batch, int, bytes)
    return Deliver(list(map(Incoming, _members(_INCOMING_KINDS, kinds), data)))


def _decode_learn(fields: Any) -> Learn:
    size, root, to_size, proof = expect(fields, int, bytes, int, list)
    if len(proof) > MAX_PROOF_HASHES or any(len(step) != HASH_BYTES for step in [root, *_each_bytes(proof)]):
        raise Malformed("a proof that is too long, or not made of hashes")
    return Learn(_number(size), root, _number(to_size), proof)


def _decode_attest(fields: Any) -> Attest:
    expect(fields)
    return Attest()


def _decode_invite(fields: Any) -> Invite:
    expect(fields)
    return Invite()


def _decode_hand_over(fields: Any) -> HandOver:
    return HandOver(*_message_and_endorsements(fields))


def _decode_take_over(fields: Any) -> TakeOver:
    return TakeOver(*_message_and_endorsements(fields))


def _message_and_endorsements(fields: Any) -> tuple[bytes, bytes]:
    message, endorsements = expect(fields, bytes, bytes)
    if len(message) > MAX_HANDOVER_BYTES or len(endorsements) > MAX_ENDORSEMENTS_BYTES:
        raise Malformed("a hand-over's message that is too long")
    return message, endorsements


def _decode_receive(fields: Any) -> Receive:
    return Receive(*_one_message(fields, MAX_HANDOVER_BYTES))


def _one_message(fields: Any, max_bytes: int) -> tuple[bytes]:
    (message,) = expect(fields, bytes)
    if len(message) > max_bytes:
        raise Malformed(f"a message of {len(message)} bytes; at most {max_bytes} are allowed")
    return (message,)


def _decode_stop(fields: Any) -> Stop:
    expect(fields)
    return Stop()


# --- decoding the enclave's messages --------------------------------------------------------------------


def _decode_prepared(fields: Any) -> Prepared:
    expect(fields)
    return Prepared()


def _decode_ready(fields: Any) -> Ready:
    attestation, n, keyring, genesis = expect(fields, bytes, int, object, object)
    if len(attestation) > MAX_ATTESTATION_BYTES:
        raise Malformed(f"an attestation of {len(attestation)} bytes; at most {MAX_ATTESTATION_BYTES} are allowed")
    if keyring is not None and len(_bytes(keyring)) > MAX_KEYRING_BYTES:
        raise Malformed(f"a keyring of {len(keyring)} bytes; at most {MAX_KEYRING_BYTES} are allowed")
    return Ready(attestation, _number(n), keyring, None if genesis is None else _decode_delivery(genesis))


def _decode_delivered(fields: Any) -> Delivered:
    last, delivery = expect(fields, bool, list)
    return Delivered(last, _decode_delivery(delivery))


def _decode_delivery(fields: Any) -> Delivery:
    number, commit, outbox, drops, answers, proofs = expect(fields, int, object, list, list, list, list)
    return Delivery(
        _number(number),
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
    slots, addresses, messages = _columns(rows, int, bytes, bytes)
    _bound(slots, _MAX_SLOT)
    if not set(map(len, addresses)) <= {SESSION_BYTES}:
        raise Malformed("a message for something that is no session")
    return list(map(OutboxMessage, slots, addresses, messages))


def _decode_places(rows: list[Any]) -> list[tuple[int, int]]:
    numbers, slots = _columns(rows, int, int)
    _bound(numbers, MAX_TREE_SIZE)
    _bound(slots, _MAX_SLOT)
    return list(zip(numbers, slots, strict=True))


def _decode_answers(rows: list[Any]) -> list[Answer]:
    positions, kinds, numbers, slots, data = _columns(rows, int, int, int, int, object)
    _bound(positions, MAX_BATCH_MAILS - 1)
    _bound(numbers, MAX_TREE_SIZE)
    _bound(slots, _MAX_SLOT)
    if not set(map(type, data)) <= {bytes, type(None)}:
        raise Malformed("an answer of a type that is none")
    return list(map(Answer, positions, _members(_ANSWER_KINDS, kinds), numbers, slots, data))


def _decode_proof_wanted(fields: Any) -> ProofWanted:
    position, size = expect(fields, int, int)
    return ProofWanted(_number(position), _number(size))


def _decode_learned(fields: Any) -> Learned:
    (refused,) = expect(fields, object)
    if refused is not None and type(refused) is not str:
        raise Malformed("a reason is a text")
    return Learned(refused)


def _decode_attested(fields: Any) -> Attested:
    return Attested(*_one_message(fields, MAX_ATTESTATION_BYTES))


def _decode_invited(fields: Any) -> Invited:
    return Invited(*_one_message(fields, MAX_HANDOVER_BYTES))


def _decode_handed_over(fields: Any) -> HandedOver:
    return HandedOver(*_one_message(fields, MAX_HANDOVER_BYTES))


def _decode_requested(fields: Any) -> Requested:
    return Requested(*_one_message(fields, MAX_HANDOVER_BYTES))


def _decode_received(fields: Any) -> Received:
    return Received(*_one_message(fields, MAX_KEYRING_BYTES))


def _decode_declined(fields: Any) -> Declined:
    return Declined(*_decode_refused(fields))


def _decode_refused(fields: Any) -> Refused:
    name, text = expect(fields, str, str)
    if name not in REFUSALS:
        raise Malformed("an error that an enclave process does not end with")
    return Refused(name, text[:MAX_REFUSAL_TEXT_CHARACTERS])


# --- fields ---------------------------------------------------------------------------------------------

_Member = TypeVar("_Member")

_INCOMING_KINDS: Final = {int(kind): kind for kind in IncomingKind}
_ANSWER_KINDS: Final = {int(kind): kind for kind in AnswerKind}


def _member(members: dict[int, _Member], value: int) -> _Member:
    try:
        return members[value]
    except KeyError:
        raise Malformed(f"no such kind: {value}") from None


def _members(members: dict[int, _Member], values: Sequence[int]) -> list[_Member]:
    try:
        return [members[value] for value in values]
    except KeyError as error:
        raise Malformed(f"no such kind: {error}") from None


def _columns(rows: list[Any], *types: type) -> Sequence[Sequence[Any]]:
    """Rows of exactly these types, transposed; ``object`` stands for any type. Raises :class:`Malformed`."""
    if not rows:
        return ((),) * len(types)
    if set(map(type, rows)) != {list} or set(map(len, rows)) != {len(types)}:
        raise Malformed(f"expected arrays of {len(types)} fields")
    columns = list(zip(*rows, strict=True))
    for column, wanted in zip(columns, types, strict=True):
        if wanted is not object and set(map(type, column)) != {wanted}:
            raise Malformed(f"expected {wanted.__name__} in each row")
    return columns


def _bound(numbers: Sequence[int], most: int) -> None:
    if numbers and not 0 <= min(numbers) <= max(numbers) <= most:
        raise Malformed("a number out of range")


def _number(value: int) -> int:
    if not 0 <= value <= MAX_TREE_SIZE:
        raise Malformed("a number out of range")
    return value


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise Malformed(f"expected bytes, got {type(value).__name__}")
    return value


def _optional_bytes(value: object) -> bytes | None:
    return None if value is None else _bytes(value)


def _each_bytes(values: list[Any]) -> list[bytes]:
    for value in values:
        _bytes(value)
    return values


# --- kinds ----------------------------------------------------------------------------------------------

_Kind: TypeAlias = tuple[int, Callable[[Any], Any]]
"""Most bytes of a payload, its decoder."""
_Kinds: TypeAlias = dict[int, _Kind]

_KINDS: Final[dict[type, int]] = {
    Start: 1,
    Records: 2,
    End: 3,
    Deliver: 4,
    Learn: 5,
    Stop: 6,
    Attest: 7,
    Invite: 8,
    HandOver: 9,
    TakeOver: 10,
    Receive: 11,
    Prepare: 12,
    Ready: 17,
    Delivered: 18,
    Learned: 19,
    Refused: 20,
    Attested: 21,
    Invited: 22,
    HandedOver: 23,
    Requested: 24,
    Received: 25,
    Declined: 26,
    Prepared: 27,
}

_RECORDS: Final[_Kind] = (MAX_FRAME_BYTES, _decode_records)
_COMMANDS: Final[_Kinds] = {
    _KINDS[Start]: (MAX_KEYRING_BYTES + _ITEM_OVERHEAD_BYTES, _decode_start),
    _KINDS[Records]: _RECORDS,
    _KINDS[End]: (_ITEM_OVERHEAD_BYTES, _decode_end),
    _KINDS[Deliver]: (MAX_BATCH_BYTES + MAX_BATCH_MAILS * _ITEM_OVERHEAD_BYTES, _decode_deliver),
    _KINDS[Learn]: (_SMALL_FRAME_BYTES, _decode_learn),
    _KINDS[Stop]: (_ITEM_OVERHEAD_BYTES, _decode_stop),
    _KINDS[Attest]: (_ITEM_OVERHEAD_BYTES, _decode_attest),
    _KINDS[Invite]: (_ITEM_OVERHEAD_BYTES, _decode_invite),
    _KINDS[HandOver]: (_HANDOVER_FRAME_BYTES, _decode_hand_over),
    _KINDS[TakeOver]: (_HANDOVER_FRAME_BYTES, _decode_take_over),
    _KINDS[Receive]: (_HANDOVER_FRAME_BYTES, _decode_receive),
    _KINDS[Prepare]: (MAX_KEYRING_BYTES + _ITEM_OVERHEAD_BYTES, _decode_prepare),
}

_EFFECTS: Final[_Kinds] = {
    _KINDS[Ready]: (MAX_FRAME_BYTES, _decode_ready),
    _KINDS[Delivered]: (MAX_FRAME_BYTES, _decode_delivered),
    _KINDS[Learned]: (_SMALL_FRAME_BYTES, _decode_learned),
    _KINDS[Refused]: (_SMALL_FRAME_BYTES, _decode_refused),
    _KINDS[Attested]: (MAX_ATTESTATION_BYTES + _ITEM_OVERHEAD_BYTES, _decode_attested),
    _KINDS[Invited]: (_HANDOVER_FRAME_BYTES, _decode_invited),
    _KINDS[HandedOver]: (_HANDOVER_FRAME_BYTES, _decode_handed_over),
    _KINDS[Requested]: (_HANDOVER_FRAME_BYTES, _decode_requested),
    _KINDS[Received]: (_SMALL_FRAME_BYTES, _decode_received),
    _KINDS[Declined]: (_SMALL_FRAME_BYTES, _decode_declined),
    _KINDS[Prepared]: (_ITEM_OVERHEAD_BYTES, _decode_prepared),
}
