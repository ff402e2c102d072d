"""What happens to stores on disk: cut off, overwritten, locked, forked, full, killed. Each case by really doing it."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import pytest

from host_store.lmdb.environment import LmdbEnvironment, create_environment
from host_store.lmdb.history import LEAVES_PER_ROW, History, append_leaves, row_key
from host_store.lmdb.journal import JOURNAL_BYTES, MAX_FRAME_BYTES
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.lmdb.meta import measure_data_file
from host_store.lmdb.tables import LAYOUT, LEAVES, META, NODES, TABLES, record_key
from host_store.store import Head, OutboxItem
from wire.errors import (
    CorruptedStore,
    InvalidInput,
    StoreError,
    StoreFenced,
    StoreLocked,
    StoreMissing,
    StoreUnavailable,
    UnsupportedVersion,
)
from wire.limits import KIB, MIB, RECORDS_PER_READ_BYTES

ROOT = Path(__file__).resolve().parents[2]
PAGE = 4096  # bytes
ALICE = b"alice".ljust(16, b"\0")
LARGE = MAX_FRAME_BYTES  # bytes of a record that is too large for the journal and goes to LMDB at once
STRACE = shutil.which("strace")


def record(n: int, size: int = 4080) -> bytes:
    """Incompressible-looking content that depends on n only."""
    return random.Random(n).randbytes(size)


def append(store: LmdbStore, n: int, *, size: int = 4080, **more: Any) -> None:
    content = record(n, size)
    store.append(n, content, hashlib.sha256(content).digest(), trim=more.pop("trim", 0), **more)


def create(store: LmdbStore, keyring: bytes) -> None:
    store.create(keyring, record(1), hashlib.sha256(record(1)).digest())


def check_records(store: LmdbStore, *, size: int = 4080) -> Head:
    """Every kept record is the one that was written."""
    head = store.head()
    for n, content in enumerate(store.read(head.first, head.n + 1), head.first):
        assert content == record(n, size), n
    return head


# A script runs in a Python of its own, with this module's names at hand.
PRELUDE = "from test_lmdb_hardening import *; arguments = sys.argv[1:]\n"
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent), *sys.path])}


def run(script: str, *arguments: object, under: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*under, sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PRELUDE + script, *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder for many commits, where a sync costs nothing."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name, "store")


# --- the data file ---


def test_a_file_cut_off_anywhere_is_refused_or_whole_and_never_kills_the_process(memory: Path) -> None:
    with LmdbStore.open(memory) as store:
        for n in range(1, 61):
            append(store, n, trim=max(0, n - 30), outbox=[OutboxItem(n, 0, ALICE, record(n, 900))])
    whole = (memory / "data.mdb").stat().st_size
    lengths = {0, 1, 15, 16, 100, 151, 152, PAGE - 1, PAGE, PAGE + 1, PAGE + 151, 2 * PAGE, whole - PAGE, whole - 1}
    lengths |= {page * PAGE for page in range(3, whole // PAGE, 3)}
    result = run(
        """
path = Path(arguments[0])
content = (path / "data.mdb").read_bytes()
for length in map(int, arguments[1:]):
    (path / "data.mdb").write_bytes(content[:length])
    try:
        store = LmdbStore.open(path)
    except CorruptedStore:
        print("refused", length)
    else:  # the tail was free pages
        assert check_records(store) == Head(60, 30)
        assert store.outbox(ALICE) == [OutboxItem(n, 0, ALICE, record(n, 900)) for n in range(1, 61)]
        append(store, 61)
        store.close()
        print("whole", length)
