"""Every contender does the same work: after the same calls, all of them hold and give the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.peers import CONTENDERS, FULL, OURS, Contender, available, make
from benchmarks.workload import YCSB, Mix, names, values
from benchmarks.ycsb import carry_out

KEYS = names(300)


@pytest.fixture(params=list(CONTENDERS))
def contender(request: pytest.FixtureRequest, tmp_path: Path) -> Contender:
    if request.param not in available():
        pytest.skip(f"the library of {request.param} is not installed")
    made = make(request.param, tmp_path / "store")
    request.addfinalizer(made.close)
    return made


def found_in(contender: Contender) -> list[tuple[str, bytes]]:
    return [(key if isinstance(key, str) else bytes(key).decode(), bytes(value)) for key, value in contender.pairs()]


def test_what_is_put_is_read_back_in_order(contender: Contender) -> None:
    value = values()
    expected = {key: value() for key in KEYS}
    contender.put_all([(contender.key(key), expected[key]) for key in KEYS])
    for key in KEYS[:20]:
        expected[key] = value()
        contender.put(contender.key(key), expected[key])
    get = contender.reader()
    assert [get(contender.key(key)) for key in KEYS] == [expected[key] for key in KEYS]
    assert get(contender.key("not there")) is None
    assert found_in(contender) == sorted(expected.items())
    # A write after a read, which then sees it.
    contender.put(contender.key(KEYS[0]), b"later")
    assert contender.reader()(contender.key(KEYS[0])) == b"later"


def test_a_scan_reads_as_many_as_there_are_up_to_its_length(contender: Contender) -> None:
    contender.put_all([(contender.key(key), b"value") for key in KEYS])
    ordered = sorted(KEYS)
    assert contender.scan(contender.key(ordered[10]), 7) == 7
    assert contender.scan(contender.key(ordered[-3]), 100) == 3


@pytest.mark.parametrize("mix", YCSB, ids=lambda mix: mix.name)
def test_a_ycsb_workload_leaves_what_its_steps_say(contender: Contender, mix: Mix) -> None:
    contender.put_all([(contender.key(key), b"first") for key in KEYS])
    steps = mix.steps(KEYS, 40)
    operations = [(step.what, contender.key(step.key), step.length) for step in steps]
    assert carry_out(contender, operations, lambda: b"next") == 40
    written = {step.key for step in steps if step.what in ("update", "insert", "modify")}
    assert dict(found_in(contender)) == {key: b"next" if key in written else b"first" for key in {*KEYS, *written}}


def test_whole_map_sealing_is_ours_with_another_sweep(tmp_path: Path) -> None:
    kept = {}
    for name in (OURS, FULL):
        store = make(name, tmp_path / str(len(kept)))
        store.put_all([(store.key(key), random.Random(key).randbytes(100)) for key in KEYS])
        for key in KEYS[:3]:
            store.put(store.key(key), b"again")
        head = store.map._durable._store.head()  # type: ignore[attr-defined]
        kept[name] = head.n - head.first + 1
        store.close()
    # A record that holds the whole map makes every earlier one useless.
    assert kept[FULL] == 1
    assert kept[OURS] > 1
