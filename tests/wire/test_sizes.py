"""Claims about the size syntax of the settings."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import InvalidInput
from wire.limits import MAX_CONFIGURED_SIZE_BYTES
from wire.sizes import format_size, parse_size

UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
KELVIN_SIGN = "\u212a"  # lower() makes an ASCII k of it
ARABIC_INDIC_FIVE = "\u0665"  # int() reads it

MISPRINTS = ["", "k", "m1", "1kb", "1kk", "1b", "1t", " 1", "1 ", "1 k", "1\n", "1,5m", "²"]
OTHER_NOTATIONS = ["-1", "+1", "1.5m", "1e3", "0x10", "1_000", "007", "00", "1" + KELVIN_SIGN, ARABIC_INDIC_FIVE]
TOO_LARGE = ["1025g", "1099511627777", "9" * 15 + "g", "9" * 5000]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("0k", 0),
        ("1", 1),
        ("4096", 4096),
        ("1k", 1024),
        ("1K", 1024),
        ("16m", 16 * 1024**2),
        ("16M", 16 * 1024**2),
        ("2g", 2 * 1024**3),
        ("2G", 2 * 1024**3),
        ("1024g", MAX_CONFIGURED_SIZE_BYTES),
        (0, 0),
        (4097, 4097),
        (MAX_CONFIGURED_SIZE_BYTES, MAX_CONFIGURED_SIZE_BYTES),
    ],
)
def test_bytes_and_units_of_1024_are_read(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [*MISPRINTS, *OTHER_NOTATIONS, *TOO_LARGE])
def test_every_other_text_is_refused_with_what_is_accepted(text: str) -> None:
    accepted = r'whole number of bytes from 0 to 1099511627776.*k, m and g.*"16m"'
    with pytest.raises(InvalidInput, match=accepted) as caught:
        parse_size(text)
    assert len(str(caught.value)) < 250, "the refused text is shortened"


@pytest.mark.parametrize("value", [-1, MAX_CONFIGURED_SIZE_BYTES + 1, True, False, 1.0, None, b"16m"])
def test_what_is_neither_text_nor_a_number_of_bytes_is_refused(value: Any) -> None:
    for read in (parse_size, format_size):
        with pytest.raises(InvalidInput, match="not a size"):
            read(value)


def test_an_integer_too_long_to_print_is_refused_in_words() -> None:
    for value in (10**5000, -(10**5000)):
        with pytest.raises(InvalidInput, match="not a size: a value of type int"):
            parse_size(value)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 40, f"'{'x' * 40}'"),
        ("x" * 41, f"'{'x' * 40}'..."),
        (-1, "-1"),
        ((1 << 128) - 1, str((1 << 128) - 1)),
        (1 << 128, "a value of type int"),
        (None, "a value of type NoneType"),
    ],
)
def test_a_refusal_shows_what_was_given_as_far_as_it_fits(value: Any, shown: str) -> None:
    with pytest.raises(InvalidInput, match=f"^not a size: {re.escape(shown)}; a size is"):
        parse_size(value)


def test_an_enumeration_of_integers_counts_as_integers() -> None:
    class Sizes(IntEnum):
        SMALL = 4096

    assert type(parse_size(Sizes.SMALL)) is int
    assert (parse_size(Sizes.SMALL), format_size(Sizes.SMALL)) == (4096, "4k")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1000, "1000"),
        (1023, "1023"),
        (1024, "1k"),
        (1025, "1025"),
        (1536 * 1024, "1536k"),
        (1024**2, "1m"),
        (16 * 1024**2, "16m"),
        (1024**3 + 1024, "1048577k"),
        (1024**3, "1g"),
        (MAX_CONFIGURED_SIZE_BYTES, "1024g"),
    ],
)
def test_a_size_is_written_in_its_largest_exact_unit(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, MAX_CONFIGURED_SIZE_BYTES), st.sampled_from(sorted(UNITS.values())))
def test_what_is_written_reads_back_exactly_and_no_unit_is_shorter(n: int, multiple: int) -> None:
    size = n - n % multiple
    text = format_size(size)
    assert parse_size(text) == size
    exact = [f"{size // unit}{suffix}" for suffix, unit in UNITS.items() if size % unit == 0]
    assert len(text) == min(map(len, exact))


@given(st.text(st.sampled_from("0123456789kmgKMG-+. _") | st.characters(), max_size=8))
def test_any_text_is_a_size_or_an_invalid_input(text: str) -> None:
    match = re.fullmatch("(0|[1-9][0-9]*)([kmgKMG]?)", text)
    size = int(match[1]) * UNITS[match[2].lower()] if match else -1
    if 0 <= size <= MAX_CONFIGURED_SIZE_BYTES:
        assert parse_size(text) == size
    else:
        with pytest.raises(InvalidInput):
            parse_size(text)
