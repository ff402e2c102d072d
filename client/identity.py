"""Who an enclave is, as far as its TEE's evidence shows: what a constraint is checked against."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class SecurityLevel(IntEnum):
    """What the evidence is worth, from worst to best."""

    INSECURE = 0
    """Nothing: a simulated TEE, or one in debug mode."""
    STALE = 1
    """A real TEE whose firmware or microcode is known to need an update."""
    SECURE = 2
    """A real TEE, up to date."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified enclave.

    ``measurement`` is the hash of its code and settings, ``signer`` that of its author's key (32 bytes each).
    ``product`` and ``security_version`` are the numbers that its author gave it (0..65535).
    """

    measurement: bytes
    signer: bytes
    product: int
    security_version: int
    level: SecurityLevel
