"""What the host sees of storage does not depend on which keys are used, or whether handlers read, write or raise."""

from __future__ import annotations

import os
import random

import pytest

from pmap.entries import MAP
from pmap.keyring import Keyring
from pmap.log import CommitLog

ENTRIES = 400
KEY_BYTES, VALUE_BYTES = 16, 100
COMMITS = 600


def trace(workload: str, seed: int = 1) -> list[tuple[str, int, int, int]]:
    """(call, record number, length, tail) of every store call, after a load of equal sizes."""
    rng = random.Random(seed)
    log = CommitLog(Keyring.generate(os.urandom), os.urandom)
    names = sorted(rng.randbytes(KEY_BYTES) for _ in range(ENTRIES))
    seen = []

    def commit() -> None:
        made = log.commit()
        seen.append(("append", made.n, len(made.record), made.tail))

    with log.entries.transaction():
        for name in names:
            log.entries.put(MAP + name, bytes(VALUE_BYTES))
    commit()
    for i in range(COMMITS):
        try:
            with log.entries.transaction():
                if workload == "hot":
                    log.entries.put(MAP + names[7], rng.randbytes(VALUE_BYTES))
                elif workload == "uniform":
                    log.entries.put(MAP + rng.choice(names), rng.randbytes(VALUE_BYTES))
                elif workload == "sequential":
                    log.entries.put(MAP + names[i % ENTRIES], rng.randbytes(VALUE_BYTES))
                elif workload == "several":
                    for name in rng.sample(names, rng.randrange(1, 8)):
                        log.entries.put(MAP + name, rng.randbytes(VALUE_BYTES))
                elif workload == "raising":
                    log.entries.put(MAP + names[7], rng.randbytes(VALUE_BYTES))
                    raise ZeroDivisionError
                else:
                    assert workload == "reading"
        except ZeroDivisionError:
            pass
        commit()
    return seen


@pytest.fixture(scope="module")
def uniform() -> list[tuple[str, int, int, int]]:
    return trace("uniform")


@pytest.mark.parametrize("workload", ["hot", "sequential", "several", "reading", "raising"])
def test_the_hosts_trace_is_the_same_as_that_of_uniform_writes(workload, uniform):
    assert trace(workload, seed=2) == uniform


def test_the_trace_moves_at_all(uniform):
    tails = [tail for _, _, _, tail in uniform]
    assert tails[-1] > COMMITS // 2
    assert {length for _, _, length, _ in uniform[1:]} == {4080}


def test_records_of_the_same_content_have_nothing_in_common():
    log = CommitLog(Keyring.generate(os.urandom), os.urandom)
    first, second = log.commit().record, log.commit().record
    # Beyond the header (store id, epoch), no eight bytes stand in both.
    pieces = {first[i : i + 8] for i in range(100, len(first) - 8)}
    assert not any(second[i : i + 8] in pieces for i in range(100, len(second) - 8))
