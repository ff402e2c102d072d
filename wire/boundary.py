"""What crosses between host and enclave: commands in, ordered effects out. Both sides check what they get.

A :class:`Delivery` is to be carried out in this order: store record, outbox items, drops and trim in *one* durable
transaction; only then let answers and outbox messages leave.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class IncomingKind(IntEnum):
    """What the host hands over."""

    MAIL = 0
    """A hello or mail envelope from somewhere outside."""
    CALL = 1
    """A call by the host itself."""


class Incoming(NamedTuple):
    """One item of a batch."""

    kind: IncomingKind
    data: bytes


class AnswerKind(IntEnum):
    """What the host is to do with the sender of an item."""

    DIRECT = 0
    """Deliver ``data``; it is not kept."""
    BOXED = 1
    """Deliver the outbox item (n, slot), of this delivery or an earlier one."""
    REJECTED = 2
    """No authenticated answer is possible; ``slot`` is a :class:`Rejection`."""
    CALL_DONE = 3
    """The host's call returned ``data`` (None: nothing)."""
    CALL_FAILED = 4
    """The host's call raised; ``data`` is a text."""


class Rejection(IntEnum):
    """Why an item got no authenticated answer."""

    MALFORMED = 1
    SESSION_UNKNOWN = 2
    UNDECRYPTABLE = 3


class Answer(NamedTuple):
    """What becomes of item ``position`` of the batch."""

    position: int
    kind: AnswerKind
    n: int = 0
    slot: int = 0
    data: bytes | None = None


class OutboxMessage(NamedTuple):
    """An encrypted message that the host keeps for a session until it is dropped."""

    slot: int
    address: bytes
    message: bytes


class StoredCommit(NamedTuple):
    """What the store needs of one commit."""

    n: int
    record: bytes
    leaf: bytes
    tail: int


class ProofWanted(NamedTuple):
    """A consistency proof from commit ``size`` would settle the evidence of item ``position``."""

    position: int
    size: int


class Delivery(NamedTuple):
    """The effects of some items of a batch. ``commit`` is None where nothing changed.

    ``number`` is the commit's, or counts up by itself in an enclave that keeps no state; outbox items are
    named by (number, slot).
    """

    number: int
    commit: StoredCommit | None
    outbox: list[OutboxMessage]
    drops: list[tuple[int, int]]
    answers: list[Answer]
    proofs: list[ProofWanted]
