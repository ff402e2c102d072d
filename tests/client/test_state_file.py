"""The file that keeps a client's state."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from client import CorruptedStore, InvalidInput, LimitExceeded, StoreLocked, StoreUnavailable, WrongKey
from client.state_file import StateFile
from wire.crypto import derive_key, open_once
from wire.errors import UnsupportedVersion

KEY = bytes(range(32))


def test_the_first_use_makes_a_key_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "alice.state"
    with StateFile.open(path) as file:
        assert file.read() is None
        file.write(b"state", durable=True)
    with StateFile.open(path) as file:
        assert file.read() == b"state"
    for name in ("alice.state", "alice.state.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert len((tmp_path / "alice.state.key").read_bytes()) == 32


def test_a_given_key_leaves_no_key_file(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "s", KEY) as file:
        file.write(b"state", durable=True)
    assert not (tmp_path / "s.key").exists()
    with StateFile.open(tmp_path / "s", KEY) as file:
        assert file.read() == b"state"


def test_what_was_received_counts_until_it_is_torn_or_outdated(tmp_path: Path) -> None:
    path, received = tmp_path / "s", tmp_path / "s.received"
    with StateFile.open(path, KEY) as file:
        file.write(b"sent", durable=True)
        file.write(b"received", durable=False)
    with StateFile.open(path, KEY) as file:
        assert file.read() == b"received"
    whole = received.read_bytes()
    for torn in (b"", whole[:5], whole[:-1], bytes(len(whole)), whole[:20] + bytes(len(whole) - 20)):
        received.write_bytes(torn)
        with StateFile.open(path, KEY) as file:
            assert file.read() == b"sent"
    received.write_bytes(whole)
    with StateFile.open(path, KEY) as file:
        file.read()
        file.write(b"sent again", durable=True)
    assert received.read_bytes() == whole
    with StateFile.open(path, KEY) as file:
        assert file.read() == b"sent again", "it belonged to the state before"


def test_a_removed_state_begins_anew_whatever_was_received(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with StateFile.open(path) as file:
        file.write(b"sent", durable=True)
        file.write(b"received", durable=False)
    path.unlink()
    with StateFile.open(path) as file:
        assert file.read() is None
        assert not (tmp_path / "s.received").exists()


def test_every_altered_or_missing_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with StateFile.open(path, KEY) as file:
        file.write(b"a state", durable=True)
    whole = path.read_bytes()

    def read() -> bytes | None:
        with StateFile.open(path, KEY) as file:
            return file.read()

    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises((CorruptedStore, WrongKey, UnsupportedVersion)) as found:
            read()
        expected = {3: UnsupportedVersion, **dict.fromkeys(range(4, 12), WrongKey)}.get(position, CorruptedStore)
        assert type(found.value) is expected
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptedStore):
            read()


def test_another_key_is_called_that(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "s", KEY) as file:
        file.write(b"state", durable=True)
    with StateFile.open(tmp_path / "s", bytes(32)) as file, pytest.raises(WrongKey):
        file.read()
    with pytest.raises(WrongKey, match="is missing"):
        StateFile.open(tmp_path / "s")


@pytest.mark.parametrize("key", [b"", b"short", bytes(33), "x" * 32])
def test_what_is_no_key_is_refused(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(InvalidInput):
        StateFile.open(tmp_path / "s", key)


def test_a_key_file_that_others_can_read_or_of_another_length_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "s.key"
    StateFile.open(tmp_path / "s").close()
    key.chmod(0o640)
    with pytest.raises(InvalidInput, match="mode"):
        StateFile.open(tmp_path / "s")
    key.chmod(0o600)
    key.write_bytes(bytes(31))
    with pytest.raises(InvalidInput, match="no key"):
        StateFile.open(tmp_path / "s")


def test_a_state_is_used_by_one_client_at_a_time_under_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "s")
    with StateFile.open(tmp_path / "s") as file:
        file.write(b"x", durable=True)
        for name in ("s", "link"):
            with pytest.raises(StoreLocked, match="in use"):
                StateFile.open(tmp_path / name)
    with StateFile.open(tmp_path / "link") as file:
        assert file.read() == b"x"
        file.write(b"y", durable=True)
    assert (tmp_path / "link").is_symlink()


def test_two_processes_cannot_use_one_state_and_the_lock_ends_with_the_process(tmp_path: Path) -> None:
    code = (
        "import sys; from client.state_file import StateFile\n"
        "file = StateFile.open(sys.argv[1]); file.write(b'theirs', durable=True)\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "s")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(StoreLocked):
            StateFile.open(tmp_path / "s")
        process.kill()
    with StateFile.open(tmp_path / "s") as file:
        assert file.read() == b"theirs"


def test_a_forked_child_cannot_write_its_parents_state(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "s") as file:
        file.write(b"parent", durable=True)
        child = os.fork()
        if child == 0:
            try:
                file.write(b"child", durable=True)
            except InvalidInput:
                os._exit(42)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
        assert file.read() == b"parent"


def test_a_closed_file_is_not_written(tmp_path: Path) -> None:
    file = StateFile.open(tmp_path / "s")
    file.close()
    file.close()
    with pytest.raises(InvalidInput):
        file.write(b"x", durable=True)


@pytest.mark.parametrize("name", ["", ".", "missing/s", "a\0b"])
def test_what_cannot_be_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput):
        StateFile.open(name)


def test_a_state_that_grew_too_large_is_refused_and_the_last_one_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.state_file.MAX_STATE_BYTES", 100)
    with StateFile.open(tmp_path / "s") as file:
        file.write(bytes(100), durable=True)
        with pytest.raises(LimitExceeded):
            file.write(bytes(101), durable=True)
        assert file.read() == bytes(100)


def test_a_refusing_disk_is_reported_and_the_last_state_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with StateFile.open(tmp_path / "s") as file:
        file.write(b"one", durable=True)
        with monkeypatch.context() as patch:
            patch.setattr("client.state_file.os.fsync", fail)
            with pytest.raises(StoreUnavailable, match="No space left"):
                file.write(b"two", durable=True)
        assert file.read() == b"one"
        file.write(b"three", durable=True)
        assert file.read() == b"three"


@pytest.mark.parametrize(("settings", "synced"), [({}, True), ({"sync_receipts": False}, False)])
def test_a_write_that_is_to_last_syncs_the_file_before_and_the_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, bool], synced: bool
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(fd: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
        fsync(fd)

    def noted_rename(source: Path, target: Path) -> None:
        calls.append(f"rename to {Path(target).name}")
        rename(source, target)

    with StateFile.open(tmp_path / "s", **settings) as file:
        monkeypatch.setattr("client.state_file.os.fsync", noted_fsync)
        monkeypatch.setattr("client.state_file.os.rename", noted_rename)
        file.write(b"before a send", durable=True)
        assert calls == ["sync file", "rename to s", "sync folder"]
        calls.clear()
        file.write(b"after a receive", durable=False)
        if synced:
            assert calls == ["sync file", "rename to s.received", "sync folder"]
        else:
            assert calls == ["rename to s.received"], "and the only synced copy is never replaced by an unsynced one"


def open_files() -> set[str]:
    """What this process has open."""
    links = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            links.add(f"{entry.name} {entry.readlink()}")
        except FileNotFoundError:  # the folder itself
            continue
    return links


def test_the_files_are_in_the_written_format(tmp_path: Path) -> None:
    path, prefix = tmp_path / "s", b"pmc\x01" + derive_key(KEY, b"", b"client state key check")[:8]
    with StateFile.open(path, KEY) as file:
        file.write(b"sent", durable=True)
        file.write(b"received", durable=False)
    state, received = path.read_bytes(), (tmp_path / "s.received").read_bytes()
    assert (state[:12], received[:12]) == (prefix, prefix)
    assert open_once(KEY, b"client state", state[12:], prefix) == b"sent"
    assert open_once(KEY, b"client state after a receive", received[12:], prefix + state[-16:]) == b"received"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["s", "s.lock", "s.received"]


def test_every_write_is_sealed_anew_with_the_callers_randomness(tmp_path: Path) -> None:
    drawn: list[bytes] = []

    def randomness(length: int) -> bytes:
        drawn.append(bytes([len(drawn) + 1]) * length)
        return drawn[-1]

    with StateFile.open(tmp_path / "s", randomness=randomness) as file:
        file.write(b"sent", durable=True)
        file.write(b"received", durable=False)
    assert (tmp_path / "s.key").read_bytes() == b"\x01" * 32
    for name, salt in (("s", b"\x02"), ("s.received", b"\x03")):
        assert (tmp_path / name).read_bytes()[12:44] == salt * 32


def test_the_first_write_of_all_is_durable_whatever_is_asked(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "s", KEY) as file:
        assert file.read() is None
        file.write(b"first", durable=False)
        assert not (tmp_path / "s.received").exists()
        file.write(b"second", durable=False)
        file.write(b"third", durable=False)
        assert file.read() == b"third"
    with StateFile.open(tmp_path / "s", KEY) as file:
        assert file.read() == b"third"


def test_an_empty_state_is_a_state(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "s", KEY) as file:
        file.write(b"", durable=True)
        assert file.read() == b""


def test_what_another_key_received_is_ignored(tmp_path: Path) -> None:
    for name, key in (("s", KEY), ("other", bytes(32))):
        with StateFile.open(tmp_path / name, key) as file:
            file.write(b"sent", durable=True)
            file.write(b"received", durable=False)
    (tmp_path / "other.received").rename(tmp_path / "s.received")
    with StateFile.open(tmp_path / "s", KEY) as file:
        assert file.read() == b"sent"


def test_a_state_file_knows_its_real_path_also_after_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with StateFile.open("s", KEY) as file:
        assert file.path == (tmp_path / "s").resolve()
        monkeypatch.chdir(tmp_path / "elsewhere")
        file.write(b"state", durable=True)
    assert (tmp_path / "s").exists()


def test_a_state_that_is_there_is_not_given_a_new_key(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_bytes(b"whatever it is")
    with pytest.raises(WrongKey, match=r"needs its key: .*s\.key is missing"):
        StateFile.open(path)
    assert not (tmp_path / "s.key").exists()


def test_the_key_is_durable_before_the_state_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(-1 if stat.S_ISDIR(os.fstat(fd).st_mode) else os.fstat(fd).st_size)
        fsync(fd)

    monkeypatch.setattr("client.state_file.os.fsync", noted)
    StateFile.open(tmp_path / "s").close()
    assert synced == [32, -1], "all of it is in the file by then"


def test_an_open_that_fails_leaves_nothing_open_or_locked(tmp_path: Path) -> None:
    key = tmp_path / "s.key"
    key.write_bytes(bytes(31))
    key.chmod(0o600)
    before = open_files()
    with pytest.raises(InvalidInput):
        StateFile.open(tmp_path / "s")
    with StateFile.open(tmp_path / "s", KEY):
        during = open_files()
        with pytest.raises(StoreLocked):
            StateFile.open(tmp_path / "s", KEY)
        assert open_files() == during
    assert open_files() == before


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.EAGAIN, StoreLocked), (errno.EACCES, StoreLocked), (errno.ENOLCK, StoreUnavailable)],
)
def test_a_lock_that_another_holds_is_told_from_one_that_there_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr("client.state_file.fcntl.flock", refuse)
        with pytest.raises(error, match=str(tmp_path / "s")):
            StateFile.open(tmp_path / "s", KEY)
    assert open_files() == before


def test_every_file_is_for_its_owner_only(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        with StateFile.open(tmp_path / "s") as file:
            file.write(b"sent", durable=True)
            file.write(b"received", durable=False)
    finally:
        os.umask(mask)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("s", "s.key", "s.lock", "s.received"), 0o600)


@pytest.mark.parametrize("mode", [0o601, 0o602, 0o604, 0o610, 0o620, 0o640])
def test_a_key_file_that_others_may_do_anything_with_is_refused(tmp_path: Path, mode: int) -> None:
    StateFile.open(tmp_path / "s").close()
    (tmp_path / "s.key").chmod(0o700)
    StateFile.open(tmp_path / "s").close()
    (tmp_path / "s.key").chmod(mode)
    with pytest.raises(InvalidInput, match="mode to 600"):
        StateFile.open(tmp_path / "s")


def test_a_leftover_is_neither_written_into_nor_followed(tmp_path: Path) -> None:
    elsewhere, leftover = tmp_path / "elsewhere", tmp_path / "s.new"
    elsewhere.write_bytes(b"mine")
    with StateFile.open(tmp_path / "s", KEY) as file:
        leftover.hardlink_to(elsewhere)
        file.write(b"one", durable=True)
        leftover.symlink_to(elsewhere)
        file.write(b"two", durable=True)
        assert file.read() == b"two"
    assert elsewhere.read_bytes() == b"mine"
    assert not leftover.exists() and not (tmp_path / "s").is_symlink()


def test_a_large_file_takes_no_memory_for_what_is_not_read(tmp_path: Path) -> None:
    key = tmp_path / "s.key"
    key.touch(0o600)
    os.truncate(key, 64 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match="no key"):
            StateFile.open(tmp_path / "s")
        with StateFile.open(tmp_path / "s", KEY) as file:
            file.write(b"state", durable=True)
            assert file.read() == b"state"
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_file_over_the_largest_state_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s"
    with StateFile.open(path, KEY) as file:
        file.write(bytes(100), durable=True)
    monkeypatch.setattr("client.state_file._MAX_FILE_BYTES", path.stat().st_size)
    with StateFile.open(path, KEY) as file:
        assert file.read() == bytes(100)


@pytest.mark.parametrize("doing", ["use", "read", "write"])
def test_what_the_system_refuses_is_named(tmp_path: Path, doing: str) -> None:
    path = (tmp_path / "s").resolve()
    with StateFile.open(path, KEY) as file:
        file.write(b"one", durable=True)
    if doing == "use":
        (tmp_path / "s.lock").unlink()
        (tmp_path / "s.lock").mkdir()
        with pytest.raises(StoreUnavailable, match=f"cannot use the client state {path}: Is a directory"):
            StateFile.open(path, KEY)
        return
    with StateFile.open(path, KEY) as file:
        if doing == "read":
            path.unlink()
            path.mkdir()
            with pytest.raises(StoreUnavailable, match=f"cannot read the client state {path}: Is a directory"):
                file.read()
            return
        assert file.read() == b"one"
        for durable, name in ((True, "s"), (False, "s.received")):
            (tmp_path / f"{name}.new").mkdir()
            with pytest.raises(StoreUnavailable, match=f"cannot write the client state {path.with_name(name)}: Is a"):
                file.write(b"two", durable=durable)
        assert file.read() == b"one"


def test_a_system_error_without_words_is_shown_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError("no reason given")

    monkeypatch.setattr("client.state_file.fcntl.flock", refuse)
    with pytest.raises(StoreUnavailable, match=r"client state .*s: no reason given"):
        StateFile.open(tmp_path / "s", KEY)


def test_a_forked_child_lets_its_parents_lock_stand(tmp_path: Path) -> None:
    with StateFile.open(tmp_path / "s", KEY) as file:
        child = os.fork()
        if child == 0:
            file.close()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with pytest.raises(StoreLocked):
            StateFile.open(tmp_path / "s", KEY)


def test_a_closed_file_is_free_although_a_child_still_has_it_open(tmp_path: Path) -> None:
    file = StateFile.open(tmp_path / "s", KEY)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        file.close()
        StateFile.open(tmp_path / "s", KEY).close()
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)
