"""SEV-SNP: a report's signature by the chip's key (VCEK or VLEK), and that key's chain to AMD's root (ARK).

Evidence is the report (1184 bytes), followed by the certificate table that the host gave the guest (GHCB
specification, SNP extended guest request; configfs-tsm's ``auxblob``), or by nothing. Certificates that are not in it
come from the caller. Nothing about them is taken on trust: the leaf must name the report's very firmware and chip.

Sources: AMD documents 56860 (firmware ABI), 57230 (VCEK certificate), 56421 (GHCB).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from wire.errors import DebugEnclave, EvidenceForged, EvidenceMalformed
from wire.identity import Identity
from wire.tee import der
from wire.tee.roots import AMD_ARK_GENOA, AMD_ARK_MILAN, AMD_ARK_TURIN
from wire.tee.snp_report import REPORT_BYTES, SIGNED_BYTES, SnpReport, SnpTcb
from wire.tee.x509 import Certificate, check_chain

_COMPONENT_BYTES: Final = 72  # of r and of s, little-endian
_P384_BYTES: Final = 48
_EXTENSIONS: Final = "1.3.6.1.4.1.3704.1."
_PARTS: Final = {"boot_loader": "3.1", "tee": "3.2", "snp": "3.3", "microcode": "3.8", "fmc": "3.9"}
_HARDWARE_ID: Final = _EXTENSIONS + "4"
_HARDWARE_ID_BYTES: Final = 64
_SHORT_HARDWARE_ID_BYTES: Final = 8  # on Turin; the rest of the report's 64 are zero
_CHAIN_CERTIFICATES: Final = 3
_TABLE_ENTRY: Final = struct.Struct("<16sII")
_ROLES: Final = {
    uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd").bytes: "leaf",  # VCEK
    uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1").bytes: "leaf",  # VLEK
    uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782").bytes: "ask",
    uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae").bytes: "ark",
}


def split_evidence(untrusted: bytes) -> tuple[SnpReport, list[Certificate]]:
    """The report and the certificates behind it, leaf first, where it carries them.

    Raises :class:`EvidenceMalformed`.
    """
    report = SnpReport.parse(untrusted[:REPORT_BYTES])
    table = untrusted[REPORT_BYTES:]
    return report, _certificates(table) if table else []


def verify_snp(
    untrusted: bytes,
    at: int,
    *,
    chain: Sequence[Certificate] = (),
    roots: Collection[bytes] = (),
    least_tcb: SnpTcb | None = None,
) -> Identity:
    """Verify evidence as of ``at`` (Unix seconds).

    Args:
        chain: VCEK or VLEK, ASK or ASVK, ARK; asked for where the evidence carries none.
        roots: public keys (SHA-256 of their DER) of ARKs to trust beside those of Milan, Genoa and Turin.
        least_tcb: what counts as up-to-date firmware.

    Raises:
        EvidenceMalformed, EvidenceForged, UntrustedRoot, EvidenceExpired, DebugEnclave.
    """
    report, carried = split_evidence(untrusted)
    certificates = _chain(carried, chain)
    check_chain(certificates, {AMD_ARK_MILAN, AMD_ARK_GENOA, AMD_ARK_TURIN, *roots}, at, "AMD")
    _check_signature(untrusted[:REPORT_BYTES], certificates[0])
    _check_leaf(report, certificates[0])
    if report.debug:
        raise DebugEnclave("the guest's policy lets the host decrypt its memory")
    return replace(report.identity(least_tcb), root=certificates[-1].fingerprint)


def _chain(carried: Sequence[Certificate], given: Sequence[Certificate]) -> list[Certificate]:
    """From leaf to root: what was given, where that is a leaf's whole chain, else what the evidence carries, completed.

    Some clouds hand their guests the leaf only. Nothing of this is trusted: :func:`check_chain` follows.
    """
    if given and (not carried or given[0].subject != carried[0].issuer):
        return list(given)
    if not carried:
        raise EvidenceMalformed("the SNP report comes without certificates: give its VCEK, ASK and ARK")
    chain = list(carried)
    while chain[-1].issuer != chain[-1].subject and len(chain) < _CHAIN_CERTIFICATES:
        above = next((one for one in given if one.subject == chain[-1].issuer), None)
        if above is None:
            raise EvidenceMalformed("the SNP report carries a part of its chain only: give its ASK and ARK")
        chain.append(above)
    return chain


def _check_signature(untrusted_report: bytes, leaf: Certificate) -> None:
    signature = untrusted_report[SIGNED_BYTES:]
    r, s = signature[:_COMPONENT_BYTES], signature[_COMPONENT_BYTES : 2 * _COMPONENT_BYTES]
    if any(r[_P384_BYTES:]) or any(s[_P384_BYTES:]) or any(signature[2 * _COMPONENT_BYTES :]):
        raise EvidenceMalformed("an SNP report with reserved bytes set in its signature")
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise EvidenceMalformed("an SNP report's key that is not on P-384")
    encoded = encode_dss_signature(int.from_bytes(r, "little"), int.from_bytes(s, "little"))
    try:
        key.verify(encoded, untrusted_report[:SIGNED_BYTES], ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise EvidenceForged("the SNP report was not signed by the key of its certificate") from error


def _check_leaf(report: SnpReport, leaf: Certificate) -> None:
    """The key is derived from chip and firmware: its certificate must name those of the report."""
    for part, name in _PARTS.items():
        stated = leaf.extensions.get(_EXTENSIONS + name)
        if stated is None:
            if part == "fmc":  # does not exist before Turin
                continue
            raise EvidenceMalformed("an SNP certificate that does not name its firmware")
        if der.integer(der.only(stated[1], der.INTEGER)) != getattr(report.reported_tcb, part):
            raise EvidenceForged("the SNP report and its certificate name different firmware")
    stated = leaf.extensions.get(_HARDWARE_ID)
    if report.signed_by_vlek is (stated is not None):
        raise EvidenceForged("the SNP report was signed by another kind of key than its certificate is for")
    if stated is not None and any(report.chip_id):
        hardware = _hardware_id(stated[1])
        if hardware != report.chip_id[: len(hardware)] or any(report.chip_id[len(hardware) :]):
            raise EvidenceForged("the SNP report and its certificate name different chips")


def _hardware_id(value: bytes) -> bytes:
    # Written bare on Milan; some later certificates wrap it as an OCTET STRING.
    for length in (_HARDWARE_ID_BYTES, _SHORT_HARDWARE_ID_BYTES):
        if len(value) == length:
            return value
        if len(value) == length + 2 and value[:2] == bytes([der.OCTET_STRING, length]):
            return value[2:]
    raise EvidenceMalformed("an SNP certificate with a chip id of a strange length")


def _certificates(table: bytes) -> list[Certificate]:
    found: dict[str, Certificate] = {}
    at = 0
    while True:
        if at + _TABLE_ENTRY.size > len(table):
            raise EvidenceMalformed("an SNP certificate table without an end")
        guid, offset, length = _TABLE_ENTRY.unpack_from(table, at)
        at += _TABLE_ENTRY.size
        if not any(guid) and not offset and not length:
            break
        if not length:
            continue
        if offset + length > len(table):
            raise EvidenceMalformed("an SNP certificate table that points outside of itself")
        role = _ROLES.get(guid)
        if role is None:
            continue  # a host may add entries of its own, such as revocation lists
        if role in found:
            raise EvidenceMalformed("an SNP certificate table with two certificates for one place")
        found[role] = Certificate.parse(table[offset : offset + length])
    if "leaf" not in found:
        return []  # the issuers alone say nothing of this chip: its whole chain is to be given
    return [found[role] for role in ("leaf", "ask", "ark") if role in found]
