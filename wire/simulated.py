"""Evidence of the simulated TEE: it protects nothing and says so.

It has the fields that real evidence has, so that clients, constraints and tests run the same paths, but anybody
can make it. A client accepts it only if its constraint says ``SEC:INSECURE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wire.attestation import REPORT_DATA_BYTES
from wire.codec import expect, pack, unpack
from wire.crypto import HASH_BYTES
from wire.errors import Malformed

SIMULATED: Final = "simulated"
MAX_EVIDENCE_BYTES: Final = 1024
_WARNING: Final = "SIMULATED: NOT PROTECTED BY ANY HARDWARE"


@dataclass(frozen=True, slots=True)
class SimulatedEvidence:
    """Code measurement and signer (32 bytes each), product number, security version, report data (64 bytes)."""

    measurement: bytes
    signer: bytes
    product: int
    security_version: int
    report_data: bytes

    def encode(self) -> bytes:
        """Canonical bytes."""
        return pack([_WARNING, self.measurement, self.signer, self.product, self.security_version, self.report_data])

    @classmethod
    def decode(cls, untrusted: bytes) -> SimulatedEvidence:
        """Parse. Raises :class:`Malformed`."""
        warning, measurement, signer, product, version, data = expect(
            unpack(untrusted, MAX_EVIDENCE_BYTES), str, bytes, bytes, int, int, bytes
        )
        if warning != _WARNING or (len(measurement), len(signer), len(data)) != (
            HASH_BYTES,
            HASH_BYTES,
            REPORT_DATA_BYTES,
        ):
            raise Malformed("not the simulated TEE's evidence")
        return cls(measurement, signer, product, version, data)
