"""Intel's quotes by themselves: where each field stands, and where each part must end. No signature is looked at."""

from __future__ import annotations

import hashlib
import struct

import pytest
from tee_vectors import SGX, TDX, Sample

from wire.errors import EvidenceMalformed
from wire.identity import Identity, SecurityLevel
from wire.tee.intel_quote import Quote, SgxBody, TdBody
from wire.tee.x509 import parse_pem

VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
SGX_BODY, TD10_BODY, TD15_BODY = (bytes(at * 7 % 251 for at in range(size)) for size in (384, 584, 648))
SIZED = {584: 2, 648: 3}
"""The kinds of bodies that version 5 tells apart."""


def head(version: int, tee: int, *, key_type: int = 2, vendor: bytes = VENDOR) -> bytes:
    return struct.pack("<HHIHH", version, key_type, tee, 0xFFFF, 0xFFFF) + vendor + b"\xff" * 20


def certification(version: int, kind: int = 2, data: bytes = b"", *, behind: bytes = b"", inside: bytes = b"") -> bytes:
    """The signature data, with something ``behind`` it, or ``inside`` behind what it holds."""
    inner = bytes(384 + 64) + struct.pack("<H", 3) + b"xyz" + struct.pack("<HI", kind, len(data)) + data + inside
    if version > 3:
        inner = struct.pack("<HI", 6, len(inner)) + inner
    return bytes(128) + inner + behind


def quote(version: int, body: bytes, signed: bytes | None = None) -> bytes:
    start = head(version, 0x81 if len(body) > 384 else 0)
    if version == 5:
        start += struct.pack("<HI", SIZED[len(body)], len(body))
    signed = certification(version) if signed is None else signed
    return start + body + struct.pack("<I", len(signed)) + signed


every_form = pytest.mark.parametrize(
    ("version", "body"), [(3, SGX_BODY), (4, TD10_BODY), (5, TD10_BODY), (5, TD15_BODY)], ids=lambda one: str(one)[:1]
)


@pytest.mark.parametrize("report", [SGX_BODY, b"\xff" * 384], ids=["a mixture", "the largest numbers"])
def test_the_fields_of_an_sgx_report_stand_where_intel_says(report: bytes) -> None:
    assert Quote.parse(quote(3, report)).body == SgxBody(
        int.from_bytes(report[48:56], "little"),
        report[64:96],
        report[128:160],
        int.from_bytes(report[256:258], "little"),
        int.from_bytes(report[258:260], "little"),
        report[192:256],
        report[320:384],
    )


@pytest.mark.parametrize(("version", "report"), [(4, TD10_BODY), (5, TD10_BODY), (5, TD15_BODY)])
def test_the_fields_of_a_tdx_report_stand_where_intel_says(version: int, report: bytes) -> None:
    body = Quote.parse(quote(version, report)).body
    assert body == TdBody(
        int.from_bytes(report[120:128], "little"),
        report[16:64],
        report[136:184],
        report[184:232],
        report[232:280],
        report[280:328],
        (report[328:376], report[376:424], report[424:472], report[472:520]),
        report[520:584],
        report[600:648] if len(report) == 648 else bytes(48),
    )
    assert isinstance(body, TdBody)
    assert body.code == hashlib.sha384(b"pmap/1 tdx code" + report[136:184] + report[328:520]).digest()


@every_form
def test_zeros_behind_a_quote_are_dropped_and_nothing_else(version: int, body: bytes) -> None:
    exact = quote(version, body)
    for padding in (b"", b"\0", bytes(100)):
        parsed = Quote.parse(exact + padding)
        assert (parsed.data, parsed.version, parsed.chain) == (exact, version, ())
    for padding in (b"\x01", bytes(100) + b"\x01", b"\x01" + bytes(100)):
        with pytest.raises(EvidenceMalformed, match="behind its end"):
            Quote.parse(exact + padding)


@every_form
def test_a_quote_that_ends_too_early_is_malformed_wherever_it_ends(version: int, body: bytes) -> None:
    exact = quote(version, body)
    for length in range(len(exact)):
        with pytest.raises(EvidenceMalformed):
            Quote.parse(exact[:length])


def test_a_quote_is_as_long_as_allowed_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = quote(4, TD10_BODY)
    monkeypatch.setattr("wire.tee.intel_quote.MAX_EVIDENCE_BYTES", len(exact))
    assert Quote.parse(exact).data == exact
    with pytest.raises(EvidenceMalformed, match=f"a quote of {len(exact) + 1} bytes"):
        Quote.parse(exact + b"\0")


@pytest.mark.parametrize(
    "start",
    [
        head(4, 0x81, key_type=3),
        head(4, 0x81, key_type=0),
        head(4, 0x81, vendor=bytes(16)),
        head(4, 0x81, vendor=VENDOR[:-1] + b"\x08"),
    ],
)
def test_a_quote_by_another_enclave_or_with_another_kind_of_key_is_malformed(start: bytes) -> None:
    exact = quote(4, TD10_BODY)
    assert Quote.parse(head(4, 0x81) + exact[48:]).data == exact
    with pytest.raises(EvidenceMalformed, match="quoting enclave did not make"):
        Quote.parse(start + exact[48:])


@pytest.mark.parametrize(
    ("version", "tee"), [(2, 0), (3, 0x81), (3, 1), (4, 0), (4, 0x80), (5, 0), (5, 0x82), (6, 0x81), (0x104, 0x81)]
)
@pytest.mark.parametrize("body", [SGX_BODY, TD10_BODY, struct.pack("<HI", 2, 584) + TD10_BODY])
def test_other_versions_and_tees_are_malformed(version: int, tee: int, body: bytes) -> None:
    signed = certification(version)
    with pytest.raises(EvidenceMalformed, match="does not read"):
        Quote.parse(head(version, tee) + body + struct.pack("<I", len(signed)) + signed)


