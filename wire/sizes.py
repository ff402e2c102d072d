"""Sizes in settings, in Conclave's syntax: ``"0"``, ``"4096"``, ``"64k"``, ``"16m"``, ``"2g"``.

A suffix counts in powers of 1024 and may be upper case. Everything else is refused: signs, spaces, fractions,
leading zeros, digits and letters from outside ASCII. A setting that is read loosely is a limit that nobody meant.
"""

from __future__ import annotations

import re
from typing import Final

from wire.errors import InvalidInput
from wire.limits import MAX_CONFIGURED_SIZE_BYTES

_UNITS: Final = (("g", 1024**3), ("m", 1024**2), ("k", 1024), ("", 1))
_FACTORS: Final = dict(_UNITS)
# Explicit classes: `\d` takes the digits of every script, and IGNORECASE lets the Kelvin sign pass for a k.
_SYNTAX: Final = re.compile(r"(0|[1-9][0-9]{0,14})([kmgKMG]?)")
_SHOWN_CHARACTERS: Final = 40
_SHOWN_BITS: Final = 128


def parse_size(text: str | int) -> int:
    """The number of bytes that a setting asks for; an ``int`` is a number of bytes already.

    Raises:
        InvalidInput: not of this syntax, or over ``MAX_CONFIGURED_SIZE_BYTES``.
    """
    if isinstance(text, str):
        match = _SYNTAX.fullmatch(text)
        size = int(match[1]) * _FACTORS[match[2].lower()] if match else -1
    elif isinstance(text, int) and not isinstance(text, bool):
        size = int(text)
    else:
        size = -1
    if not 0 <= size <= MAX_CONFIGURED_SIZE_BYTES:
        raise InvalidInput(
            f"not a size: {_shown(text)}; a size is a whole number of bytes from 0 to {MAX_CONFIGURED_SIZE_BYTES}, "
            'also in units of 1024 with one of the suffixes k, m and g, such as "16m"'
        )
    return size


def format_size(n: int) -> str:
    """The shortest text that :func:`parse_size` reads as exactly ``n`` bytes. Raises :class:`InvalidInput`."""
    size = parse_size(n)
    # The largest unit that divides a size is the shortest way to write it: each one saves three digits or more.
    suffix, factor = next((suffix, factor) for suffix, factor in _UNITS if size % factor == 0)
    return f"{size // factor}{suffix}" if size else "0"


def _shown(value: object) -> str:
    """A refused value, for an error message: shortened, and never an integer too long to be printed at all."""
    if isinstance(value, str):
        return repr(value) if len(value) <= _SHOWN_CHARACTERS else repr(value[:_SHOWN_CHARACTERS]) + "..."
    if isinstance(value, int) and value.bit_length() <= _SHOWN_BITS:
        return repr(value)
    return f"a value of type {type(value).__name__}"
