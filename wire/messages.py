"""What a host and its enclave process say to each other. On the stream they are frames (:mod:`wire.frames`).

===== ===================== =================================================================
from  message               answer
===== ===================== =================================================================
host  Prepare               Prepared or Refused; before Start, which may come much later, or never
host  Start                 Ready or Refused; after a keyring, the records have to follow first:
host  Records, ..., End     the window in order, in as many messages as it takes
host  Deliver               one or more Delivered, the last one marked as such
host  Learn                 Learned
host  Attest                Attested
host  Invite                Invited or Declined
host  HandOver              HandedOver, and the process ends; or Declined
host  TakeOver              Requested or Refused; instead of Start, in a process for this alone
host  Receive               Received or Refused, and the process ends
host  Stop                  the end of the process, as at the end of the stream
===== ===================== =================================================================

One command at a time: the host sends the next one after the last one's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from wire.boundary import Delivery, Incoming
from wire.errors import (
    AttestationError,
    CorruptedStore,
    DebugEnclave,
    DowngradeRefused,
    EvidenceExpired,
    EvidenceForged,
    EvidenceMalformed,
    ForkDetected,
    IdentityMismatch,
    InvalidInput,
    LimitExceeded,
    Malformed,
    PmapError,
    ReportDataMismatch,
    RollbackDetected,
    StoreError,
    TcbUnacceptable,
    TeeUnavailable,
    UnsupportedVersion,
    UntrustedRoot,
    WrongKey,
)
from wire.limits import MAX_REFUSAL_TEXT_CHARACTERS

# --- what the host says ---------------------------------------------------------------------------------


class Prepare(NamedTuple):
    """Make all that needs no records, and see that this sealed keyring opens; None: the store has none yet."""

    keyring: bytes | None


class Start(NamedTuple):
    """Start on the store with this sealed keyring; None: on a new store, or on none. ``rotate``: with a new key."""

    keyring: bytes | None
    rotate: bool = False


class Records(NamedTuple):
    """The next records: first of all the newest one, then the window in order, the newest included."""

    untrusted_records: Sequence[bytes | memoryview]


class End(NamedTuple):
    """There are no more records."""


class Deliver(NamedTuple):
    """A batch for the enclave's core."""

    batch: list[Incoming]


class Learn(NamedTuple):
    """The history's root at ``size`` and the consistency proof from there to ``to_size``, for a ProofWanted."""

    size: int
    root: bytes
    to_size: int
    proof: list[bytes]


class Attest(NamedTuple):
    """Make new evidence of the same epoch: a platform's evidence may hold for some hours only."""


class Invite(NamedTuple):
    """Begin to hand the store over (:mod:`pmap.handover`). An earlier beginning is given up."""


class HandOver(NamedTuple):
    """The successor's request, and what its platform's vendor says of it (:mod:`wire.tee.endorsements`)."""

    request: bytes
    endorsements: bytes


class TakeOver(NamedTuple):
    """The predecessor's invitation, and what its platform's vendor says of it."""

    invitation: bytes
    endorsements: bytes


class Receive(NamedTuple):
    """The predecessor's package."""

    package: bytes


class Stop(NamedTuple):
    """End the process."""


# --- what the enclave says ------------------------------------------------------------------------------


class Prepared(NamedTuple):
    """The enclave waits for its store."""


class Ready(NamedTuple):
    """The enclave runs.

    ``attestation`` is the encoded document, ``n`` the newest record's number. ``keyring`` (sealed) and ``genesis``
    are there for a new store, to be stored together before anything else. A ``keyring`` without ``genesis`` takes the
    stored one's place, durably, before another record is stored: that record may need it.
    """

    attestation: bytes
    n: int
    keyring: bytes | None
    genesis: Delivery | None


class Delivered(NamedTuple):
    """One delivery of a batch; ``last`` marks the batch's last one."""

    last: bool
    delivery: Delivery


class Learned(NamedTuple):
    """What became of a proof: None if it was accepted, else why not."""

    refused: str | None


class Attested(NamedTuple):
    """The attestation document with new evidence."""

    attestation: bytes


class Invited(NamedTuple):
    """The first message of a hand-over, for the successor."""

    invitation: bytes


class HandedOver(NamedTuple):
    """The last message of a hand-over, for the successor. The enclave has ended: the store is not its own any more."""

    package: bytes


class Requested(NamedTuple):
    """The successor's message, for the predecessor."""

    request: bytes


class Received(NamedTuple):
    """The keyring (sealed), to take the place of the stored one in a copy of the store."""

    keyring: bytes


class Declined(NamedTuple):
    """The enclave does not do what was asked, and goes on. As :class:`Refused`."""

    name: str
    text: str

    @classmethod
    def of(cls, error: PmapError) -> Declined:
        """The nearest class that may cross the boundary."""
        return cls(*Refused.of(error))

    def error(self) -> PmapError:
        """The exception to raise."""
        return Refused(self.name, self.text).error()


class Refused(NamedTuple):
    """The enclave did not start, or will not go on; the process ends. One of :data:`REFUSALS` by name, and its text."""

    name: str
    text: str

    @classmethod
    def of(cls, error: PmapError) -> Refused:
        """The nearest class that may cross the boundary."""
        name = next(base.__name__ for base in type(error).__mro__ if base.__name__ in REFUSALS)
        return cls(name, str(error)[:MAX_REFUSAL_TEXT_CHARACTERS])

    def error(self) -> PmapError:
        """The exception to raise."""
        return REFUSALS[self.name](self.text)


Command: TypeAlias = (
    Prepare | Start | Records | End | Deliver | Learn | Attest | Invite | HandOver | TakeOver | Receive | Stop
)
Effect: TypeAlias = (
    Prepared | Ready | Delivered | Learned | Attested | Invited | HandedOver | Requested | Received | Declined | Refused
)

REFUSALS: Final[dict[str, type[PmapError]]] = {
    error.__name__: error
    for error in (
        PmapError,
        InvalidInput,
        LimitExceeded,
        Malformed,
        StoreError,
        UnsupportedVersion,
        WrongKey,
        CorruptedStore,
        DowngradeRefused,
        RollbackDetected,
        ForkDetected,
        TeeUnavailable,
        AttestationError,
        EvidenceMalformed,
        EvidenceForged,
        UntrustedRoot,
        EvidenceExpired,
        ReportDataMismatch,
        DebugEnclave,
        TcbUnacceptable,
        IdentityMismatch,
    )
}
"""Every error that an enclave process can end or decline with, by name."""
