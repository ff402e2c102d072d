"""The keys in order: equal to a sorted list after any additions and removals, over several chunks, both ways."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest

from pmap.order import KeyOrder


def check(order: KeyOrder, expected: list[bytes], rng: random.Random) -> None:
    assert list(order) == expected
    assert len(order) == len(expected)
    present = set(expected)
    for key in (b"%06d" % rng.randrange(12_000) for _ in range(50)):
        assert (key in order) == (key in present)
    for _ in range(10):
        low, high = sorted(b"%06d" % rng.randrange(12_000) for _ in range(2))
        length = rng.choice([1, 16, 3_000, 100_000])
        inside = expected[bisect_left(expected, low) : bisect_left(expected, high)]
        above = expected[bisect_left(expected, low) :]
        assert order.run(low, high, length) == inside[:length]
        assert order.run(low, None, length) == above[:length]
        assert order.last_run(low, high, length) == inside[::-1][:length]
        assert order.last_run(low, None, length) == above[::-1][:length]
        assert [key for run in order.runs(low, high) for key in run] == inside
        assert [key for run in order.runs(low, high, reverse=True) for key in run] == inside[::-1]


@pytest.mark.parametrize("start", [0, 1, 1024, 5_000])
def test_it_equals_a_sorted_list_while_it_grows_and_shrinks(start):
    rng = random.Random(start)
    expected = sorted(rng.sample([b"%06d" % i for i in range(10_000)], start))
    order, present = KeyOrder(list(expected)), set(expected)
    check(order, expected, rng)
    for additions in (0.9, 0.5, 0.02, 0.9):
        for _ in range(6_000):
            key = b"%06d" % rng.randrange(10_000)
            if rng.random() < additions:
                if key not in present:
                    present.add(key)
                    order.add(key)
            elif key in present:
                present.remove(key)
                order.remove(key)
        expected = sorted(present)
        check(order, expected, rng)
    for key in rng.sample(expected, len(expected)):
        order.remove(key)
    check(order, [], rng)


def test_a_shrinking_order_does_not_keep_a_list_for_each_key():
    keys = [b"%06d" % i for i in range(100_000)]
    order = KeyOrder(keys)
    for key in keys:
        if int(key) % 500:
            order.remove(key)
    assert list(order) == keys[::500]
    assert len(order._chunks) < 20


def test_runs_go_on_by_key_where_keys_came_and_went():
    order = KeyOrder([b"%03d" % i for i in range(100)])
    runs = order.runs(b"", None)
    assert next(runs)[-1] == b"015"
    for key in (b"003", b"016", b"017"):
        order.remove(key)
    order.add(b"0155")
    assert next(runs)[:3] == [b"0155", b"018", b"019"]