@pytest.mark.parametrize(
    ("kind", "size"), [(1, 384), (2, 648), (3, 584), (4, 648), (2, 0), (0, 0), (0x102, 584), (2, 584 + (1 << 24))]
)
def test_a_body_of_version_5_has_the_size_of_its_kind(kind: int, size: int) -> None:
    exact = quote(5, TD10_BODY)
    assert Quote.parse(exact[:48] + struct.pack("<HI", 2, 584) + exact[54:])
    with pytest.raises(EvidenceMalformed, match="does not read"):
        Quote.parse(exact[:48] + struct.pack("<HI", kind, size) + exact[54:])


@every_form
def test_the_certification_data_are_used_up_to_their_last_byte(version: int, body: bytes) -> None:
    for signed in (certification(version, behind=b"\0"), certification(version, inside=b"\0")):
        with pytest.raises(EvidenceMalformed, match="behind its certification data"):
            Quote.parse(quote(version, body, signed))


def test_a_quote_without_the_quoting_enclaves_report_is_malformed() -> None:
    for kind in (0, 5, 7, 0x106):
        signed = bytearray(certification(4))
        signed[128:130] = kind.to_bytes(2, "little")
        with pytest.raises(EvidenceMalformed, match="without the quoting enclave's report"):
            Quote.parse(quote(4, TD10_BODY, bytes(signed)))


@every_form
def test_certificates_come_with_the_quote_or_aside(version: int, body: bytes) -> None:
    pem = SGX.evidence[SGX.evidence.index(b"-----BEGIN") :].rstrip(b"\0")
    for data in (pem, pem + b"\0"):
        assert Quote.parse(quote(version, body, certification(version, 5, data))).chain == tuple(parse_pem(pem))
    with pytest.raises(EvidenceMalformed):
        Quote.parse(quote(version, body, certification(version, 5, pem + b"\0\0")))
    for kind in (2, 3):
        assert Quote.parse(quote(version, body, certification(version, kind, b"its name"))).chain == ()
    for kind in (0, 1, 4, 6, 7, 0x102):
        with pytest.raises(EvidenceMalformed, match=f"of kind {kind},"):
            Quote.parse(quote(version, body, certification(version, kind, b"its name")))


@pytest.mark.parametrize(
    ("body", "offset", "bits", "debug"),
    [
        (SGX_BODY, 48, 0x02, True),
        (SGX_BODY, 48, 0xFD, False),
        (SGX_BODY, 49, 0xFF, False),
        *((TD10_BODY, 120, 1 << bit, True) for bit in range(8)),
        (TD10_BODY, 121, 0xFF, False),
    ],
)
def test_debug_is_what_lets_the_host_read(body: bytes, offset: int, bits: int, debug: bool) -> None:
    start = offset // 8 * 8
    attributes = bytes(offset - start) + bytes([bits]) + bytes(start + 7 - offset)
    changed = body[:start] + attributes + body[start + 8 :]
    parsed = Quote.parse(quote(3 if body is SGX_BODY else 4, changed))
    assert parsed.body.debug is debug
    assert parsed.identity(SecurityLevel.SECURE, "").debug is debug


def test_the_identity_says_what_an_sgx_quote_says() -> None:
    assert Quote.parse(quote(3, SGX_BODY)).identity(SecurityLevel.STALE, "OutOfDate", 5, ("INTEL-SA-1",)) == Identity(
        SGX_BODY[64:96],
        SGX_BODY[128:160],
        int.from_bytes(SGX_BODY[256:258], "little"),
        int.from_bytes(SGX_BODY[258:260], "little"),
        SecurityLevel.STALE,
        "sgx",
        SGX_BODY[320:384],
        "OutOfDate",
        bool(SGX_BODY[48] & 2),
        5,
        ("INTEL-SA-1",),
        (("config id", SGX_BODY[192:256].hex()),),
    )


def test_the_identity_says_what_a_tdx_quote_says() -> None:
    parsed = Quote.parse(quote(4, TD10_BODY))
    assert isinstance(parsed.body, TdBody)
    assert parsed.identity(SecurityLevel.SECURE, "UpToDate") == Identity(
        parsed.body.code,
        None,
        0,
        0,
        SecurityLevel.SECURE,
        "tdx",
        TD10_BODY[520:584],
        "UpToDate",
        True,
        None,
        (),
        (
            ("MRTD", TD10_BODY[136:184].hex()),
            *((f"RTMR{index}", TD10_BODY[328 + 48 * index : 376 + 48 * index].hex()) for index in range(4)),
            ("MRCONFIGID", TD10_BODY[184:232].hex()),
            ("MROWNER", TD10_BODY[232:280].hex()),
            ("TDX module", TD10_BODY[16:64].hex()),
            ("TD attributes", f"0x{int.from_bytes(TD10_BODY[120:128], 'little'):016x}"),
        ),
    )
    small = Quote.parse(quote(4, TD10_BODY[:120] + b"\x0a" + bytes(7) + TD10_BODY[128:]))
    assert ("TD attributes", "0x000000000000000a") in small.identity(SecurityLevel.SECURE, "").details


@pytest.mark.parametrize("sample", [SGX, TDX], ids=["sgx", "tdx"])
def test_recorded_quotes_are_read_to_their_end(sample: Sample) -> None:
    parsed = Quote.parse(sample.evidence)
    assert (parsed.tee, len(parsed.chain)) == (sample.kind, 3)
    assert sample.evidence.startswith(parsed.data) and not any(sample.evidence[len(parsed.data) :])
