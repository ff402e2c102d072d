"""The list of rows, the tests and the page belong together."""

from __future__ import annotations

from attacks.report import PAGE, page
from attacks.rows import ROWS, SECTIONS, find_tests

NUMBERS = [str(number) for number in range(1, 98)]
NUMBERS.insert(NUMBERS.index("18"), "17b")


def test_every_row_stands_in_the_list_once_and_in_order() -> None:
    assert [row.number for section in SECTIONS for row in section.rows] == NUMBERS
    assert len(ROWS) == len(NUMBERS)


def test_every_row_has_a_test_or_a_reason_why_not() -> None:
    by_row = find_tests()
    assert {row.number for row in ROWS.values() if not row.not_yet} == set(by_row)
    assert all(bool(row.verdict) != bool(row.not_yet) for row in ROWS.values())


def test_the_page_is_what_the_rows_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: PYTHONPATH=tests python -m attacks.report --page"
