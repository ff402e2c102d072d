"""AWS Nitro Enclaves: the attestation document, a COSE_Sign1 (RFC 9052) around CBOR, with its chain inside.

The document's own certificates lead to AWS's root, which is pinned. They live for hours, so evidence does too: an
enclave makes a new document for those who come later. PCR0 measures the enclave's image; a debug enclave's PCRs are
all zero. Source: AWS, "Verifying the root of trust" and the NSM library's attestation process document.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from wire.cbor import pack_cbor, unpack_cbor
from wire.errors import DebugEnclave, EvidenceExpired, EvidenceForged, EvidenceMalformed, Malformed
from wire.identity import Identity, SecurityLevel
from wire.limits import MAX_CHAIN_CERTIFICATES, MAX_EVIDENCE_BYTES
from wire.tee.roots import AWS_NITRO_ROOT
from wire.tee.x509 import Certificate, check_chain

_TAG_COSE_SIGN1: Final = b"\xd2"
_PROTECTED_ES384: Final = bytes.fromhex("a1013822")  # {1: -35}
_SIGNATURE_BYTES: Final = 96
_COORDINATE_BYTES: Final = 48
_PCR_BYTES: Final = 48  # SHA-384, the only digest that there is
_MAX_PCRS: Final = 32
_MAX_CERTIFICATE_BYTES: Final = 1024
_MAX_USER_BYTES: Final = 1024
_MILLISECONDS: Final = 1000
_FIELDS: Final = frozenset(
    {"module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce"}
)
_IMAGE: Final = 0
_SIGNER: Final = 8
_CLOCK_TOLERANCE: Final = 300  # seconds by which a document may come from the future


@dataclass(frozen=True, slots=True)
class NitroDocument:
    """A parsed document. Nothing of it is verified yet."""

    module_id: str
    timestamp: int
    """Milliseconds since 1970."""
    pcrs: dict[int, bytes]
    chain: tuple[Certificate, ...]
    """Leaf first, root last."""
    user_data: bytes
    nonce: bytes
    public_key: bytes
    payload: bytes
    signature: bytes

    @classmethod
    def parse(cls, untrusted: bytes) -> NitroDocument:
        """Raises :class:`EvidenceMalformed`."""
        try:
            untagged = untrusted.removeprefix(_TAG_COSE_SIGN1)
            outer = unpack_cbor(untagged, MAX_EVIDENCE_BYTES)
            if type(outer) is not list or [type(part) for part in outer] != [bytes, dict, bytes, bytes]:
                raise EvidenceMalformed("a Nitro document is an array of four")
            protected, unprotected, payload, signature = outer
            if protected != _PROTECTED_ES384 or unprotected or len(signature) != _SIGNATURE_BYTES:
                raise EvidenceMalformed("a Nitro document with another signature than ECDSA P-384")
            fields = unpack_cbor(payload, MAX_EVIDENCE_BYTES)
        except Malformed as error:
            raise EvidenceMalformed(f"not a Nitro document: {error}") from error
        _check_fields(fields)
        bundle = [*reversed(fields["cabundle"])]  # as it comes: root first
        return cls(
            fields["module_id"],
            fields["timestamp"],
            fields["pcrs"],
            tuple(Certificate.parse(one) for one in [fields["certificate"], *bundle]),
            fields["user_data"] or b"",
            fields["nonce"] or b"",
            fields["public_key"] or b"",
            payload,
            signature,
        )

    def identity(self) -> Identity:
        """The identity that this document states."""
        signer = self.pcrs.get(_SIGNER, b"")
        return Identity(
            self.pcrs[_IMAGE],
            signer if any(signer) else None,
            0,
            0,
            # AWS patches its platform itself and states no version of it.
            SecurityLevel.SECURE,
            "nitro",
            self.user_data,
            "operated by AWS",
            not any(self.pcrs[_IMAGE]),
            self.timestamp // _MILLISECONDS,
            details=(
                ("module", self.module_id),
                *((f"PCR{index}", value.hex()) for index, value in sorted(self.pcrs.items()) if any(value)),
                *((name, value.hex()) for name, value in (("nonce", self.nonce), ("key", self.public_key)) if value),
            ),
        )


def verify_nitro(untrusted: bytes, at: int, *, roots: Collection[bytes] = ()) -> Identity:
    """Verify a document as of ``at`` (Unix seconds); ``roots``: public keys (SHA-256) to trust beside AWS's.

    Raises:
        EvidenceMalformed, EvidenceForged, UntrustedRoot, EvidenceExpired.
        DebugEnclave: the PCRs are zero.
    """
    document = NitroDocument.parse(untrusted)
    key = document.chain[0].public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise EvidenceMalformed("a Nitro document's key that is not on P-384")
    signed = pack_cbor(["Signature1", _PROTECTED_ES384, b"", document.payload])
    r, s = document.signature[:_COORDINATE_BYTES], document.signature[_COORDINATE_BYTES:]
    try:
        encoded = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        key.verify(encoded, signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise EvidenceForged("the Nitro document was not signed by the key of its certificate") from error
    check_chain(document.chain, {AWS_NITRO_ROOT, *roots}, at, "Nitro")
    if document.timestamp // _MILLISECONDS > at + _CLOCK_TOLERANCE:
        raise EvidenceExpired("the Nitro document is from the future")
    if not any(document.pcrs[_IMAGE]):
        raise DebugEnclave("the enclave runs in debug mode: its PCRs are zero")
    return replace(document.identity(), root=document.chain[-1].fingerprint)


def _check_fields(fields: Any) -> None:
    if type(fields) is not dict or not _FIELDS - {"public_key", "user_data", "nonce"} <= set(fields) <= _FIELDS:
        raise EvidenceMalformed("a Nitro document with other fields than expected")
    for name in ("public_key", "user_data", "nonce"):
        value = fields.setdefault(name)
        if value is not None and (type(value) is not bytes or len(value) > _MAX_USER_BYTES):
            raise EvidenceMalformed(f"a Nitro document with an impossible {name}")
    if type(fields["module_id"]) is not str or not fields["module_id"] or fields["digest"] != "SHA384":
        raise EvidenceMalformed("a Nitro document without a module id, or with another digest than SHA-384")
    if type(fields["timestamp"]) is not int or fields["timestamp"] <= 0:
        raise EvidenceMalformed("a Nitro document without a time")
    pcrs = fields["pcrs"]
    if type(pcrs) is not dict or _IMAGE not in pcrs:
        raise EvidenceMalformed("a Nitro document without its PCRs")
    for index, value in pcrs.items():
        if type(index) is not int or not 0 <= index < _MAX_PCRS or type(value) is not bytes or len(value) != _PCR_BYTES:
            raise EvidenceMalformed("a Nitro document with an impossible PCR")
    bundle = fields["cabundle"]
    if type(bundle) is not list or not 1 <= len(bundle) < MAX_CHAIN_CERTIFICATES:
        raise EvidenceMalformed("a Nitro document without its CA bundle")
    for certificate in [fields["certificate"], *bundle]:
        if type(certificate) is not bytes or len(certificate) > _MAX_CERTIFICATE_BYTES:
            raise EvidenceMalformed("a Nitro document with an impossible certificate")
