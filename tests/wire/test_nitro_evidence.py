"""Nitro documents by an authority of our own: what AWS would never sign, and what it may yet."""

from __future__ import annotations

from datetime import UTC, datetime

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from tee_authority import NOW, Issuer, nitro_document

from wire.errors import (
    AttestationError,
    DebugEnclave,
    EvidenceExpired,
    EvidenceForged,
    EvidenceMalformed,
    UntrustedRoot,
)
from wire.identity import Identity, SecurityLevel
from wire.limits import MAX_CHAIN_CERTIFICATES
from wire.tee.nitro import NitroDocument, verify_nitro

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


def test_the_identity_says_everything_that_the_document_does() -> None:
    pcrs = {8: b"\x88" * 48, 3: bytes(48), 1: b"\x11" * 48, 0: b"\x33" * 48}
    document = nitro_document(
        CHAIN, pcrs=pcrs, user_data=b"\x07" * 64, nonce=b"\x0a", public_key=b"\x0b", timestamp=NOW * 1000 + 999
    )
    expected = Identity(
        measurement=b"\x33" * 48,
        signer=b"\x88" * 48,
        product=0,
        security_version=0,
        level=SecurityLevel.SECURE,
        tee="nitro",
        report_data=b"\x07" * 64,
        status="operated by AWS",
        debug=False,
        dated=NOW,
        details=(
            ("module", "i-0-enc0"),
            ("PCR0", "33" * 48),
            ("PCR1", "11" * 48),
            ("PCR8", "88" * 48),
            ("nonce", "0a"),
            ("key", "0b"),
        ),
        root=ROOT.certificate.fingerprint,
    )
    identity = verify(document)
    assert identity == expected and type(identity.dated) is int


@pytest.mark.parametrize("pcrs", [{0: b"\x33" * 48}, {0: b"\x33" * 48, 8: bytes(48)}])
def test_an_image_that_nobody_signed_has_no_signer(pcrs: dict[int, bytes]) -> None:
    identity = verify(nitro_document(CHAIN, pcrs=pcrs, user_data=None))
    assert identity.signer is None and identity.report_data == b""
    assert identity.details == (("module", "i-0-enc0"), ("PCR0", "33" * 48))


def test_the_fields_of_a_document_are_read_before_anything_is_verified() -> None:
    document = NitroDocument.parse(
        nitro_document(CHAIN, timestamp=1, nonce=b"n" * 1024, pcrs=dict.fromkeys(range(32), bytes(48)))
    )
    assert (document.module_id, document.timestamp, document.nonce) == ("i-0-enc0", 1, b"n" * 1024)
    assert (document.public_key, document.user_data) == (b"", bytes(64))
    assert document.chain == tuple(one.certificate for one in CHAIN) and len(document.pcrs) == 32
    assert document.identity().debug


def test_zero_pcrs_are_a_debug_enclave() -> None:
    with pytest.raises(DebugEnclave):
        verify(nitro_document(CHAIN, pcrs={index: bytes(48) for index in range(16)}))


def test_a_document_from_the_future_is_refused() -> None:
    with pytest.raises(EvidenceExpired):
        verify(nitro_document(CHAIN, timestamp=(NOW + 3600) * 1000))
    # Clocks may differ by five minutes, counted in whole seconds.
    assert verify(nitro_document(CHAIN, timestamp=(NOW + 300) * 1000 + 999)).dated == NOW + 300
    with pytest.raises(EvidenceExpired):
        verify(nitro_document(CHAIN, timestamp=(NOW + 301) * 1000))


def test_a_document_is_refused_with_a_root_that_nobody_named() -> None:
    with pytest.raises(UntrustedRoot, match=r"^the Nitro chain ends"):
        verify_nitro(nitro_document(CHAIN), NOW)


def test_a_document_signed_by_another_key_than_its_certificates_is_refused() -> None:
    other = Issuer("enclave", REGION, ca=False)
    document = cbor2.loads(nitro_document(CHAIN))
    forged = cbor2.loads(nitro_document([other, REGION, ROOT], certificate=LEAF.certificate.der))
    assert document[:2] == forged[:2]
    with pytest.raises(EvidenceForged):
        verify(cbor2.dumps(forged))


def test_a_chain_is_as_long_as_allowed_and_no_longer() -> None:
    chain = [ROOT]
    while len(chain) < MAX_CHAIN_CERTIFICATES:
        chain.insert(0, Issuer(f"issuer {len(chain)}", chain[0]))
    assert verify(nitro_document(chain)).root == ROOT.certificate.fingerprint
    with pytest.raises(EvidenceMalformed, match="CA bundle"):
        verify(nitro_document([Issuer("one more", chain[0]), *chain]))
    assert verify(nitro_document([REGION, ROOT])).root == ROOT.certificate.fingerprint


def test_a_certificate_is_as_long_as_allowed_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = max(len(one.certificate.der) for one in CHAIN)
    monkeypatch.setattr("wire.tee.nitro._MAX_CERTIFICATE_BYTES", longest)
    verify(nitro_document(CHAIN))
    monkeypatch.setattr("wire.tee.nitro._MAX_CERTIFICATE_BYTES", longest - 1)
    with pytest.raises(EvidenceMalformed, match="impossible certificate"):
        verify(nitro_document(CHAIN))


def test_a_certificate_on_another_curve_cannot_sign_a_document() -> None:
    for made in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(LEAF.name)
            .issuer_name(REGION.name)
            .public_key(made.public_key())
            .serial_number(1)
            .not_valid_before(datetime.fromtimestamp(NOW - 60, UTC))
            .not_valid_after(datetime.fromtimestamp(NOW + 60, UTC))
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .sign(REGION.key, hashes.SHA384())
        )
        der = certificate.public_bytes(serialization.Encoding.DER)
        with pytest.raises(EvidenceMalformed, match="not on P-384"):
            verify(nitro_document(CHAIN, certificate=der))


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
        {"cabundle": b"text"},
        {"cabundle": None},
        {"pcrs": None},
        {"pcrs": dict.fromkeys(range(33), bytes(48))},
        {"pcrs": {-1: bytes(48), 0: bytes(48)}},
        {"nonce": bytes(1025)},
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


@pytest.mark.parametrize(
    ("at", "part"),
    [(0, bytes.fromhex("a1013823")), (0, b""), (1, {1: 2}), (3, bytes(95)), (3, bytes(97)), (2, b"\xff")],
)
def test_a_document_with_another_head_or_signature_than_its_own_is_malformed(at: int, part: object) -> None:
    parts = cbor2.loads(nitro_document(CHAIN))
    parts[at] = part
    with pytest.raises(EvidenceMalformed):
        verify(cbor2.dumps(parts))


def test_a_field_given_twice_is_malformed() -> None:
    document = cbor2.loads(nitro_document(CHAIN))
    payload = document[2]
    assert payload[0] == 0xA9, "a map of nine"
    doubled = b"\xaa" + payload[1:] + cbor2.dumps("digest") + cbor2.dumps("SHA384")
    with pytest.raises(EvidenceMalformed, match="CBOR"):
        verify(cbor2.dumps([document[0], {}, doubled, document[3]]))
