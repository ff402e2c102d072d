"""Padding: how much of a message's true length its ciphertext shows.

Padmé rounds a length up so that at most O(log log n) bits of it leak, at a cost of at most 12 %
(Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", PETS 2019, §4).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from wire.errors import InvalidInput, Malformed
from wire.limits import KIB, MAX_ENVELOPE_BYTES

SMALLEST_PADDED_BYTES: Final = 256
"""Everything shorter looks alike."""
LENGTH_BYTES: Final = 4
MAX_PADDED_BYTES: Final = MAX_ENVELOPE_BYTES - KIB
"""No policy pads beyond what an envelope holds."""

Padding = Callable[[int], int]
"""From a message's length in bytes to the length it is padded to, never less."""


def padme(length: int) -> int:
    """Padmé, with :data:`SMALLEST_PADDED_BYTES` as the floor."""
    if length <= SMALLEST_PADDED_BYTES:
        return SMALLEST_PADDED_BYTES
    exponent = length.bit_length() - 1
    loose_bits = exponent - exponent.bit_length()
    mask = (1 << loose_bits) - 1
    return (length + mask) & ~mask


def power_of_two(length: int) -> int:
    """Up to the next power of two: less leaks, up to twice the bytes."""
    return max(SMALLEST_PADDED_BYTES, 1 << (length - 1).bit_length())


def no_padding(length: int) -> int:
    """As it is: the length shows."""
    return length


def at_least(floor: int) -> Padding:
    """Everything up to ``floor`` bytes looks alike; above, Padmé. Raises :class:`InvalidInput`."""
    if floor < 0:
        raise InvalidInput(f"a padding floor is a number of bytes, not {floor}")
    return lambda length: max(floor, padme(length))


def pad(message: bytes, padding: Padding = padme) -> bytes:
    """``length(4) ‖ message ‖ zeros`` up to the padded length."""
    framed = len(message).to_bytes(LENGTH_BYTES, "big") + message
    return framed.ljust(min(padding(len(framed)), MAX_PADDED_BYTES), b"\x00")


def unpad(padded: bytes) -> bytes:
    """Undo :func:`pad`, whatever the policy was. Raises :class:`Malformed`."""
    length = int.from_bytes(padded[:LENGTH_BYTES], "big")
    end = LENGTH_BYTES + length
    if len(padded) < end or padded.count(0, end) != len(padded) - end:
        raise Malformed("a padded message whose length field or padding is wrong")
    return padded[LENGTH_BYTES:end]
