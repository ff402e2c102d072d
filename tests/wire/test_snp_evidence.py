"""SEV-SNP evidence of every version and kind of key, by an authority of our own."""

from __future__ import annotations

import struct
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
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
from wire.tee.x509 import Certificate

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


# --- every field, byte and bound ---------------------------------------------------------------------------


def full_report(version: int, *, turin: bool) -> bytes:
    """A report, unsigned, in which every byte that may be anything is something."""
    report = bytearray(0x80 + place % 0x7F for place in range(1184))
    struct.pack_into("<IIQ", report, 0, version, 0xFEDCBA98, 1 << 63 | 1 << 17)
    struct.pack_into("<II", report, 0x30, 3, 1)
    struct.pack_into("<II", report, 0x48, _SIGNED_BY_VLEK, 0)
    for tcb in (0x38, 0x180, 0x1E0, 0x1F0):
        reserved = slice(tcb + 4, tcb + 7) if turin else slice(tcb + 2, tcb + 6)
        report[reserved] = bytes(reserved.stop - reserved.start)
    report[0x188] = 0x1A if turin else 0x19
    for start, end in ((0x18B, 0x1A0), (0x1EB, 0x1EC), (0x1EF, 0x1F0), (0x208 if version == 5 else 0x1F8, 0x2A0)):
        report[start:end] = bytes(end - start)
    return bytes(report)


@pytest.mark.parametrize(("version", "turin"), [(5, False), (5, True), (4, True), (3, False)])
def test_every_field_of_a_report_is_read_from_its_place(version: int, turin: bool) -> None:
    raw = full_report(version, turin=turin)

    def tcb(at: int) -> SnpTcb:
        if turin:
            return SnpTcb(raw[at + 1], raw[at + 2], raw[at + 3], raw[at + 7], fmc=raw[at])
        return SnpTcb(raw[at], raw[at + 1], raw[at + 6], raw[at + 7])

    assert SnpReport.parse(raw) == SnpReport(
        version=version,
        guest_svn=0xFEDCBA98,
        policy=1 << 63 | 1 << 17,
        family_id=raw[0x10:0x20],
        image_id=raw[0x20:0x30],
        vmpl=3,
        report_data=raw[0x50:0x90],
        measurement=raw[0x90:0xC0],
        host_data=raw[0xC0:0xE0],
        id_key_digest=raw[0xE0:0x110],
        author_key_digest=raw[0x110:0x140],
        report_id=raw[0x140:0x160],
        migration_agent=raw[0x160:0x180],
        reported_tcb=tcb(0x180),
        committed_tcb=tcb(0x1E0),
        chip_id=raw[0x1A0:0x1E0],
        signed_by_vlek=True,
    )


@pytest.mark.parametrize(("flags", "change"), [(2 << 2, {}), (0, {0x1EB: b"\x01"}), (0, {0x1EF: b"\x01"})])
def test_another_signing_key_or_a_reserved_byte_is_malformed(flags: int, change: dict[int, bytes]) -> None:
    with pytest.raises(EvidenceMalformed):
        SnpReport.parse(snp_report(VCEK, TCB, flags=flags, change=change))


@pytest.mark.parametrize(
    ("agent", "least", "level", "status"),
    [
        (b"\x01" * 32, TCB, SecurityLevel.INSECURE, "has a migration agent"),
        (b"\xff" * 32, None, SecurityLevel.STALE, "firmware not judged: no least TCB was given"),
        (b"\xff" * 32, TCB, SecurityLevel.SECURE, "firmware covers the least TCB"),
        (b"\xff" * 32, replace(TCB, snp=21), SecurityLevel.STALE, "firmware is below the least TCB"),
    ],
)
def test_the_identity_says_everything_that_the_report_does(
    agent: bytes, least: SnpTcb | None, level: SecurityLevel, status: str
) -> None:
    change = {0x10: b"\xaa" * 16, 0x20: b"\xbb" * 16, 0xC0: b"\xcc" * 32, 0x110: b"\xdd" * 48}
    report = snp_report(VCEK, TCB, migration_agent=agent, vmpl=2, guest_svn=5, report_data=b"\x07" * 64, change=change)
    assert verify(report, least=least) == Identity(
        measurement=b"\x22" * 48,
        signer=None,
        product=0,
        security_version=5,
        level=level,
        tee="snp",
        report_data=b"\x07" * 64,
        status=status,
        debug=False,
        details=(
            ("guest policy", "0x30000"),
            ("VMPL", "2"),
            ("reported TCB", "boot loader 4, TEE 1, SNP 20, microcode 209"),
            ("author key", "dd" * 48),
            ("host data", "cc" * 32),
            ("family and image id", "aa" * 16 + " " + "bb" * 16),
            ("chip", "11" * 64),
        ),
        root=ARK.certificate.fingerprint,
    )
    assert str(TURIN_TCB) == "boot loader 4, TEE 1, SNP 3, microcode 80, FMC 2"


