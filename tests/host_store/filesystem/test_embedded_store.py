"""The embedded store: a map and files under one checkpoint, each refusal its own error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from host_store import open_map, open_store
from host_store.lmdb.store_folder import DATA_FILE
from wire.errors import (
    CorruptedStore,
    ForkDetected,
    InvalidInput,
    RollbackDetected,
    StoreError,
    StoreLocked,
    StoreMissing,
    StoreReplaced,
    WrongKey,
)

KEY = bytes(range(32))


class Boom(Exception):
    pass


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "state"


def test_files_and_map_are_kept_over_restarts_under_one_checkpoint(path):
    with open_store(path, KEY, filesystem_size="1m") as store:
        with store.transaction():
            store.map["k"] = b"1"
            with store.fs.open("/notes.txt", "w") as file:
                print("hello", file=file)
        checkpoint = store.checkpoint
    with open_store(path, KEY, filesystem_size="1m", expect=checkpoint) as store:
        assert (store.map["k"], store.fs.path("/notes.txt").read_text()) == (b"1", "hello\n")
    with open_map(path, KEY, expect=checkpoint) as mapping:
        mapping["k"] = b"2"
    with open_store(path, KEY) as store:
        assert (store.map["k"], store.fs.listdir()) == (b"2", ["notes.txt"])


def test_each_call_is_one_durable_commit_and_a_transaction_is_one_for_all(path):
    with open_store(path, KEY, filesystem_size="1m") as store:
        before = store.commit
        store.fs.mkdir("/d")
        store.fs.write_bytes("/d/f", bytes(50_000))
        assert store.commit == before + 2
        with store.transaction():
            for number in range(50):
                store.fs.write_bytes(f"/d/{number}", b"x")
        assert store.commit == before + 3
        shutil.copytree(path, path.with_name("crashed"), ignore=shutil.ignore_patterns("lock*"))
    with open_store(path.with_name("crashed"), KEY) as store:
        assert len(store.fs.listdir("/d")) == 51


def test_rolling_back_a_file_is_refused_exactly_like_a_map_key(path):
    def rolled_back(change_file: bool) -> RollbackDetected:
        place = path.with_name(f"state {change_file}")
        with open_store(place, KEY, filesystem_size="1m") as store:
            store.fs.write_bytes("/f", b"old")
            store.map["k"] = b"old"
        shutil.copytree(place, place.with_name("old"))
        with open_store(place, KEY) as store:
            if change_file:
                store.fs.write_bytes("/f", b"new")
            else:
                store.map["k"] = b"new"
            checkpoint = store.checkpoint
        shutil.rmtree(place)
        place.with_name("old").rename(place)
        with pytest.raises(RollbackDetected) as caught:
            open_store(place, KEY, expect=checkpoint)
        return caught.value

    file, key = rolled_back(True), rolled_back(False)
    assert (type(file), str(file)) == (type(key), str(key))


def test_another_history_of_the_files_is_a_fork(path):
    with open_store(path, KEY, filesystem_size="1m") as store:
        store.fs.touch("/f")
    shutil.copytree(path, path.with_name("fork"))
    checkpoints = []
    for place, content in ((path, b"one"), (path.with_name("fork"), b"two")):
        with open_store(place, KEY) as store:
            store.fs.write_bytes("/f", content)
            checkpoints.append(store.checkpoint)
    with pytest.raises(ForkDetected):
        open_store(path, KEY, expect=checkpoints[1])


def test_a_missing_store_a_corrupted_one_and_a_changed_size_are_errors_of_their_own(path, tmp_path):
    with pytest.raises(StoreMissing):
        open_store(path, KEY, filesystem_size="1m", create=False)
    with open_store(path, KEY, filesystem_size="1m") as store:
        store.fs.write_bytes("/f", bytes(100_000))
        checkpoint = store.checkpoint
        with pytest.raises(StoreLocked):
            open_store(path, KEY)
    with pytest.raises(WrongKey):
        open_store(path, bytes(32))
    for size in ("2m", "512k"):
        with pytest.raises(InvalidInput, match="made with 1048576 bytes"):
            open_store(path, KEY, filesystem_size=size)
    with pytest.raises(StoreReplaced):
        open_store(tmp_path / "elsewhere", KEY, filesystem_size="1m", expect=checkpoint)
    data = path / DATA_FILE
    content = bytearray(data.read_bytes())
    for at in range(8192, len(content), 4096):
        content[at + 2000] ^= 1
    data.write_bytes(content)
    with pytest.raises(CorruptedStore):
        open_store(path, KEY)


def test_the_host_cannot_force_a_reformat(path):
    """Whatever is taken away, no empty filesystem comes up under the checkpoint."""
    with open_store(path, KEY, filesystem_size="1m") as store:
        store.fs.write_bytes("/f", b"1")
        checkpoint = store.checkpoint
    for name in [each.name for each in path.iterdir()]:
        place = path.with_name("without " + name)
        shutil.copytree(path, place)
        (place / name).unlink()
        try:
            with open_store(place, KEY, filesystem_size="1m", expect=checkpoint) as store:
                assert store.fs.read_bytes("/f") == b"1", "only what can be made anew was taken away"
        except (StoreError, StoreReplaced):
            pass


def test_a_filesystem_can_be_added_later_and_grown_when_asked(path):
    with open_map(path, KEY) as mapping:
        mapping["k"] = b"1"
    with open_store(path, KEY) as store, pytest.raises(InvalidInput, match="no filesystem"):
        _ = store.fs
    with open_store(path, KEY, filesystem_size="64k") as store:
        with pytest.raises(OSError, match="space"):
            store.fs.write_bytes("/f", bytes(100_000))
        store.fs.grow(1 << 20)
        store.fs.write_bytes("/f", bytes(100_000))
    with open_store(path, KEY, filesystem_size="1m") as store:
        assert store.fs.stat("/f").st_size == 100_000
        assert store.map["k"] == b"1"


def test_files_in_memory_stand_beside_and_are_gone_afterwards(path):
    with open_store(path, KEY, filesystem_size="1m", memory_filesystem_size="1m") as store:
        before = store.commit
        store.fs.write_bytes("/tmp/f", b"x")
        assert store.commit == before
        store.fs.move("/tmp/f", "/f")
        store.fs.touch("/tmp/g")
    with open_store(path, KEY, memory_filesystem_size="1m") as store:
        assert (store.fs.listdir("/"), store.fs.listdir("/tmp")) == (["f", "tmp"], [])


def test_closing_writes_what_files_hold_back_and_ends_their_use(path):
    with open_store(path, KEY, filesystem_size="1m") as store:
        file = store.fs.open("/f", "w")
        file.write("held back")
    with pytest.raises(OSError, match="Stale"):
        file.write("more")
    with open_store(path, KEY) as store:
        assert store.fs.read_bytes("/f") == b"held back"


def test_an_error_of_one_call_leaves_open_files_alone(path):
    with open_store(path, KEY, filesystem_size="64k", map_size="1k") as store:
        with store.fs.open("/f", "w") as file:
            file.write("held back")
            with pytest.raises(OSError, match="space"):
                store.fs.write_bytes("/g", bytes(100_000))
            with pytest.raises(Exception, match="bytes more"):
                store.map["k"] = bytes(2000)
            file.write(" and on")
        assert store.fs.read_bytes("/f") == b"held back and on"
        assert not store.fs.exists("/g")


def test_an_exception_in_a_transaction_undoes_files_and_map(path):
    with open_store(path, KEY, filesystem_size="1m") as store:
        store.fs.write_bytes("/f", b"old")
        with pytest.raises(Boom), store.transaction():
            store.fs.write_bytes("/f", b"new")
            store.map["k"] = b"new"
            raise Boom
        assert (store.fs.read_bytes("/f"), len(store.map)) == (b"old", 0)
    with open_store(path, KEY) as store:
        assert (store.fs.read_bytes("/f"), len(store.map)) == (b"old", 0)
