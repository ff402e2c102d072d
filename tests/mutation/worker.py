"""Makes the mutants of one group in a copy of the sources, and tests them: one pytest session, a fork for each mutant.

mutmut makes the mutants: all versions of a function stand side by side in the changed module, and which one runs is
chosen by name. Its own runner starts pytest anew for each mutant, 0.2 s of work for tests that take milliseconds; here
the tests are collected once, and each mutant's process runs those that reach the changed function, fastest first.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.format_utils import get_mutant_name, mangled_name_from_mutant_name

KILLED, SURVIVED, UNREACHED = "killed", "survived", "unreached"
CPU_SECONDS_FACTOR = 10
CPU_SECONDS_MORE = 1
"""A test that works so much longer than with the original does not end: killed."""
SECONDS_FACTOR = 20
SECONDS_MORE = 20
"""Nor does one that takes so much longer by the clock: threads that wait for each other."""


def make_mutants(modules: Sequence[str]) -> list[str]:
    """Replace each module below the current folder by one with all its mutants; returns their names."""
    names = []
    for module in modules:
        path = Path(module)
        mutated = mutate_file_contents(module, path.read_text())
        path.write_text(mutated.code)
        names += [get_mutant_name(path, name) for name in mutated.mutant_names]
    return names


class ForkForEachMutant:
    """A pytest plugin in the place of the loop that runs the tests."""

    def __init__(self, mutants: Sequence[str]) -> None:
        self.mutants = mutants
        self.results: dict[str, str] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """First the originals, which must pass, to see which tests reach which function; then each mutant."""
        reached, durations = self._run_originals(session)
        assert not session.testsfailed, "the tests fail without any mutant"
        gc.collect()
        gc.freeze()  # so that a collection in a child does not touch, and so copy, all that was there before
        anything = next(iter(reached.values()))
        assert not self._survives("fail", anything, session, durations), "the tests do not run the mutated modules"
        for at, mutant in enumerate(self.mutants):
            items = sorted(reached.get(mangled_name_from_mutant_name(mutant), []), key=durations.__getitem__)
            if not items:
                self.results[mutant] = UNREACHED
                continue
            self.results[mutant] = SURVIVED if self._survives(mutant, items, session, durations) else KILLED
            if at % 20 == 0 or at + 1 == len(self.mutants):
                left = sum(result != KILLED for result in self.results.values())
                print(f"\r{at + 1} of {len(self.mutants)} mutants, {left} not killed", end="", file=sys.__stderr__)
        print(file=sys.__stderr__)
        return True

    def _run_originals(self, session: pytest.Session) -> tuple[dict[str, list[pytest.Item]], dict[pytest.Item, float]]:
        reached: dict[str, list[pytest.Item]] = {}
        durations = {}
        set_mutant_under_test("stats")
        for item, following in _with_next(session.items):
            state()._stats.clear()
            started = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            durations[item] = time.process_time() - started
            for function in state()._stats:
                reached.setdefault(function, []).append(item)
        set_mutant_under_test("")
        return reached, durations

    def _survives(
        self, mutant: str, items: list[pytest.Item], session: pytest.Session, durations: dict[pytest.Item, float]
    ) -> bool:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            status = 3  # whatever breaks the session itself was noticed too
            try:
                set_mutant_under_test(mutant)
                for item, following in _with_next(items):
                    # Processor time: whatever else the machine does. Nobody handles the signal, so it ends the child.
                    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS_MORE + CPU_SECONDS_FACTOR * durations[item])
                    faulthandler.dump_traceback_later(SECONDS_MORE + SECONDS_FACTOR * durations[item], exit=True)
                    item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                    if session.testsfailed:
                        break
                status = 1 if session.testsfailed else 0
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        return status == 0


def _with_next(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    return zip(items, [*items[1:], None], strict=True)


def main(task: dict[str, list[str]]) -> int:
    """Carry out a task (modules, pytest's arguments) in the current folder; the results go to results.json."""
    plugin = ForkForEachMutant(make_mutants(task["modules"]))
    code = pytest.main(["-q", "-s", "--tb=no", "-p", "no:cacheprovider", *task["arguments"]], plugins=[plugin])
    Path("results.json").write_text(json.dumps(plugin.results))
    return int(code)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
