"""The attestation document as bytes: what comes back, and what no document is. Nothing is verified here."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from wire.attestation import REPORT_DATA_BYTES, Attestation
from wire.codec import pack
from wire.errors import Malformed
from wire.hpke import Kem, MailPublicKey
from wire.limits import MAX_ATTESTATION_BYTES

DOCUMENT = Attestation(
    store_id=b"s" * 16,
    epoch=b"e" * 32,
    mail_key=MailPublicKey(Kem.X25519, b"m" * 32),
    checkpoint_key=b"c" * 32,
    persistent=True,
    roster=b"r" * 32,
    tee="simulated",
    evidence=b"evidence",
)
FIELDS = [1, b"s" * 16, b"e" * 32, 1, b"m" * 32, b"c" * 32, True, b"r" * 32, "simulated", b"evidence"]


@pytest.mark.parametrize(
    "document",
    [
        DOCUMENT,
        replace(DOCUMENT, persistent=False, tee="", evidence=b""),
        replace(DOCUMENT, mail_key=MailPublicKey(Kem.MLKEM768_X25519, bytes(1216))),
    ],
)
def test_a_document_comes_back(document: Attestation) -> None:
    assert Attestation.decode(document.encode()) == document


def test_a_document_is_its_fields_in_order() -> None:
    assert DOCUMENT.encode() == pack(FIELDS)


def test_the_report_data_covers_all_but_the_evidence() -> None:
    bound = pack([b"s" * 16, b"e" * 32, 1, b"m" * 32, b"c" * 32, True, b"r" * 32])
    expected = hashlib.sha512(b"pmap/1 report data" + bound).digest()
    assert DOCUMENT.report_data() == expected and len(expected) == REPORT_DATA_BYTES
    assert replace(DOCUMENT, tee="snp", evidence=b"other").report_data() == expected


@pytest.mark.parametrize("at", range(len(FIELDS)))
@pytest.mark.parametrize("value", [b"x", b"x" * 33, "text", 0, 2, 3, -1, None, [], [b"x"]])
def test_a_field_of_another_type_length_or_meaning_is_malformed(at: int, value: object) -> None:
    fields = list(FIELDS)
    fields[at] = value
    if (at, type(value)) in ((8, str), (9, bytes)):
        assert Attestation.decode(pack(fields)).encode() == pack(fields)
    else:
        with pytest.raises(Malformed):
            Attestation.decode(pack(fields))


def test_a_document_with_a_field_more_or_less_is_malformed() -> None:
    for fields in ([*FIELDS, b""], FIELDS[:-1], []):
        with pytest.raises(Malformed):
            Attestation.decode(pack(fields))


def test_a_mail_key_of_the_other_kinds_length_is_malformed() -> None:
    for kem, length in ((1, 1216), (2, 32)):
        with pytest.raises(Malformed):
            Attestation.decode(pack([*FIELDS[:3], kem, bytes(length), *FIELDS[5:]]))


def test_as_long_a_document_as_allowed_is_read_and_none_longer() -> None:
    rest = MAX_ATTESTATION_BYTES - len(replace(DOCUMENT, evidence=bytes(1 << 16)).encode()) + (1 << 16)
    largest = replace(DOCUMENT, evidence=bytes(rest))
    assert len(largest.encode()) == MAX_ATTESTATION_BYTES and Attestation.decode(largest.encode()) == largest
    with pytest.raises(Malformed):
        Attestation.decode(replace(DOCUMENT, evidence=bytes(rest + 1)).encode())
