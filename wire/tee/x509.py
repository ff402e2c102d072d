"""X.509 certificates and their chains, as far as TEE vendors use them (RFC 5280, with the time as a parameter).

A chain is given from the leaf to the root. The root is trusted because the SHA-256 of its public key is among those
that the caller names; everything else is checked by signatures, names, dates and CA marks. Revocation lists are not
fetched: see ``docs/attestation.md``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from wire.crypto import sha256
from wire.errors import EvidenceExpired, EvidenceForged, EvidenceMalformed, UntrustedRoot
from wire.limits import MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES
from wire.tee import der

_BASIC_CONSTRAINTS: Final = "2.5.29.19"
_KEY_USAGE: Final = "2.5.29.15"
_UNDERSTOOD: Final = frozenset({_BASIC_CONSTRAINTS, _KEY_USAGE})
_KEY_CERT_SIGN: Final = 0x04  # bit 5 of the first byte, counted from the left
_VERSION_3: Final = 2
_COMMON_NAME: Final = bytes.fromhex("0603550403")  # 2.5.4.3, with its tag and length
_TRUE: Final = b"\x01\x01\xff"
_TBS_FIELDS: Final = (0xA0, der.INTEGER, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, der.SEQUENCE, 0xA3)
_EC_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "1.2.840.10045.4.3.2": hashes.SHA256(),
    "1.2.840.10045.4.3.3": hashes.SHA384(),
}
# RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes, as its whole AlgorithmIdentifier: RFC 4055 lets
# the trailer field be left out or (as AMD does) be spelt out.
_PSS_PARAMETERS: Final = (
    "a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130"
)
_PSS_SHA384: Final = (
    bytes.fromhex("304106092a864886f70d01010a3034" + _PSS_PARAMETERS),
    bytes.fromhex("304606092a864886f70d01010a3039" + _PSS_PARAMETERS + "a303020101"),
)
_PSS_SALT_BYTES: Final = 48
_PEM: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n)-----END CERTIFICATE-----\n?"
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """A parsed certificate of version 3. Nothing of it is verified yet."""

    der: bytes
    signed: bytes
    """The bytes under the signature (TBSCertificate)."""
    algorithm: bytes
    signature: bytes
    serial: bytes
    """As it is encoded: the chip certificates of AMD have 0."""
    issuer: bytes
    subject: bytes
    not_before: int
    """Unix seconds."""
    not_after: int
    key: bytes
    """SubjectPublicKeyInfo, DER."""
    extensions: dict[str, tuple[bool, bytes]]
    """Object identifier -> (critical, value)."""

    @classmethod
    def parse(cls, untrusted: bytes) -> Certificate:
        """Raises :class:`EvidenceMalformed`."""
        if len(untrusted) > MAX_CERTIFICATE_BYTES:
            raise EvidenceMalformed(f"a certificate of {len(untrusted)} bytes; the most is {MAX_CERTIFICATE_BYTES}")
        outer = der.only(untrusted, der.SEQUENCE)
        signed, algorithm, signature = der.expect(outer.content, der.SEQUENCE, der.SEQUENCE, der.BIT_STRING)
        version, serial, inner, issuer, validity, subject, key, extensions = der.expect(signed.content, *_TBS_FIELDS)
        if der.integer(der.only(version.content, der.INTEGER)) != _VERSION_3:
            raise EvidenceMalformed("a certificate that is not of version 3")
        if not serial.content or inner.raw != algorithm.raw:
            raise EvidenceMalformed("a certificate that disagrees with itself about its signature algorithm")
        dates = list(der.values(validity.content))
        if len(dates) != 2:
            raise EvidenceMalformed("a certificate without its two dates")
        return cls(
            untrusted,
            signed.raw,
            algorithm.raw,
            der.bit_string(signature),
            serial.content,
            issuer.raw,
            subject.raw,
            der.time(dates[0]),
            der.time(dates[1]),
            key.raw,
            _extensions(extensions.content),
        )

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the public key: what roots are pinned by."""
        return sha256(self.key)

    def common_name(self) -> str:
        """The subject's only common name; empty where there is none, or more than one. Raises
        :class:`EvidenceMalformed`."""
        found: list[str] = []
        for part in der.values(der.only(self.subject, der.SEQUENCE).content):
            for attribute in der.values(part.content):
                kind, *value = der.values(attribute.content)
                if kind.raw == _COMMON_NAME:
                    found += [one.content.decode("utf-8", "replace") for one in value]
        return found[0] if len(found) == 1 else ""

    def check_time(self, at: int, what: str) -> None:
        """Raises :class:`EvidenceExpired` unless the certificate is valid at ``at`` (Unix seconds)."""
        if not self.not_before <= at <= self.not_after:
            state = "not valid yet" if at < self.not_before else "expired"
            raise EvidenceExpired(f"the {what} is {state} at {_iso(at)}: it holds until {_iso(self.not_after)}")

    def public_key(self) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
        """The subject's key. Raises :class:`EvidenceMalformed`."""
        try:
            key = serialization.load_der_public_key(self.key)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise EvidenceMalformed("a certificate with a public key that is none") from error
        if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
            raise EvidenceMalformed("a certificate with a public key of an unknown kind")
        return key

    def check_signed_by(self, issuer: Certificate) -> None:
        """Raises :class:`EvidenceForged` unless ``issuer`` is the name and the key behind this certificate."""
        if self.issuer != issuer.subject:
            raise EvidenceForged("a certificate was issued by another one than the next in its chain")
        key = issuer.public_key()
        try:
            if isinstance(key, rsa.RSAPublicKey):
                if self.algorithm not in _PSS_SHA384:
                    raise EvidenceMalformed("an RSA signature of another kind than PSS with SHA-384")
                pss = padding.PSS(padding.MGF1(hashes.SHA384()), _PSS_SALT_BYTES)
                key.verify(self.signature, self.signed, pss, hashes.SHA384())
            else:
                algorithm = _EC_HASHES.get(self._algorithm_id())
                if algorithm is None:
                    raise EvidenceMalformed("an ECDSA signature of an unknown kind")
                key.verify(self.signature, self.signed, ec.ECDSA(algorithm))
        except InvalidSignature as error:
            raise EvidenceForged("a certificate's signature is not by the next certificate in its chain") from error

    def _algorithm_id(self) -> str:
        # ECDSA's identifiers have no parameters (RFC 5758).
        return der.object_id(der.only(der.only(self.algorithm, der.SEQUENCE).content, der.OBJECT_ID))

    def is_ca(self, below: int) -> bool:
        """Whether it may sign certificates with ``below`` further CAs between it and the leaf. Raises
        :class:`EvidenceMalformed`."""
        _, constraints = self.extensions.get(_BASIC_CONSTRAINTS, (False, b""))
        usage = self.extensions.get(_KEY_USAGE)
        if not constraints:
            return False
        fields = list(der.values(der.only(constraints, der.SEQUENCE).content))
        if not fields or fields[0].raw != _TRUE:
            return False
        if len(fields) > 1 and der.integer(fields[1]) < below:
            return False
        if usage is not None:
            bits = der.only(usage[1], der.BIT_STRING).content
            return len(bits) > 1 and bool(bits[1] & _KEY_CERT_SIGN)
        return True


