"""The demo's data: every character that has a name in Unicode, from Python's own ``unicodedata``."""

from __future__ import annotations

import sys
import unicodedata


def character_names(limit: int | None = None) -> dict[str, bytes]:
    """Name -> the character in UTF-8, in the order of code points; at most ``limit`` of them."""
    names: dict[str, bytes] = {}
    for code_point in range(sys.maxunicode + 1):
        if len(names) == limit:
            break
        character = chr(code_point)
        name = unicodedata.name(character, "")
        if name:
            names[name] = character.encode()
    return names
