"""Files follow the transaction: all of a mail or nothing of it, and no byte of one mail in another."""

from __future__ import annotations

import errno
import gc
import io

import pytest
from core_host import CoreHost
from file_stores import MIB, LoggedFiles

from pmap import Enclave
from pmap.filesystem.settings import FilesystemSettings
from wire.boundary import AnswerKind
from wire.errors import InvalidInput


class Boom(Exception):
    pass


@pytest.fixture
def stored() -> LoggedFiles:
    return LoggedFiles(memory=MIB)


def contents(stored: LoggedFiles) -> dict[str, bytes]:
    found = {}
    for base, _, names in stored.fs.walk():
        for name in names:
            path = base.rstrip("/") + "/" + name
            found[path] = stored.fs.read_bytes(path)
    return found


def test_an_abort_undoes_every_kind_of_change_on_both_volumes(stored):
    for base in ("/", "/tmp/"):
        stored.fs.mkdir(base + "d")
        for name in ("changed", "cut", "gone", "moved", "target"):
            stored.fs.write_bytes(base + name, name.encode() * 2000)
    before = contents(stored), stored.fs.statvfs("/"), stored.fs.statvfs("/tmp")
    entries = dict(stored.log.entries.live)
    with pytest.raises(Boom), stored.transaction():
        for base in ("/", "/tmp/"):
            with stored.fs.open(base + "changed", "r+b") as file:
                file.write(b"new")
            stored.fs.truncate(base + "cut", 10)
            stored.fs.unlink(base + "gone")
            stored.fs.rename(base + "moved", base + "target")
            stored.fs.makedirs(base + "new/dir")
            stored.fs.write_bytes(base + "new/dir/file", bytes(50_000))
            stored.fs.rmdir(base + "d")
        stored.map["k"] = b"1"
        raise Boom
    assert (contents(stored), stored.fs.statvfs("/"), stored.fs.statvfs("/tmp")) == before
    assert dict(stored.log.entries.live) == entries
    assert stored.fs.isdir("/d")
    assert "k" not in stored.map


def test_files_and_map_commit_together(stored):
    with stored.transaction():
        stored.fs.write_bytes("/f", b"1")
        stored.map["k"] = b"1"
        before = len(stored.records)
    assert len(stored.records) == before + 1
    stored.restart()
    assert (stored.fs.read_bytes("/f"), stored.map["k"]) == (b"1", b"1")


@pytest.mark.parametrize("mode", ["rb", "r+b", "ab", "r", "r+", "a"])
@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("opened", ["before the mail", "in the mail"])
def test_after_an_abort_every_open_file_is_stale(stored, mode, buffering, opened):
    if buffering == 0 and "b" not in mode:
        buffering = 1  # texts cannot be unbuffered; by line is the least
    file_writes, new = mode not in ("r", "rb"), b"new" if "b" in mode else "new"
    stored.fs.write_bytes("/f", b"old\n" * 5000)
    file = stored.fs.open("/f", mode, buffering)
    with pytest.raises(Boom), stored.transaction():
        if opened == "in the mail":
            file = stored.fs.open("/f", mode, buffering)
        if file.writable():
            file.write("new" if isinstance(file, io.TextIOBase) else b"new")
        raise Boom
    for use in (lambda: file.seek(0, 2), (lambda: file.write(new)) if file_writes else file.read):
        with pytest.raises(OSError) as caught:
            use()
        assert caught.value.errno == errno.ESTALE
    file.close()
    assert file.closed
    assert stored.fs.read_bytes("/f") == b"old\n" * 5000


@pytest.mark.parametrize("mode", ["wb", "w", "r+b", "ab"])
def test_what_a_file_holds_back_is_committed_with_the_mail_that_wrote_it(stored, mode):
    stored.fs.write_bytes("/f", b"")
    with stored.transaction():
        kept = stored.fs.open("/f", mode)
        kept.write("first" if mode == "w" else b"first")
    assert stored.fs.read_bytes("/f") == b"first"
    with stored.transaction():
        kept.write("second" if mode == "w" else b"second")
    assert stored.fs.read_bytes("/f") == b"firstsecond"
    with pytest.raises(Boom), stored.transaction():
        kept.write("third" if mode == "w" else b"third")
        raise Boom
    with stored.transaction():
        with pytest.raises(OSError, match="Stale"):
            kept.flush()
        stored.fs.write_bytes("/g", b"of another mail")
    del kept
    gc.collect()
    stored.restart()
    assert contents(stored) == {"/f": b"firstsecond", "/g": b"of another mail"}


