"""Certificates by themselves: what is read, who may sign whom, and when. Whole chains are in the tests of evidence."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tee_authority import NOW, Issuer

from wire.errors import EvidenceExpired, EvidenceMalformed
from wire.limits import MAX_CHAIN_CERTIFICATES
from wire.tee import der
from wire.tee.x509 import Certificate, check_chain, parse_pem

ROOT = Issuer("root")
CERTIFICATE = ROOT.certificate
CONSTRAINTS, USAGE = "2.5.29.19", "2.5.29.15"
CA = bytes.fromhex("30030101ff")


def encode(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    length = len(content)
    form = bytes([length]) if length < 0x80 else b"\x82" + length.to_bytes(2, "big")
    if 0x80 <= length < 0x100:
        form = bytes([0x81, length])
    return bytes([tag]) + form + content


def rebuilt(**changed: bytes) -> bytes:
    """The certificate, no longer signed, with other encodings of some fields."""
    signed, algorithm, signature = der.values(der.only(CERTIFICATE.der, der.SEQUENCE).content)
    names = ("version", "serial", "inner", "issuer", "validity", "subject", "key", "extensions")
    fields = dict(zip(names, (one.raw for one in der.values(signed.content)), strict=True)) | changed
    return encode(der.SEQUENCE, encode(der.SEQUENCE, *fields.values()), algorithm.raw, signature.raw)


def test_a_certificate_that_was_taken_apart_and_put_together_is_the_same() -> None:
    assert Certificate.parse(rebuilt()) == CERTIFICATE


def test_a_certificate_is_as_long_as_allowed_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.tee.x509.MAX_CERTIFICATE_BYTES", len(CERTIFICATE.der))
    assert Certificate.parse(CERTIFICATE.der) == CERTIFICATE
    monkeypatch.setattr("wire.tee.x509.MAX_CERTIFICATE_BYTES", len(CERTIFICATE.der) - 1)
    with pytest.raises(EvidenceMalformed, match="the most is"):
        Certificate.parse(CERTIFICATE.der)


@pytest.mark.parametrize(
    "changed",
    [
        {"serial": encode(der.INTEGER)},
        {"inner": bytes.fromhex("300a06082a8648ce3d040302")},  # the other one says SHA-384
        {"version": bytes.fromhex("a003020101")},
        {"validity": encode(der.SEQUENCE, encode(der.UTC_TIME, b"260101000000Z"))},
    ],
)
def test_a_certificate_with_an_impossible_field_is_malformed(changed: dict[str, bytes]) -> None:
    with pytest.raises(EvidenceMalformed):
        Certificate.parse(rebuilt(**changed))


OID, TRUE, VALUE = bytes.fromhex("0603551d13"), b"\x01\x01\xff", encode(der.OCTET_STRING, CA)


def extensions(*entries: bytes) -> bytes:
    return encode(0xA3, encode(der.SEQUENCE, *entries))


def test_extensions_are_critical_if_they_say_so() -> None:
    usage = encode(der.OCTET_STRING, b"\x03\x02\x02\x04")
    both = extensions(encode(der.SEQUENCE, OID, TRUE, VALUE), encode(der.SEQUENCE, bytes.fromhex("0603551d0f"), usage))
    assert Certificate.parse(rebuilt(extensions=both)).extensions == {
        CONSTRAINTS: (True, CA),
        USAGE: (False, b"\x03\x02\x02\x04"),
    }


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([encode(der.SEQUENCE, OID)], id="without a value"),
        pytest.param([encode(der.SEQUENCE, OID, TRUE)], id="critical, without a value"),
        pytest.param([encode(der.SEQUENCE, OID, b"\x05\x00")], id="a value of another type"),
        pytest.param([encode(der.SEQUENCE, OID, TRUE, b"\x05\x00")], id="critical, a value of another type"),
        pytest.param([encode(der.SEQUENCE, OID, b"\x01\x01\x00", VALUE)], id="said not to be critical"),
        pytest.param([encode(der.SEQUENCE, OID, VALUE, VALUE)], id="two values"),
        pytest.param([encode(der.SEQUENCE, OID, TRUE, VALUE, VALUE)], id="critical, two values"),
        pytest.param([encode(der.OCTET_STRING, OID, VALUE)], id="no sequence"),
        pytest.param([encode(der.SEQUENCE, OID, VALUE)] * 2, id="the same twice"),
    ],
)
def test_any_other_extension_is_malformed(entries: list[bytes]) -> None:
    with pytest.raises(EvidenceMalformed, match="extension"):
        Certificate.parse(rebuilt(extensions=extensions(*entries)))


@pytest.mark.parametrize(
    ("constraints", "usage", "below"),
    [
        # How many CAs may stand between it and the leaf; none at all, or -1: it may not sign.
        pytest.param(None, None, -1, id="says nothing"),
        pytest.param("", None, -1, id="empty"),
        pytest.param("3000", None, -1, id="no CA, as it is where nothing is said"),
        pytest.param("3003010100", None, -1, id="no CA"),
        pytest.param("3003020100", None, -1, id="only a depth"),
        pytest.param("30030101ff", None, 6, id="a CA"),
        pytest.param("30060101ff020100", None, 0, id="a CA of leaves only"),
        pytest.param("30060101ff020101", None, 1, id="a CA with one below it"),
        pytest.param("30030101ff", "03020204", 6, id="may sign certificates"),
        pytest.param("30030101ff", "03020106", 6, id="may sign certificates and revocation lists"),
        pytest.param("30030101ff", "03020780", -1, id="may sign other things"),
        pytest.param("30030101ff", "030100", -1, id="may do nothing"),
        pytest.param(None, "03020204", -1, id="may sign certificates but is no CA"),
    ],
)
def test_a_certificate_signs_others_only_as_a_ca_and_as_deep_as_it_may(
    constraints: str | None, usage: str | None, below: int
) -> None:
    given = {CONSTRAINTS: constraints, USAGE: usage}
    found = {name: (True, bytes.fromhex(value)) for name, value in given.items() if value is not None}
    certificate = replace(CERTIFICATE, extensions=found)
    assert [certificate.is_ca(depth) for depth in range(7)] == [depth <= below for depth in range(7)]


def test_a_key_usage_without_content_is_not_an_absent_one() -> None:
    ca = replace(CERTIFICATE, extensions={CONSTRAINTS: (True, CA)})
    assert ca.is_ca(0)
    with pytest.raises(EvidenceMalformed):
        replace(ca, extensions=ca.extensions | {USAGE: (True, b"")}).is_ca(0)


def name(*parts: bytes) -> bytes:
    return encode(der.SEQUENCE, *parts)


def attribute(kind: str, text: bytes) -> bytes:
    return encode(der.SEQUENCE, bytes.fromhex(kind), encode(0x0C, text))


COMMON, COUNTRY = "0603550403", "0603550406"


@pytest.mark.parametrize(
    ("subject", "found"),
    [
        (name(encode(0x31, attribute(COMMON, "Ünlü".encode()))), "Ünlü"),
        (name(encode(0x31, attribute(COUNTRY, b"XX")), encode(0x31, attribute(COMMON, b"one"))), "one"),
        (name(encode(0x31, attribute(COMMON, b"one"), attribute(COUNTRY, b"XX"))), "one"),
        (name(encode(0x31, attribute(COMMON, b"one")), encode(0x31, attribute(COMMON, b"two"))), ""),
        (name(encode(0x31, attribute(COMMON, b"one"), attribute(COMMON, b"two"))), ""),
        (name(encode(0x31, attribute(COUNTRY, b"XX"))), ""),
        (name(), ""),
        (name(encode(0x31, attribute(COMMON, b"a\xffb"))), "a\N{REPLACEMENT CHARACTER}b"),
    ],
)
def test_the_only_common_name_is_the_subjects(subject: bytes, found: str) -> None:
    assert replace(CERTIFICATE, subject=subject).common_name() == found


def test_a_certificate_holds_from_its_first_second_to_its_last(monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = (int(datetime(2026, month, 3, 4, 5, 6, tzinfo=UTC).timestamp()) for month in (1, 2))
    certificate = replace(CERTIFICATE, not_before=first, not_after=last)
    certificate.check_time(first, "test")
    certificate.check_time(last, "test")
    with pytest.raises(EvidenceExpired, match="is expired"):
        replace(certificate, not_after=first - 1).check_time(first, "test")
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "America/New_York")
            time.tzset()
            for at, said in (
                (first - 1, "the test is not valid yet at 2026-01-03 04:05:05 UTC"),
                (last + 1, "the test is expired at 2026-02-03 04:05:07 UTC"),
            ):
                whole = re.escape(f"{said}: it holds until 2026-02-03 04:05:06 UTC")
                with pytest.raises(EvidenceExpired, match=f"^{whole}$"):
                    certificate.check_time(at, "test")
    finally:
        time.tzset()


def test_a_root_alone_is_no_chain_and_an_expired_one_is_named() -> None:
    roots = {CERTIFICATE.fingerprint}
    with pytest.raises(EvidenceMalformed, match="a chain of 1 certificates"):
        check_chain([CERTIFICATE], roots, NOW, "test")
    leaf = Issuer("leaf", ROOT, ca=False)
    check_chain([leaf.certificate, CERTIFICATE], roots, NOW, "test")
    with pytest.raises(EvidenceExpired, match=r"^the test certificate is expired"):
        check_chain([leaf.certificate, CERTIFICATE], roots, CERTIFICATE.not_after + 1, "test")


# --- PEM -------------------------------------------------------------------------------------------------


def pem(body: bytes) -> bytes:
    lines = b"".join(body[at : at + 64] + b"\n" for at in range(0, len(body), 64))
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"-----END CERTIFICATE-----\n"


WHOLE = pem(base64.b64encode(CERTIFICATE.der))


def test_certificates_in_pem_are_read_one_after_the_other_up_to_their_number() -> None:
    other = Issuer("other").certificate
    assert parse_pem(WHOLE) == parse_pem(WHOLE[:-1]) == [CERTIFICATE]
    assert parse_pem(WHOLE + pem(base64.b64encode(other.der))) == [CERTIFICATE, other]
    assert parse_pem(WHOLE * MAX_CHAIN_CERTIFICATES) == [CERTIFICATE] * MAX_CHAIN_CERTIFICATES
    with pytest.raises(EvidenceMalformed, match="not a sequence"):
        parse_pem(WHOLE * (MAX_CHAIN_CERTIFICATES + 1))


@pytest.mark.parametrize(
    ("untrusted", "why"),
    [
        (b"", "no certificate"),
        (b"\n" + WHOLE, "not a sequence"),
        (WHOLE + b"\n", "not a sequence"),
        (WHOLE + b"rest", "not a sequence"),
        (WHOLE.replace(b"\n", b"\r\n"), "not a sequence"),
        (WHOLE.replace(b"CERTIFICATE", b"KEY"), "not a sequence"),
        (pem(b"A"), "not base64"),
        (pem(b"QR=="), "stray bits"),
        (pem(b"QQ=="), "DER"),
    ],
)
def test_anything_else_in_pem_is_malformed(untrusted: bytes, why: str) -> None:
    with pytest.raises(EvidenceMalformed, match=why):
        parse_pem(untrusted)