""",
        memory,
        *sorted(lengths),
    )
    assert result.returncode == 0, result
    outcomes = result.stdout.splitlines()
    assert len(outcomes) == len(lengths)
    assert outcomes == sorted(outcomes, key=lambda line: (line.split()[0], int(line.split()[1])))
    assert sum(line.startswith("refused") for line in outcomes) > 0.9 * len(lengths)


def test_the_length_that_is_asked_for_ends_with_the_last_page_of_the_newest_commit(memory: Path) -> None:
    with LmdbStore.open(memory) as store:
        for n in range(1, 9):
            append(store, n, size=LARGE + n * 10_000)
            opened = store._environment._opened
            assert opened is not None
            length = measure_data_file(memory / "data.mdb")
            assert length.needed == (opened[0].info()["last_pgno"] + 1) * PAGE == length.actual


def test_a_file_that_is_short_by_free_pages_only_is_opened(memory: Path) -> None:
    """LMDB counts pages that a transaction took and gave back, but does not always write them."""
    with LmdbStore.open(memory) as store:
        for n in range(1, 9):
            append(store, n, trim=n)
    with lmdb.Environment(str(memory), max_dbs=6) as environment:
        records = environment.open_db(b"records")
        with environment.begin(write=True) as transaction:
            transaction.put(record_key(9), bytes(50 * PAGE), db=records)
            transaction.delete(record_key(9), db=records)
    length = measure_data_file(memory / "data.mdb")
    assert length.actual < length.needed
    with LmdbStore.open(memory) as store:
        assert check_records(store) == Head(8, 8)
        append(store, 9, size=60 * PAGE, trim=9)
        assert check_records(store, size=60 * PAGE) == Head(9, 9)
    length = measure_data_file(memory / "data.mdb")
    assert length.actual >= length.needed


@pytest.mark.parametrize(
    ("offset", "content", "error"),
    [
        (0, b"not a database at all " * 500, CorruptedStore),
        (0, bytes(8 * PAGE), CorruptedStore),
        (16, b"\xff\xff\xff\xff", CorruptedStore),  # the magic number
        (20, b"\2\0\0\0", UnsupportedVersion),
        (40, b"\1\0\0\0", CorruptedStore),  # the page size
        (40, b"\0\2\0\0", CorruptedStore),
        (PAGE + 40, b"\0\2\0\0", CorruptedStore),
        (136, b"\0\0\0\0\1\0\0\0", CorruptedStore),  # the last page
        (PAGE + 16, bytes(PAGE), CorruptedStore),
    ],
)
def test_overwritten_meta_pages_are_refused(memory: Path, offset: int, content: bytes, error: type[StoreError]) -> None:
    with LmdbStore.open(memory) as store:
        create(store, b"sealed")
    with (memory / "data.mdb").open("r+b") as file:
        if offset == 136:  # both, since only the newer one counts
            os.pwrite(file.fileno(), content, PAGE + offset)
        os.pwrite(file.fileno(), content, offset)
    damaged = (memory / "data.mdb").read_bytes()
    for _ in range(2):
        with pytest.raises(error):
            LmdbStore.open(memory)
    assert (memory / "data.mdb").read_bytes() == damaged


def test_a_data_file_that_is_a_folder_is_refused(path: Path) -> None:
    (path / "data.mdb").mkdir(parents=True)
    with pytest.raises(CorruptedStore):
        LmdbStore.open(path)


def test_a_newer_layout_is_named_and_left_alone(path: Path) -> None:
    LmdbStore.open(path).close()
    with lmdb.Environment(str(path), max_dbs=6) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"layout", b"pmap-store/3", db=environment.open_db(b"meta", txn=transaction))
    with pytest.raises(UnsupportedVersion, match="pmap-store/3"):
        LmdbStore.open(path)


def test_another_format_of_lmdb_is_named(path: Path) -> None:
    path.mkdir()
    lmdb.Environment(str(path), lib_version=1).close()
    with pytest.raises(UnsupportedVersion):
        LmdbStore.open(path)


@pytest.mark.parametrize("main_key", [None, b"meta"])
def test_a_database_of_somebody_else_is_refused(path: Path, main_key: bytes | None) -> None:
    path.mkdir()
    with lmdb.Environment(str(path)) as environment, environment.begin(write=True) as transaction:
        transaction.put(main_key or b"any", b"thing")
    with pytest.raises(CorruptedStore, match="not one of this project"):
        LmdbStore.open(path)


def delete(key: bytes, table: str = "records") -> Callable[[Any, dict[str, Any]], None]:
    return lambda transaction, tables: transaction.delete(key, db=tables[table])


def put(key: bytes, value: bytes = bytes(32), table: str = "records") -> Callable[[Any, dict[str, Any]], None]:
    return lambda transaction, tables: transaction.put(key, value, db=tables[table])


def move(old: bytes, new: bytes, table: str = "records") -> Callable[[Any, dict[str, Any]], None]:
    def damage(transaction: Any, tables: dict[str, Any]) -> None:
        transaction.put(new, transaction.pop(old, db=tables[table]), db=tables[table])

    return damage


def add_strange_rows(transaction: Any, tables: dict[str, Any]) -> None:
    for n in range(1, 5):
        put(record_key(n) + b"strange")(transaction, tables)


@pytest.mark.parametrize(
    "damage",
    [
        delete(row_key(0), "leaves"),
        delete(row_key(1), "leaves"),
        move(row_key(0), row_key(2), "leaves"),
        put(row_key(1), bytes(32 * 4), "leaves"),
        put(row_key(2), bytes(32), "leaves"),
        put(row_key(0) + b"strange", bytes(32), "leaves"),
        delete(record_key(129)),
        delete(record_key(130)),
        put(record_key(1)),
        put(record_key(131)),
        move(record_key(128), record_key(1)),
        move(record_key(128), record_key(126)),
        move(record_key(130), record_key(1)),
        add_strange_rows,
        lambda transaction, tables: transaction.drop(tables["nodes"], delete=True),
    ],
)
def test_a_gap_in_the_tables_is_found_at_opening(path: Path, damage: Callable[[Any, dict[str, Any]], None]) -> None:
    last = LEAVES_PER_ROW + 3
    with LmdbStore.open(path) as store:
        for n in range(1, last + 1):
            append(store, n, size=100, trim=max(0, n - 2))
    with lmdb.Environment(str(path), max_dbs=6) as environment, environment.begin(write=True) as transaction:
        damage(transaction, {name: environment.open_db(name.encode(), txn=transaction) for name in TABLES})
    with pytest.raises(CorruptedStore):
        LmdbStore.open(path)


# --- the folder ---


def test_a_missing_store_is_not_made_unasked(path: Path) -> None:
    with pytest.raises(StoreMissing):
        LmdbStore.open(path, create=False)
    assert not path.exists()
    path.mkdir()
    with pytest.raises(StoreMissing):
        LmdbStore.open(path, create=False)
    assert list(path.iterdir()) == []


def test_an_empty_folder_can_become_a_store_and_one_in_use_cannot(path: Path) -> None:
    path.mkdir()
    LmdbStore.open(path).close()
    LmdbStore.open(path, create=False).close()
    home = path.with_name("home")
    home.mkdir()
    (home / "letter").write_text("dear all")
    with pytest.raises(InvalidInput, match="letter"):
        LmdbStore.open(home)
    assert [entry.name for entry in home.iterdir()] == ["letter"]


@pytest.mark.parametrize("name", ["file", "file/below", "missing/below", "nul\0", "x" * 300])
def test_a_path_that_cannot_hold_a_store_gives_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises((InvalidInput, StoreUnavailable)):
        LmdbStore.open(tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_a_crash_during_creation_left_is_thrown_away(path: Path) -> None:
    (path / "creating").mkdir(parents=True)
    (path / "creating" / "data.mdb").write_bytes(b"torn")
    (path / "host.lock").write_bytes(b"1 elsewhere")
    with pytest.raises(StoreMissing):
        LmdbStore.open(path, create=False)
    with LmdbStore.open(path) as store:
        append(store, 1)
    assert not (path / "creating").exists()


def test_a_store_is_private_to_its_user(path: Path) -> None:
    with LmdbStore.open(path) as store:
        append(store, 1)
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in [path, *path.iterdir()]}
    assert modes == {"store": 0o700, **dict.fromkeys(("data.mdb", "journal", "lock.mdb", "host.lock"), 0o600)}


def test_a_folder_without_permission_gives_a_sentence() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "store")
        LmdbStore.open(path).close()
        os.chmod(path / "host.lock", 0o400)
        os.chmod(name, 0o555)
        result = run(
            """
