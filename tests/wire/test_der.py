"""Strict DER: each value in its one form, and every other form refused."""

from __future__ import annotations

import time as clock
from datetime import UTC, datetime

import pytest

from wire.errors import EvidenceMalformed
from wire.tee import der
from wire.tee.der import Value


def one(encoded: str) -> Value:
    (value,) = der.values(bytes.fromhex(encoded))
    return value


def test_values_stand_one_after_the_other_each_with_its_own_bytes() -> None:
    data = bytes.fromhex("05000401613003020107")
    assert list(der.values(data)) == [
        Value(5, b"", data[:2]),
        Value(der.OCTET_STRING, b"a", data[2:5]),
        Value(der.SEQUENCE, b"\x02\x01\x07", data[5:]),
    ]
    assert list(der.values(b"")) == []
    # All tags of one byte are read: the largest, and those of other classes.
    assert [value.tag for value in der.values(bytes.fromhex("1e009e00de00fe00"))] == [0x1E, 0x9E, 0xDE, 0xFE]


@pytest.mark.parametrize(
    ("length", "form"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8180"),
        (255, "81ff"),
        (256, "820100"),
        (65_535, "82ffff"),
        (65_536, "83010000"),
    ],
)
def test_a_length_has_one_form(length: int, form: str) -> None:
    encoded = b"\x04" + bytes.fromhex(form) + bytes(length)
    assert list(der.values(encoded)) == [Value(der.OCTET_STRING, bytes(length), encoded)]
    with pytest.raises(EvidenceMalformed, match="middle of a value"):
        list(der.values(encoded[:-1] if length else b"\x04\x01"))


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param("04", id="no length"),
        pytest.param("0402ff", id="cut"),
        pytest.param("0480" + "0000", id="indefinite"),
        pytest.param("0480" + 128 * "00", id="indefinite, before as many bytes as that would be"),
        pytest.param("048100", id="zero in the long form"),
        pytest.param("04817f" + 127 * "00", id="127 in the long form"),
        pytest.param("04820080" + 128 * "00", id="a zero before the length"),
        pytest.param("0481", id="the length is missing"),
        pytest.param("048201", id="half of the length is missing"),
        pytest.param("048401000000", id="a length of four bytes"),
        pytest.param("04ff", id="a length of 127 bytes"),
        pytest.param("1f0100", id="a tag of several bytes"),
        pytest.param("bf2100", id="a tag of several bytes, of another class"),
        pytest.param("050004", id="a second value without a length"),
    ],
)
def test_any_other_form_of_a_value_is_malformed(encoded: str) -> None:
    with pytest.raises(EvidenceMalformed):
        list(der.values(bytes.fromhex(encoded)))


def test_exactly_the_expected_tags_in_their_order_are_taken() -> None:
    data = bytes.fromhex("0201070500")
    assert [value.tag for value in der.expect(data, der.INTEGER, 5)] == [der.INTEGER, 5]
    assert der.only(data[:3], der.INTEGER) == Value(der.INTEGER, b"\x07", data[:3])
    for tags in ((), (der.INTEGER,), (5, der.INTEGER), (der.INTEGER, 5, 5), (der.INTEGER, der.INTEGER)):
        with pytest.raises(EvidenceMalformed):
            der.expect(data, *tags)
    for wrong in (b"", data, data[3:]):
        with pytest.raises(EvidenceMalformed):
            der.only(wrong, der.INTEGER)


@pytest.mark.parametrize(
    ("encoded", "number"),
    [
        ("020100", 0),
        ("020101", 1),
        ("02017f", 127),
        ("02020080", 128),
        ("020200ff", 255),
        ("02020100", 256),
        ("0209008000000000000000", 1 << 63),
    ],
)
def test_a_non_negative_integer_is_read(encoded: str, number: int) -> None:
    assert der.integer(one(encoded)) == number


