"""What the tests of crashes share: a quickly forked server, and the system calls that it makes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from killed_hosts import MAILS, Account, Calls, Zygote, changing_calls, check_accounts, tracing


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    yield made
    made.close()


@pytest.fixture(scope="session")
def lives(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> tuple[Calls, Calls]:
    """What a host calls that makes a store, and one that finds it."""
    folder = tmp_path_factory.mktemp("traced")
    store, account = folder / "store", Account("alice", folder)
    logs = (folder / "first.log", folder / "second.log")
    for log in logs:
        assert zygote.start(store, under=tracing(log))
        assert account.work(zygote.url, MAILS)
        zygote.kill()
    check_accounts(store, [account])
    first, second = (changing_calls(log, store) for log in logs)
    return first, second