if os.geteuid() == 0:
    os.setuid(65534)  # root may everything
for path in arguments:
    try:
        LmdbStore.open(path)
    except StoreUnavailable as error:
        print(error)
""",
            path,
            Path(name, "new"),
        )
        os.chmod(name, 0o700)
    lines = result.stdout.splitlines()
    assert len(lines) == 2 and all("Permission denied; user" in line for line in lines), result


# --- one owner ---


def test_a_second_opening_in_this_process_is_refused(path: Path) -> None:
    with LmdbStore.open(path) as store:
        with pytest.raises(StoreLocked, match="in this process"):
            LmdbStore.open(path)
        append(store, 1)
    LmdbStore.open(path).close()


def test_a_second_process_is_refused_until_the_first_is_dead(path: Path) -> None:
    with start("store = LmdbStore.open(arguments[0]); print('open', flush=True); signal.pause()", path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=rf"process {owner.pid} on .*: stop that process"):
            LmdbStore.open(path)
        owner.kill()
        owner.wait()
        LmdbStore.open(path).close()


def test_a_note_that_is_garbage_does_not_matter(path: Path) -> None:
    with LmdbStore.open(path):
        (path / "host.lock").write_bytes(b"\xff" * 5000)
        with pytest.raises(StoreLocked, match="another process"):
            LmdbStore.open(path)


def test_a_forked_child_can_do_nothing_with_the_store(path: Path) -> None:
    store = LmdbStore.open(path)
    append(store, 1)
    records = store.read(1, 2)
    uses: list[Callable[[], object]] = [
        lambda: append(store, 2), store.head, store.keyring, lambda: create(store, b""), lambda: next(records),
        lambda: store.outbox(ALICE), lambda: store.outbox_item(1, 0), lambda: store.node(0, 0), store.stats,
    ]  # fmt: skip
    child = os.fork()
    if child == 0:
        refused = 0
        try:
            for use in uses:
                try:
                    use()
                except StoreError:
                    refused += 1
            store.close()
        finally:
            os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(uses)
    with pytest.raises(StoreLocked):
        LmdbStore.open(path)
    append(store, 2)
    store.close()
    with LmdbStore.open(path) as store:
        assert check_records(store) == Head(2, 1)


def test_a_forked_child_that_lives_on_does_not_keep_the_store_locked(path: Path) -> None:
    result = run(
        """