@pytest.mark.parametrize(
    "encoded", ["0200", "020180", "0201ff", "0202ff00", "02020000", "0202007f", "030101", "0a0101"]
)
def test_any_other_integer_is_malformed(encoded: str) -> None:
    with pytest.raises(EvidenceMalformed):
        der.integer(one(encoded))


def test_a_bit_string_is_whole_bytes() -> None:
    assert der.bit_string(one("030100")) == b""
    assert der.bit_string(one("030300abcd")) == b"\xab\xcd"
    for wrong in ("0300", "03020180", "030101", "040100"):
        with pytest.raises(EvidenceMalformed):
            der.bit_string(one(wrong))


@pytest.mark.parametrize(
    ("encoded", "dotted"),
    [
        ("060100", "0.0"),
        ("060127", "0.39"),
        ("060128", "1.0"),
        ("06014f", "1.39"),
        ("060150", "2.0"),
        ("060178", "2.40"),
        ("06028148", "2.120"),
        ("0603550403", "2.5.4.3"),
        ("06092a864886f70d01010a", "1.2.840.113549.1.1.10"),
        ("0603550400", "2.5.4.0"),
        ("0604551dff7f", "2.5.29.16383"),
        ("0603818001", "2.16305"),
    ],
)
def test_an_object_identifier_is_read(encoded: str, dotted: str) -> None:
    assert der.object_id(one(encoded)) == dotted


@pytest.mark.parametrize("encoded", ["0600", "060180", "06025581", "0603558003", "0602803d", "020155", "0403550403"])
def test_any_other_object_identifier_is_malformed(encoded: str) -> None:
    with pytest.raises(EvidenceMalformed):
        der.object_id(one(encoded))


def dated(tag: int, text: bytes) -> Value:
    return Value(tag, text, b"")


@pytest.mark.parametrize(
    ("tag", "text", "moment"),
    [
        (der.UTC_TIME, b"700101000000Z", (1970, 1, 1)),
        (der.UTC_TIME, b"500101000000Z", (1950, 1, 1)),
        (der.UTC_TIME, b"491231235959Z", (2049, 12, 31, 23, 59, 59)),
        (der.UTC_TIME, b"260331102030Z", (2026, 3, 31, 10, 20, 30)),
        (der.GENERALIZED_TIME, b"20260331102030Z", (2026, 3, 31, 10, 20, 30)),
        (der.GENERALIZED_TIME, b"20520229000000Z", (2052, 2, 29)),
        (der.GENERALIZED_TIME, b"20510229000000Z", None),
        (der.UTC_TIME, b"20260331102030Z", None),
        (der.UTC_TIME, b"2603311020Z", None),
        (der.UTC_TIME, b"260331102030+0000", None),
        (der.UTC_TIME, b"260331102030", None),
        (der.UTC_TIME, b"261331102030Z", None),
        (der.UTC_TIME, b"", None),
        (der.GENERALIZED_TIME, b"260331102030Z", None),
        (der.GENERALIZED_TIME, b"20260331102030.5Z", None),
        (der.GENERALIZED_TIME, b"00000101000000Z", None),
        (der.GENERALIZED_TIME, b" 2260331102030Z", None),
        (der.OCTET_STRING, b"20260331102030Z", None),
    ],
)
def test_a_date_is_read_in_its_two_forms_alone(tag: int, text: bytes, moment: tuple[int, ...] | None) -> None:
    if moment is not None:
        expected = int(datetime(*moment, tzinfo=UTC).timestamp())  # type: ignore[arg-type, misc]
        assert der.time(dated(tag, text)) == expected
    else:
        with pytest.raises(EvidenceMalformed):
            der.time(dated(tag, text))


def test_a_date_does_not_depend_on_where_the_clock_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "America/New_York")
            clock.tzset()
            assert der.time(dated(der.UTC_TIME, b"700101000000Z")) == 0
    finally:
        clock.tzset()
