"""Strict msgpack: canonical, bounded, and no more arrays than the format has."""

from __future__ import annotations

import threading
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import codec
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


PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    127,
    128,
    -(1 << 63),
    (1 << 64) - 1,
    "",
    "text",
    "\u00e4",
    b"",
    b"bytes",
    [],
    [1, "a", b"b", None],
]


@pytest.mark.parametrize("value", [*PLAIN, PLAIN[:-2]], ids=repr)
def test_plain_values_come_back_from_both_decoders_and_of_a_view_as_well(value):
    data = pack(value)
    assert unpack(data, len(data)) == unpack(memoryview(data), len(data)) == value
    assert unpack_authentic(data) == unpack_authentic(memoryview(data)) == value
    for other in (unpack(data, len(data) + 1), unpack_authentic(data)):
        assert type(other) is type(value)
    with pytest.raises(Malformed):
        unpack(data, len(data) - 1)
    for wrong in (data + b"\x00", data[:-1]):
        with pytest.raises(Malformed):
            unpack_authentic(wrong)


def test_tuples_travel_as_arrays():
    assert pack((1, (2, b""))) == pack([1, [2, b""]])


@pytest.mark.parametrize("small", [True, False])
def test_exactly_so_many_arrays_are_allowed(small):
    filler = b"" if small else bytes(20_000)
    for arrays in (2, 3, 5):
        data = pack([filler, *[[1]] * (arrays - 1)])
        assert unpack(data, len(data), max_arrays=arrays) == [filler, *[[1]] * (arrays - 1)]
        with pytest.raises(Malformed):
            unpack(data, len(data), max_arrays=arrays - 1)


@pytest.mark.parametrize("length", [1 << 14, (1 << 14) + 1, 1 << 16])
def test_one_array_is_one_array_at_any_length(length):
    """Small inputs are looked through afterwards, large ones are counted while they are decoded."""
    filler = bytes(length - 4)
    data = pack([filler])
    assert len(data) in (length, length + 2)
    assert unpack(data, len(data)) == [filler]
    for nested in ([filler, []], [[], filler], [[filler]]):
        data = pack(nested)
        with pytest.raises(Malformed):
            unpack(data, len(data))


def test_an_array_of_exactly_so_many_items_is_allowed():
    data = pack([1, 2, 3])
    assert unpack(data, 10, max_items=3) == unpack_authentic(data, max_items=3) == [1, 2, 3]
    for decode in (lambda: unpack(data, 10, max_items=2), lambda: unpack_authentic(data, max_items=2)):
        with pytest.raises(Malformed):
            decode()


def test_a_float_is_decoded_and_passes_no_expect():
    with pytest.raises(Malformed):
        expect(unpack(pack([1.5]), 20), int)
    assert expect([], *()) == []


@pytest.mark.parametrize(
    "data", [b"\x80", b"\x81\x01\x01", b"\xd4\x01\x00", b"\xa1\xff", b"\xc1", b"\x91" * 2000 + b"\x01"]
)
def test_what_the_format_does_not_have_is_refused_even_if_authentic(data):
    with pytest.raises(Malformed):
        unpack_authentic(data)


def test_a_packer_that_has_grown_is_let_go():
    pack(b"small")
    packer = codec._local.packer
    exactly = bytes((1 << 20) - 5)
    assert len(pack(exactly)) == 1 << 20
    assert codec._local.packer is packer
    assert unpack(pack(exactly + b"1"), 1 << 21) == exactly + b"1"
    assert codec._local.packer is not packer
    assert pack([b"after"]) == b"\x91\xc4\x05after"


@pytest.mark.parametrize(
    ("value", "types"),
    [([1], (str,)), ([b""], (str,)), ([None], (bytes,)), ([1, 2], (int,)), ([], (int,)), ([1, ""], (object, int))],
)
def test_expect_refuses_any_other_shape(value, types):
    with pytest.raises(Malformed):
        expect(value, *types)


def test_expect_gives_back_the_very_list():
    value = [1, b"", None]
    assert expect(value, int, bytes, object) is value
    assert expect(value, int, bytes, type(None)) is value


def test_each_thread_packs_with_a_packer_of_its_own():
    seen = []
    thread = threading.Thread(target=lambda: seen.extend((pack([1]), codec._local.packer)))
    thread.start()
    thread.join()
    assert seen[0] == b"\x91\x01"
    assert seen[1] is not codec._local.packer