def test_a_debug_policy_is_in_the_identity_too() -> None:
    assert SnpReport.parse(snp_report(VCEK, TCB, policy=0x30000 | 1 << 19)).identity(None).debug
    assert not SnpReport.parse(snp_report(VCEK, TCB)).identity(None).debug


@pytest.mark.parametrize("at", [48, 71, 72 + 48, 72 + 71, 144, 0x1FF])
def test_a_signature_with_a_reserved_byte_is_malformed(at: int) -> None:
    report = bytearray(snp_report(VCEK, TCB))
    report[0x2A0 + at] = 1
    with pytest.raises(EvidenceMalformed, match="signature"):
        verify(bytes(report))


def test_a_key_on_another_curve_signs_no_report() -> None:
    for made in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
        builder = (
            x509.CertificateBuilder()
            .subject_name(VCEK.name)
            .issuer_name(ASK.name)
            .public_key(made.public_key())
            .serial_number(1)
            .not_valid_before(datetime.fromtimestamp(NOW - 60, UTC))
            .not_valid_after(datetime.fromtimestamp(NOW + 60, UTC))
        )
        certificate = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        made_by_ask = certificate.sign(ASK.key, hashes.SHA384())
        leaf = Certificate.parse(made_by_ask.public_bytes(serialization.Encoding.DER))
        with pytest.raises(EvidenceMalformed, match="not on P-384"):
            verify_snp(
                snp_report(VCEK, TCB),
                NOW,
                chain=[leaf, ASK.certificate, ARK.certificate],
                roots=[ARK.certificate.fingerprint],
            )


@pytest.mark.parametrize(
    ("value", "chip", "refused"),
    [
        (b"\x04\x40" + CHIP, CHIP, None),
        (b"\x04\x08" + CHIP[:8], TURIN_CHIP, None),
        (b"\x05\x40" + CHIP, CHIP, EvidenceMalformed),
        (b"\x04\x41" + CHIP, CHIP, EvidenceMalformed),
        (b"\x04\x40" + CHIP[1:], CHIP, EvidenceMalformed),
        (b"\x04\x40" + CHIP + b"\x11", CHIP, EvidenceMalformed),
        (CHIP[1:], CHIP, EvidenceMalformed),
        (b"", CHIP, EvidenceMalformed),
        (b"\x04\x40" + b"\x12" * 64, CHIP, EvidenceForged),
    ],
)
def test_a_chip_id_stands_bare_or_as_an_octet_string(
    value: bytes, chip: bytes, refused: type[AttestationError] | None
) -> None:
    leaf = Issuer("SEV-VCEK", ASK, ca=False, extensions=chip_extensions(TCB, value))
    report = snp_report(leaf, TCB, chip=chip)
    if refused is None:
        assert verify(report, leaf).level is SecurityLevel.SECURE
    else:
        with pytest.raises(refused):
            verify(report, leaf)


def test_a_chain_ends_at_its_root_or_after_three_certificates() -> None:
    short = Issuer("SEV-VCEK", ARK, ca=False, extensions=chip_extensions(TCB, CHIP))
    carried = table((VCEK_ID, short.certificate.der), (ARK_ID, ARK.certificate.der))
    root = [ARK.certificate.fingerprint]
    assert verify_snp(snp_report(short, TCB) + carried, NOW, roots=root).root == root[0]
    upper = Issuer("upper", ARK)
    lower = Issuer("lower", upper)
    deep = Issuer("SEV-VCEK", lower, ca=False, extensions=chip_extensions(TCB, CHIP))
    evidence = snp_report(deep, TCB) + table((VCEK_ID, deep.certificate.der))
    with pytest.raises(UntrustedRoot, match=r"^the AMD chain ends"):
        verify_snp(evidence, NOW, chain=[one.certificate for one in (lower, upper, ARK)], roots=root)


def test_entries_of_a_table_that_are_empty_or_unknown_are_passed_over() -> None:
    known = ((VCEK_ID, VCEK.certificate.der), (ASK_ID, ASK.certificate.der), (ARK_ID, ARK.certificate.der))
    for strange in ((CRL_ID, b""), (CRL_ID, b"whatever"), (str(uuid.UUID(int=0)), b"whatever")):
        evidence = snp_report(VCEK, TCB) + table(strange, *known)
        assert verify_snp(evidence, NOW, roots=[ARK.certificate.fingerprint]).tee == "snp"
    with pytest.raises(EvidenceMalformed, match="outside"):
        verify_snp(snp_report(VCEK, TCB) + table(*known, (CRL_ID, b"whatever"))[:-1], NOW)
