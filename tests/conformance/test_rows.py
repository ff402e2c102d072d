"""The list of scenarios, the tests and the page belong together."""

from __future__ import annotations

from pathlib import Path

from conformance.rows import HERE, PAGE, ROOT, SECTIONS, page
from named_tests import names_of_tests

NAMED = {test for scenarios in SECTIONS.values() for one in scenarios for test in one.tests}


def test_every_named_test_exists() -> None:
    for named in sorted(NAMED):
        path, _, name = named.partition("::")
        assert name in names_of_tests(ROOT / path), named


def test_every_scenario_has_a_test_and_every_test_here_a_scenario() -> None:
    assert all(one.tests for scenarios in SECTIONS.values() for one in scenarios)
    here = {
        f"{HERE}/{path.name}::{name}"
        for path in sorted((ROOT / HERE).glob("test_*.py"))
        if path != Path(__file__)
        for name in names_of_tests(path)
    }
    assert here <= NAMED


def test_the_page_is_what_the_scenarios_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: PYTHONPATH=tests python -m conformance.rows"
