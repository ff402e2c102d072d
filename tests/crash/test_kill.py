"""The host killed at any step of a commit: nothing acknowledged is lost, nothing executed twice, no alarm."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from crash.served import SMALL_JOURNAL, STEPS
from killed_hosts import SECONDS, Account, ServedHost, Workers, Zygote, check_accounts, strace_or_skip

KILLS = int(os.environ.get("PMAP_KILLS", "50"))
EVERY_CALL = "PMAP_EVERY_CALL" in os.environ
MAILS = 4


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


CALLS = ("writev", "pwrite64", "fdatasync", "fsync")
"""What commits are made of: the journal's frames, LMDB's pages and meta page, syncs; and the syncs at opening."""
KILLS_PER_CALL = 4


@pytest.mark.parametrize("call", CALLS)
def test_killed_at_every_system_call_of_a_commit(store: Path, tmp_path: Path, call: str) -> None:
    """At its first such call, its second, ...: until it gets through the work. In CI a part of them is enough."""
    account, when, killed = Account("alice", tmp_path), 1, 0
    with ServedHost(store) as host:
        assert host.start()
        assert account.work(host.url, 1)
        host.kill()
        while EVERY_CALL or killed < KILLS_PER_CALL:
            served = host.start(SMALL_JOURNAL, under=strace_or_skip(f"{call}:signal=KILL:when={when}"))
            survived = served and account.work(host.url, MAILS)
            host.kill()
            if survived:
                break
            killed += 1
            when += 1 if EVERY_CALL else 1 + when // 2
    assert killed > 0, "there is no such call: name the ones that commits make"
    check_accounts(store, [account])


def test_killed_again_and_again_under_load(store: Path, tmp_path: Path) -> None:
    accounts = [Account(f"client-{number}", tmp_path) for number in range(4)]
    zygote = Zygote(store)
    workers = Workers(accounts, zygote.url)
    try:
        for kill in range(KILLS):
            zygote.start()
            before = sum(account.done for account in accounts)
            threads = workers.until_gone()
            # Some get far, some are killed in their very first commit.
            while sum(account.done for account in accounts) < before + kill % 5 and any(t.is_alive() for t in threads):
                pass
            zygote.kill()
            for thread in threads:
                thread.join(SECONDS)
                assert not thread.is_alive()
    finally:
        zygote.close()
    assert sum(account.done for account in accounts) >= KILLS
    check_accounts(store, accounts)