def test_a_file_collected_after_an_abort_writes_nothing(stored):
    with pytest.raises(Boom), stored.transaction():
        file = stored.fs.open("/f", "wb")
        file.write(b"secret of an aborted mail")
        ring = [file]
        ring.append(ring)  # only the cyclic collector frees it, whenever that runs
        del file, ring
        raise Boom
    with stored.transaction():
        stored.fs.write_bytes("/g", b"1")
        gc.collect()
    stored.restart()
    assert contents(stored) == {"/g": b"1"}


def test_a_file_collected_in_the_midst_of_an_operation_is_written_before_the_commit(stored):
    """Finalizers run anywhere, also while the entries are being changed: their writes wait for a safe place."""
    with stored.transaction():
        for number in range(300):
            file = stored.fs.open(f"/{number}", "wb")
            file.write(b"%d" % number)
            ring: list[object] = [file]
            ring.append(ring)
            del file, ring
        thresholds = gc.get_threshold()
        gc.set_threshold(1, 1, 1)
        try:
            for number in range(300):
                stored.fs.write_bytes(f"/other{number}", b"x" * 100)
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()
    stored.restart()
    found = contents(stored)
    # As with the standard library's own files, the collector may close a raw file before its buffer; what was
    # written is whole, and in its own file.
    assert all(found[f"/{number}"] in (b"", b"%d" % number) for number in range(300))
    assert all(found[f"/other{number}"] == b"x" * 100 for number in range(300))


def test_a_file_without_references_is_written_at_once_as_usual(stored):
    stored.fs.open("/f", "w").write("text")
    assert stored.fs.read_bytes("/f") == b"text"


def test_a_commit_fails_if_what_is_held_back_does_not_fit():
    stored = LoggedFiles(4 * 4096)
    with pytest.raises(OSError, match="space"), stored.transaction():
        stored.map["k"] = b"1"
        kept = stored.fs.open("/f", "wb")
        kept.write(bytes(5 * 4096))
    assert "k" not in stored.map
    assert contents(stored) == {}
    with pytest.raises(OSError, match="Stale"):
        kept.write(b"1")
    kept.close()


def test_an_unlinked_open_file_is_garbage_after_a_restart_and_is_taken_away(stored):
    stored.fs.write_bytes("/f", bytes(40_000))
    with stored.transaction():
        kept = stored.fs.open("/f", "rb", 0)
        stored.fs.unlink("/f")
    assert kept.read(1) == b"\0"
    used = stored.fs.statvfs().f_bfree
    stored.restart()
    assert stored.fs.statvfs().f_bfree == used, "reading writes nothing"
    stored.fs.touch("/g")
    assert stored.fs.statvfs().f_bfree == stored.fs.statvfs().f_blocks
    assert not any(key.startswith(b"\x20\x03") for key in stored.log.entries.live)


def test_an_abort_gives_an_unlinked_open_file_its_name_back(stored):
    stored.fs.write_bytes("/f", b"1")
    with pytest.raises(Boom), stored.transaction():
        kept = stored.fs.open("/f", "rb", 0)
        stored.fs.unlink("/f")
        raise Boom
    kept.close()
    stored.fs.touch("/g")
    assert stored.fs.read_bytes("/f") == b"1"


def test_reading_writes_nothing(stored):
    stored.fs.write_bytes("/f", bytes(50_000))
    commits, live = len(stored.records), dict(stored.log.entries.live)
    stored.fs.read_bytes("/f")
    stored.fs.stat("/f")
    list(stored.fs.walk())
    with stored.fs.open("/f") as file:
        file.read(10)
    assert (len(stored.records), dict(stored.log.entries.live)) == (commits, live)


# --- growing ---


def test_another_size_is_an_error_unless_growing_is_asked_for(stored):
    stored.fs.write_bytes("/f", b"1")
    size = stored.settings.persistent
    for other, grow in ((size + 1, False), (size - 1, False), (size - 1, True)):
        with pytest.raises(InvalidInput, match=r"was made with 16777216 bytes"):
            stored.restart(FilesystemSettings(other, 0, grow))
    for _ in range(2):
        stored.restart(FilesystemSettings(2 * size, 0, True))
        assert stored.fs.size == 2 * size
    stored.restart(FilesystemSettings(2 * size))
    assert stored.fs.read_bytes("/f") == b"1"
    assert stored.fs.statvfs().f_blocks == 2 * size // 4096


