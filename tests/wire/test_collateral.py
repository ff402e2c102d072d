"""Intel's collateral by itself: how it is read, from when until when it holds, and what its lists revoke."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from intel_authority import Platform
from tee_vectors import SGX, TDX, Sample

from wire.errors import EvidenceExpired, EvidenceMalformed, UntrustedRoot
from wire.identity import Identity
from wire.tee import der
from wire.tee.endorsements import Endorsements
from wire.tee.intel import Collateral
from wire.tee.roots import INTEL_SGX_ROOT
from wire.tee.verify import verify_evidence

TEXT = TDX.endorsements.collateral or ""
FIELDS: dict[str, str] = json.loads(TEXT)
LISTS, STATEMENTS = ("root_ca_crl", "pck_crl"), ("tcb_info", "qe_identity")
CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")


def changed(**fields: object) -> str:
    return json.dumps(FIELDS | fields)


def verify(sample: Sample, at: int) -> Identity:
    return verify_evidence(sample.kind, sample.evidence, None, at, sample.endorsements)


def seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Any:
    """This process in a time zone of its own, half a day away."""
    monkeypatch.setenv("TZ", "XXX-12")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_collateral_is_as_long_as_allowed_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.tee.intel.MAX_COLLATERAL_BYTES", len(TEXT))
    assert Collateral.parse(TEXT).text == TEXT
    with pytest.raises(EvidenceMalformed, match=f"collateral of {len(TEXT) + 1} characters"):
        Collateral.parse(TEXT + " ")


def test_a_name_that_stands_twice_is_malformed() -> None:
    twice = f"{TEXT.rstrip()[:-1]}, {json.dumps('tcb_info')}: {json.dumps(FIELDS['tcb_info'])}}}"
    assert json.loads(twice) == FIELDS
    with pytest.raises(EvidenceMalformed, match=r"^the collateral says something twice$"):
        Collateral.parse(twice)
    statement = FIELDS["tcb_info"][:-1] + ',"version":3}'
    assert json.loads(statement) == json.loads(FIELDS["tcb_info"])
    with pytest.raises(EvidenceMalformed, match=r"^the collateral's tcb_info says something twice$"):
        Collateral.parse(changed(tcb_info=statement))


@pytest.mark.parametrize(("text", "why"), [("", "is not JSON"), ("5", "is not a JSON object")])
def test_what_is_no_object_is_named(text: str, why: str) -> None:
    with pytest.raises(EvidenceMalformed, match=f"^the collateral {why}$"):
        Collateral.parse(text)
    for name in STATEMENTS:
        with pytest.raises(EvidenceMalformed, match=f"^the collateral's {name} {why}$"):
            Collateral.parse(changed(**{name: text}))


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("field", ["issueDate", "nextUpdate"])
def test_a_statement_without_its_dates_is_malformed(name: str, field: str) -> None:
    statement = json.loads(FIELDS[name])
    for wrong in ({**statement, field: None}, {**statement, field: "2025-06-19"}, {**statement, field: 5}):
        with pytest.raises(EvidenceMalformed, match=f"the collateral's {name} has no dates"):
            Collateral.parse(changed(**{name: json.dumps(wrong)}))
    del statement[field]
    with pytest.raises(EvidenceMalformed, match=f"the collateral's {name} has no dates"):
        Collateral.parse(changed(**{name: json.dumps(statement)}))


@pytest.mark.parametrize("name", [*CHAINS, "pck_certificate_chain"])
@pytest.mark.parametrize("text", ["", "no certificate", "é"])
def test_a_chain_that_is_none_is_named(name: str, text: str) -> None:
    with pytest.raises(EvidenceMalformed, match=f"the collateral's {name} is not a chain"):
        Collateral.parse(changed(**{name: text}))


@pytest.mark.usefixtures("elsewhere")
def test_what_holds_from_when_until_when_is_read_in_utc() -> None:
    periods = {name: (start, end) for name, start, end in Collateral.parse(TEXT).periods}
    for name in STATEMENTS:
        statement = json.loads(FIELDS[name])
        assert periods[name] == (seconds(statement["issueDate"][:-1]), seconds(statement["nextUpdate"][:-1]))
    assert list(periods) == [*STATEMENTS, *LISTS]


@pytest.mark.usefixtures("elsewhere")
def test_collateral_out_of_its_time_is_refused_with_its_days() -> None:
    platform = Platform("tdx")
    for now, days in (
        ("2026-03-01T00:00:00", "2026-02-28 to 2026-03-30"),
        ("2027-12-31T23:00:00", "2027-12-30 to 2028-01-29"),
    ):
        issued = seconds(now) - 86_400
        endorsements = Endorsements(platform.collateral(now=seconds(now)), roots=platform.roots)
        assert verify_evidence("tdx", platform.quote(), None, issued, endorsements).dated == issued
        for at in (issued - 1, issued + 30 * 86_400):
            with pytest.raises(EvidenceExpired, match=f"tcb_info does not hold at the given time, but {days}$"):
                verify_evidence("tdx", platform.quote(), None, at, endorsements)


@pytest.mark.parametrize("sample", [SGX, TDX], ids=["sgx", "tdx"])
def test_a_recorded_quote_holds_from_the_second_in_which_its_collateral_was_issued(sample: Sample) -> None:
    identity = verify(sample, sample.at - 3600)
    assert identity.root == INTEL_SGX_ROOT
    with pytest.raises(EvidenceExpired):
        verify(sample, sample.at - 3601)


def test_a_chain_that_ends_elsewhere_is_named() -> None:
    platform = Platform("tdx")
    with pytest.raises(UntrustedRoot, match=r"^the quote's chain ends"):
        verify_evidence("tdx", platform.quote(), None, TDX.at, TDX.endorsements)
    with pytest.raises(UntrustedRoot, match=r"^the collateral's chain ends"):
        verify_evidence("tdx", TDX.evidence, None, TDX.at, Endorsements(platform.collateral()))


def test_a_root_is_what_a_chain_ends_in_however_long_it_is() -> None:
    platform = Platform("sgx")
    fields = json.loads(platform.collateral()) | {"pck_crl_issuer_chain": platform.pem_chain.decode()}
    endorsements = Endorsements(json.dumps(fields), roots=platform.roots)
    identity = verify_evidence("sgx", platform.quote(), None, platform.at, endorsements)
    assert identity.root == platform.roots[0].fingerprint


# --- revocation lists -------------------------------------------------------------------------------------


def encode(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    assert len(content) < 0x80
    return bytes([tag, len(content)]) + content


VERSION, ALGORITHM, ISSUER = encode(der.INTEGER, b"\x01"), encode(der.SEQUENCE), encode(der.SEQUENCE, b"\x05\x00")
START, END = (encode(der.UTC_TIME, b"2%d0101000000Z" % year) for year in (5, 6))
REVOKED = encode(
    der.SEQUENCE,
    encode(der.SEQUENCE, encode(der.INTEGER, b"\x05"), START),
    encode(der.SEQUENCE, encode(der.INTEGER, b"\x00\xff"), START, encode(der.SEQUENCE)),
)
EXTENSIONS = encode(0xA0, encode(der.SEQUENCE, encode(der.SEQUENCE, encode(der.INTEGER, b"\x07"))))


def revocation_list(*fields: bytes) -> str:
    return encode(der.SEQUENCE, encode(der.SEQUENCE, *fields), ALGORITHM, encode(der.BIT_STRING, b"\0")).hex()


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    ("more", "serials"),
    [
        ((), set()),
        ((REVOKED,), {b"\x05", b"\x00\xff"}),
        ((EXTENSIONS,), set()),
        ((REVOKED, EXTENSIONS), {b"\x05", b"\x00\xff"}),
    ],
    ids=["five fields", "with revoked certificates", "with extensions", "with both"],
)
def test_a_revocation_list_says_whose_certificates_it_revokes(
    name: str, more: tuple[bytes, ...], serials: set[bytes]
) -> None:
    made = revocation_list(VERSION, ALGORITHM, ISSUER, START, END, *more)
    other = next(one for one in LISTS if one != name)
    parsed = Collateral.parse(changed(**{name: made, other: revocation_list(VERSION, ALGORITHM, ISSUER, START, END)}))
    assert parsed.revoked == {(ISSUER, serial) for serial in serials}
    assert (name, seconds("2025-01-01"), seconds("2026-01-01")) in parsed.periods


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(
    "data",
    [
        "3000",
        "30023000",
        revocation_list(),
        revocation_list(VERSION, ALGORITHM, ISSUER, START),
        revocation_list(ALGORITHM, ISSUER, START, END, REVOKED),
        revocation_list(VERSION, VERSION, ISSUER, START, END),
        revocation_list(VERSION, ALGORITHM, VERSION, START, END),
    ],
)
def test_another_revocation_list_than_one_of_version_2_is_named(name: str, data: str) -> None:
    with pytest.raises(EvidenceMalformed, match=f"the collateral's {name} is no revocation list of version 2"):
        Collateral.parse(changed(**{name: data}))


@pytest.mark.parametrize("entry", [b"", START, encode(der.OCTET_STRING, b"\x05") + START])
def test_a_revocation_without_a_serial_number_is_malformed(entry: bytes) -> None:
    revoked = encode(der.SEQUENCE, encode(der.SEQUENCE, encode(der.INTEGER, b"\x05")), encode(der.SEQUENCE, entry))
    with pytest.raises(EvidenceMalformed, match="pck_crl revokes what is no serial number"):
        Collateral.parse(changed(pck_crl=revocation_list(VERSION, ALGORITHM, ISSUER, START, END, revoked)))
