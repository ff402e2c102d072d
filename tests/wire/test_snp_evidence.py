"""SEV-SNP evidence of every version and kind of key, by an authority of our own."""

from __future__ import annotations

import struct
import uuid
from dataclasses import replace

import pytest
from tee_authority import NOW, Issuer, chip_extensions, snp_report
from tee_vectors import SNP

from wire.errors import (
    AttestationError,
    DebugEnclave,
    EvidenceExpired,
    EvidenceForged,
    EvidenceMalformed,
    UntrustedRoot,
)
from wire.identity import Identity, SecurityLevel
from wire.tee.snp import verify_snp
from wire.tee.snp_report import SnpReport, SnpTcb
from wire.tee.verify import verify_evidence

TCB = SnpTcb(4, 1, 20, 209)
TURIN_TCB = SnpTcb(4, 1, 3, 80, fmc=2)
CHIP = b"\x11" * 64
TURIN_CHIP = b"\x11" * 8 + bytes(56)
ARK = Issuer("ARK-Test")
ASK = Issuer("SEV-Test", ARK, path_length=0)
VCEK = Issuer("SEV-VCEK", ASK, ca=False, extensions=chip_extensions(TCB, CHIP))
TURIN = Issuer("SEV-VCEK", ASK, ca=False, extensions=chip_extensions(TURIN_TCB, CHIP[:8], turin=True))
VLEK = Issuer("SEV-VLEK", ASK, ca=False, extensions=chip_extensions(TCB, None))
_SIGNED_BY_VLEK = 1 << 2


def verify(report: bytes, leaf: Issuer = VCEK, least: SnpTcb | None = TCB, at: int = NOW) -> Identity:
    chain = [one.certificate for one in (leaf, ASK, ARK)]
    return verify_snp(report, at, chain=chain, roots=[ARK.certificate.fingerprint], least_tcb=least)


def table(*entries: tuple[str, bytes]) -> bytes:
    """A certificate table as the host hands it to the guest."""
    offset = 24 * (len(entries) + 1)
    heads, bodies = b"", b""
    for guid, body in entries:
        heads += struct.pack("<16sII", uuid.UUID(guid).bytes, offset + len(bodies), len(body))
        bodies += body
    return heads + bytes(24) + bodies


VLEK_ID = "a8074bc2-a25a-483e-aae6-39c045a0b8a1"
VCEK_ID, ASK_ID = "63da758d-e664-4564-adc5-f4b93be8accd", "4ab7b379-bbac-4fe4-a02f-05aef327c782"
ARK_ID, CRL_ID = "c0b406a4-a803-4952-9743-3fb6014cd0ae", "92f81bc3-5811-4d3d-97ff-d19f88dc67ea"


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_reports_of_versions_2_to_5_are_read(version: int) -> None:
    identity = verify(snp_report(VCEK, TCB, version=version, guest_svn=5, id_key=b"\x55" * 48))
    assert (identity.measurement, identity.signer) == (b"\x22" * 48, b"\x55" * 48)
    assert (identity.security_version, identity.level) == (5, SecurityLevel.SECURE)


@pytest.mark.parametrize("version", [0, 1, 6, 0xFFFFFFFF])
def test_reports_of_other_versions_are_malformed(version: int) -> None:
    with pytest.raises(EvidenceMalformed, match="version"):
        verify(snp_report(VCEK, TCB, version=version))


def test_turins_tcb_and_short_chip_id_are_read_in_their_own_layout() -> None:
    report = snp_report(TURIN, TURIN_TCB, chip=TURIN_CHIP, turin=True)
    assert SnpReport.parse(report).reported_tcb == TURIN_TCB
    assert verify(report, TURIN, TURIN_TCB).level is SecurityLevel.SECURE
    assert verify(report, TURIN, replace(TURIN_TCB, fmc=3)).level is SecurityLevel.STALE


