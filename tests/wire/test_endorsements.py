"""Endorsements by themselves: as bytes, as the files of a folder, and the order of a chain."""

from __future__ import annotations

import base64
from itertools import permutations
from typing import Any

import pytest
from tee_authority import Issuer

from wire.codec import pack
from wire.errors import EvidenceForged, EvidenceMalformed, InvalidInput
from wire.limits import MAX_CHAIN_CERTIFICATES, MAX_ENDORSEMENTS_BYTES
from wire.tee.endorsements import Endorsements, order_chain, parse_certificates, parse_snp_tcb
from wire.tee.snp_report import SnpTcb

ROOT = Issuer("root")
MIDDLE = Issuer("middle", ROOT)
LEAF = Issuer("leaf", MIDDLE, ca=False)
CHAIN = tuple(one.certificate for one in (LEAF, MIDDLE, ROOT))
LEAST = SnpTcb(4, 0, 22, 213)


def pem(issuer: Issuer) -> bytes:
    body = base64.encodebytes(issuer.certificate.der)
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


# --- as bytes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [Endorsements(), Endorsements("{}"), Endorsements("text", CHAIN)])
def test_the_vendors_part_comes_back_beside_the_verifiers_own(given: Endorsements) -> None:
    assert given.encode() == pack([given.collateral, [one.der for one in given.snp_chain]])
    assert Endorsements.decode(given.encode()) == given
    own = Endorsements.decode(given.encode(), CHAIN[2:], LEAST)
    assert own == Endorsements(given.collateral, given.snp_chain, CHAIN[2:], LEAST)
    assert Endorsements("text", CHAIN, CHAIN[2:], LEAST).encode() == Endorsements("text", CHAIN).encode()


def test_as_many_certificates_as_a_chain_has_are_taken_and_no_more() -> None:
    der = CHAIN[0].der
    assert len(Endorsements.decode(pack([None, [der] * MAX_CHAIN_CERTIFICATES])).snp_chain) == MAX_CHAIN_CERTIFICATES
    with pytest.raises(EvidenceMalformed, match="no endorsements"):
        Endorsements.decode(pack([None, [der] * (MAX_CHAIN_CERTIFICATES + 1)]))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([], "no endorsements"),
        ([None], "no endorsements"),
        ([None, [], []], "no endorsements"),
        ([None, None], "no endorsements"),
        ([None, [[]]], "no endorsements"),
        (["x" * MAX_ENDORSEMENTS_BYTES, []], "no endorsements"),
        ([b"text", []], "no text"),
        ([5, []], "no text"),
        ([None, ["text"]], "that is none"),
        ([None, [CHAIN[0].der, None]], "that is none"),
        ([None, [b""]], "DER"),
    ],
)
def test_any_other_bytes_are_malformed(fields: list[Any], why: str) -> None:
    with pytest.raises(EvidenceMalformed, match=why):
        Endorsements.decode(pack(fields))


# --- as files --------------------------------------------------------------------------------------------


def test_the_files_of_a_folder_are_told_apart_by_their_names() -> None:
    other = Issuer("other root")
    found = Endorsements.of_files(
        {
            "collateral.json": "{}\N{SNOWMAN}".encode() + b"\xff",
            "least-amd-firmware": b" 4,0,22,213\n",
            "root.der": ROOT.certificate.der,
            "root-2.pem": pem(other),
            "vcek.der": LEAF.certificate.der,
            "chain.pem": pem(ROOT) + pem(MIDDLE),
        }
    )
    roots = (other.certificate, ROOT.certificate)
    assert found == Endorsements("{}\N{SNOWMAN}\N{REPLACEMENT CHARACTER}", CHAIN, roots, LEAST)
    assert Endorsements.of_files({}) == Endorsements()


@pytest.mark.parametrize("name", ["notes.txt", "collateral.json.bak", "least-amd-firmware.txt", "pem", ""])
def test_a_file_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="what is"):
        Endorsements.of_files({name: b""})


@pytest.mark.parametrize("text", [b"\xff,0,22,213", b"", b"4,0,22"])
def test_firmware_in_other_words_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput, match="firmware"):
        Endorsements.of_files({"least-amd-firmware": text})


def test_certificates_are_read_from_der_or_from_pem_with_words_around_them() -> None:
    assert parse_certificates(ROOT.certificate.der) == [ROOT.certificate]
    text = b"subject: root\r\n" + pem(ROOT).replace(b"\n", b"\r\n") + b"and\n" + pem(LEAF) + b"end\n"
    assert parse_certificates(text) == [ROOT.certificate, LEAF.certificate]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "DER"),
        (b"words", "DER"),
        (b"-----BEGIN KEY-----\nAAAA\n-----END KEY-----\n", "without a certificate"),
        (b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n", "not base64"),
        (pem(ROOT).replace(b"\n", b"\n!", 2), "not base64"),
    ],
)
def test_what_holds_no_certificate_is_malformed(data: bytes, why: str) -> None:
    with pytest.raises(EvidenceMalformed, match=why):
        parse_certificates(data)


@pytest.mark.parametrize(
    ("text", "tcb"),
    [
        ("4,0,22,213", SnpTcb(4, 0, 22, 213)),
        ("0,0,0,255", SnpTcb(0, 0, 0, 255)),
        ("4,1,3,80,2", SnpTcb(4, 1, 3, 80, fmc=2)),
        ("", None),
        ("4,0,22", None),
        ("4,1,3,80,2,0", None),
        ("4,0,22,256", None),
        ("4,0,22,-1", None),
        ("4,0,22, 1", None),
        ("4;0;22;213", None),
        ("4,0,22,", None),
        ("4,0,22,٣", None),
        ("4,0,22,0001", None),
    ],
)
def test_the_least_firmware_is_four_or_five_small_numbers(text: str, tcb: SnpTcb | None) -> None:
    if tcb is not None:
        assert parse_snp_tcb(text) == tcb
    else:
        with pytest.raises(InvalidInput):
            parse_snp_tcb(text)


# --- the order of a chain --------------------------------------------------------------------------------


def test_a_chain_is_put_in_order_from_its_leaf_to_its_root() -> None:
    for given in permutations(CHAIN):
        assert order_chain(given) == CHAIN
    for part in (CHAIN[:2], CHAIN[1:], CHAIN[:1], CHAIN[2:], ()):
        assert order_chain(part[::-1]) == part


def test_certificates_that_are_not_one_chain_are_refused() -> None:
    other = Issuer("other root").certificate
    second = Issuer("second leaf", MIDDLE, ca=False).certificate
    same_name = Issuer("middle", ROOT).certificate
    for given in (
        (*CHAIN, other),
        (*CHAIN, second),
        (CHAIN[0], CHAIN[2]),
        (*CHAIN, same_name),
        (*CHAIN, CHAIN[0]),
        (*CHAIN, CHAIN[1]),
        (*CHAIN, CHAIN[2]),
        (other, other),
        (CHAIN[2], other),
    ):
        for ordered in (given, given[::-1]):
            with pytest.raises(EvidenceForged):
                order_chain(ordered)
