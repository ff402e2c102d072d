"""The calls of ``os`` on every kind of volume, with the errors that Python's users expect."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from collections.abc import Callable

import pytest
from file_stores import MIB, LoggedFiles

from pmap.filesystem import FileSystem, memory_filesystem
from wire.errors import InvalidInput


@pytest.fixture(params=["persistent", "memory", "memory at /tmp"])
def fs(request) -> FileSystem:
    if request.param == "memory":
        return memory_filesystem("16m")
    return LoggedFiles().fs if request.param == "persistent" else LoggedFiles(memory=16 * MIB).fs


@pytest.fixture
def base(fs, request) -> str:
    """The directory under test: that of the volume the parameter names."""
    return "/tmp/" if "memory at /tmp" in request.node.callspec.id else "/"


def fails(code: int, call: Callable[..., object], *args: object) -> None:
    with pytest.raises(OSError) as caught:
        call(*args)
    assert caught.value.errno == code, errno.errorcode[caught.value.errno]
    assert type(caught.value) is type(OSError(code, "")), "the subclass that Python's users catch"


# --- open, in all modes ---


def test_every_mode_opens_as_the_built_in_open_does(fs, base, tmp_path):
    def outcome(opener: Callable[..., io.IOBase], path: str, mode: str) -> object:
        try:
            with opener(path, mode, encoding=None if "b" in mode else "utf-8") as file:
                seen: list[object] = [type(file).__name__, file.readable(), file.writable(), file.tell(), file.mode]
                if file.writable():
                    file.write(b"new" if "b" in mode else "new")
                if file.readable():
                    file.seek(0)
                    seen.append(file.read())
                return seen
        except (OSError, ValueError) as error:
            return type(error).__name__, getattr(error, "errno", None)

    kinds = [kind + rest for kind in "rwax" for rest in ("", "+", "b", "b+", "t", "+t")]
    for mode in [*kinds, "", "rw", "bt", "z", "r++", "rbt", "b"]:
        for there in (True, False):
            theirs, ours = str(tmp_path / "f"), base + "f"
            if there:
                (tmp_path / "f").write_bytes(b"old content")
                fs.write_bytes(ours, b"old content")
            else:
                (tmp_path / "f").unlink(missing_ok=True)
                fs.path(ours).unlink(missing_ok=True)
            assert outcome(fs.open, ours, mode) == outcome(open, theirs, mode), (mode, there)
            assert fs.exists(ours) == os.path.exists(theirs)
            if fs.exists(ours):
                assert fs.read_bytes(ours) == (tmp_path / "f").read_bytes(), mode


def test_files_are_raw_files_under_the_standard_wrappers(fs, base):
    with fs.open(base + "f", "wb", buffering=0) as raw:
        assert isinstance(raw, io.RawIOBase)
    for mode, kind in (("rb", io.BufferedReader), ("wb", io.BufferedWriter), ("r+b", io.BufferedRandom)):
        with fs.open(base + "f", mode) as file:
            assert isinstance(file, kind)
    with fs.open(base + "f", "w") as text:
        assert isinstance(text, io.TextIOWrapper)
        assert text.encoding == "utf-8"
    with pytest.raises(ValueError, match="unbuffered text"):
        fs.open(base + "f", "r", 0)
    with pytest.raises(ValueError, match="binary mode"):
        fs.open(base + "f", "rb", encoding="utf-8")


def test_text_newlines_and_encodings_are_those_of_the_standard_wrapper(fs, base):
    with fs.open(base + "t", "w", encoding="utf-16", newline="\r\n") as file:
        file.write("ä\nb\n")
    assert fs.read_bytes(base + "t") == "ä\r\nb\r\n".encode("utf-16")
    with fs.open(base + "t", encoding="utf-16") as file:
        assert file.readlines() == ["ä\n", "b\n"]


def test_a_raw_file_refuses_what_it_is_not_open_for(fs, base):
    fs.write_bytes(base + "f", b"abc")
    with fs.open(base + "f", "rb", 0) as file:
        for call in (lambda: file.write(b"x"), lambda: file.truncate(1), file.fileno):
            with pytest.raises(io.UnsupportedOperation):
                call()
        fails(errno.EINVAL, file.seek, -1)
        fails(errno.EINVAL, file.seek, 0, 9)
    with fs.open(base + "f", "ab", 0) as file, pytest.raises(io.UnsupportedOperation):
        file.read()
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")


# --- append, offset, buffered and byte-wise access ---


def test_appends_go_to_the_end_wherever_the_position_is(fs, base):
    fs.write_bytes(base + "log", b"1")
    with fs.open(base + "log", "ab", 0) as one, fs.open(base + "log", "ab", 0) as other:
        one.write(b"2")
        other.seek(0)
        other.write(b"3")
        one.write(b"4")
    assert fs.read_bytes(base + "log") == b"1234"


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 3 * 4096, 100_000])
def test_byte_wise_and_whole_access_see_the_same(fs, base, size):
    data = os.urandom(size)
    with fs.open(base + "f", "wb") as file:
        for at in range(size):
            file.write(data[at : at + 1])
    assert fs.read_bytes(base + "f") == data
    with fs.open(base + "f", "rb") as file:
        assert b"".join(iter(lambda: file.read(1), b"")) == data


def test_a_write_past_the_end_leaves_zeros_that_take_no_space(fs, base):
    with fs.open(base + "sparse", "wb") as file:
        file.seek(1 << 40)
        file.write(b"end")
    state = fs.stat(base + "sparse")
    assert state.st_size == (1 << 40) + 3
    assert state.st_blocks * 512 == 4096
    with fs.open(base + "sparse", "rb") as file:
        assert file.read(10_000) == bytes(10_000)
        file.seek((1 << 40) - 2)
        assert file.read() == b"\0\0end"


def test_what_was_cut_off_does_not_come_back(fs, base):
    fs.write_bytes(base + "f", b"x" * 10_000)
    fs.truncate(base + "f", 5_000)
    fs.truncate(base + "f", 12_000)
    assert fs.read_bytes(base + "f") == b"x" * 5_000 + bytes(7_000)
    assert fs.stat(base + "f").st_blocks == 2 * 8
    fails(errno.EINVAL, fs.truncate, base + "f", -1)
    fails(errno.EFBIG, fs.truncate, base + "f", 1 << 63)
    fails(errno.EISDIR, fs.truncate, base, 0)


# --- create, delete, nested ---


def test_directories_nest_and_go_only_when_empty(fs, base):
    fs.makedirs(base + "a/b/c")
    fs.write_bytes(base + "a/b/c/f", b"1")
    assert list(fs.walk(base + "a")) == [
        (base + "a", ["b"], []),
        (base + "a/b", ["c"], []),
        (base + "a/b/c", [], ["f"]),
    ]
    fails(errno.ENOTEMPTY, fs.rmdir, base + "a")
    fails(errno.EEXIST, fs.mkdir, base + "a")
    fails(errno.ENOENT, fs.mkdir, base + "no/b")
    fails(errno.ENOTDIR, fs.mkdir, base + "a/b/c/f/g")
    fails(errno.EISDIR, fs.unlink, base + "a")
    fails(errno.ENOTDIR, fs.rmdir, base + "a/b/c/f")
    fails(errno.EISDIR, fs.open, base + "a")
    fails(errno.EISDIR, fs.open, base + "new/", "w")
    fails(errno.ENOTDIR, fs.listdir, base + "a/b/c/f")
    fs.makedirs(base + "a/b", exist_ok=True)
    fails(errno.EEXIST, fs.makedirs, base + "a/b")
    fs.rmtree(base + "a")
    assert not fs.exists(base + "a")
    fails(errno.ENOENT, fs.unlink, base + "a")


def test_names_are_up_to_255_bytes_of_anything_but_slash_and_nul(fs, base):
    for name in ("n" * 255, "ä" * 127, " ", "...", "a\nb", b"\xff\xfe".decode("utf-8", "surrogateescape"), "-rf"):
        fs.write_bytes(base + name, b"1")
        assert name in fs.listdir(base)
    fails(errno.ENAMETOOLONG, fs.open, base + "n" * 256, "w")
    fails(errno.ENAMETOOLONG, fs.stat, base + "a/" * 3000)
    fails(errno.ENOENT, fs.stat, "")
    with pytest.raises(ValueError, match="null"):
        fs.stat(base + "a\0b")
    assert fs.read_bytes(os.fsencode(base) + b"\xff\xfe") == b"1"


def test_paths_may_be_relative_and_go_up(fs, base):
    fs.makedirs(base + "d/e")
    fs.write_bytes(base + "d/f", b"1")
    for path in ("d/./f", "d//f", "d/e/../f", "d/e/../../d/f"):
        assert fs.read_bytes(base + path) == b"1"
    assert fs.read_bytes(("/../.." + base + "d/f").lstrip("/")) == b"1"
    fails(errno.ENOENT, fs.stat, base + "d/no/../f")
    fails(errno.ENOTDIR, fs.stat, base + "d/f/../f")
    fails(errno.ENOTDIR, fs.stat, base + "d/f/")


# --- rename ---


def test_rename_to_self_changes_nothing(fs, base):
    fs.write_bytes(base + "f", b"1")
    fs.rename(base + "f", base + "f")
    fs.mkdir(base + "d")
    fs.rename(base + "d", base + "d")
    assert fs.read_bytes(base + "f") == b"1"


def test_rename_to_existing_replaces_files_and_empty_directories_only(fs, base):
    for name in ("d1", "d2", "full"):
        fs.mkdir(base + name)
    fs.write_bytes(base + "full/x", b"")
    fs.write_bytes(base + "f1", b"1")
    fs.write_bytes(base + "f2", b"2")
    fs.rename(base + "f1", base + "f2")
    assert (fs.read_bytes(base + "f2"), fs.exists(base + "f1")) == (b"1", False)
    fs.replace(base + "d1", base + "d2")
    fails(errno.ENOTEMPTY, fs.rename, base + "d2", base + "full")
    fails(errno.EISDIR, fs.rename, base + "f2", base + "d2")
    fails(errno.ENOTDIR, fs.rename, base + "d2", base + "f2")
    fails(errno.EINVAL, fs.rename, base + "full", base + "full/below")


def test_rename_of_what_is_not_there_or_to_nowhere_fails(fs, base):
    fails(errno.ENOENT, fs.rename, base + "no", base + "f")
    fs.write_bytes(base + "f", b"1")
    fails(errno.ENOENT, fs.rename, base + "f", base + "no/f")
    fails(errno.ENOTDIR, fs.rename, base + "f", base + "g/")
    fails(errno.EBUSY, fs.rename, base, base + "x")
    fs.unlink(base + "f")
    fails(errno.EBUSY, fs.rmdir, base)


def test_a_renamed_directory_keeps_what_is_in_it(fs, base):
    fs.makedirs(base + "a/b")
    fs.write_bytes(base + "a/b/f", b"1")
    fs.mkdir(base + "c")
    fs.rename(base + "a", base + "c/d")
    assert fs.read_bytes(base + "c/d/b/f") == b"1"


def test_there_are_no_links(fs, base):
    fs.write_bytes(base + "f", b"1")
    fails(errno.EPERM, fs.link, base + "f", base + "g")
    fails(errno.EPERM, fs.symlink, base + "f", base + "g")


# --- unlinked but open ---


def test_an_unlinked_file_lives_until_its_last_handle_is_closed(fs, base):
    free = fs.statvfs(base).f_bfree
    fs.write_bytes(base + "f", b"x" * 8192)
    with fs.open(base + "f", "r+b", 0) as file:
        fs.unlink(base + "f")
        assert not fs.exists(base + "f")
        file.seek(8192)
        file.write(b"y" * 8192)
        file.seek(0)
        assert file.read() == b"x" * 8192 + b"y" * 8192
        assert fs.fstat(file).st_nlink == 0
    fs.write_bytes(base + "g", b"")
    assert fs.statvfs(base).f_bfree == free


def test_a_reader_keeps_the_file_that_a_rename_replaced(fs, base):
    fs.write_bytes(base + "f", b"old")
    with fs.open(base + "f", "rb", 0) as reader:
        fs.write_bytes(base + "new", b"new")
        fs.rename(base + "new", base + "f")
        assert reader.read() == b"old"
    assert fs.read_bytes(base + "f") == b"new"


# --- times and modes ---


def test_mtime_moves_with_content_and_names_and_nothing_else():
    fs = LoggedFiles().fs
    fs.mkdir("/d")
    fs.write_bytes("/d/f", b"1")
    file, directory = fs.stat("/d/f"), fs.stat("/d")
    fs.read_bytes("/d/f")
    fs.listdir("/d")
    assert (fs.stat("/d/f"), fs.stat("/d")) == (file, directory)
    fs.chmod("/d/f", 0o600)
    assert fs.stat("/d/f").st_mtime_ns == file.st_mtime_ns
    assert fs.stat("/d/f").st_ctime_ns > file.st_ctime_ns
    with fs.open("/d/f", "ab") as appending:
        appending.write(b"2")
    assert fs.stat("/d/f").st_mtime_ns > file.st_mtime_ns
    assert fs.stat("/d").st_mtime_ns == directory.st_mtime_ns
    fs.rename("/d/f", "/d/g")
    assert fs.stat("/d").st_mtime_ns > directory.st_mtime_ns
    fs.utime("/d/g", ns=(1, 2))
    assert fs.stat("/d/g").st_mtime_ns == 2
    fs.utime("/d/g", (1.0, 3.5))
    assert fs.stat("/d/g").st_mtime == 3.5


def test_stat_says_what_os_stat_says(fs, base):
    fs.write_bytes(base + "f", b"x" * 5000)
    fs.chmod(base + "f", 0o640)
    state = fs.stat(base + "f")
    assert (stat.filemode(state.st_mode), state.st_size, state.st_nlink) == ("-rw-r-----", 5000, 1)
    with fs.scandir(base) as entries:
        entry = next(entry for entry in entries if entry.name == "f")
    assert (entry.path, entry.is_file(), entry.is_dir(), entry.inode()) == (base + "f", True, False, state.st_ino)
    assert entry.stat() == state


# --- copy and move, also over the mount ---


def test_move_works_where_rename_says_exdev():
    fs = LoggedFiles(memory=MIB).fs
    fs.makedirs("/tree/sub")
    fs.write_bytes("/tree/sub/f", b"1" * 5000)
    fails(errno.EXDEV, fs.rename, "/tree", "/tmp/tree")
    fs.move("/tree", "/tmp/tree")
    assert (fs.read_bytes("/tmp/tree/sub/f"), fs.exists("/tree")) == (b"1" * 5000, False)
    fs.move("/tmp/tree/sub/f", "/f")
    assert fs.stat("/f").st_dev != fs.stat("/tmp").st_dev
    fails(errno.EINVAL, fs.copyfile, "/f", "/./f")


def test_only_tmp_itself_is_the_memory():
    stored = LoggedFiles(memory=MIB)
    stored.fs.write_bytes("/tmptest", b"kept")
    stored.fs.write_bytes("/tmp/gone", b"lost")
    assert stored.fs.listdir("/") == ["tmp", "tmptest"]
    fails(errno.EEXIST, stored.fs.mkdir, "/tmp")
    stored.restart()
    assert (stored.fs.read_bytes("/tmptest"), stored.fs.listdir("/tmp")) == (b"kept", [])


# --- space ---


@pytest.mark.parametrize("size", [4096, 10 * 4096, 10 * 4096 + 1, 11 * 4096 - 1, 100_000, 1_000_003])
def test_sizes_that_are_no_power_of_two_use_their_full_range(size):
    for fs in (LoggedFiles(size).fs, memory_filesystem(size)):
        with fs.open("/f", "wb", 0) as file:
            assert file.write(bytes(size + 9000)) == size // 4096 * 4096
            fails(errno.ENOSPC, file.write, b"x")
            file.seek(0)
            assert file.write(b"y" * 4096) == 4096, "what has its space can be overwritten"
        assert fs.statvfs().f_bfree == 0
        fs.unlink("/f")
        assert fs.statvfs().f_bfree == size // 4096


def test_a_full_disk_refuses_at_the_write_and_the_transaction_goes_on():
    stored = LoggedFiles(3 * 4096)
    with stored.transaction():
        stored.map["before"] = b"1"
        with pytest.raises(OSError, match="space") as caught, stored.fs.open("/f", "wb") as file:
            file.write(bytes(4 * 4096))
            file.flush()
        assert caught.value.errno == errno.ENOSPC
        stored.map["after"] = b"2"
    stored.restart()
    assert dict(stored.map) == {"before": b"1", "after": b"2"}
    assert stored.fs.stat("/f").st_size == 3 * 4096


def test_a_full_disk_is_full_after_a_restart_and_empty_after_the_files_are_gone():
    stored = LoggedFiles(100 * 4096)
    for name in range(10):
        stored.fs.write_bytes(f"/{name}", bytes(10 * 4096))
    stored.restart()
    assert stored.fs.statvfs().f_bfree == 0
    fails(errno.ENOSPC, stored.fs.write_bytes, "/more", b"1")
    assert not stored.fs.exists("/more")
    stored.fs.unlink("/3")
    stored.restart()
    assert stored.fs.statvfs().f_bfree == 10
    stored.fs.write_bytes("/more", bytes(10 * 4096))


def test_inodes_run_out_at_the_create():
    fs = LoggedFiles(4096).fs
    for name in range(fs.statvfs().f_ffree):
        fs.touch(f"/{name}")
    fails(errno.ENOSPC, fs.touch, "/more")
    fails(errno.ENOSPC, fs.mkdir, "/more")
    fs.unlink("/0")
    fs.mkdir("/more")


def test_too_large_a_transaction_is_refused_at_the_write():
    stored = LoggedFiles(512 * MIB)
    with stored.transaction():
        piece = bytes(8 * MIB)
        with stored.fs.open("/f", "wb", 0) as file:
            for _ in range(23):
                file.write(piece)
            fails(errno.EDQUOT, file.write, piece)
        size = stored.fs.stat("/f").st_size
        stored.fs.truncate("/f", 0)
    assert size == 23 * len(piece)


def test_writing_a_block_again_in_one_transaction_counts_once():
    stored = LoggedFiles()
    with stored.transaction(), stored.fs.open("/f", "wb", 0) as file:
        for number in range(60_000):  # 240 MiB, were each counted
            file.seek(0)
            file.write(number.to_bytes(4096, "big"))
    assert len(stored.records[-1]) < 20_000


# --- many, and at once ---


def test_many_files_in_one_directory():
    stored = LoggedFiles()
    with stored.transaction():
        for number in range(3000):
            stored.fs.write_bytes(f"/{number:04}", b"%d" % number)
    stored.restart()
    assert stored.fs.listdir() == [f"{number:04}" for number in range(3000)]
    assert stored.fs.read_bytes("/2999") == b"2999"


def test_threads_write_files_at_once():
    stored = LoggedFiles(64 * MIB)
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            stored.fs.mkdir(f"/{name}")
            for piece in range(40):
                with stored.fs.open(f"/{name}/{piece % 7}", "ab") as file:
                    file.write(bytes([name]) * 5000)
                stored.fs.listdir("/")
        except BaseException as error:
            failures.append(error)

    with stored.transaction():
        threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    stored.restart()
    for name in range(6):
        content = b"".join(stored.fs.read_bytes(f"/{name}/{piece}") for piece in range(7))
        assert content == bytes([name]) * 200_000


# --- settings ---


def test_size_zero_and_sizes_below_a_block_make_no_filesystem():
    for size in ("0", 1, "4095"):
        with pytest.raises(InvalidInput):
            memory_filesystem(size)
