"""Which modules are mutated together, and which tests have to notice."""

from __future__ import annotations

from typing import Final, NamedTuple


class Group(NamedTuple):
    """Modules, the tests that concern them, and further arguments for pytest."""

    modules: list[str]
    tests: list[str]
    options: tuple[str, ...] = ()


GROUPS: Final = {
    "freshness": Group(["pmap/freshness.py"], ["tests/pmap/test_freshness.py"]),
}
