"""What a client's user gets: replies, receipts, inbox mails, and what became of pending mails."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from wire.checkpoint import Checkpoint
from wire.errors import HandlerFailed, PmapError


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a mail was processed, and where.

    ``commit``: the commit that holds it; 0 from an enclave that keeps no state. ``stable``: up to which commit
    a quorum of voters held evidence at that time. ``checkpoint``: the signed state of the store right after it.
    """

    commit: int
    stable: int
    checkpoint: Checkpoint | None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the enclave answered. ``payload`` is None where its handler returned nothing."""

    payload: bytes | None
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class InboxMail:
    """A mail that the enclave sent on its own. Numbers count from 0 without gaps."""

    number: int
    body: bytes


class MailFailed(HandlerFailed):
    """The enclave's handler raised, and said this. Everything that it had changed was undone."""

    def __init__(self, message: str, receipt: Receipt) -> None:
        super().__init__(message)
        self.receipt = receipt


class Fate(Enum):
    """What became of a mail whose outcome was open."""

    EXECUTED = "executed"
    FAILED = "failed"
    """It was processed, and the handler raised."""
    WITHHELD = "withheld"
    """It was processed, but the host no longer delivers what the enclave said about it."""
    NOT_EXECUTED = "not executed"
    """And it never will be."""
    UNKNOWN = "unknown"
    """The enclave keeps no state and has restarted: nobody can tell."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A mail that was pending and no longer is.

    ``reply`` is there for EXECUTED, ``error`` for FAILED, WITHHELD and UNKNOWN.
    """

    topic: str
    body: bytes
    fate: Fate
    reply: Reply | None = None
    error: PmapError | None = None
