"""The one door to verifying evidence: which kind goes where, what is bound, and what is shown unverified."""

from __future__ import annotations

from dataclasses import replace

import pytest
from intel_authority import Platform
from tee_authority import NOW, Issuer, chip_extensions, nitro_document, snp_report
from tee_vectors import NITRO, SGX, SNP, TDX, Sample

from wire.codec import pack
from wire.errors import EvidenceMalformed, ReportDataMismatch, UntrustedRoot
from wire.identity import Identity, SecurityLevel
from wire.simulated import SimulatedEvidence
from wire.tee.dstack import DstackEvidence, show_dstack
from wire.tee.endorsements import Endorsements
from wire.tee.intel_quote import Quote
from wire.tee.nitro import NitroDocument
from wire.tee.snp_report import SnpReport, SnpTcb
from wire.tee.verify import guess_kind, show_evidence, verify_evidence

SIMULATED = SimulatedEvidence(b"m" * 32, b"s" * 32, 1, 2, b"d" * 64)
SIMULATED_IDENTITY = Identity(
    b"m" * 32,
    b"s" * 32,
    1,
    2,
    SecurityLevel.INSECURE,
    "simulated",
    b"d" * 64,
    "simulated: no hardware protects it",
)


def dstack_evidence() -> bytes:
    """The recorded quote, no longer signed, of a domain in which a container's events were measured."""
    events = tuple((name, b"payload") for name in ("app-id", "compose-hash", "key-provider"))
    data, at = TDX.evidence, 48 + 136 + 7 * 48
    return DstackEvidence(data[:at] + DstackEvidence(b"", events).replay() + data[at + 48 :], events).encode()


def test_simulated_evidence_is_insecure_and_otherwise_what_it_says() -> None:
    assert show_evidence("simulated", SIMULATED.encode()) == SIMULATED_IDENTITY
    assert verify_evidence("simulated", SIMULATED.encode(), b"d" * 64, 0) == SIMULATED_IDENTITY
    with pytest.raises(ReportDataMismatch):
        verify_evidence("simulated", SIMULATED.encode(), b"d" * 63 + b"e", 0)
    with pytest.raises(EvidenceMalformed, match="not that of a simulated TEE"):
        show_evidence("simulated", pack([]))


@pytest.mark.parametrize("sample", [SGX, TDX], ids=["sgx", "tdx"])
def test_a_quote_is_shown_as_not_verified(sample: Sample) -> None:
    shown = show_evidence(sample.kind, sample.evidence)
    assert shown == Quote.parse(sample.evidence).identity(SecurityLevel.INSECURE, "not verified")
    assert shown.status == "not verified"


def test_other_evidence_is_shown_as_its_own_module_shows_it() -> None:
    assert show_evidence("dstack", dstack_evidence()) == show_dstack(dstack_evidence())
    assert show_evidence("snp", SNP.evidence) == SnpReport.parse(SNP.evidence).identity(None)
    assert show_evidence("nitro", NITRO.evidence) == NitroDocument.parse(NITRO.evidence).identity()


def test_the_kind_is_seen_from_the_bytes() -> None:
    assert guess_kind(dstack_evidence()) == "dstack"
    assert guess_kind(SIMULATED.encode()) == "simulated"
    with pytest.raises(EvidenceMalformed, match=r"known here: sgx, tdx, dstack, snp, nitro, simulated$"):
        guess_kind(b"nothing of all that")


@pytest.mark.parametrize("kind", ["", "SGX", "unheard of"])
def test_a_kind_that_nobody_knows_is_named(kind: str) -> None:
    for untrusted in (SIMULATED.encode(), SGX.evidence, b""):
        with pytest.raises(EvidenceMalformed, match=f"cannot check: '{kind}'"):
            show_evidence(kind, untrusted)
        with pytest.raises(EvidenceMalformed, match=f"cannot check: '{kind}'"):
            verify_evidence(kind, untrusted, None, SGX.at, SGX.endorsements)


def test_a_quote_of_the_other_kind_is_malformed() -> None:
    for sample, other in ((SGX, TDX), (TDX, SGX)):
        with pytest.raises(EvidenceMalformed, match=f"a quote of {other.kind} where {sample.kind} was announced"):
            show_evidence(sample.kind, other.evidence)


def test_evidence_of_every_kind_holds_under_a_root_of_ones_own_and_only_if_it_is_named() -> None:
    sgx, tdx, root = Platform("sgx"), Platform("tdx"), Issuer("root")
    authority = Issuer("authority", root)
    tcb = SnpTcb(4, 1, 20, 209)
    vcek = Issuer("SEV-VCEK", authority, ca=False, extensions=chip_extensions(tcb, b"\x11" * 64))
    snp_chain = (vcek.certificate, authority.certificate, root.certificate)
    leaf = Issuer("enclave", authority, ca=False)
    for kind, evidence, at, endorsements in (
        ("sgx", sgx.quote(), sgx.at, Endorsements(sgx.collateral(), roots=sgx.roots)),
        ("tdx", tdx.quote(), tdx.at, Endorsements(tdx.collateral(), roots=tdx.roots)),
        ("snp", snp_report(vcek, tcb), NOW, Endorsements(snp_chain=snp_chain, roots=(root.certificate,))),
        ("nitro", nitro_document([leaf, authority, root]), NOW, Endorsements(roots=(root.certificate,))),
    ):
        identity = verify_evidence(kind, evidence, None, at, endorsements)
        assert (identity.tee, identity.root) == (kind, endorsements.roots[0].fingerprint)
        with pytest.raises(UntrustedRoot):
            verify_evidence(kind, evidence, None, at, replace(endorsements, roots=()))
