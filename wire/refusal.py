"""The payload of a refusal: which verdict, in words, the enclave's own checkpoint, and the alarm if there is one."""

from __future__ import annotations

from typing import Final

from wire.alarm import Alarm
from wire.checkpoint import Checkpoint
from wire.codec import expect, pack, unpack
from wire.errors import (
    ClientStale,
    EvidenceInvalid,
    EvidenceUnproven,
    ForkDetected,
    FreshnessError,
    GapRefused,
    LimitExceeded,
    Malformed,
    NotEnrolled,
    PmapError,
    ReplayRefused,
    RollbackDetected,
)
from wire.limits import MAX_REFUSAL_BYTES, MAX_REFUSAL_TEXT_CHARACTERS
from wire.mail import Refusal

_ERRORS: Final[dict[Refusal, type[PmapError]]] = {
    Refusal.ROLLBACK: RollbackDetected,
    Refusal.FORK: ForkDetected,
    Refusal.REPLAY: ReplayRefused,
    Refusal.GAP: GapRefused,
    Refusal.CLIENT_STALE: ClientStale,
    Refusal.EVIDENCE_INVALID: EvidenceInvalid,
    Refusal.EVIDENCE_UNPROVEN: EvidenceUnproven,
    Refusal.NOT_ENROLLED: NotEnrolled,
    Refusal.LIMIT: LimitExceeded,
}
_CODES: Final = {error: code for code, error in _ERRORS.items()}


def encode_refusal(error: PmapError, checkpoint: Checkpoint) -> bytes:
    """Payload for one of the errors above (exactly these classes)."""
    alarm = error.alarm if isinstance(error, FreshnessError) else None
    text = str(error)[:MAX_REFUSAL_TEXT_CHARACTERS]
    return pack([int(_CODES[type(error)]), text, checkpoint.encode(), b"" if alarm is None else alarm.encode()])


def decode_refusal(payload: bytes, store_id: bytes) -> PmapError:
    """The error to raise. Its alarm is decoded, not yet verified. Raises :class:`Malformed`."""
    code, text, checkpoint, alarm = expect(unpack(payload, MAX_REFUSAL_BYTES), int, str, bytes, bytes)
    Checkpoint.decode(store_id, checkpoint)
    try:
        error = _ERRORS[Refusal(code)]
    except (ValueError, KeyError) as cause:
        raise Malformed(f"no such refusal: {code}") from cause
    if issubclass(error, FreshnessError):
        return error(text, Alarm.decode(store_id, alarm) if alarm else None)
    return error(text)