store = LmdbStore.open(arguments[0])
child = os.fork()
if child == 0:
    os.close(1); os.close(2)
    signal.pause()
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
""",
        path,
    )
    child = int(result.stdout)
    try:
        os.kill(child, 0)
        LmdbStore.open(path).close()
    finally:
        os.kill(child, signal.SIGKILL)


# --- full, broken, killed ---


def test_a_full_map_grows_and_loses_nothing(memory: Path) -> None:
    with LmdbStore.open(memory, initial_map_bytes=64 * KIB) as store:
        for n in range(1, 41):
            append(store, n, size=20_000)
        append(store, 41, size=20_000, trim=41, outbox=[OutboxItem(41, 0, ALICE, bytes(8 * MIB))])
        assert check_records(store, size=20_000) == Head(41, 41)
    with LmdbStore.open(memory, initial_map_bytes=64 * KIB) as store:
        assert check_records(store, size=20_000) == Head(41, 41)
        assert store.outbox(ALICE) == [OutboxItem(41, 0, ALICE, bytes(8 * MIB))]


def test_readers_survive_a_map_that_grows_under_them(memory: Path) -> None:
    done = threading.Event()
    heads: list[Head] = []

    with LmdbStore.open(memory, initial_map_bytes=64 * KIB) as store:

        def read() -> None:
            while not done.is_set():
                heads.append(check_records(store, size=30_000))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for n in range(1, 61):
                append(store, n, size=30_000)
        finally:
            done.set()
            reader.join()
        assert store.stats().file_bytes > 16 * 64 * KIB
    assert heads == sorted(heads, key=lambda head: head.n) and heads[-1].n > 0


@contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    before, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, hard))


def test_a_full_disk_refuses_appends_but_not_reads_and_the_store_recovers(path: Path) -> None:
    with LmdbStore.open(path) as store:
        append(store, 1)
        with limited(resource.RLIMIT_FSIZE, (path / "data.mdb").stat().st_size):
            for n in range(2, 5):
                with pytest.raises(StoreUnavailable, match=r"nothing was changed.*File too large"):
                    append(store, 2, size=n * 100_000)
                assert check_records(store) == Head(1, 1)
        append(store, 2)
        assert check_records(store) == Head(2, 1)


def test_no_disk_for_a_new_store_leaves_none(path: Path) -> None:
    with limited(resource.RLIMIT_FSIZE, PAGE), pytest.raises(StoreUnavailable):
        LmdbStore.open(path)
    with pytest.raises(StoreMissing):
        LmdbStore.open(path, create=False)
    LmdbStore.open(path).close()


def test_no_address_space_for_a_larger_map_refuses_one_append_only(memory: Path) -> None:
    with LmdbStore.open(memory, initial_map_bytes=64 * MIB) as store:
        append(store, 1, size=60 * MIB)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        with limited(resource.RLIMIT_AS, pages * PAGE + 40 * MIB):
            with pytest.raises(StoreUnavailable, match="nothing was changed"):
                append(store, 2, size=8 * MIB)
            assert store.head() == Head(1, 1)
        append(store, 2, size=8 * MIB)
        assert store.head() == Head(2, 1)


FAULTY = """
store = LmdbStore.open(arguments[0])
acknowledged, refused = int(arguments[1]), 0
while acknowledged < 12:
    try:
        append(store, acknowledged + 1, size=LARGE)
        acknowledged += 1
    except StoreUnavailable as error:
        refused += 1
        assert "nothing was changed" in str(error) and "Input/output error" in str(error), error
        assert check_records(store, size=LARGE) == Head(acknowledged, 1)