def check_chain(chain: Sequence[Certificate], roots: Collection[bytes], at: int, what: str) -> None:
    """Check a chain from the leaf to a root whose public key's SHA-256 is in ``roots``, at time ``at`` (Unix seconds).

    Raises:
        EvidenceForged: a signature or a name that does not fit, or a certificate that may not sign.
        UntrustedRoot: the last certificate is none of the roots.
        EvidenceExpired: a certificate is not valid at that time.
        EvidenceMalformed: too long a chain, or certificates of an unknown kind.
    """
    if not 1 < len(chain) <= MAX_CHAIN_CERTIFICATES:
        raise EvidenceMalformed(f"a chain of {len(chain)} certificates")
    root = chain[-1]
    if root.fingerprint not in roots:
        raise UntrustedRoot(f"the {what} chain ends in a root that is not trusted: public key {root.fingerprint.hex()}")
    root.check_signed_by(root)
    for position, (certificate, issuer) in enumerate(pairwise(chain)):
        if not issuer.is_ca(below=position):
            raise EvidenceForged(f"a certificate in the {what} chain signs others but is no CA")
        certificate.check_signed_by(issuer)
    for certificate in chain:
        if any(critical and name not in _UNDERSTOOD for name, (critical, _) in certificate.extensions.items()):
            raise EvidenceMalformed(f"a certificate in the {what} chain with a critical extension that is not known")
        certificate.check_time(at, f"{what} certificate")


def parse_pem(untrusted: bytes) -> list[Certificate]:
    """Certificates in PEM, one after the other and nothing else, in lines of 64 characters.

    Raises :class:`EvidenceMalformed`.
    """
    found: list[Certificate] = []
    at = 0
    while at < len(untrusted):
        match = _PEM.match(untrusted, at)
        if match is None or len(found) == MAX_CHAIN_CERTIFICATES:
            raise EvidenceMalformed("not a sequence of certificates in PEM")
        body = match[1].replace(b"\n", b"")
        try:
            decoded = base64.b64decode(body, validate=True)
        except binascii.Error as error:
            raise EvidenceMalformed("a certificate in PEM that is not base64") from error
        if base64.b64encode(decoded) != body:
            raise EvidenceMalformed("a certificate in PEM with stray bits at its end")
        found.append(Certificate.parse(decoded))
        at = match.end()
    if not found:
        raise EvidenceMalformed("no certificate")
    return found


def _extensions(data: bytes) -> dict[str, tuple[bool, bytes]]:
    extensions: dict[str, tuple[bool, bytes]] = {}
    for entry in der.values(der.only(data, der.SEQUENCE).content):
        if entry.tag != der.SEQUENCE:
            raise EvidenceMalformed("a certificate with an extension that is none")
        parts = list(der.values(entry.content))
        critical = len(parts) == 3 and parts[1].raw == _TRUE
        if len(parts) != 2 + critical or parts[-1].tag != der.OCTET_STRING:
            raise EvidenceMalformed("a certificate with an extension that is none")
        oid = der.object_id(parts[0])
        if oid in extensions:
            raise EvidenceMalformed("a certificate with the same extension twice")
        extensions[oid] = (critical, parts[-1].content)
    return extensions


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
