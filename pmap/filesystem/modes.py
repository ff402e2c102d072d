"""The modes of ``open``, as the built-in function has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Access:
    """What may be done with an open file, and what opening it does."""

    readable: bool
    writable: bool
    append: bool
    create: bool
    exclusive: bool
    truncate: bool
    text: bool
    raw_mode: str
    """The ``mode`` attribute of the raw file."""


def parse_mode(mode: str) -> Access:
    """Read a mode as the built-in ``open`` does. Raises :class:`ValueError` and :class:`TypeError`."""
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {type(mode).__name__}")
    letters = set(mode)
    if letters - set("rwaxbt+") or len(mode) > len(letters):
        raise ValueError(f"invalid mode: {mode!r}")
    if {"b", "t"} <= letters:
        raise ValueError("can't have text and binary mode at once")
    kinds = letters & set("rwax")
    if len(kinds) != 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    (kind,) = kinds
    plus = "+" in letters
    return Access(
        readable=plus or kind == "r",
        writable=plus or kind != "r",
        append=kind == "a",
        create=kind != "r",
        exclusive=kind == "x",
        truncate=kind == "w",
        text="b" not in letters,
        raw_mode=("rb+" if kind in "rw" else kind + "b+") if plus else kind + "b",
    )
