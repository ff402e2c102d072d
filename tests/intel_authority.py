"""An Intel of our own: the recorded quotes and collateral, changed at will and signed anew from another root."""

from __future__ import annotations

import hashlib
import json
import struct
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID
from tee_vectors import SGX, TDX

from wire.tee.intel_quote import Quote
from wire.tee.x509 import Certificate

_SGX_EXTENSION = "1.2.840.113741.1.13.1"
_START, _END = datetime(2025, 6, 19, 10, 0, tzinfo=UTC), datetime(2049, 1, 1, tzinfo=UTC)
_PEM = serialization.Encoding.PEM


class Party:
    """A key on P-256 and its certificate."""

    def __init__(self, name: str, by: Party | None = None, *, ca: bool, extension: bytes | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = by or self
        usage = dict.fromkeys(
            (
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ),
            False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(signer.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_START)
            .not_valid_after(_END)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, **usage), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
        )
        if extension is not None:
            builder = builder.add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier(_SGX_EXTENSION), extension), critical=False
            )
        self.certificate = builder.sign(signer.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(_PEM)

    def sign(self, data: bytes) -> bytes:
        """r and s, 32 bytes each."""
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    @property
    def point(self) -> bytes:
        """x and y, 32 bytes each."""
        numbers = self.key.public_key().public_numbers()
        return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")

    def revocation_list(self, *revoked: Party) -> str:
        """A revocation list in hexadecimal digits."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(_START).next_update(_END)
        builder = builder.add_extension(x509.CRLNumber(1), critical=False).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        for one in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
            builder = builder.add_revoked_certificate(entry.revocation_date(_START).build())
        made = builder.sign(self.key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.DER).hex()


class Platform:
    """A machine with its quoting enclave, whose TCB is what the recorded machine's was."""

    def __init__(self, kind: str) -> None:
        self.recorded = SGX if kind == "sgx" else TDX
        chain = Quote.parse(self.recorded.evidence).chain
        self.root = Party("Intel SGX Root CA", ca=True)
        self.pck_ca = Party(
            "Intel SGX PCK Platform CA" if kind == "tdx" else "Intel SGX PCK Processor CA", self.root, ca=True
        )
        extension = chain[0].extensions[_SGX_EXTENSION][1]
        self.pck = Party("Intel SGX PCK Certificate", self.pck_ca, ca=False, extension=extension)
        self.signing = Party("Intel SGX TCB Signing", self.root, ca=False)
        self.attestation = Party("attestation key", ca=False)
        self.at = self.recorded.at
        self.revoked: tuple[Party, ...] = ()

    @property
    def roots(self) -> tuple[Certificate, ...]:
        return (Certificate.parse(self.root.certificate.public_bytes(serialization.Encoding.DER)),)

    @property
    def pem_chain(self) -> bytes:
        return self.pck.pem + self.pck_ca.pem + self.root.pem

    def collateral(self, *, status: str | None = None, pck_chain: bool = False, now: int | None = None) -> str:
        """The recorded collateral, signed anew; ``status``: of every TCB level; ``now``: issued a day before that."""
        fields: dict[str, str] = json.loads(self.recorded.endorsements.collateral or "")
        for name in ("tcb_info", "qe_identity"):
            statement: dict[str, Any] = json.loads(fields[name])
            if status is not None and name == "tcb_info":
                for level in statement["tcbLevels"]:
                    level["tcbStatus"] = status
            if now is not None:
                for field, days in (("issueDate", -1), ("nextUpdate", 29)):
                    moment = datetime.fromtimestamp(now + days * 86_400, UTC)
                    statement[field] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            fields[name] = json.dumps(statement, separators=(",", ":"))
            fields[f"{name}_signature"] = self.signing.sign(fields[name].encode()).hex()
            fields[f"{name}_issuer_chain"] = (self.signing.pem + self.root.pem).decode()
        fields["pck_crl_issuer_chain"] = (self.pck_ca.pem + self.root.pem).decode()
        fields["pck_crl"] = self.pck_ca.revocation_list(*self.revoked)
        fields["root_ca_crl"] = self.root.revocation_list()
        if pck_chain:
            fields["pck_certificate_chain"] = self.pem_chain.decode()
        return json.dumps(fields)

    def quote(
        self,
        *,
        version: int | None = None,
        body: bytes | None = None,
        change: dict[int, bytes] | None = None,
        certification: tuple[int, bytes] | None = None,
    ) -> bytes:
        """The recorded quote, signed anew; ``body``: another report; ``change``: bytes to put at its offsets."""
        data = self.recorded.evidence
        (recorded_version,) = struct.unpack_from("<H", data)
        size = 384 if self.recorded is SGX else 584
        chosen = bytearray(data[48 : 48 + size] if body is None else body)
        for offset, value in (change or {}).items():
            chosen[offset : offset + len(value)] = value
        version = recorded_version if version is None else version
        head = struct.pack("<H", version) + data[2:48]
        if version == 5:
            head += struct.pack("<HI", {384: 1, 584: 2, 648: 3}[len(chosen)], len(chosen))
        start = 48 + size + 4 + 128 + (6 if recorded_version > 3 else 0)
        report = bytearray(data[start : start + 384])
        authentication = bytes(range(32))
        report[320:384] = hashlib.sha256(self.attestation.point + authentication).digest() + bytes(32)
        kind, certificates = certification or (5, self.pem_chain + b"\0")
        inner = bytes(report) + self.pck.sign(bytes(report)) + struct.pack("<H", len(authentication)) + authentication
        inner += struct.pack("<HI", kind, len(certificates)) + certificates
        if version > 3:
            inner = struct.pack("<HI", 6, len(inner)) + inner
        signature = self.attestation.sign(head + bytes(chosen)) + self.attestation.point + inner
        return head + bytes(chosen) + struct.pack("<I", len(signature)) + signature