def test_a_chip_id_with_more_behind_its_short_form_is_refused() -> None:
    with pytest.raises(EvidenceForged, match="chips"):
        verify(snp_report(TURIN, TURIN_TCB, chip=b"\x11" * 9 + bytes(55), turin=True), TURIN)


def test_a_report_signed_by_the_providers_key_is_accepted_as_such_only() -> None:
    report = snp_report(VLEK, TCB, flags=_SIGNED_BY_VLEK)
    assert verify(report, VLEK).level is SecurityLevel.SECURE
    with pytest.raises(EvidenceForged, match="kind of key"):
        verify(snp_report(VLEK, TCB), VLEK)
    with pytest.raises(EvidenceForged, match="kind of key"):
        verify(snp_report(VCEK, TCB, flags=_SIGNED_BY_VLEK))


def test_a_masked_chip_id_is_accepted_because_the_key_still_is_the_chips() -> None:
    assert verify(snp_report(VCEK, TCB, chip=bytes(64))).level is SecurityLevel.SECURE


def test_a_debug_policy_is_refused() -> None:
    with pytest.raises(DebugEnclave):
        verify(snp_report(VCEK, TCB, policy=0x30000 | 1 << 19))


def test_a_guest_with_a_migration_agent_is_insecure() -> None:
    assert verify(snp_report(VCEK, TCB, migration_agent=b"\x01" * 32)).level is SecurityLevel.INSECURE


@pytest.mark.parametrize(
    "tcb", [replace(TCB, **{part: getattr(TCB, part) + 1}) for part in ("boot_loader", "tee", "snp", "microcode")]
)
def test_a_report_of_other_firmware_than_its_certificate_is_refused(tcb: SnpTcb) -> None:
    with pytest.raises(EvidenceForged, match="firmware"):
        verify(snp_report(VCEK, tcb))


def test_a_report_of_another_chip_than_its_certificate_is_refused() -> None:
    with pytest.raises(EvidenceForged, match="chips"):
        verify(snp_report(VCEK, TCB, chip=b"\x12" * 64))


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        ({"vmpl": 0xFFFFFFFF}, {}),  # the host asked for it
        ({"vmpl": 4}, {}),
        ({"flags": 1 << 1}, {}),  # MASK_CHIP_KEY: unsigned
        ({"flags": 7 << 2}, {}),
        ({"flags": 1 << 5}, {}),
        ({"policy": 0x10000}, {}),
        ({}, {0x34: b"\x02"}),
        ({}, {0x4C: b"\x01"}),
        ({}, {0x182: b"\x01"}),
        ({}, {0x18B: b"\x01"}),
        ({"version": 2}, {0x188: b"\x01"}),
        ({}, {0x1EB: b"\x01"}),
        ({}, {0x1F8: b"\x01"}),
        ({"version": 5}, {0x208: b"\x01"}),
        ({}, {0x29F: b"\x01"}),
    ],
)
def test_a_signed_report_with_impossible_fields_is_malformed(
    arguments: dict[str, int], change: dict[int, bytes]
) -> None:
    with pytest.raises(EvidenceMalformed):
        verify(snp_report(VCEK, TCB, change=change, **arguments))  # type: ignore[arg-type]


def test_a_report_is_refused_with_a_root_that_nobody_named() -> None:
    with pytest.raises(UntrustedRoot):
        verify_snp(snp_report(VCEK, TCB), NOW, chain=[one.certificate for one in (VCEK, ASK, ARK)])


def test_a_leaf_cannot_pass_for_a_ca() -> None:
    leaf = Issuer("SEV-VCEK", VCEK, ca=False, extensions=chip_extensions(TCB, CHIP))
    with pytest.raises(EvidenceForged, match="no CA"):
        verify_snp(
            snp_report(leaf, TCB),
            NOW,
            chain=[one.certificate for one in (leaf, VCEK, ASK, ARK)],
            roots=[ARK.certificate.fingerprint],
        )


