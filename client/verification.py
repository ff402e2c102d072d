"""Is this the enclave that the client asked for? Checked at first contact, and again whenever the document changes.

Each kind of TEE has a verifier: a function from its evidence to the report data (64 bytes) and identity that the
evidence speaks for. Whatever is wrong ends as :class:`AttestationError`, before any secret leaves the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from client.constraint import Constraint
from client.identity import Identity, SecurityLevel
from wire.attestation import Attestation
from wire.errors import AttestationError, Malformed
from wire.simulated import SIMULATED, SimulatedEvidence

Verifier: TypeAlias = Callable[[bytes], tuple[bytes, Identity]]
"""From untrusted evidence to report data and identity. Raises :class:`AttestationError` and :class:`Malformed`."""


def _verify_simulated(untrusted_evidence: bytes) -> tuple[bytes, Identity]:
    evidence = SimulatedEvidence.decode(untrusted_evidence)
    # Anybody can make this evidence, so it is worth nothing, whatever it says.
    return evidence.report_data, Identity(
        evidence.measurement, evidence.signer, evidence.product, evidence.security_version, SecurityLevel.INSECURE
    )


VERIFIERS: Final[dict[str, Verifier]] = {SIMULATED: _verify_simulated}
"""Verifier by the name of the TEE as it stands in the attestation document."""


def verify_attestation(attestation: Attestation, constraint: Constraint) -> Identity:
    """Check a document that a host served: the TEE's evidence, that it is about this document, the constraint.

    Raises :class:`AttestationError` with a sentence.
    """
    verifier = VERIFIERS.get(attestation.tee)
    if verifier is None:
        known = ", ".join(sorted(VERIFIERS))
        raise AttestationError(f"the enclave shows evidence of a kind that this client cannot check (it can: {known})")
    try:
        report_data, identity = verifier(attestation.evidence)
    except Malformed as error:
        raise AttestationError(f"the enclave's evidence is not that of a {attestation.tee} TEE: {error}") from error
    if report_data != attestation.report_data():
        raise AttestationError("the enclave's evidence is about other keys than the attestation document shows")
    constraint.check(identity)
    return identity
