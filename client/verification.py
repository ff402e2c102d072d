"""Is this the enclave that the client asked for? Checked at first contact, and again whenever the document changes.

Whatever is wrong ends as :class:`wire.errors.AttestationError`, each reason as a class of its own, before any secret
leaves the client.
"""

from __future__ import annotations

import time

from wire.attestation import Attestation
from wire.constraint import Constraint
from wire.identity import Identity
from wire.tee.endorsements import NO_ENDORSEMENTS, Endorsements
from wire.tee.verify import verify_evidence


def verify_attestation(
    attestation: Attestation,
    constraint: Constraint,
    *,
    at: int | None = None,
    endorsements: Endorsements = NO_ENDORSEMENTS,
) -> Identity:
    """Check a document that a host served: the TEE's evidence, that it is about this document, the constraint.

    ``at``: the time as of which evidence must hold (Unix seconds), None for now. ``endorsements``: what the vendor
    says of the platform (Intel's collateral, AMD's certificates).

    Raises :class:`wire.errors.AttestationError` with a sentence, as :func:`wire.tee.verify.verify_evidence` and
    :meth:`wire.constraint.Constraint.check` say, and :class:`wire.errors.TeeUnavailable` without the library for it.
    """
    moment = int(time.time()) if at is None else at
    identity = verify_evidence(attestation.tee, attestation.evidence, attestation.report_data(), moment, endorsements)
    constraint.check(identity, moment)
    return identity
