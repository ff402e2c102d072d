"""Figures are computed as they say: by hand on small cases."""

from __future__ import annotations

import time

import pytest

from benchmarks.catalogue import PROMISES
from benchmarks.measure import Figure, cpu, figure, interleave, percentile, quartiles, quotients, rate
from benchmarks.suite import GROUPS

ISSUE = {
    "flat_cost": (1.5, False),
    "commit_vs_lmdb": (1.2, False),
    "commit50_vs_lmdb": (0.8, False),
    "batch1000_vs_sqlcipher": (1.5, True),
    "batch1000_vs_lmdb_aesgcm": (3.0, True),
    "get_vs_lmdb": (1.5, True),
    "scan_vs_lmdb": (1.0, True),
    "whole_map_speedup": (30.0, True),
    "freshness_cost": (0.97, True),
    "http_vs_echo": (0.5, True),
    "restart_mib_s": (150.0, True),
    "memory_per_live_byte": (3.0, False),
    "space_amplification": (2.5, False),
    "mail_bytes_to_store": (8192.0, False),
    "engine_postgresql": (0.8, True),
    "engine_etcd": (0.8, True),
    "engine_s3": (0.8, True),
    "shard_batch_speedup": (1.6, True),
    "shard_mail_speedup": (1.6, True),
}
"""Name -> bound, and whether the figure is to be at least that."""


def test_the_promised_figures_and_bounds_are_these() -> None:
    assert {name: (promise.bound, promise.at_least) for name, promise in PROMISES.items()} == ISSUE


def test_every_figure_is_made_by_exactly_one_group() -> None:
    made = [name for group in GROUPS for name in group.names]
    assert sorted(made) == sorted(PROMISES)


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [
        ("flat_cost", 1.5, True),
        ("flat_cost", 1.501, False),
        ("get_vs_lmdb", 1.5, True),
        ("get_vs_lmdb", 1.499, False),
    ],
)
def test_a_bound_is_kept_up_to_and_with_its_own_value(name: str, value: float, holds: bool) -> None:
    assert Figure(name, value, value, value).holds is holds


def test_a_figure_is_the_median_of_its_rounds_between_their_quartiles() -> None:
    made = figure("get_vs_lmdb", [9.0, 1.0, 3.0, 2.0, 4.0], {"seen": 1})
    assert (made.low, made.value, made.high) == (2.0, 3.0, 4.0)
    assert made.as_json() == {
        "value": 3.0,
        "bound": 1.5,
        "holds": True,
        "spread": [2.0, 4.0],
        "details": {"seen": 1},
    }
    assert "holds" in made.line()
    assert made.line().startswith("get_vs_lmdb ")


def test_one_round_is_its_own_spread() -> None:
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_ratios_are_taken_within_each_round() -> None:
    assert quotients([10.0, 30.0], [2.0, 3.0]) == [5.0, 10.0]
    with pytest.raises(ValueError):
        quotients([1.0], [1.0, 2.0])


def test_percentiles_are_those_of_nearest_rank() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile(hundred, part) for part in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([5.0], 0.99) == 5.0


def test_contenders_take_turns_and_the_order_turns_around() -> None:
    asked: list[str] = []

    def contender(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    found = interleave({"a": lambda: contender("a"), "b": lambda: contender("b")}, 3)
    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": [1.0, 4.0, 5.0], "b": [2.0, 3.0, 6.0]}


def test_a_rate_counts_waiting_and_a_cost_in_cpu_does_not() -> None:
    def wait() -> int:
        time.sleep(0.05)
        return 10

    assert rate(wait) <= 10 / 0.05
    assert cpu(wait) < 0.05 / 10
