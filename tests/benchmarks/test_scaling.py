"""The plan of docs/scaling.md: made from the unit costs in the repository, and no other numbers in its tables."""

from __future__ import annotations

import pytest

from benchmarks import scaling
from benchmarks.scaling import DEMANDS, DOCUMENT, Demand, Store, filled, read_costs, simulate, spread, stores_needed

COSTS = read_costs()


def test_the_document_shows_what_the_simulation_makes_of_the_costs() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert filled(text, COSTS) == text, "make the tables anew: python -m benchmarks.scaling"
    with pytest.raises(KeyError):
        filled("nothing to fill", COSTS)


def test_a_store_without_load_takes_the_sum_of_its_steps() -> None:
    store = Store(host_mail=0.001, enclave_commit=0.002, enclave_mail=0.003, append=0.01)
    found = simulate(store, rate=0.01, mails=50)
    assert found.mails_per_commit == 1
    assert found.p50_ms == pytest.approx(16) and found.p99_ms == pytest.approx(16)


def test_mails_share_commits_as_the_load_grows_and_a_slow_engine_costs_latency_only() -> None:
    fast, slow = Store.of(COSTS, 1.0), Store.of(COSTS, 50.0)
    assert fast.capacity == slow.capacity
    rate = 0.9 * fast.capacity
    quick, late = simulate(fast, rate, 5_000), simulate(slow, rate, 5_000)
    assert late.p50_ms > 5 * quick.p50_ms and late.mails_per_commit > 5 * quick.mails_per_commit
    assert simulate(fast, rate / 9, 5_000).mails_per_commit < quick.mails_per_commit
    assert simulate(fast, 2 * fast.capacity, 5_000).p99_ms > 10 * quick.p99_ms, "beyond its capacity a queue grows"


def test_each_bound_asks_for_stores_by_what_it_is_about() -> None:
    few = stores_needed(COSTS, Demand(10**6, 10, 10.0))
    assert few == {"memory": 1, "rate": 1, "restart": 1}
    twice = {bound: stores_needed(COSTS, Demand(2 * 10**9, 1000, 10.0))[bound] for bound in few}
    once = {bound: stores_needed(COSTS, Demand(10**9, 1000, 10.0))[bound] for bound in few}
    for bound in ("memory", "restart"):
        assert 2 * once[bound] - 1 <= twice[bound] <= 2 * once[bound]
    assert stores_needed(COSTS, Demand(10**6, 10, 10**5))["rate"] > 10
    assert list(stores_needed(COSTS, DEMANDS["each client speaks to every store"])) == list(few)


def test_partitions_spread_as_shard_maps_spread_them() -> None:
    largest, moved = spread(4, 1024)
    assert 1 <= largest < 1.2 and moved == pytest.approx(1 / 5, abs=0.04)


def test_the_tables_can_be_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_SIMULATED_MAILS", 200)
    monkeypatch.setattr(scaling, "PARTITIONS", 64)
    scaling.main(["--print"])
    assert "stores, each a host" in capsys.readouterr().out
