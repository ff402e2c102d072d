"""The constraint language: strict to parse, printed back identically, and each term refuses on its own."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.constraint import Constraint, Period
from wire.errors import (
    AttestationError,
    DebugEnclave,
    EvidenceExpired,
    IdentityMismatch,
    InvalidInput,
    TcbUnacceptable,
)
from wire.identity import Identity, SecurityLevel

CODE, SIGNER = bytes(range(32)), bytes(range(48))
NOW = int(datetime(2026, 3, 31, tzinfo=UTC).timestamp())
DAY = 86_400
IDENTITY = Identity(CODE, SIGNER, 7, 3, SecurityLevel.SECURE, "sgx", bytes(64), "UpToDate", dated=NOW - 10 * DAY)
EXACT = f"C:{CODE.hex()}"
SIGNED = f"S:{SIGNER.hex()} PROD:7"


@pytest.mark.parametrize(
    "text",
    [
        EXACT,
        SIGNED,
        f"{EXACT} {SIGNED} REVOKE:3 SEC:SECURE EXPIRE:P1Y2M3W4D",
        f"EXPIRE:P10D SEC:STALE PROD:7 C:{'ab' * 48} {EXACT}",
        "SEC:INSECURE",
        "SEC:INSECURE PROD:0 REVOKE:0",
    ],
)
def test_a_constraint_is_printed_back_identically(text: str) -> None:
    assert str(Constraint.parse(text)) == text


hexes = st.sampled_from([32, 48]).flatmap(lambda size: st.binary(min_size=size, max_size=size)).map(bytes.hex)


@given(
    codes=st.lists(hexes, max_size=3),
    signers=st.lists(hexes, min_size=1, max_size=3),
    product=st.integers(0, 0xFFFF),
    level=st.sampled_from(list(SecurityLevel)),
    days=st.integers(1, 99_999),
    order=st.randoms(use_true_random=False),
)
def test_every_constraint_survives_parsing(
    codes: list[str], signers: list[str], product: int, level: SecurityLevel, days: int, order: object
) -> None:
    terms = [f"C:{one}" for one in codes] + [f"S:{one}" for one in signers]
    terms += [f"PROD:{product}", f"SEC:{level.name}", f"EXPIRE:P{days}D"]
    order.shuffle(terms)  # type: ignore[attr-defined]
    constraint = Constraint.parse(" ".join(terms))
    assert str(constraint) == " ".join(terms)
    assert (constraint.product, constraint.level) == (product, level)
    assert constraint.signers == {bytes.fromhex(one) for one in signers}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        EXACT + " ",
        " " + EXACT,
        EXACT + "  SEC:STALE",
        EXACT + "\tSEC:STALE",
        EXACT + "\n",
        "SEC:SECURE",
        "SEC:STALE PROD:1",
        "PROD:1",
        "C:",
        "C:" + "a" * 63,
        "C:" + "a" * 66,
        "C:" + "A" * 64,
        "C:" + "g" * 64,
        "c:" + "a" * 64,
        EXACT + " PROD:01",
        EXACT + " PROD:-1",
        EXACT + " PROD:+1",
        EXACT + " PROD:1_0",
        EXACT + " PROD:99999999999",
        EXACT + " PROD:1 PROD:1",
        EXACT + " SEC:secure",
        EXACT + " SEC:SECURE SEC:SECURE",
        EXACT + " EXPIRE:P",
        EXACT + " EXPIRE:P0D",
        EXACT + " EXPIRE:P1D2M",
        EXACT + " EXPIRE:P01D",
        EXACT + " EXPIRE:P1DT1H",
        EXACT + " EXPIRE:30D",
        EXACT + " EXPIRE:P-1D",
        EXACT + " EXPIRE:P1D EXPIRE:P1D",
        EXACT + " UNKNOWN:1",
        EXACT + " REVOKE",
        EXACT + " REVOKE:\u0661",
        "x" * 100_000,
    ],
)
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Constraint.parse(text)


@pytest.mark.parametrize(
    ("text", "changed", "refusal"),
    [
        (EXACT, {}, None),
        (SIGNED, {}, None),
        (f"{EXACT} {SIGNED} REVOKE:3 SEC:SECURE EXPIRE:P10D", {}, None),
        (f"C:{'00' * 32} {EXACT}", {}, None),
        (EXACT, {"measurement": bytes(32)}, IdentityMismatch),
        (SIGNED, {"signer": bytes(48)}, IdentityMismatch),
        (SIGNED, {"signer": None}, IdentityMismatch),
        (SIGNED, {"product": 8}, IdentityMismatch),
        (f"{EXACT} {SIGNED}", {"signer": bytes(48)}, IdentityMismatch),
        (f"{EXACT} {SIGNED}", {"measurement": bytes(32)}, IdentityMismatch),
        (f"{EXACT} REVOKE:4", {}, IdentityMismatch),
        (EXACT, {"level": SecurityLevel.STALE}, TcbUnacceptable),
        (f"{EXACT} SEC:STALE", {"level": SecurityLevel.STALE}, None),
        (f"{EXACT} SEC:STALE", {"level": SecurityLevel.INSECURE}, TcbUnacceptable),
        (f"{EXACT} SEC:INSECURE", {"level": SecurityLevel.INSECURE}, None),
        (f"{EXACT} SEC:INSECURE", {"debug": True}, DebugEnclave),
        ("SEC:INSECURE", {}, None),
        (f"{EXACT} EXPIRE:P9D", {}, EvidenceExpired),
        (f"{EXACT} EXPIRE:P1W", {}, EvidenceExpired),
        (f"{EXACT} EXPIRE:P2W", {}, None),
        (f"{EXACT} EXPIRE:P2W", {"dated": None}, EvidenceExpired),
    ],
)
def test_each_term_refuses_for_its_own_reason(
    text: str, changed: dict[str, object], refusal: type[AttestationError] | None
) -> None:
    constraint, identity = Constraint.parse(text), replace(IDENTITY, **changed)  # type: ignore[arg-type]
    if refusal is None:
        constraint.check(identity, NOW)
    else:
        with pytest.raises(refusal):
            constraint.check(identity, NOW)


def test_a_period_follows_the_calendar() -> None:
    def after(text: str, *date: int) -> str:
        moved = Period.parse(text).after(int(datetime(*date, tzinfo=UTC).timestamp()))  # type: ignore[arg-type]
        return datetime.fromtimestamp(moved, UTC).date().isoformat()

    assert after("P1M", 2026, 1, 31) == "2026-02-28"
    assert after("P1M", 2028, 1, 31) == "2028-02-29"
    assert after("P11M", 2026, 2, 15) == "2027-01-15"
    assert after("P1Y2M1W1D", 2026, 11, 1) == "2028-01-09"


def test_a_period_beyond_all_calendars_never_ends() -> None:
    assert Period.parse("P9999Y").after(NOW) > NOW + 10**12


def test_the_last_year_of_all_calendars_still_counts() -> None:
    last = int(datetime(9999, 3, 31, tzinfo=UTC).timestamp())
    assert Period.parse(f"P{9999 - 2026}Y").after(NOW) == last
    assert Period.parse(f"P{10_000 - 2026}Y").after(NOW) == (1 << 63) - 1


def test_a_period_does_not_depend_on_where_the_clock_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    at = int(datetime(2026, 1, 31, 2, tzinfo=UTC).timestamp())
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "America/New_York")
            time.tzset()
            assert Period.parse("P1M").after(at) == int(datetime(2026, 2, 28, 2, tzinfo=UTC).timestamp())
    finally:
        time.tzset()


def test_the_largest_numbers_and_the_longest_text_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = Constraint.parse(EXACT + " PROD:65535 REVOKE:4294967295")
    assert (largest.product, largest.lowest_version) == (65_535, 4_294_967_295)
    for text in ("PROD:65536", "REVOKE:4294967296"):
        with pytest.raises(InvalidInput):
            Constraint.parse(f"{EXACT} {text}")
    monkeypatch.setattr("wire.constraint.MAX_CONSTRAINT_CHARACTERS", len(EXACT))
    assert str(Constraint.parse(EXACT)) == EXACT
    with pytest.raises(InvalidInput, match="a text of at most"):
        Constraint.parse(f"{EXACT} PROD:0")


@pytest.mark.parametrize("value", [None, 5, EXACT.encode(), [EXACT]])
def test_what_is_no_text_is_no_constraint(value: object) -> None:
    with pytest.raises(InvalidInput):
        Constraint.parse(value)  # type: ignore[arg-type]


def test_without_revoke_the_lowest_version_is_zero() -> None:
    Constraint.parse(EXACT).check(replace(IDENTITY, security_version=0), NOW)


@pytest.mark.parametrize(
    ("term", "sentence"),
    [
        ("C:aa:bb", "C: takes 64 or 96 lower-case hexadecimal digits, not 'aa:bb'"),
        ("S:aa", "S: takes 64 or 96 lower-case hexadecimal digits, not 'aa'"),
        ("S:" + "x" * 40, f"S: takes 64 or 96 lower-case hexadecimal digits, not '{'x' * 40}'"),
        ("S:" + "x" * 41, f"S: takes 64 or 96 lower-case hexadecimal digits, not '{'x' * 40}'..."),
        ("PROD:x", "PROD: takes a number from 0 to 65535, not 'x'"),
        ("REVOKE:x", "REVOKE: takes a number from 0 to 4294967295, not 'x'"),
        ("PROD:1 PROD:1", "PROD: may stand once in a constraint"),
        ("REVOKE:1 REVOKE:1", "REVOKE: may stand once in a constraint"),
        ("SEC:STALE SEC:STALE", "SEC: may stand once in a constraint"),
        ("EXPIRE:P1D EXPIRE:P1D", "EXPIRE: may stand once in a constraint"),
    ],
)
def test_the_sentence_of_a_refusal_names_the_term_and_shows_no_more_of_it_than_fits(term: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{re.escape(sentence)}$"):
        Constraint.parse(f"{EXACT} {term}")


@pytest.mark.parametrize(
    ("text", "changed", "end"),
    [
        (EXACT, {"level": SecurityLevel.STALE, "status": "OutOfDate"}, "asks for SECURE or better (OutOfDate)"),
        (EXACT, {"level": SecurityLevel.STALE, "status": ""}, "asks for SECURE or better"),
        (SIGNED, {"signer": None}, "does not name: nobody"),
        (SIGNED, {"signer": b"\xab" * 48}, "does not name: " + "ab" * 48),
        (EXACT, {"measurement": b"\xcd" * 32}, "its measurement is " + "cd" * 32),
    ],
)
def test_the_sentence_of_a_refusal_says_what_the_enclave_is(text: str, changed: dict[str, object], end: str) -> None:
    with pytest.raises(AttestationError, match=re.escape(end) + "$"):
        Constraint.parse(text).check(replace(IDENTITY, **changed), NOW)  # type: ignore[arg-type]
