"""Each test of a row notes what it saw, and fails if that is not what the row says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attack_steps import Attack
from attacked_enclaves import Ledger
from attacks.rows import ROWS, number_of

from host_store.adversary import MaliciousHost

_SEEN = pytest.StashKey[list[str]]()


@pytest.fixture
def saw(request: pytest.FixtureRequest) -> Callable[[str], None]:
    seen: list[str] = []
    request.node.stash[_SEEN] = seen

    def note(what: str) -> None:
        if what not in seen:
            seen.append(what)

    return note


@pytest.fixture
def attack(saw: Callable[[str], None]) -> Attack:
    return Attack(saw)


@pytest.fixture
def host(malicious_host: Callable[..., MaliciousHost]) -> MaliciousHost:
    return malicious_host(Ledger)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[Any]:
    result = yield
    seen = item.stash.get(_SEEN, None)
    if seen is not None and item.name.startswith("test_row_"):
        text = ", ".join(seen)
        item.user_properties.append(("seen", text))
        assert text == ROWS[number_of(item.name)].verdict
    return result


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Row 50 is about everything that the others encrypted.
    items.sort(key=lambda item: item.name.startswith("test_row_50"))
