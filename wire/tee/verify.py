"""The one door to verifying evidence: kind, bytes and what must be bound in it go in, an identity comes out.

Nothing here reads a clock, a file or the network. Whether the identity is *acceptable* is for the caller's
:class:`wire.constraint.Constraint` to say. What one kind needs is loaded when evidence of it comes: an enclave that
verifies nothing starts sooner.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from wire.errors import EvidenceMalformed, Malformed, ReportDataMismatch
from wire.identity import Identity, SecurityLevel
from wire.simulated import SIMULATED, SimulatedEvidence
from wire.tee.endorsements import NO_ENDORSEMENTS, Endorsements

if TYPE_CHECKING:
    from wire.tee.intel_quote import Quote

KINDS: Final = ("sgx", "tdx", "dstack", "snp", "nitro", SIMULATED)
"""The kinds of evidence, as they stand in an attestation document."""


def verify_evidence(
    kind: str,
    untrusted: bytes,
    report_data: bytes | None,
    at: int,
    endorsements: Endorsements = NO_ENDORSEMENTS,
) -> Identity:
    """Verify evidence as of ``at`` (Unix seconds), and that it binds ``report_data``.

    ``report_data`` None leaves the binding open: for looking at a file, never for talking to an enclave.

    Raises:
        EvidenceMalformed: not evidence of this kind, or what is needed to verify it is missing.
        EvidenceForged, UntrustedRoot, EvidenceExpired, DebugEnclave, TcbUnacceptable: see :mod:`wire.errors`.
        ReportDataMismatch: genuine evidence of something else.
        TeeUnavailable: the library for this kind is not installed.
    """
    roots = endorsements.roots
    fingerprints = [root.fingerprint for root in roots]
    if kind in ("sgx", "tdx"):
        from wire.tee.intel import verify_quote

        identity = verify_quote(_quote(kind, untrusted), _collateral(endorsements), at, roots=roots)
    elif kind == "dstack":
        from wire.tee.dstack import verify_dstack

        identity = verify_dstack(untrusted, _collateral(endorsements), at, roots=roots)
    elif kind == "snp":
        from wire.tee.snp import verify_snp

        identity = verify_snp(
            untrusted,
            at,
            chain=endorsements.snp_chain,
            roots=fingerprints,
            least_tcb=endorsements.snp_least_tcb,
        )
    elif kind == "nitro":
        from wire.tee.nitro import verify_nitro

        identity = verify_nitro(untrusted, at, roots=fingerprints)
    else:
        # Anybody can make simulated evidence: there is nothing to verify, and its identity says INSECURE.
        identity = show_evidence(kind, untrusted)
    if report_data is not None and not hmac.compare_digest(identity.report_data, report_data):
        raise ReportDataMismatch("the evidence is about other keys than those of this enclave's epoch")
    return identity


def show_evidence(kind: str, untrusted: bytes) -> Identity:
    """What evidence says of itself, *unverified*: to be shown to people, or to its own enclave.

    Raises :class:`EvidenceMalformed`, and :class:`EvidenceForged` for a dstack event log that is not its quote's.
    """
    if kind in ("sgx", "tdx"):
        return _quote(kind, untrusted).identity(SecurityLevel.INSECURE, "not verified")
    if kind == "dstack":
        from wire.tee.dstack import show_dstack

        return show_dstack(untrusted)
    if kind == "snp":
        from wire.tee.snp import split_evidence

        report, _ = split_evidence(untrusted)
        return report.identity(None)
    if kind == "nitro":
        from wire.tee.nitro import NitroDocument

        return NitroDocument.parse(untrusted).identity()
    if kind == SIMULATED:
        return _simulated(untrusted)
    raise EvidenceMalformed(f"evidence of a kind that this code cannot check: {kind!r}")


def guess_kind(untrusted: bytes) -> str:
    """Which kind of evidence a file holds. Raises :class:`EvidenceMalformed` if it is none."""
    for kind in KINDS:
        try:
            show_evidence(kind, untrusted)
        except EvidenceMalformed:
            continue
        return kind
    raise EvidenceMalformed("this is no evidence of a kind that is known here: " + ", ".join(KINDS))


def _quote(kind: str, untrusted: bytes) -> Quote:
    from wire.tee.intel_quote import Quote

    quote = Quote.parse(untrusted)
    if quote.tee != kind:
        raise EvidenceMalformed(f"a quote of {quote.tee} where {kind} was announced")
    return quote


def _collateral(endorsements: Endorsements) -> str:
    if endorsements.collateral is None:
        raise EvidenceMalformed(
            "a quote is verified against Intel's collateral, which was not given: it is collateral.json among the"
            " endorsements, or the option --collateral"
        )
    return endorsements.collateral


def _simulated(untrusted: bytes) -> Identity:
    try:
        evidence = SimulatedEvidence.decode(untrusted)
    except Malformed as error:
        raise EvidenceMalformed(f"the evidence is not that of a {SIMULATED} TEE: {error}") from error
    return Identity(
        evidence.measurement,
        evidence.signer,
        evidence.product,
        evidence.security_version,
        SecurityLevel.INSECURE,
        SIMULATED,
        evidence.report_data,
        "simulated: no hardware protects it",
    )
