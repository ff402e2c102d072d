"""A vendor of our own: certificates and signed evidence of every form that the recorded samples do not have."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

from wire.tee.snp_report import SnpTcb
from wire.tee.x509 import Certificate

NOW = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
_START = datetime(2025, 1, 1, tzinfo=UTC)
_AMD = "1.3.6.1.4.1.3704.1."


class Issuer:
    """A key on P-384 with a certificate by another issuer, or by itself."""

    def __init__(
        self,
        name: str,
        by: Issuer | None = None,
        *,
        ca: bool = True,
        path_length: int | None = None,
        extensions: dict[str, bytes] | None = None,
        critical: bool = False,
        days: int = 3650,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = by or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_START)
            .not_valid_after(_START + timedelta(days=days))
        )
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
        for oid, value in (extensions or {}).items():
            builder = builder.add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), critical=critical
            )
        made = builder.sign(signer.key, hashes.SHA384())
        self.certificate = Certificate.parse(made.public_bytes(serialization.Encoding.DER))

    def sign(self, data: bytes) -> tuple[int, int]:
        """r and s of ECDSA with SHA-384."""
        return decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA384())))


def chip_extensions(tcb: SnpTcb, hardware_id: bytes | None, *, turin: bool = False) -> dict[str, bytes]:
    """What a VCEK's certificate says of chip and firmware; without a hardware id, a VLEK's."""

    def integer(value: int) -> bytes:
        body = value.to_bytes(1 + (value > 0x7F), "big")
        return bytes([2, len(body)]) + body

    found = {
        _AMD + "3.1": integer(tcb.boot_loader),
        _AMD + "3.2": integer(tcb.tee),
        _AMD + "3.3": integer(tcb.snp),
        _AMD + "3.8": integer(tcb.microcode),
    }
    if turin:
        found[_AMD + "3.9"] = integer(tcb.fmc)
    if hardware_id is not None:
        found[_AMD + "4"] = hardware_id
    return found


def snp_report(
    leaf: Issuer,
    tcb: SnpTcb,
    *,
    version: int = 3,
    policy: int = 0x30000,
    flags: int = 0,
    chip: bytes = b"\x11" * 64,
    turin: bool = False,
    migration_agent: bytes = b"\xff" * 32,
    vmpl: int = 0,
    guest_svn: int = 0,
    id_key: bytes = bytes(48),
    report_data: bytes = bytes(64),
    change: dict[int, bytes] | None = None,
) -> bytes:
    """A signed report; ``change``: bytes to put at offsets before it is signed."""
    if turin:
        packed = struct.pack("<BBBB3xB", tcb.fmc, tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode)
    else:
        packed = struct.pack("<BB4xBB", tcb.boot_loader, tcb.tee, tcb.snp, tcb.microcode)
    report = bytearray(1184)
    fields = {
        0x00: struct.pack("<IIQ", version, guest_svn, policy),
        0x30: struct.pack("<II", vmpl, 1),
        0x38: packed,
        0x48: struct.pack("<I", flags),
        0x50: report_data,
        0x90: b"\x22" * 48,
        0xE0: id_key,
        0x160: migration_agent,
        0x180: packed,
        0x1A0: chip,
        0x1E0: packed,
        0x1F0: packed,
    }
    if version >= 3:
        fields[0x188] = bytes([0x1A if turin else 0x19, 1, 1])
    for offset, value in {**fields, **(change or {})}.items():
        report[offset : offset + len(value)] = value
    for offset, part in zip((0x2A0, 0x2A0 + 72), leaf.sign(bytes(report[:0x2A0])), strict=True):
        report[offset : offset + 72] = part.to_bytes(72, "little")
    return bytes(report)


def nitro_document(chain: list[Issuer], *, tagged: bool = False, **changed: object) -> bytes:
    """A signed document; ``chain``: leaf first, root last; ``changed``: fields to replace, or to leave out (...)."""
    fields: dict[str, object] = {
        "module_id": "i-0-enc0",
        "digest": "SHA384",
        "timestamp": NOW * 1000,
        "pcrs": {0: b"\x33" * 48, 1: b"\x44" * 48, 8: bytes(48)},
        "certificate": chain[0].certificate.der,
        "cabundle": [one.certificate.der for one in reversed(chain[1:])],
        "public_key": None,
        "user_data": bytes(64),
        "nonce": None,
        **changed,
    }
    fields = {name: value for name, value in fields.items() if value is not ...}
    payload, protected = cbor2.dumps(fields), bytes.fromhex("a1013822")
    r, s = chain[0].sign(cbor2.dumps(["Signature1", protected, b"", payload]))
    document = [protected, {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")]
    return (b"\xd2" if tagged else b"") + cbor2.dumps(document)