def test_growing_while_running_is_a_change_like_any_other(stored):
    size = stored.settings.persistent
    with pytest.raises(Boom), stored.transaction():
        stored.fs.grow(2 * size)
        raise Boom
    assert stored.fs.size == size
    stored.fs.grow(2 * size)
    with pytest.raises(InvalidInput):
        stored.fs.grow(size)
    stored.restart(FilesystemSettings(2 * size))
    assert stored.fs.statvfs().f_blocks == 2 * size // 4096


# --- in an enclave ---


class Archive(Enclave):
    persistent_filesystem_size = "1m"
    in_memory_filesystem_size = "1m"
    kept: io.TextIOBase

    def receive_from_host(self, data: bytes) -> bytes:
        command, _, rest = data.partition(b" ")
        if command == b"read":
            return self.fs.read_bytes(rest)
        if command == b"keep":
            self.kept = self.fs.open("/kept", "a")
            self.kept.write(rest.decode())
        elif command == b"again":
            self.kept.write(rest.decode())
        else:
            self.fs.write_bytes("/f", rest)
            self.fs.write_bytes("/tmp/f", rest)
            if command == b"fail":
                self.kept = self.fs.open("/kept", "a")
                self.kept.write("of a failed call")
                raise Boom
        return b"done"


def test_an_enclaves_files_follow_its_handlers():
    host = CoreHost.found(Archive)
    assert host.call(b"write one") == (AnswerKind.CALL_DONE, b"done")
    assert host.call(b"fail two")[0] is AnswerKind.CALL_FAILED
    assert host.call(b"again more")[0] is AnswerKind.CALL_FAILED
    assert host.call(b"read /f")[1] == host.call(b"read /tmp/f")[1] == b"one"
    assert host.call(b"read /kept")[0] is AnswerKind.CALL_FAILED
    host.call(b"keep first")
    host.call(b"again second")
    again = host.start()
    assert again.call(b"read /f")[1] == b"one"
    assert again.call(b"read /kept")[1] == b"firstsecond"
    assert again.call(b"read /tmp/f")[0] is AnswerKind.CALL_FAILED, "in-memory files are gone after a restart"


def test_between_handlers_files_can_be_read_but_not_written():
    host = CoreHost.found(Archive)
    host.call(b"write one")
    files = host.core.fs
    assert files is not None
    assert files.read_bytes("/f") == b"one"
    for path in ("/f", "/tmp/f"):
        with pytest.raises(OSError, match="Read-only") as caught:
            files.write_bytes(path, b"two")
        assert caught.value.errno == errno.EROFS


def test_an_enclave_without_files_says_so_and_the_stored_size_is_fixed():
    class Nothing(Enclave):
        def receive_from_host(self, data: bytes) -> None:
            self.fs.listdir()

    assert CoreHost.stateless(Nothing).call(b"")[0] is AnswerKind.CALL_FAILED
    host = CoreHost.found(Archive)
    host.call(b"write one")
    for size, grows in (("2m", False), ("512k", False), ("512k", True), ("0", False)):

        class Changed(Archive):
            persistent_filesystem_size = size
            persistent_filesystem_grows = grows
            persistent_map = True

        host.enclave = Changed
        with pytest.raises(InvalidInput, match=r"filesystem of 1048576 bytes|made with 1048576 bytes"):
            host.start()

    class Grown(Archive):
        persistent_filesystem_size = "2m"
        persistent_filesystem_grows = True

    host.enclave = Grown
    # Safe at any crash point: until a commit says so, the next start does it again.
    for grown in (host.start(), host.start()):
        assert grown.core.fs is not None
        assert grown.core.fs.size == 2 << 20
    grown.call(b"write two")
    Grown.persistent_filesystem_grows = False
    assert grown.start().call(b"read /f")[1] == b"two"


def test_files_in_memory_alone_keep_an_enclave_without_state():
    class Scratch(Enclave):
        in_memory_filesystem_size = "64k"

        def receive_from_host(self, data: bytes) -> bytes:
            self.fs.write_bytes("/f", data)
            return self.fs.read_bytes("/f")

    host = CoreHost.stateless(Scratch)
    assert host.call(b"x") == (AnswerKind.CALL_DONE, b"x")
    assert host.records == []
