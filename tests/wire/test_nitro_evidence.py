"""Nitro documents by an authority of our own: what AWS would never sign, and what it may yet."""

from __future__ import annotations

import cbor2
import pytest
from tee_authority import NOW, Issuer, nitro_document

from wire.errors import (
    AttestationError,
    DebugEnclave,
    EvidenceExpired,
    EvidenceForged,
    EvidenceMalformed,
    UntrustedRoot,
)
from wire.identity import Identity
from wire.tee.nitro import verify_nitro

ROOT = Issuer("aws.nitro-enclaves.test")
REGION = Issuer("region", ROOT)
LEAF = Issuer("enclave", REGION, ca=False)
CHAIN = [LEAF, REGION, ROOT]


def verify(document: bytes, at: int = NOW) -> Identity:
    return verify_nitro(document, at, roots=[ROOT.certificate.fingerprint])


@pytest.mark.parametrize("tagged", [False, True])
def test_a_document_is_accepted_with_and_without_its_cose_tag(tagged: bool) -> None:
    identity = verify(nitro_document(CHAIN, tagged=tagged, user_data=b"\x07" * 64))
    assert (identity.measurement, identity.report_data, identity.signer) == (b"\x33" * 48, b"\x07" * 64, None)


def test_zero_pcrs_are_a_debug_enclave() -> None:
    with pytest.raises(DebugEnclave):
        verify(nitro_document(CHAIN, pcrs={index: bytes(48) for index in range(16)}))


def test_a_document_from_the_future_is_refused() -> None:
    with pytest.raises(EvidenceExpired):
        verify(nitro_document(CHAIN, timestamp=(NOW + 3600) * 1000))


def test_a_document_is_refused_with_a_root_that_nobody_named() -> None:
    with pytest.raises(UntrustedRoot):
        verify_nitro(nitro_document(CHAIN), NOW)


def test_a_document_signed_by_another_key_than_its_certificates_is_refused() -> None:
    other = Issuer("enclave", REGION, ca=False)
    document = cbor2.loads(nitro_document(CHAIN))
    forged = cbor2.loads(nitro_document([other, REGION, ROOT], certificate=LEAF.certificate.der))
    assert document[:2] == forged[:2]
    with pytest.raises(EvidenceForged):
        verify(cbor2.dumps(forged))


def test_a_bundle_in_another_order_is_refused() -> None:
    with pytest.raises(AttestationError):
        verify(nitro_document(CHAIN, cabundle=[REGION.certificate.der, ROOT.certificate.der]))
    with pytest.raises((EvidenceForged, EvidenceMalformed)):
        verify(nitro_document(CHAIN, cabundle=[ROOT.certificate.der]))


@pytest.mark.parametrize(
    "changed",
    [
        {"module_id": ""},
        {"module_id": 5},
        {"digest": "SHA256"},
        {"timestamp": 0},
        {"timestamp": True},
        {"timestamp": "now"},
        {"pcrs": {}},
        {"pcrs": {1: bytes(48)}},
        {"pcrs": {0: bytes(32)}},
        {"pcrs": {0: b"\x01" * 48, 32: bytes(48)}},
        {"pcrs": {0: b"\x01" * 48, "1": bytes(48)}},
        {"pcrs": [bytes(48)]},
        {"cabundle": []},
        {"cabundle": [b""]},
        {"cabundle": [b"\x01" * 1025]},
        {"cabundle": [b"x"] * 40},
        {"certificate": b""},
        {"certificate": "text"},
        {"user_data": "text"},
        {"nonce": bytes(2000)},
        {"surprise": 1},
    ],
    ids=str,
)
def test_a_signed_document_with_impossible_fields_is_malformed(changed: dict[str, object]) -> None:
    with pytest.raises(EvidenceMalformed):
        verify(nitro_document(CHAIN, **changed))


def test_a_document_may_leave_out_its_optional_fields() -> None:
    document = nitro_document(CHAIN, user_data=..., nonce=..., public_key=...)
    assert verify(document).report_data == b""
    with pytest.raises(EvidenceMalformed):
        verify(nitro_document(CHAIN, timestamp=...))


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xd2",
        cbor2.dumps([b"", {}, b""]),
        cbor2.dumps([b"", {}, b"", b"", b""]),
        cbor2.dumps({"a": 1}),
        cbor2.dumps([bytes.fromhex("a1013822"), {1: 2}, b"", bytes(96)]),
        cbor2.dumps([bytes.fromhex("a1013823"), {}, b"", bytes(96)]),
        cbor2.dumps([bytes.fromhex("a1013822"), {}, b"", bytes(95)]),
        cbor2.dumps([bytes.fromhex("a1013822"), {}, b"\xff", bytes(96)]),
        bytes.fromhex("9f44a1013822a040ff"),  # an array of indefinite length
        b"\x81" * 1000,
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_what_is_no_document_is_malformed(document: bytes) -> None:
    with pytest.raises(EvidenceMalformed):
        verify(document)


def test_a_field_given_twice_is_malformed() -> None:
    document = cbor2.loads(nitro_document(CHAIN))
    payload = document[2]
    assert payload[0] == 0xA9, "a map of nine"
    doubled = b"\xaa" + payload[1:] + cbor2.dumps("digest") + cbor2.dumps("SHA384")
    with pytest.raises(EvidenceMalformed, match="CBOR"):
        verify(cbor2.dumps([document[0], {}, doubled, document[3]]))
