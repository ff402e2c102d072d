"""What a host and its enclave process say to each other. On the stream they are frames (:mod:`wire.frames`).

===== ===================== =================================================================
from  message               answer
===== ===================== =================================================================
host  Start                 Ready or Refused; after a keyring, the records have to follow first:
host  Records, ..., End     the window in order, in as many messages as it takes
host  Deliver               one or more Delivered, the last one marked as such
host  Learn                 Learned
host  Stop                  the end of the process, as at the end of the stream
===== ===================== =================================================================

One command at a time: the host sends the next one after the last one's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from wire.boundary import Delivery, Incoming
from wire.errors import (
    CorruptedStore,
    InvalidInput,
    LimitExceeded,
    Malformed,
    PmapError,
    StoreError,
    UnsupportedVersion,
    WrongKey,
)
from wire.limits import MAX_REFUSAL_TEXT_CHARACTERS

# --- what the host says ---------------------------------------------------------------------------------


class Start(NamedTuple):
    """Start on the store with this sealed keyring; None: on a new store, or on none."""

    keyring: bytes | None


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


class Stop(NamedTuple):
    """End the process."""


# --- what the enclave says ------------------------------------------------------------------------------


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


class Refused(NamedTuple):
    """The enclave did not start, or will not go on; the process ends. One of :data:`REFUSALS` by name, and its text."""

    name: str
    text: str

    @classmethod
    def of(cls, error: PmapError) -> Refused:
        """The nearest class that may cross the boundary."""
        name = next((base.__name__ for base in type(error).__mro__ if base.__name__ in REFUSALS), "PmapError")
        return cls(name, str(error)[:MAX_REFUSAL_TEXT_CHARACTERS])

    def error(self) -> PmapError:
        """The exception to raise."""
        return REFUSALS[self.name](self.text)


Command: TypeAlias = Start | Records | End | Deliver | Learn | Stop
Effect: TypeAlias = Ready | Delivered | Learned | Refused

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
    )
}
"""Every error that an enclave process can end with, by name."""
