"""The embedded map: five lines, durable at every write, refused on an older or another state."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from host_store import EmbeddedMap, open_map
from host_store.lmdb.lmdb_store import LmdbStore
from wire.errors import (
    CorruptedStore,
    EvidenceInvalid,
    ForkDetected,
    InvalidInput,
    Malformed,
    MapFull,
    RollbackDetected,
    StoreLocked,
    StoreMissing,
    StoreReplaced,
    StoreUnavailable,
    WrongKey,
)

KEY = bytes(range(32))


def open_at(path: Path, **options: object) -> EmbeddedMap:
    return open_map(path, KEY, **options)  # type: ignore[arg-type]


def test_five_lines_keep_a_map_over_restarts(tmp_path):
    with open_map(tmp_path / "state", key=KEY) as accounts:
        accounts["alice"] = b"100"
        checkpoint = accounts.checkpoint
    with open_map(tmp_path / "state", key=KEY, expect=checkpoint) as accounts:
        assert dict(accounts) == {"alice": b"100"}


def test_each_write_is_one_commit_and_a_transaction_is_one_for_all(tmp_path):
    with open_at(tmp_path / "s") as m:
        before = m.commit
        m["a"] = b"1"
        m.update(b=b"2", c=b"3")
        assert m.commit == before + 2
        with m.transaction():
            for i in range(100):
                m[f"k{i}"] = b"v"
        assert m.commit == before + 3
        del m["a"]
        assert m.pop("b") == b"2"
        assert m.commit == before + 5
    with open_at(tmp_path / "s") as m:
        assert len(m) == 101


def test_an_exception_undoes_the_transaction_and_commits_nothing(tmp_path):
    with open_at(tmp_path / "s") as m:
        m["a"] = b"1"
        before = m.commit
        with pytest.raises(ZeroDivisionError), m.transaction():
            m["a"] = b"2"
            del m["a"]
            m["b"] = b"3"
            raise ZeroDivisionError
        assert dict(m) == {"a": b"1"}
        assert m.commit == before


@pytest.mark.parametrize("back", [1, 2, 3, 150])
def test_an_older_state_is_refused(tmp_path, back):
    with open_at(tmp_path / "s") as m:
        for i in range(200 - back):
            m[f"{i % 50}"] = bytes(100)
    shutil.copytree(tmp_path / "s", tmp_path / "old")
    with open_at(tmp_path / "s") as m:
        for i in range(back):
            m[f"{i % 50}"] = bytes(100)
        checkpoint = m.checkpoint
    with open_at(tmp_path / "s", expect=checkpoint):
        pass
    with pytest.raises(RollbackDetected, match="older state"):
        open_at(tmp_path / "old", expect=checkpoint)


def test_an_older_checkpoint_of_the_same_history_is_accepted_even_from_before_the_window(tmp_path):
    with open_at(tmp_path / "s") as m:
        m["first"] = b"1"
        old = m.checkpoint
        for i in range(600):
            m[f"{i % 9}"] = bytes(200)
    with LmdbStore.open(tmp_path / "s") as store:
        assert store.head().first > 100
    with open_at(tmp_path / "s", expect=old) as m:
        assert m["first"] == b"1"


@pytest.mark.parametrize("more", [0, 1, 400])
def test_another_history_is_refused_as_a_fork(tmp_path, more):
    with open_at(tmp_path / "s") as m:
        m["a"] = b"1"
    shutil.copytree(tmp_path / "s", tmp_path / "fork")
    with open_at(tmp_path / "s") as m:
        m["a"] = b"ours"
        checkpoint = m.checkpoint
    with open_at(tmp_path / "fork") as m:
        m["a"] = b"theirs"
        for i in range(more):
            m["b"] = b"%d" % i
    with pytest.raises(ForkDetected):
        open_at(tmp_path / "fork", expect=checkpoint)


def test_a_deleted_or_new_store_is_refused_as_replaced_and_not_made_anew(tmp_path):
    with open_at(tmp_path / "s") as m:
        m["a"] = b"1"
        checkpoint = m.checkpoint
    with pytest.raises(StoreReplaced):
        open_at(tmp_path / "gone", expect=checkpoint)
    assert not (tmp_path / "gone").exists()
    with open_at(tmp_path / "other"):
        pass
    with pytest.raises((StoreReplaced, EvidenceInvalid)):
        open_at(tmp_path / "other", expect=checkpoint)


def test_a_checkpoint_that_the_store_never_signed_is_refused(tmp_path):
    with open_at(tmp_path / "s") as m:
        checkpoint = m.checkpoint
    name, size, root, blank, signature, end = checkpoint.split("\n")
    forged = "\n".join([name, str(int(size) + 5), root, blank, signature, end])
    with pytest.raises(EvidenceInvalid):
        open_at(tmp_path / "s", expect=forged)
    with pytest.raises(Malformed):
        open_at(tmp_path / "s", expect="not a note")


def test_a_wrong_key_says_so_and_harms_nothing(tmp_path):
    with open_at(tmp_path / "s") as m:
        m["a"] = b"1"
    with pytest.raises(WrongKey):
        open_map(tmp_path / "s", key=bytes(32))
    with open_at(tmp_path / "s") as m:
        assert m["a"] == b"1"


@pytest.mark.parametrize("key", [b"", b"short", bytes(33), "x" * 32, None])
def test_what_is_no_key_is_refused(tmp_path, key):
    with pytest.raises(InvalidInput, match="32 random bytes"):
        open_map(tmp_path / "s", key=key)
    assert not (tmp_path / "s").exists()


def test_a_missing_store_is_not_made_when_it_should_exist(tmp_path):
    with pytest.raises(StoreMissing):
        open_at(tmp_path / "s", create=False)


def test_one_store_opens_once(tmp_path):
    with open_at(tmp_path / "s"), pytest.raises(StoreLocked):
        open_at(tmp_path / "s")


def test_the_size_is_refused_at_the_put(tmp_path):
    with open_at(tmp_path / "s", max_size="1k") as m:
        m["a"] = bytes(900)
        before = m.commit
        with pytest.raises(MapFull):
            m["b"] = bytes(200)
        assert (list(m), m.commit) == (["a"], before)


def test_a_removed_record_is_a_corrupted_store(tmp_path):
    import lmdb

    with open_at(tmp_path / "s") as m:
        for i in range(100):
            m[f"{i}"] = bytes(300)
    removed = _delete_one_record(lmdb, tmp_path / "s")
    assert removed
    with pytest.raises(CorruptedStore):
        open_at(tmp_path / "s")


def _delete_one_record(lmdb, path: Path) -> bool:
    """Remove a record from the middle of the window, as a host can."""
    environment = lmdb.open(str(next(path.rglob("data.mdb")).parent), max_dbs=16, lock=False)
    with environment.begin(write=True) as transaction:
        names = [bytes(name) for name, _ in transaction.cursor()]
        for name in names:
            if b"record" not in name:
                continue
            table = environment.open_db(name, transaction, create=False)
            keys = [bytes(key) for key, _ in transaction.cursor(table)]
            return bool(transaction.delete(keys[len(keys) // 2], db=table))
    environment.close()
    return False


class FailingStore:
    """A real store whose appends fail while ``failing`` is set."""

    def __init__(self, store: LmdbStore) -> None:
        self.store = store
        self.failing = False

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def append(self, *args: object, **options: object) -> None:
        if self.failing:
            raise StoreUnavailable("no space left; nothing was changed")
        self.store.append(*args, **options)  # type: ignore[arg-type]


def test_a_commit_that_the_disk_refuses_is_stored_with_the_next_one(tmp_path):
    with open_at(tmp_path / "s") as m:
        m._durable._store = store = FailingStore(m._durable._store)  # type: ignore[assignment,arg-type]
        m["a"] = b"1"
        store.failing = True
        with pytest.raises(StoreUnavailable):
            m["b"] = b"2"
        with pytest.raises(StoreUnavailable):
            m["c"] = b"3"
        assert dict(m) == {"a": b"1", "b": b"2"}
        store.failing = False
        m["c"] = b"3"
    with open_at(tmp_path / "s") as m:
        assert dict(m) == {"a": b"1", "b": b"2", "c": b"3"}


def test_kill_9_between_writes_loses_nothing_that_returned(tmp_path):
    program = f"""
import sys
from host_store import open_map
with open_map({str(tmp_path / "s")!r}, key=bytes(range(32))) as m:
    for i in range(100000):
        m[str(i)] = b"x"
        print(i, flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env={**os.environ})
    assert child.stdout is not None
    for _ in range(200):
        last = int(child.stdout.readline())
    child.kill()
    rest = [int(line) for line in child.stdout.read().splitlines() if line]
    child.stdout.close()
    child.wait()
    last = max([last, *rest])
    with open_at(tmp_path / "s") as m:
        assert len(m) in (last + 1, last + 2)
        assert all(str(i) in m for i in range(last + 1))
