"""The workloads have the shapes that they are named after. Everything here follows from seeds."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.workload import ENTRY_BYTES, YCSB, ZIPFIAN_CONSTANT, Mix, Zipfian, names, values


def test_entries_are_116_bytes_of_different_keys_and_random_values() -> None:
    keys, value = names(1_000), values()
    assert len(set(keys)) == 1_000
    assert {len(key.encode()) + len(value()) for key in keys} == {ENTRY_BYTES} == {116}
    assert names(1_000) == keys
    assert len({value() for _ in range(100)}) > 50


def test_zipfian_ranks_come_as_often_as_their_law_says() -> None:
    count, draws = 1_000, 50_000
    source = Zipfian(count)
    seen = Counter(source.draw() for _ in range(draws))
    weights = [1 / (rank + 1) ** ZIPFIAN_CONSTANT for rank in range(count)]
    for rank in (0, 1, 10):
        assert seen[rank] == pytest.approx(draws * weights[rank] / sum(weights), rel=0.35)
    assert set(seen) <= set(range(count))
    tail = sum(times for rank, times in seen.items() if rank >= 100)
    assert tail == pytest.approx(draws * sum(weights[100:]) / sum(weights), rel=0.1)


@pytest.mark.parametrize("mix", YCSB, ids=lambda mix: mix.name)
def test_a_mix_has_its_parts_and_only_known_keys(mix: Mix) -> None:
    keys = names(500)
    steps = mix.steps(keys, 4_000)
    seen = Counter(step.what for step in steps)
    assert set(seen) == set(mix.parts)
    for what, part in mix.parts.items():
        assert seen[what] / len(steps) == pytest.approx(part, abs=0.03)
    known = set(keys)
    for step in steps:
        assert (step.key in known) is (step.what != "insert")
        assert (1 <= step.length <= 100) is (step.what == "scan")
        known.add(step.key)


def test_reading_the_latest_favours_what_was_just_inserted() -> None:
    (latest,) = [mix for mix in YCSB if mix.latest]
    keys = names(500)
    steps = latest.steps(keys, 4_000)
    reads = [step.key for step in steps if step.what == "read"]
    assert sum(key not in set(keys) for key in reads) > len(reads) / 2


def test_another_seed_gives_other_keys_to_insert() -> None:
    (inserting,) = [mix for mix in YCSB if mix.name == "E"]
    first, second = (
        {step.key for step in inserting.steps(names(50), 500, seed=seed) if step.what == "insert"} for seed in (1, 2)
    )
    assert first and second and not first & second
