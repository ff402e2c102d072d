"""The simulated TEE's evidence: its one form."""

from __future__ import annotations

from typing import Any

import pytest

from wire.codec import pack
from wire.errors import Malformed
from wire.simulated import SimulatedEvidence

EVIDENCE = SimulatedEvidence(b"m" * 32, b"s" * 32, 1, 2, b"d" * 64)
FIELDS = ["SIMULATED: NOT PROTECTED BY ANY HARDWARE", b"m" * 32, b"s" * 32, 1, 2, b"d" * 64]


def test_it_says_that_it_protects_nothing_and_comes_back() -> None:
    assert EVIDENCE.encode() == pack(FIELDS)
    assert SimulatedEvidence.decode(EVIDENCE.encode()) == EVIDENCE


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, "PROTECTED"),
        (0, b"SIMULATED: NOT PROTECTED BY ANY HARDWARE"),
        (1, b"m" * 31),
        (1, "m" * 32),
        (2, b"s" * 48),
        (2, None),
        (3, b"1"),
        (3, True),
        (4, "2"),
        (4, False),
        (5, b"d" * 63),
        (5, "d" * 64),
    ],
)
def test_everything_else_is_malformed(at: int, value: Any) -> None:
    fields = list(FIELDS)
    fields[at] = value
    with pytest.raises(Malformed):
        SimulatedEvidence.decode(pack(fields))


def test_a_field_more_or_less_or_too_many_bytes_are_malformed() -> None:
    for fields in ([*FIELDS, 0], FIELDS[:-1], [], [*FIELDS[:5], bytes(1024)]):
        with pytest.raises(Malformed):
            SimulatedEvidence.decode(pack(fields))
