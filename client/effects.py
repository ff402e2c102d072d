"""What the protocol machine asks of whoever drives it (:mod:`client.sync`, :mod:`client.aio`).

Every operation of :class:`client.session.Session` is a generator: it yields one of these, and is sent the result or
thrown the error. Between two effects it runs without a pause, so the driver needs to guard the shared state only
while it resumes a generator, never while it waits for the network.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar


@dataclass(frozen=True, slots=True)
class FetchAttestation:
    """Result: the bytes of the attestation document."""


@dataclass(frozen=True, slots=True)
class Deliver:
    """Result: the bytes of the answer to this envelope."""

    envelope: bytes


@dataclass(frozen=True, slots=True)
class PollMail:
    """Result: the messages that wait for this session's address, as a list of bytes."""

    address: bytes


@dataclass(frozen=True, slots=True)
class FetchConsistency:
    """Result: a consistency proof between two sizes, as a list of hashes."""

    size1: int
    size2: int


@dataclass(frozen=True, slots=True)
class Save:
    """Write the state. ``durable``: nothing else may happen before it is there to stay. Otherwise a failure is no
    error: the next durable write will tell, and nothing is lost until then."""

    durable: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Let this many seconds pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Run :meth:`client.session.Session.renew` with this argument, one at a time."""

    dead: bytes | None


@dataclass(frozen=True, slots=True)
class TellRestart:
    """The enclave restarted: tell the user, once the operation is done."""


Effect: TypeAlias = FetchAttestation | Deliver | PollMail | FetchConsistency | Save | Wait | Renew | TellRestart

_T = TypeVar("_T")
Steps: TypeAlias = Generator[Effect, Any, _T]
"""An operation whose result is a ``_T``."""
