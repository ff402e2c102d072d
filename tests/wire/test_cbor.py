"""Strict CBOR: one encoding for each value, bounded in length and depth, and nothing but what the format has."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from wire.cbor import MAX_DEPTH, pack_cbor, unpack_cbor
from wire.errors import Malformed, TeeUnavailable

LIMIT = 1000


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, "f6"),
        (True, "f5"),
        (0, "00"),
        (-35, "3822"),
        ((1 << 64) - 1, "1bffffffffffffffff"),
        ("text", "6474657874"),
        (b"\x00\xff", "4200ff"),
        ([1, [2, []]], "8201820280"),
        ({"b": 1, "a": {2: b""}}, "a26162016161a10240"),
    ],
)
def test_a_value_has_one_encoding_and_comes_back(value: Any, encoded: str) -> None:
    assert pack_cbor(value).hex() == encoded
    assert unpack_cbor(bytes.fromhex(encoded), LIMIT) == value


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param("", id="nothing"),
        pytest.param("8201", id="cut"),
        pytest.param("0000", id="something after it"),
        pytest.param("1800", id="a longer form of a number"),
        pytest.param("5800", id="a longer form of a length"),
        pytest.param("9f01ff", id="an array of indefinite length"),
        pytest.param("5f4101ff", id="bytes in pieces"),
        pytest.param("a201000101", id="a key twice"),
        pytest.param("c11a514b67b0", id="a tag: a time"),
        pytest.param("c240", id="a tag: a large number"),
        pytest.param("82d81c80d81d00", id="a tag: a shared value"),
        pytest.param("f97e00", id="a float"),
        pytest.param("f7", id="undefined"),
        pytest.param("e0", id="a simple value"),
        pytest.param("81f7", id="undefined in an array"),
        pytest.param("a101f7", id="undefined in a map"),
        pytest.param("a1f601", id="null as a key"),
        pytest.param("a1f501", id="a truth value as a key"),
        pytest.param("a14001", id="bytes as a key"),
        pytest.param("a18001", id="an array as a key"),
        pytest.param("61ff", id="text that is not UTF-8"),
        pytest.param("9bffffffffffffffff", id="an array that claims too much"),
    ],
)
def test_everything_else_is_malformed(encoded: str) -> None:
    with pytest.raises(Malformed):
        unpack_cbor(bytes.fromhex(encoded), LIMIT)


def test_as_many_bytes_as_allowed_are_read_and_no_more() -> None:
    assert unpack_cbor(pack_cbor(bytes(97)), 99) == bytes(97)
    with pytest.raises(Malformed, match="at most 98"):
        unpack_cbor(pack_cbor(bytes(97)), 98)


@pytest.mark.parametrize("inside", [[], {}, 1])
@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {1: value}, lambda value: [0, value]])
def test_values_may_stand_so_deep_and_no_deeper(inside: Any, wrap: Any) -> None:
    value = inside
    for _ in range(MAX_DEPTH - 1):
        value = wrap(value)
    assert unpack_cbor(pack_cbor(value), LIMIT) == value
    with pytest.raises(Malformed, match="deep"):
        unpack_cbor(pack_cbor(wrap(value)), LIMIT)


def test_without_its_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cbor2", None)
    with pytest.raises(TeeUnavailable, match=r"pmap\[attestation\]"):
        unpack_cbor(b"\x00", LIMIT)
