"""The formal model in ``model/``: it holds, its mutants do not, and what the code does is what it allows.

These are short runs; ``make model`` has larger bounds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from formal.recording import Event, Trace, record
from formal.runs import MUTANTS, SHORT, traced
from formal.tlc import HOLDS, Result, Run, check, java
from fuzz.test_machine import broken_epochs, broken_evidence

TRACES = 20
MOVES = 40


@pytest.fixture(scope="module")
def checked() -> Iterator[dict[str, Future[Result]]]:
    """Every short run, two at a time: most of a run is the start of Java."""
    java()
    with ThreadPoolExecutor(max(1, min(2, os.cpu_count() or 1))) as pool:
        runs: dict[str, Future[Result]] = {}
        for run in (*SHORT, *MUTANTS):
            runs[run.name] = pool.submit(check, run, heap="512m", short=True)
        yield runs
        for future in runs.values():
            future.cancel()


@pytest.fixture(scope="module")
def traces() -> list[Trace]:
    first = int.from_bytes(os.urandom(3), "big")
    print(f"seeds {first}..{first + TRACES - 1}")
    return [record(seed, MOVES).events for seed in range(first, first + TRACES)]


def replay(name: str, traces: list[Trace]) -> Result:
    return check(traced(name, traces), heap="1g", short=True)


@pytest.mark.parametrize("run", SHORT, ids=lambda run: run.name)
def test_the_model_holds(run: Run, checked: dict[str, Future[Result]]) -> None:
    result = checked[run.name].result()
    assert result.verdict == HOLDS, result.output
    assert result.distinct > 200


@pytest.mark.parametrize("run", MUTANTS, ids=lambda run: run.name)
def test_a_mutant_is_found(run: Run, checked: dict[str, Future[Result]]) -> None:
    result = checked[run.name].result()
    assert result.verdict == run.expected, result.output


def test_the_model_allows_what_the_code_does(traces: list[Trace]) -> None:
    result = replay("the code", traces)
    assert result.verdict == HOLDS, result.output
    assert result.distinct >= sum(len(trace) for trace in traces)
    rulings = {event.ruling for trace in traces for event in trace if event.do == "handle"}
    assert {"welcome", "execute", "fence", "redeliver", "unknown session"} <= rulings, rulings


def corrupted(traces: list[Trace], was: str, **changes: Any) -> list[Trace]:
    """The first trace in which there was such a ruling, up to there, with the ruling changed."""
    for trace in traces:
        for at, event in enumerate(trace):
            if event.ruling == was:
                return [[*trace[:at], replace(event, **changes)]]
    pytest.fail(f"no {was} in these traces")


def nodes_of(trace: list[Event]) -> int:
    return 1 + sum(event.x > 0 and event.do in ("handle", "call") for event in trace)


def test_a_trace_that_executes_what_had_to_be_refused_is_rejected(traces: list[Trace]) -> None:
    (trace,) = corrupted(traces, "unknown session", ruling="execute")
    executed = replace(trace[-1], x=nodes_of(trace[:-1]) + 1)
    assert replay("executed", [[*trace[:-1], executed]]).verdict == "deadlock"


def test_a_trace_that_fences_what_was_executed_is_rejected(traces: list[Trace]) -> None:
    assert replay("fenced", corrupted(traces, "execute", ruling="fence")).verdict == "deadlock"


def test_a_client_that_takes_other_evidence_is_rejected(traces: list[Trace]) -> None:
    trace = next(trace for trace in traces if any(event.do == "settle" for event in trace))
    at = next(at for at, event in enumerate(trace) if event.do == "settle")
    event = trace[at]
    other = replace(event, evidence=event.evidence - 1)
    assert replay("other evidence", [[*trace[:at], other]]).verdict == "deadlock"


@pytest.mark.parametrize("break_it", [broken_evidence, broken_epochs])
def test_traces_of_broken_code_are_rejected(monkeypatch: pytest.MonkeyPatch, break_it: Any) -> None:
    break_it(monkeypatch)
    broken = [record(seed, MOVES, tolerate=True).events for seed in range(1, 24, 2)]
    assert replay(break_it.__name__, broken).verdict not in (HOLDS, "error")
