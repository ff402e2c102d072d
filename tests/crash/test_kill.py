"""The host killed at any step of a commit: nothing acknowledged is lost, nothing executed twice, no alarm."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from crash.served import STEPS
from crash.storm import Watched, storm
from killed_hosts import (
    MAILS,
    SECONDS,
    Account,
    Calls,
    ServedHost,
    Zygote,
    check_accounts,
    strace_or_skip,
)

KILLS = 50
EVERY_CALL = "PMAP_EVERY_CALL" in os.environ


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_it_stands_at_a_step_of_a_commit(store: Path, tmp_path: Path, step: str) -> None:
    account = Account("alice", tmp_path)
    with ServedHost(store) as host:
        assert host.start(step)
        working = threading.Thread(target=account.work, args=[host.url, 20])
        working.start()
        assert host.line() == "frozen"
        host.kill()
        working.join(SECONDS)
    check_accounts(store, [account])


# --- at every system call ---


def killing(name: str, when: int, calls: Calls, store: Path) -> list[str]:
    """Kill whoever makes the ``when``-th such call with a path of the store."""
    return strace_or_skip(f"{name}:signal=KILL:when={when}", paths=calls.paths_in(store))


def test_killed_at_every_system_call_that_makes_a_store(
    zygote: Zygote, lives: tuple[Calls, Calls], tmp_path: Path
) -> None:
    """Nothing was acknowledged before, so nothing can be lost: it must open, or be made anew."""
    calls = lives[0]
    assert {"mkdir", "rename"} < set(calls.counts) and len(calls.counts) > 8, calls.counts
    survived = []
    for name, number in sorted(calls.counts.items()):
        for when in range(1, number + 1 if EVERY_CALL else 2):
            store = tmp_path / f"{name}-{when}" / "store"
            store.parent.mkdir()
            account = Account("alice", store.parent)
            under = killing(name, when, calls, store)
            if zygote.start(store, under=under) and account.work(zygote.url, MAILS):
                survived.append((name, when))
            zygote.kill()
            check_accounts(store, [account])
    # A call can be made by several threads, and each has its own count: then the last ones do not come.
    assert not any(when == 1 for _, when in survived), survived


def test_killed_at_every_system_call_of_a_commit(
    zygote: Zygote, lives: tuple[Calls, Calls], store: Path, tmp_path: Path
) -> None:
    """At its first such call, its second, ...: until it gets through the work. In CI a part of them is enough."""
    calls, account = lives[1], Account("alice", tmp_path)
    assert any("sync" in name for name in calls.counts) and any("write" in name for name in calls.counts), calls.counts
    assert zygote.start(store)
    assert account.work(zygote.url, 1)
    zygote.kill()
    for name, number in sorted(calls.counts.items()):
        killed = 0
        for when in range(1, number + 1) if EVERY_CALL else sorted({1, 2, 1 + number // 2, number}):
            survived = zygote.start(store, under=killing(name, when, calls, store)) and account.work(zygote.url, MAILS)
            zygote.kill()
            killed += not survived
        assert killed > 0, f"{name} is not called again"
        check_accounts(store, [account])


def test_killed_again_and_again_under_load(tmp_path: Path) -> None:
    result = storm(tmp_path, KILLS)
    assert result.host_kills + result.enclave_kills >= KILLS and result.enclave_kills > 10
    assert result.acknowledged > KILLS
    assert result.faults() == {}, result


def test_the_storm_counts_what_is_lost_and_what_is_done_twice(tmp_path: Path) -> None:
    account = Watched("alice", tmp_path)
    for payload in (b"1", b"2", b"2", b"4", b"5"):
        account.count(payload)
    assert (account.done, account.lost, account.executed_twice) == (5, 1, 1)