assert check_records(store, size=LARGE) == Head(12, 1)
print(acknowledged, refused)
"""


def run_with_fault(script: str, fault: str, *arguments: object) -> str:
    """Run a script while the kernel answers some of its calls with an error; what it printed."""
    if STRACE is None:
        pytest.skip("strace is not installed")
    result = run(script, *arguments, under=[STRACE, "-f", "-qq", "-o", "/dev/null", "-e", f"inject={fault}"])
    if "ptrace" in result.stderr.lower():
        pytest.skip("processes may not be traced here")
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64", "writev"])
def test_an_io_error_at_any_write_or_sync_of_a_commit_is_reported_and_survived(memory: Path, call: str) -> None:
    with LmdbStore.open(memory) as store:  # so that creation is not what fails
        append(store, 1, size=LARGE)
    acknowledged, refused = map(int, run_with_fault(FAULTY, f"{call}:error=EIO:when=4..16+3", memory, 1).split())
    assert acknowledged == 12 and refused >= 1
    with LmdbStore.open(memory) as store:
        assert check_records(store, size=LARGE) == Head(12, 1)


def test_a_store_is_not_believed_before_it_is_synced(memory: Path) -> None:
    """What a killed predecessor wrote last may be in the page cache only."""
    LmdbStore.open(memory).close()
    script = """
try:
    LmdbStore.open(arguments[0])
except StoreUnavailable as error:
    print(error)
