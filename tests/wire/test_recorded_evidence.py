"""Real evidence, recorded on real machines: accepted as it is at its own time, refused after any change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tee_vectors import NITRO, SAMPLES, SGX, SNP, TDX, Sample, data, snp_chain

from wire.constraint import Constraint
from wire.errors import (
    AttestationError,
    DebugEnclave,
    EvidenceExpired,
    EvidenceForged,
    EvidenceMalformed,
    IdentityMismatch,
    ReportDataMismatch,
    TcbUnacceptable,
    UntrustedRoot,
)
from wire.identity import Identity, SecurityLevel
from wire.tee.endorsements import Endorsements
from wire.tee.intel import Collateral
from wire.tee.intel_quote import Quote
from wire.tee.roots import AMD_ARK_GENOA, AMD_ARK_MILAN, AMD_ARK_TURIN, AWS_NITRO_ROOT, INTEL_SGX_ROOT
from wire.tee.snp_report import SnpTcb
from wire.tee.verify import guess_kind, show_evidence, verify_evidence
from wire.tee.x509 import Certificate, parse_pem

YEAR = 365 * 86_400
every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)


def verify(sample: Sample, report_data: bytes | None = None) -> Identity:
    return verify_evidence(sample.kind, sample.evidence, report_data, sample.at, sample.endorsements)


# --- accepted ---------------------------------------------------------------------------------------------


def test_the_sgx_quote_shows_its_enclave() -> None:
    identity = verify(SGX)
    assert identity.tee == "sgx"
    assert identity.measurement.hex() == "33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"
    assert identity.signer is not None
    assert identity.signer.hex() == "815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6"
    assert (identity.product, identity.security_version, identity.debug) == (0, 0, False)
    assert (identity.level, identity.status) == (SecurityLevel.STALE, "ConfigurationAndSWHardeningNeeded")
    assert identity.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")
    assert identity.report_data == b"Hello, world!".ljust(64, b"\0")


def test_the_tdx_quote_shows_its_domain() -> None:
    identity = verify(TDX)
    details = dict(identity.details)
    assert identity.tee == "tdx"
    assert details["MRTD"].startswith("91eb2b44d141d4ece09f0c75c2c53d24")
    assert details["RTMR3"] == "00" * 48
    assert (len(identity.measurement), identity.signer) == (48, None)
    assert (identity.level, identity.status, identity.debug) == (SecurityLevel.SECURE, "UpToDate", False)


def test_the_snp_report_shows_its_guest() -> None:
    identity = verify(SNP)
    assert identity.measurement.hex().startswith("7a1e5c266c0108dbc9bb94fa92695132")
    assert (identity.signer, identity.security_version, identity.debug) == (None, 0, False)
    assert identity.level is SecurityLevel.STALE, "nobody said which firmware is good enough"


def test_the_nitro_document_shows_its_enclave() -> None:
    identity = verify(NITRO)
    assert identity.measurement.hex().startswith("f4d48b81a460c9916d1e685119074bf2")
    assert identity.signer is not None and identity.signer.hex().startswith("8790eb3cce6c83d07e84b126dc61ca92")
    assert (identity.level, identity.dated) == (SecurityLevel.SECURE, 1_665_651_482)


@pytest.mark.parametrize(
    ("least", "level"),
    [
        (SnpTcb(3, 0, 8, 115), SecurityLevel.SECURE),
        (SnpTcb(0, 0, 0, 0), SecurityLevel.SECURE),
        (SnpTcb(4, 0, 8, 115), SecurityLevel.STALE),
        (SnpTcb(3, 0, 9, 115), SecurityLevel.STALE),
        (SnpTcb(3, 0, 8, 116), SecurityLevel.STALE),
    ],
)
def test_snp_firmware_is_judged_by_the_least_that_the_verifier_asks_for(least: SnpTcb, level: SecurityLevel) -> None:
    assert verify(replace(SNP, endorsements=replace(SNP.endorsements, snp_least_tcb=least))).level is level


@every_sample
def test_the_kind_of_evidence_is_seen_from_the_bytes(sample: Sample) -> None:
    assert guess_kind(sample.evidence) == sample.kind


@every_sample
def test_what_is_shown_unverified_is_what_was_verified(sample: Sample) -> None:
    shown, verified = show_evidence(sample.kind, sample.evidence), verify(sample)
    assert (shown.measurement, shown.signer, shown.report_data) == (
        verified.measurement,
        verified.signer,
        verified.report_data,
    )


def test_the_pinned_roots_are_those_of_the_recorded_chains() -> None:
    assert SNP.endorsements.snp_chain[-1].fingerprint == AMD_ARK_MILAN
    for name, root in (("genoa", AMD_ARK_GENOA), ("turin", AMD_ARK_TURIN)):
        (ark,) = parse_pem(data(f"amd_ark_{name}.pem"))
        ark.check_signed_by(ark)
        assert ark.fingerprint == root
    assert parse_pem(data("nitro_root.pem"))[0].fingerprint == AWS_NITRO_ROOT
    for sample in (SGX, TDX):
        assert Quote.parse(sample.evidence).chain[-1].fingerprint == INTEL_SGX_ROOT


# --- refused: any change ----------------------------------------------------------------------------------


@every_sample
def test_every_flipped_byte_is_refused(sample: Sample) -> None:
    accepted = []
    for offset in range(len(sample.evidence)):
        changed = bytearray(sample.evidence)
        changed[offset] ^= 1 << offset % 8
        try:
            verify(replace(sample, evidence=bytes(changed)))
        except AttestationError:
            continue
        accepted.append(offset)
    assert accepted == []


@pytest.mark.parametrize("sample", [SGX, TDX], ids=["sgx", "tdx"])
def test_flipped_bytes_of_the_collateral_are_refused(sample: Sample) -> None:
    collateral = sample.endorsements.collateral
    assert collateral is not None
    accepted = []
    for offset in range(0, len(collateral), 37):
        changed = bytearray(collateral.encode())
        changed[offset] ^= 1 << offset % 7  # stays ASCII
        try:
            verify(replace(sample, endorsements=Endorsements(collateral=changed.decode())))
        except AttestationError:
            continue
        accepted.append(offset)
    assert accepted == []


def test_flipped_bytes_of_an_snp_chain_are_refused() -> None:
    chain = snp_chain()
    accepted = []
    for place, certificate in enumerate(chain):
        for offset in range(place, len(certificate.der), 5):
            changed = bytearray(certificate.der)
            changed[offset] ^= 1 << offset % 8
            try:
                swapped = [*chain]
                swapped[place] = Certificate.parse(bytes(changed))
                verify(replace(SNP, endorsements=Endorsements(snp_chain=tuple(swapped))))
            except AttestationError:
                continue
            accepted.append((place, offset))
    assert accepted == []


@every_sample
def test_truncated_evidence_is_malformed(sample: Sample) -> None:
    exact = sample.evidence.rstrip(b"\0") if sample is TDX else sample.evidence
    for length in (0, 1, 47, 48, 431, len(exact) // 2, len(exact) - 2):
        with pytest.raises((EvidenceMalformed, EvidenceForged)):
            verify(replace(sample, evidence=exact[:length]))


@every_sample
def test_something_behind_the_evidence_is_malformed(sample: Sample) -> None:
    with pytest.raises(EvidenceMalformed):
        verify(replace(sample, evidence=sample.evidence + b"\x01"))


@every_sample
def test_evidence_of_one_kind_is_not_taken_for_another(sample: Sample) -> None:
    for kind in ("sgx", "tdx", "snp", "nitro", "dstack", "simulated", "unheard of"):
        if kind != sample.kind:
            with pytest.raises(EvidenceMalformed):
                verify(replace(sample, kind=kind, endorsements=replace(SGX.endorsements, snp_chain=snp_chain())))


# --- refused: wrong time, binding, chain ------------------------------------------------------------------


@every_sample
@pytest.mark.parametrize("shift", [-20 * YEAR, 30 * YEAR], ids=["before", "after"])
def test_evidence_is_refused_at_a_wrong_time(sample: Sample, shift: int) -> None:
    with pytest.raises(EvidenceExpired):
        verify(replace(sample, at=max(0, sample.at + shift)))


@pytest.mark.parametrize("sample", [SGX, TDX], ids=["sgx", "tdx"])
def test_a_quote_is_refused_once_its_collateral_is_out_of_date(sample: Sample) -> None:
    collateral = Collateral.parse(sample.endorsements.collateral or "")
    first_end = min(end for _, _, end in collateral.periods)
    verify(replace(sample, at=first_end - 1))
    with pytest.raises(EvidenceExpired):
        verify(replace(sample, at=first_end))
    with pytest.raises(EvidenceExpired):
        verify(replace(sample, at=sample.at - 3601))


def test_a_nitro_document_is_refused_once_its_certificate_has_expired() -> None:
    with pytest.raises(EvidenceExpired):
        verify(replace(NITRO, at=NITRO.at + 4 * 3600))


@every_sample
def test_evidence_is_refused_for_other_report_data(sample: Sample) -> None:
    bound = verify(sample).report_data
    verify(sample, bound)
    with pytest.raises(ReportDataMismatch):
        verify(sample, bound[:-1] + b"\xff" if bound else bytes(64))
    with pytest.raises(ReportDataMismatch):
        verify(sample, bound + b"\0")


def test_a_quote_is_refused_with_another_platforms_collateral() -> None:
    for sample, other in ((SGX, TDX), (TDX, SGX)):
        with pytest.raises(AttestationError):
            verify(replace(sample, endorsements=other.endorsements, at=max(sample.at, other.at)))


def test_a_quote_without_collateral_is_refused() -> None:
    with pytest.raises(EvidenceMalformed, match="collateral"):
        verify(replace(SGX, endorsements=Endorsements()))


def test_a_quotes_chain_in_another_order_is_refused() -> None:
    start = SGX.evidence.index(b"-----BEGIN")
    pem = SGX.evidence[start:].rstrip(b"\0")
    first, second, third = (
        part + b"-----END CERTIFICATE-----\n" for part in pem.split(b"-----END CERTIFICATE-----\n")[:3]
    )
    for order in ((second, first, third), (first, third, second), (third, second, first), (second, second + third)):
        swapped = b"".join(order)
        if len(swapped) == len(pem):
            with pytest.raises((EvidenceForged, UntrustedRoot)):
                verify(replace(SGX, evidence=SGX.evidence[:start] + swapped + b"\0"))


def test_an_snp_chain_in_another_order_is_refused() -> None:
    vcek, ask, ark = snp_chain()
    for chain in ((ask, vcek, ark), (vcek, ark, ask), (vcek, ask), (vcek, ark), (ask, ark), (vcek, ask, ask), (vcek,)):
        with pytest.raises((EvidenceForged, UntrustedRoot, EvidenceMalformed)):
            verify(replace(SNP, endorsements=Endorsements(snp_chain=chain)))


def test_an_snp_report_without_certificates_is_refused() -> None:
    with pytest.raises(EvidenceMalformed, match="VCEK"):
        verify(replace(SNP, endorsements=Endorsements()))


def test_a_debug_quote_is_refused_before_anything_is_asked_of_it() -> None:
    for sample, offset, bit in ((SGX, 48 + 48, 0x02), (TDX, 48 + 120, 0x01)):
        changed = bytearray(sample.evidence)
        changed[offset] |= bit
        with pytest.raises(DebugEnclave):
            verify(replace(sample, evidence=bytes(changed)))


# --- what a constraint makes of them ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("S:815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6 PROD:0 SEC:STALE", None),
        ("S:815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6 PROD:0", TcbUnacceptable),
        ("S:815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6 PROD:1 SEC:STALE", IdentityMismatch),
        ("C:" + "00" * 32 + " SEC:STALE", IdentityMismatch),
        ("C:33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb SEC:STALE REVOKE:1", IdentityMismatch),
        ("C:33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb SEC:STALE EXPIRE:P1D", None),
    ],
)
def test_a_constraint_decides_which_genuine_enclave_is_the_right_one(
    text: str, refusal: type[AttestationError] | None
) -> None:
    constraint, identity = Constraint.parse(text), verify(SGX)
    if refusal is None:
        constraint.check(identity, SGX.at)
    else:
        with pytest.raises(refusal):
            constraint.check(identity, SGX.at)
