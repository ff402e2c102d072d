"""Who an enclave is, as its TEE states it: the one result of verifying evidence, whatever the TEE.

What each field is taken from:

=========  =========================  ==================  =======  ================
TEE        measurement                signer              product  security version
=========  =========================  ==================  =======  ================
sgx        MRENCLAVE (32)             MRSIGNER (32)       PRODID   ISVSVN
snp        MEASUREMENT (48)           ID_KEY_DIGEST (48)  0        GUEST_SVN
tdx        digest of MRTD, RTMRs (48) none                0        0
dstack     digest of MRTD, RTMR0-2,   the same, app id,   0        0
           compose hash (48)          key provider (48)
nitro      PCR0 (48)                  PCR8 (48)           0        0
simulated  hash of the source (32)    constant (32)       chosen   chosen
=========  =========================  ==================  =======  ================

A TEE without product numbers or security versions counts as 0 in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from wire.tee.roots import BUILT_IN


class SecurityLevel(IntEnum):
    """How far a platform can be trusted, in the three steps of the constraint language."""

    INSECURE = 0
    """No protection: simulated, or a platform that is known to be broken."""
    STALE = 1
    """Genuine hardware with known weaknesses (old firmware, wrong configuration), or that nobody judged."""
    SECURE = 2
    """Genuine hardware, and up to date."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One enclave's identity, read from evidence. Nothing in it is trusted before the evidence is verified."""

    measurement: bytes
    """The code's measurement (32 or 48 bytes)."""
    signer: bytes | None
    """Who answers for the code (a digest of 32 or 48 bytes); None where the TEE knows no signer, or there is none."""
    product: int
    security_version: int
    level: SecurityLevel
    tee: str = ""
    """The kind of evidence, as in the attestation document."""
    report_data: bytes = b""
    """What the enclave bound into the evidence (64 bytes; 0 to 512 in a Nitro document)."""
    status: str = ""
    """The platform's state in its vendor's own word, or what is to be said of it."""
    debug: bool = False
    """Whether the host can read the enclave's memory."""
    dated: int | None = None
    """Since when the statement about the platform is known to hold (Unix seconds); None: it carries no date."""
    advisories: tuple[str, ...] = ()
    """The vendor's open security advisories for this platform."""
    details: tuple[tuple[str, str], ...] = ()
    """Further registers, for people: (name, value)."""
    root: bytes = b""
    """SHA-256 of the public key of the root that the evidence was verified up to; empty: it was not verified."""

    def describe(self) -> list[tuple[str, str]]:
        """The identity in human words, as (name, value)."""
        rows = [
            ("TEE", self.tee),
            ("code", self.measurement.hex()),
            ("signer", "none" if self.signer is None else self.signer.hex()),
            ("product", str(self.product)),
            ("security version", str(self.security_version)),
            ("debug", "yes: the host can read its memory" if self.debug else "no"),
            ("security", f"{self.level.name} ({self.status})"),
        ]
        if self.root:
            name = BUILT_IN.get(self.root)
            shown = name or f"NOT BUILT IN, trusted because the verifier named it: {self.root.hex()}"
            rows.append(("vouched for by", shown))
        if self.advisories:
            rows.append(("advisories", " ".join(self.advisories)))
        return [*rows, ("report data", self.report_data.hex() or "none"), *self.details]