"""
    assert "Input/output error" in run_with_fault(script, "fsync:error=EIO", memory)


class FailingAfterwards:
    """A real environment whose next commits take place and are then reported as failed."""

    def __init__(self, environment: lmdb.Environment, times: int) -> None:
        self.environment = environment
        self.times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.environment, name)

    @contextmanager
    def begin(self, **arguments: Any) -> Iterator[Any]:
        with self.environment.begin(**arguments) as transaction:
            yield transaction
        if arguments.get("write") and self.times:
            self.times -= 1
            raise lmdb.DiskError("mdb_txn_commit", 5)


def fail_afterwards(environment: LmdbEnvironment, times: int = 1) -> None:
    opened = environment._opened
    assert opened is not None
    environment._opened = (FailingAfterwards(opened[0], times), opened[1])  # type: ignore[assignment]


def test_a_commit_that_failed_but_took_place_counts_once_it_is_durable(memory: Path) -> None:
    with LmdbStore.open(memory) as store:
        append(store, 1, size=LARGE)
        fail_afterwards(store._environment)
        before = measure_transactions(store)
        append(store, 2, size=LARGE, outbox=[OutboxItem(2, 0, ALICE, b"reply")])
        assert measure_transactions(store) == before + 2  # the append, and a durable commit on top of it
        assert check_records(store, size=LARGE) == Head(2, 1)
        assert len(store.outbox(ALICE)) == 1
        append(store, 3)


def test_a_creation_that_failed_but_took_place_counts(memory: Path) -> None:
    with LmdbStore.open(memory) as store:
        for change, keyring in ((create, b"sealed"), (LmdbStore.replace_keyring, b"sealed again")):
            fail_afterwards(store._environment)
            change(store, keyring)
            assert store.keyring() == keyring
            assert check_records(store) == Head(1, 1)


def test_a_full_disk_refuses_a_creation_as_a_whole(path: Path) -> None:
    with LmdbStore.open(path) as store:
        size = (path / "data.mdb").stat().st_size
        with limited(resource.RLIMIT_FSIZE, size), pytest.raises(StoreUnavailable, match="nothing was changed"):
            create(store, bytes(4096))
        assert (store.keyring(), store.head()) == (None, Head(0, 1))
        create(store, b"sealed")
        assert (store.keyring(), store.head()) == (b"sealed", Head(1, 1))


def test_a_commit_whose_fate_cannot_be_read_is_unknown_until_it_can(memory: Path) -> None:
    aside = memory.with_name("aside")
    with LmdbStore.open(memory) as store:
        append(store, 1, size=LARGE)
        fail_afterwards(store._environment)
        original = store._environment._open

        def unreadable() -> Any:
            if (memory / "data.mdb").exists():
                (memory / "data.mdb").rename(aside)
            return original()

        store._environment._open = unreadable  # type: ignore[method-assign]
        before = measure_transactions(store)
        with pytest.raises(StoreUnavailable, match="the outcome is unknown"):
            append(store, 2, size=LARGE)
        with pytest.raises(StoreError):
            store.head()
        store._environment._open = original  # type: ignore[method-assign]
        aside.rename(memory / "data.mdb")
        append(store, 2, size=LARGE)  # the same bytes again: they are there already
        assert measure_transactions(store) == before + 2  # but counted only with a durable commit on top of them
        assert check_records(store, size=LARGE) == Head(2, 1)
        append(store, 3)


def measure_transactions(store: LmdbStore) -> int:
    opened = store._environment._opened
    assert opened is not None
    return int(opened[0].info()["last_txnid"])


def test_an_interrupt_inside_a_change_changes_nothing(memory: Path) -> None:
    with LmdbStore.open(memory) as store:
        append(store, 1)

        def interrupted(transaction: Any, tables: Any) -> None:
            transaction.put(b"keyring", b"half", db=tables[META])
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store._environment.update(interrupted, lambda transaction, tables: False)
        assert store.keyring() is None
        append(store, 2)
        assert check_records(store) == Head(2, 1)


PAST_THE_LOCK = """
import fcntl
fcntl.flock = lambda fd, how: None  # as on a file system without working locks
store = LmdbStore.open(arguments[0])
head = check_records(store)
for n in range(head.n + 1, head.n + 1 + int(arguments[1])):
    append(store, n)
