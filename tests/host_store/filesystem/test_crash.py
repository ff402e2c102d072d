"""A process killed around any commit leaves the state after the last acknowledged one, or after the one at hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from host_store import open_store
from host_store.lmdb.lmdb_store import LmdbStore
from pmap.filesystem.sqlite import connect

KEY = bytes(32)
TRANSACTIONS = 8


def work(folder: Path, acknowledged: Path, kill_at: int, after: bool) -> None:
    """SQL and file transactions until the process kills itself before or after its store takes record ``kill_at``."""
    append = LmdbStore.append

    def deadly(self, n, *arguments, **options):
        if n == kill_at and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        append(self, n, *arguments, **options)
        if n == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    LmdbStore.append = deadly  # the real store, with a deadly wrapper around its one commit
    with open_store(folder, KEY, filesystem_size="4m") as store:
        db = connect(store.fs, "/db")
        db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        for number in range(TRANSACTIONS):
            with store.transaction():
                with db:
                    db.execute("INSERT INTO t VALUES(?, randomblob(6000))", (number,))
                    db.execute("DELETE FROM t WHERE a = ?", (number - 3,))
                store.fs.write_bytes(f"/{number}", bytes(number * 3000))
                store.map["count"] = b"%d" % number
            acknowledged.write_text(str(number))
    os._exit(0)


@pytest.mark.parametrize("after", [False, True], ids=["before the store has it", "after the store has it"])
def test_a_kill_at_every_commit_loses_nothing_acknowledged_and_keeps_sql_intact(tmp_path, after):
    for kill_at in range(2, TRANSACTIONS + 6):
        folder, acknowledged = tmp_path / f"s{kill_at}", tmp_path / f"a{kill_at}"
        child = os.fork()
        if child == 0:
            try:
                work(folder, acknowledged, kill_at, after)
            finally:
                os._exit(9)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        assert killed or os.WEXITSTATUS(status) == 0
        last = int(acknowledged.read_text()) if acknowledged.exists() else -1
        with open_store(folder, KEY, filesystem_size="4m") as store:
            done = int(store.map.get("count", b"-1"))
            assert done == last or (killed and after and done == last + 1), (kill_at, last, done)
            db = connect(store.fs, "/db")
            assert db.execute("PRAGMA integrity_check").get == "ok"
            if done >= 0:
                kept = [row[0] for row in db.execute("SELECT a FROM t ORDER BY a")]
                assert kept == list(range(max(0, done - 2), done + 1))
            assert {int(name): store.fs.stat(name).st_size for name in store.fs.listdir() if name != "db"} == {
                number: number * 3000 for number in range(done + 1)
            }
    assert not killed, "the last run went through: every commit was killed at once"


@pytest.mark.parametrize("after", [False, True])
def test_growing_is_safe_at_its_commit(tmp_path, after):
    with open_store(tmp_path / "s", KEY, filesystem_size="1m") as store:
        store.fs.write_bytes("/f", b"1")
        commits = store.commit
    child = os.fork()
    if child == 0:
        try:
            append = LmdbStore.append

            def deadly(self, n, *arguments, **options):
                if after:
                    append(self, n, *arguments, **options)
                os.kill(os.getpid(), signal.SIGKILL)

            LmdbStore.append = deadly
            open_store(tmp_path / "s", KEY, filesystem_size="2m", grow=True)
        finally:
            os._exit(9)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with open_store(tmp_path / "s", KEY) as store:
        assert store.fs.size == (2 << 20 if after else 1 << 20)
        assert store.commit == commits + after
    with open_store(tmp_path / "s", KEY, filesystem_size="2m", grow=True) as store:
        assert (store.fs.size, store.fs.read_bytes("/f")) == (2 << 20, b"1")
