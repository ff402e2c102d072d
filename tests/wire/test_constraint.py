"""The constraint language: strict to parse, printed back identically, and each term refuses on its own."""

from __future__ import annotations

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
