"""Stability: the stable size is what a quorum holds evidence of, computed by the definition on the side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pmap.stability import Roster, Stability
from wire.errors import InvalidInput

NAMES = [bytes([i]) * 32 for i in range(6)]


def by_definition(acked: dict[bytes, int], weights: dict[bytes, int], quorum: int) -> int:
    """The largest size that voters of the quorum's weight hold; 0 if there is none."""
    sizes = sorted({0, *acked.values()}, reverse=True)
    return next(s for s in sizes if s == 0 or sum(w for v, w in weights.items() if acked.get(v, 0) >= s) >= quorum)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.data(),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=60),
)
def test_stable_is_what_a_quorum_of_the_named_voters_holds(weights, data, acks):
    voters = dict(zip(NAMES, weights, strict=False))
    quorum = data.draw(st.none() | st.integers(1, sum(weights)))
    stability = Stability(Roster({name.hex(): weight for name, weight in voters.items()}, quorum))
    needed = sum(weights) // 2 + 1 if quorum is None else quorum
    acked: dict[bytes, int] = {}
    for who, size in acks:
        stability.acknowledge(NAMES[who], size)
        if NAMES[who] in voters:
            acked[NAMES[who]] = max(size, acked.get(NAMES[who], 0))
        assert stability.size == by_definition(acked, voters, needed)


def test_without_named_voters_every_client_counts_and_a_newcomer_never_takes_stability_back():
    stability = Stability(Roster())
    for name in NAMES[:3]:
        stability.enrol(name)
    stability.acknowledge(NAMES[0], 7)
    assert stability.size == 0
    stability.acknowledge(NAMES[1], 5)
    assert stability.size == 5
    for name in NAMES[3:]:
        stability.enrol(name)
    assert stability.size == 5
    stability.acknowledge(NAMES[1], 9)
    assert stability.size == 5
    for name in NAMES[3:5]:
        stability.acknowledge(name, 6)
    assert stability.size == 6


def test_strangers_do_not_inflate_a_named_quorum():
    stability = Stability(Roster({NAMES[0].hex(): 1, NAMES[1].hex(): 1}))
    for name in NAMES[2:]:
        stability.enrol(name)
        stability.acknowledge(name, 99)
    stability.acknowledge(NAMES[0], 98)
    assert stability.size == 0


def test_idle_voters_do_not_freeze_it_as_long_as_a_quorum_moves():
    stability = Stability(Roster({name.hex(): 1 for name in NAMES[:3]}, 2))
    for size in range(1, 50):
        stability.acknowledge(NAMES[0], size)
        stability.acknowledge(NAMES[2], size)
        assert stability.size == size


@pytest.mark.parametrize(
    ("voters", "quorum"),
    [
        ({"short": 1}, None),
        ({"A" * 64: 1}, None),
        ({"a" * 64: 0}, None),
        ({"a" * 64: True}, None),
        ({"a" * 64: 2}, 3),
        ({"a" * 64: 2}, 0),
        ({}, 1),
    ],
)
def test_a_roster_that_makes_no_sense_is_refused(voters, quorum):
    with pytest.raises(InvalidInput):
        Roster(voters, quorum)


def test_the_rosters_digest_changes_with_every_part_of_it():
    a, b = NAMES[0].hex(), NAMES[1].hex()
    rosters = [Roster(), Roster({a: 1}), Roster({a: 2}), Roster({b: 1}), Roster({a: 2}, 1), Roster({a: 1, b: 1})]
    assert len({roster.digest() for roster in rosters}) == len(rosters)
    assert Roster({a: 1, b: 2}).digest() == Roster({b: 2, a: 1}).digest()
