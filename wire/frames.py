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

from collections.abc import Callable
from struct import Struct
from typing import Any, Final, TypeAlias

from wire.codec import pack, unpack_authentic
from wire.errors import LimitExceeded, Malformed
from wire.frame_commands import (
    RECORD_LENGTH,
    decode_attest,
    decode_deliver,
    decode_end,
    decode_hand_over,
    decode_invite,
    decode_learn,
    decode_prepare,
    decode_receive,
    decode_records,
    decode_start,
    decode_stop,
    decode_take_over,
)
from wire.frame_effects import (
    decode_attested,
    decode_declined,
    decode_delivered,
    decode_handed_over,
    decode_invited,
    decode_learned,
    decode_prepared,
    decode_ready,
    decode_received,
    decode_refused,
    decode_requested,
)
from wire.limits import (
    MAX_ATTESTATION_BYTES,
    MAX_BATCH_BYTES,
    MAX_BATCH_MAILS,
    MAX_ENDORSEMENTS_BYTES,
    MAX_FRAME_BYTES,
    MAX_HANDOVER_BYTES,
    MAX_KEYRING_BYTES,
)
from wire.messages import (
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
HEADER_BYTES: Final = _header.size
_ITEM_OVERHEAD_BYTES: Final = 16
_SMALL_FRAME_BYTES: Final = 16 * 1024
_HANDOVER_FRAME_BYTES: Final = MAX_HANDOVER_BYTES + MAX_ENDORSEMENTS_BYTES + 2 * _ITEM_OVERHEAD_BYTES

Read: TypeAlias = Callable[[int], bytes]
"""Reads exactly so many bytes of a stream, fewer only at its end."""


def encode_frame(message: Command | Effect) -> tuple[bytes | memoryview, ...]:
    """The pieces of a frame, to be written one after the other. Raises :class:`LimitExceeded`."""
    if isinstance(message, Records):
        payload = [part for record in message.untrusted_records for part in (RECORD_LENGTH.pack(len(record)), record)]
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


# --- kinds ---

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

_RECORDS: Final[_Kind] = (MAX_FRAME_BYTES, decode_records)
_COMMANDS: Final[_Kinds] = {
    _KINDS[Start]: (MAX_KEYRING_BYTES + _ITEM_OVERHEAD_BYTES, decode_start),
    _KINDS[Records]: _RECORDS,
    _KINDS[End]: (_ITEM_OVERHEAD_BYTES, decode_end),
    _KINDS[Deliver]: (MAX_BATCH_BYTES + MAX_BATCH_MAILS * _ITEM_OVERHEAD_BYTES, decode_deliver),
    _KINDS[Learn]: (_SMALL_FRAME_BYTES, decode_learn),
    _KINDS[Stop]: (_ITEM_OVERHEAD_BYTES, decode_stop),
    _KINDS[Attest]: (_ITEM_OVERHEAD_BYTES, decode_attest),
    _KINDS[Invite]: (_ITEM_OVERHEAD_BYTES, decode_invite),
    _KINDS[HandOver]: (_HANDOVER_FRAME_BYTES, decode_hand_over),
    _KINDS[TakeOver]: (_HANDOVER_FRAME_BYTES, decode_take_over),
    _KINDS[Receive]: (_HANDOVER_FRAME_BYTES, decode_receive),
    _KINDS[Prepare]: (MAX_KEYRING_BYTES + _ITEM_OVERHEAD_BYTES, decode_prepare),
}

_EFFECTS: Final[_Kinds] = {
    _KINDS[Ready]: (MAX_FRAME_BYTES, decode_ready),
    _KINDS[Delivered]: (MAX_FRAME_BYTES, decode_delivered),
    _KINDS[Learned]: (_SMALL_FRAME_BYTES, decode_learned),
    _KINDS[Refused]: (_SMALL_FRAME_BYTES, decode_refused),
    _KINDS[Attested]: (MAX_ATTESTATION_BYTES + _ITEM_OVERHEAD_BYTES, decode_attested),
    _KINDS[Invited]: (_HANDOVER_FRAME_BYTES, decode_invited),
    _KINDS[HandedOver]: (_HANDOVER_FRAME_BYTES, decode_handed_over),
    _KINDS[Requested]: (_HANDOVER_FRAME_BYTES, decode_requested),
    _KINDS[Received]: (_SMALL_FRAME_BYTES, decode_received),
    _KINDS[Declined]: (_SMALL_FRAME_BYTES, decode_declined),
    _KINDS[Prepared]: (_ITEM_OVERHEAD_BYTES, decode_prepared),
}