print(head.n)
if arguments[2] == "killed":
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
store.close()
"""


@pytest.mark.parametrize("end", ["closed", "killed"])
@pytest.mark.parametrize("theirs", [0, 4])
@pytest.mark.parametrize("ours", [1, 4])
def test_a_writer_that_got_past_the_lock_is_fenced(memory: Path, ours: int, theirs: int, end: str) -> None:
    """Two processes on a filesystem without working locks: nothing that either acknowledged is lost."""
    store = LmdbStore.open(memory)
    for n in range(1, ours + 1):
        append(store, n)
    assert run(PAST_THE_LOCK, memory, theirs, end).stdout == f"{ours}\n"
    for _ in range(2):
        with pytest.raises(StoreFenced):
            append(store, ours + 1, size=17)
    store.close()
    with LmdbStore.open(memory) as store:
        assert check_records(store) == Head(ours + theirs, 1)
        append(store, ours + theirs + 1)


KILLED = """
store = LmdbStore.open(arguments[0])
n = store.head().n
while True:
    n += 1
    append(store, n, trim=max(0, n - 20), outbox=[OutboxItem(n, 0, ALICE, b"reply")], drops=[(n - 1, 0)])
    os.write(1, b"%d\\n" % n)
"""


def test_killed_at_any_moment_it_keeps_what_it_acknowledged(path: Path) -> None:
    LmdbStore.open(path).close()
    acknowledged = 0
    for appends in (1, 17, 40):
        with start(KILLED, path) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(appends)]
            child.kill()
            lines += child.stdout.readlines()
        assert int(lines[-1]) > acknowledged
        acknowledged = int(lines[-1])
        with LmdbStore.open(path, create=False) as store:
            head = check_records(store)
            assert head.n in (acknowledged, acknowledged + 1)
            assert head.first == max(1, head.n - 20)
            assert store.outbox(ALICE) == [OutboxItem(head.n, 0, ALICE, b"reply")]
            acknowledged = head.n


# --- size ---


def test_a_read_keeps_a_portion_of_the_records_in_memory_not_all(memory: Path) -> None:
    with LmdbStore.open(memory) as store:
        for n in range(1, 5):
            append(store, n, size=RECORDS_PER_READ_BYTES // 2)
        records = store.read(1, 5)
        assert next(records) == record(1, RECORDS_PER_READ_BYTES // 2)
        append(store, 5, trim=5)
        assert next(records) == record(2, RECORDS_PER_READ_BYTES // 2)
        with pytest.raises(CorruptedStore):
            next(records)


def test_a_window_that_moves_reuses_its_space(memory: Path) -> None:
    with LmdbStore.open(memory) as store:
        for n in range(1, 301):
            append(store, n, trim=max(0, n - 10), outbox=[OutboxItem(n, 0, ALICE, bytes(500))], drops=[(n - 1, 0)])
        stats = store.stats()
    assert (stats.records, stats.outbox_items) == (11, 1)
    assert 11 * PAGE < stats.used_bytes <= stats.file_bytes < JOURNAL_BYTES + 60 * PAGE


def test_stored_levels_are_right_up_to_level_16(memory: Path) -> None:
    memory.mkdir()
    create_environment(memory, TABLES, LAYOUT)
    environment = LmdbEnvironment(memory, TABLES, LAYOUT, lambda transaction, tables: None)
    leaves = [hashlib.sha256(b"%d" % n).digest() for n in range(1, 65537)]
    stored = 0

    def fill(transaction: Any, tables: Any) -> None:
        append_leaves(transaction, tables[LEAVES], stored, leaves[stored:until])
        History(transaction, tables[LEAVES], tables[NODES], until).store_completed_nodes(stored)

    for until in (1, 126, 127, 128, 300, 65280, 65300, 65536):  # groups of any size
        environment.update(fill, lambda transaction, tables: False)
        stored = until
    with environment.view() as (transaction, tables):
        # Whatever part of the leaves is not stored yet: the tree over all of them is the same.
        for stored in (65536, 65535, 65280, 65281, 65279):
            history = History(transaction, tables[LEAVES], tables[NODES], stored, leaves[stored:])
            nodes = leaves
            for level in range(17):
                for index in {0, len(nodes) // 3, len(nodes) - 1}:
                    assert history.node(level, index) == nodes[index]
                nodes = [
                    hashlib.sha256(b"\1" + nodes[at] + nodes[at + 1]).digest() for at in range(0, len(nodes) - 1, 2)
                ]
    environment.close()
