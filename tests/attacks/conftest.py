"""Each test of a row notes what it saw, and fails if that is not what the row says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from attack_steps import Attack
from attacked_enclaves import Ledger
from attacks.rows import ROWS, number_of
from shared_engines import EVERY_ENGINE, REQUIRED, engine

from benchmarks.engine_servers import KINDS
from host_store.adversary import MaliciousHost

SHORT = ("10", "35")
"""The rows that run on every engine in CI as well; all others there when all engines are asked for."""
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
def kind() -> str | None:
    """The engine that keeps the stores; None: folders."""
    return None


@pytest.fixture
def malicious_host(
    malicious_host: Callable[..., MaliciousHost], kind: str | None, tmp_path: Path
) -> Callable[..., MaliciousHost]:
    if kind is None:
        return malicious_host
    server, numbers = engine(kind), count()

    def start(enclave: type, **options: Any) -> MaliciousHost:
        return malicious_host(enclave, **{"store": server.url(f"{tmp_path.name}-{next(numbers)}"), **options})

    return start


@pytest.fixture
def host(malicious_host: Callable[..., MaliciousHost]) -> MaliciousHost:
    return malicious_host(Ledger)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    name = metafunc.function.__name__
    if not REQUIRED or not name.startswith("test_row_") or ROWS[number_of(name)].folder_only:
        return
    if EVERY_ENGINE or number_of(name) in SHORT:  # an error where the test asks for no host
        metafunc.parametrize("kind", [None, *KINDS], ids=lambda kind: kind or "folder")


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
