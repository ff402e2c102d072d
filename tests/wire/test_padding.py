"""Padding: the lengths that the policies choose, and the one form of a padded message that is read."""

from __future__ import annotations

import pytest

from wire.errors import InvalidInput, Malformed
from wire.padding import MAX_PADDED_BYTES, at_least, no_padding, pad, padme, power_of_two, unpad


@pytest.mark.parametrize(
    ("length", "padded"),
    [
        # Everything short looks alike.
        (0, 256),
        (255, 256),
        (256, 256),
        # L has the exponent E = floor(log2 L), which S = floor(log2 E) + 1 bits write: the last E - S bits of a padded
        # length are zero.
        (257, 272),
        (272, 272),
        (273, 288),
        (511, 512),
        (512, 512),
        (513, 544),
        (1023, 1024),
        (1025, 1088),
        (65_535, 65_536),
        (65_536, 65_536),
        (65_537, 67_584),
        (1_000_000, 1_015_808),
    ],
)
def test_padme_leaves_the_leading_bits_and_rounds_the_others_up(length: int, padded: int) -> None:
    assert padme(length) == padded


def test_padme_never_shortens_and_adds_at_most_an_eighth() -> None:
    for length in range(256, 20_000):
        assert length <= padme(length) <= length * 9 / 8


@pytest.mark.parametrize(
    ("length", "padded"),
    [(0, 256), (1, 256), (256, 256), (257, 512), (512, 512), (513, 1024), (4097, 8192), (8192, 8192)],
)
def test_the_next_power_of_two_is_as_long_as_the_message_or_longer(length: int, padded: int) -> None:
    assert power_of_two(length) == padded


def test_a_floor_makes_everything_below_it_alike_and_leaves_padme_above_it() -> None:
    policy = at_least(1000)
    assert [policy(length) for length in (0, 1, 900, 1000)] == [1000, 1000, 1000, 1024]
    assert policy(1025) == padme(1025) == 1088
    assert at_least(0)(3) == padme(3) == 256
    with pytest.raises(InvalidInput):
        at_least(-1)


def test_a_padded_message_is_its_length_itself_and_zeros() -> None:
    assert pad(b"message") == b"\x00\x00\x00\x07message" + bytes(256 - 11)
    assert pad(b"message", no_padding) == b"\x00\x00\x00\x07message"
    assert pad(b"m" * 300) == b"\x00\x00\x01\x2c" + b"m" * 300 + bytes(padme(304) - 304)
    assert pad(b"m" * 300, power_of_two) == b"\x00\x00\x01\x2c" + b"m" * 300 + bytes(512 - 304)


def test_the_policy_is_asked_for_the_message_with_its_length() -> None:
    assert len(pad(b"m" * 252)) == 256
    assert len(pad(b"m" * 253)) == padme(257) == 272


def test_no_policy_pads_beyond_what_an_envelope_holds() -> None:
    assert len(pad(b"m", lambda length: MAX_PADDED_BYTES + 1)) == MAX_PADDED_BYTES
    assert len(pad(b"m", lambda length: MAX_PADDED_BYTES)) == MAX_PADDED_BYTES


@pytest.mark.parametrize("message", [b"", b"m", bytes(5), b"\x00m\x00", b"m" * 252, b"m" * 253, bytes(1000)])
def test_what_was_padded_is_read_back_whatever_the_policy(message: bytes) -> None:
    for policy in (padme, power_of_two, no_padding, at_least(2000)):
        assert unpad(pad(message, policy)) == message


@pytest.mark.parametrize(
    "padded",
    [
        b"\x00\x00\x00\x01",
        b"\x00\x00\x00\x08message",
        b"\xff\xff\xff\xffmessage",
        b"\x00\x00\x00\x07message\x01",
        b"\x00\x00\x00\x07message" + bytes(20) + b"\x01",
        b"\x00\x00\x00\x00\x01",
        b"\x00\x00\x00",
        b"",
    ],
)
def test_a_wrong_length_or_padding_is_malformed(padded: bytes) -> None:
    with pytest.raises(Malformed):
        unpad(padded)