def test_a_ca_cannot_sign_deeper_than_it_may() -> None:
    deeper = Issuer("deeper", ASK)  # ASK's path length is 0
    leaf = Issuer("SEV-VCEK", deeper, ca=False, extensions=chip_extensions(TCB, CHIP))
    with pytest.raises(EvidenceForged, match="no CA"):
        verify_snp(
            snp_report(leaf, TCB),
            NOW,
            chain=[one.certificate for one in (leaf, deeper, ASK, ARK)],
            roots=[ARK.certificate.fingerprint],
        )


def test_a_critical_extension_that_nobody_knows_is_refused() -> None:
    leaf = Issuer("SEV-VCEK", ASK, ca=False, extensions=chip_extensions(TCB, CHIP), critical=True)
    with pytest.raises(EvidenceMalformed, match="critical"):
        verify(snp_report(leaf, TCB), leaf)


def test_an_expired_certificate_is_refused() -> None:
    leaf = Issuer("SEV-VCEK", ASK, ca=False, extensions=chip_extensions(TCB, CHIP), days=100)
    with pytest.raises(EvidenceExpired):
        verify(snp_report(leaf, TCB), leaf)


def test_the_hosts_certificate_table_replaces_certificates_of_ones_own() -> None:
    certificates = table(
        (VCEK_ID, VCEK.certificate.der),
        (CRL_ID, b"whatever"),
        (ASK_ID, ASK.certificate.der),
        (ARK_ID, ARK.certificate.der),
    )
    evidence = snp_report(VCEK, TCB) + certificates
    assert verify_snp(evidence, NOW, roots=[ARK.certificate.fingerprint]).level is SecurityLevel.STALE


@pytest.mark.parametrize(
    "broken",
    [
        table((VCEK_ID, VCEK.certificate.der)),  # and nobody gave the rest
        table((VCEK_ID, VCEK.certificate.der), (VCEK_ID, VCEK.certificate.der)),
        table((VCEK_ID, b"no certificate")),
        table((VCEK_ID, VCEK.certificate.der))[:-1],
        uuid.UUID(VCEK_ID).bytes + struct.pack("<II", 0xFFFFFFFF, 1) + bytes(24),
        b"\x01" * 23,
    ],
)
def test_a_broken_certificate_table_is_malformed(broken: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        verify_snp(snp_report(VCEK, TCB) + broken, NOW, roots=[ARK.certificate.fingerprint])


def test_a_table_with_the_leaf_only_is_completed_by_what_the_verifier_has() -> None:
    evidence = snp_report(VLEK, TCB, flags=_SIGNED_BY_VLEK) + table((VLEK_ID, VLEK.certificate.der), (CRL_ID, b""))
    above = [ASK.certificate, ARK.certificate]
    assert verify_snp(evidence, NOW, chain=above, roots=[ARK.certificate.fingerprint]).tee == "snp"
    stranger = Issuer("SEV-Test", ARK, path_length=0)  # of the right name, with another key
    with pytest.raises(EvidenceForged):
        verify_snp(
            evidence,
            NOW,
            chain=[stranger.certificate, ARK.certificate],
            roots=[ARK.certificate.fingerprint],
        )


def test_a_table_padded_to_whole_pages_is_read() -> None:
    full = table((VCEK_ID, VCEK.certificate.der), (ASK_ID, ASK.certificate.der), (ARK_ID, ARK.certificate.der))
    evidence = snp_report(VCEK, TCB) + full.ljust(4 * 4096, b"\0")
    assert verify_snp(evidence, NOW, roots=[ARK.certificate.fingerprint]).root == ARK.certificate.fingerprint


def test_an_empty_certificate_table_is_as_good_as_none() -> None:
    assert verify_evidence("snp", SNP.evidence + table(), None, SNP.at, SNP.endorsements).tee == "snp"


def test_the_recorded_report_is_not_accepted_with_another_vendors_chain() -> None:
    with pytest.raises(AttestationError):
        verify(SNP.evidence)
