"""Strict msgpack: canonical, bounded, and no more arrays than the format has."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.codec import expect, pack, unpack, unpack_authentic
from wire.errors import Malformed

scalars = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=20) | st.binary()
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5), max_leaves=20)


@given(values)
def test_what_is_packed_comes_back_and_packs_to_the_same_bytes(value):
    data = pack(value)
    assert unpack(data, len(data), max_arrays=1000) == value == unpack_authentic(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_canonically_or_refused(data):
    try:
        value = unpack(data, 200, max_arrays=50)
    except Malformed:
        return
    assert pack(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x01",  # trailing byte
        b"\xcc\x01",  # 1 in a longer form
        b"\xdc\x00\x01\x01",  # an array in a longer form
        b"\x80",  # a map
        b"\x81\x01\x01",
        b"\xd4\x01\x00",  # an extension
        b"\xd6\xff" + bytes(4),  # a timestamp
        b"\xa1\xff",  # a str that is not UTF-8
        b"\xc1",
        b"\x92\x01",  # cut off
        b"\xdd\xff\xff\xff\xff",  # an array of 2**32 - 1 items that are not there
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 2000 + b"\x01",  # deep
    ],
)
def test_what_is_not_canonical_or_not_of_the_format_is_refused(data):
    with pytest.raises(Malformed):
        unpack(data, 10_000, max_arrays=10_000)


def test_longer_than_allowed_is_refused_before_it_is_decoded():
    with pytest.raises(Malformed, match="at most 3"):
        unpack(pack(b"abcd"), 3)


@pytest.mark.parametrize("data", [pack([[] for _ in range(500_000)]), pack([[[]] * 9] * 50_000)])
def test_arrays_that_the_format_does_not_have_cost_no_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            unpack(data, len(data))
        assert tracemalloc.get_traced_memory()[1] < 8 * len(data) + 100_000
    finally:
        tracemalloc.stop()


def test_expect_checks_number_and_types_and_keeps_booleans_from_integers():
    assert expect([1, "a", None], int, str, object) == [1, "a", None]
    for wrong in ([1], [1, 2, 3], [1.0, "a", None], (1, "a", None), [True, "a", None], None, b"abc"):
        with pytest.raises(Malformed):
            expect(wrong, int, str, object)
