"""File figures: an embedded store's files beside gocryptfs on the same disk, SQL beside plain SQLite and SQLCipher.

Durable means the same on all sides: the write has returned from an fsync, or from a commit with synchronous=FULL.
gocryptfs needs the Debian package ``gocryptfs`` and /dev/fuse; without them its ratios are left out.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.measure import cpu, interleave, quotients, rate
from host_store import EmbeddedStore, open_store
from host_store.lmdb.lmdb_store import LmdbStore
from pmap.filesystem.settings import SMALLEST_RECORD_BYTES
from pmap.filesystem.sqlite import connect

BLOCK = 4096
MIB = 1 << 20
FILE_BLOCKS = 2048
Round = Callable[[], float]


KEY = bytes(range(32))
Figures = dict[str, float]

BARS: Final[dict[str, tuple[str, float]]] = {
    "fs_write_vs_gocryptfs": ("at least", 1.0),
    "fs_sqlite_vs_sqlcipher": ("at least", 0.7),
    "fs_sqlite_vs_sqlcipher_wal": ("at least", 0.7),
    "fs_open_1024mib_s": ("at most", 10.0),
}
"""What the figures are to keep to."""


def figures(*, rounds: int = 7, image_mib: tuple[int, ...] = (64, 1024)) -> Figures:
    """All figures: the median of the rounds, or of the rounds' ratios."""
    found = {**against_gocryptfs(rounds=rounds), **in_a_transaction(rounds=rounds), **against_sql(rounds=rounds)}
    for size in image_mib:
        found |= image(size)
    return found


def line(name: str, value: float) -> str:
    """One figure for people."""
    if name not in BARS:
        return f"{name} = {value:.3g}"
    way, bar = BARS[name]
    holds = value >= bar if way == "at least" else value <= bar
    return f"{name} = {value:.3g}  ({way} {bar:g}: {'holds' if holds else 'MISSED'})"


def _ratio(over: Sequence[float], under: Sequence[float]) -> float:
    return median(quotients(over, under))


@contextmanager
def folder() -> Iterator[Path]:
    """A scratch folder on a real disk."""
    path = Path(tempfile.mkdtemp(prefix="pmap-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


# --- files beside gocryptfs --------------------------------------------------------------------------------


@contextmanager
def gocryptfs(path: Path) -> Iterator[Path | None]:
    """A mounted gocryptfs folder on the same disk; None where it cannot be had."""
    if shutil.which("gocryptfs") is None or not os.path.exists("/dev/fuse"):
        yield None
        return
    cipher, plain, secret = path / "cipher", path / "plain", path / "secret"
    cipher.mkdir()
    plain.mkdir()
    secret.write_text("a password for measuring\n")
    command = ["gocryptfs", "-q", "-nosyslog", "-passfile", str(secret)]
    subprocess.run([*command, "-init", "-scryptn", "10", str(cipher)], check=True, stderr=subprocess.DEVNULL)
    subprocess.run([*command, str(cipher), str(plain)], check=True, stderr=subprocess.DEVNULL)
    try:
        yield plain
    finally:
        subprocess.run(["fusermount3", "-u", str(plain)], check=True)


def against_gocryptfs(*, rounds: int) -> Figures:
    """Durable 4 KiB writes in place, small-file creates, and 4 MiB written durably at once."""
    with folder() as path, ExitStack() as stack:
        store = stack.enter_context(open_store(path / "store", KEY, filesystem_size="256m"))
        with store.transaction():
            store.fs.write_bytes("/f", os.urandom(FILE_BLOCKS * BLOCK))
        contenders: dict[str, Round] = {
            "ours write": _our_writes(store, 100),
            "ours create": _our_creates(store, 50),
            "ours bulk": _our_bulk(store),
            "store write": _store_writes(stack, path / "bare", 100),
        }
        for name, place in (("gocryptfs", stack.enter_context(gocryptfs(path))), ("plain", path)):
            if place is not None:
                (place / "f").write_bytes(os.urandom(FILE_BLOCKS * BLOCK))
                contenders[f"{name} write"] = _their_writes(stack, place, 100)
                contenders[f"{name} create"] = _their_creates(stack, place, 50)
                contenders[f"{name} bulk"] = _their_bulk(place)
        for _ in range(3 * FILE_BLOCKS // 100):
            contenders["ours write"]()  # until the window is full, and the store's file has stopped growing
        results = interleave(contenders, rounds)
    found = {
        "fs_durable_writes_s": median(results["ours write"]),
        "fs_creates_s": median(results["ours create"]),
        "fs_bulk_mib_s": median(results["ours bulk"]),
        "fs_write_vs_store": _ratio(results["ours write"], results["store write"]),  # the bare store, the same records
        "fs_write_vs_plain": _ratio(results["ours write"], results["plain write"]),  # nothing encrypted
    }
    if "gocryptfs write" in results:
        for name in ("write", "create", "bulk"):
            found[f"fs_{name}_vs_gocryptfs"] = _ratio(results[f"ours {name}"], results[f"gocryptfs {name}"])
    return found


def _our_writes(store: EmbeddedStore, count: int) -> Round:
    source, data = random.Random(1), os.urandom(BLOCK)
    file: Any = store.fs.open("/f", "r+b", 0)

    def work() -> int:
        for _ in range(count):
            file.seek(source.randrange(FILE_BLOCKS) * BLOCK)
            file.write(data)
        return count

    return lambda: rate(work)


def _store_writes(stack: ExitStack, place: Path, count: int) -> Round:
    """Records of one block's class into a bare store: what durability itself costs there."""
    store = stack.enter_context(LmdbStore.open(place))
    record, made = os.urandom(SMALLEST_RECORD_BYTES), [1]
    store.create(b"sealed", record, bytes(32))

    def work() -> int:
        for _ in range(count):
            made[0] += 1
            store.append(made[0], record, bytes(32), trim=max(0, made[0] - 1000))
        return count

    for _ in range(15):
        work()
    return lambda: rate(work)


def _their_writes(stack: ExitStack, place: Path, count: int) -> Round:
    source, data = random.Random(1), os.urandom(BLOCK)
    descriptor = os.open(place / "f", os.O_RDWR)
    stack.callback(os.close, descriptor)

    def work() -> int:
        for _ in range(count):
            os.pwrite(descriptor, data, source.randrange(FILE_BLOCKS) * BLOCK)
            os.fsync(descriptor)
        return count

    return lambda: rate(work)


def _our_creates(store: EmbeddedStore, count: int) -> Round:
    data, made = os.urandom(1024), [0]
    store.fs.mkdir("/small")

    def work() -> int:
        for _ in range(count):
            made[0] += 1
            store.fs.write_bytes(f"/small/{made[0]}", data)
        return count

    return lambda: rate(work)


def _their_creates(stack: ExitStack, place: Path, count: int) -> Round:
    data, made = os.urandom(1024), [0]
    (place / "small").mkdir()
    directory = os.open(place / "small", os.O_RDONLY)
    stack.callback(os.close, directory)

    def work() -> int:
        for _ in range(count):
            made[0] += 1
            with open(place / "small" / str(made[0]), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.fsync(directory)  # without it the file's name may be lost
        return count

    return lambda: rate(work)


def _our_bulk(store: EmbeddedStore) -> Round:
    data = os.urandom(4 * MIB)
    return lambda: rate(lambda: store.fs.write_bytes("/bulk", data) // MIB)


def _their_bulk(place: Path) -> Round:
    data = os.urandom(4 * MIB)

    def work() -> int:
        with open(place / "bulk", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return len(data) // MIB

    return lambda: rate(work)


# --- inside one transaction: what a handler sees -----------------------------------------------------------


def in_a_transaction(*, rounds: int) -> Figures:
    """Sequential and random reads and writes while a transaction is open: no disk, the filesystem's own speed."""
    with folder() as path, open_store(path / "store", KEY, filesystem_size="64m") as store, store.transaction():
        data = os.urandom(8 * MIB)
        store.fs.write_bytes("/f", data)
        file: Any = store.fs.open("/f", "r+b", 0)
        source = random.Random(1)

        def sequential_write() -> int:
            with store.fs.open("/f", "r+b") as target:
                target.write(data)
            return 8

        def sequential_read() -> int:
            with store.fs.open("/f", "rb") as target:
                while target.read(65536):
                    pass
            return 8

        def random_write() -> int:
            for _ in range(1000):
                file.seek(source.randrange(FILE_BLOCKS) * BLOCK)
                file.write(data[:BLOCK])
            return 1000

        def random_read() -> int:
            for _ in range(1000):
                file.seek(source.randrange(FILE_BLOCKS) * BLOCK)
                file.read(BLOCK)
            return 1000

        works = {
            "fs_write_mib_s": sequential_write,
            "fs_read_mib_s": sequential_read,
            "fs_random_writes_s": random_write,
            "fs_random_reads_s": random_read,
        }
        results = interleave({name: _rate_of(work) for name, work in works.items()}, rounds)
    return {name: median(values) for name, values in results.items()}


def _rate_of(work: Callable[[], int]) -> Round:
    return lambda: rate(work)


# --- SQL ---------------------------------------------------------------------------------------------------


def against_sql(*, rounds: int, count: int = 60) -> Figures:
    """Durable SQL transactions (one insert, one update) beside SQLite and SQLCipher, in both usual journal modes."""
    import sqlcipher3

    with folder() as path, ExitStack() as stack:
        store = stack.enter_context(open_store(path / "store", KEY, filesystem_size="256m"))
        contenders = {"ours": _sql_round(connect(store.fs, "/db").execute, count)}
        for name, module in (("sqlite", sqlite3), ("sqlcipher", sqlcipher3)):
            for mode in ("wal", "delete"):
                connection = module.connect(str(path / f"{name}-{mode}"), isolation_level=None)
                stack.callback(connection.close)
                if name == "sqlcipher":
                    connection.execute("PRAGMA key = 'a password for measuring'")
                for pragma in (f"journal_mode = {mode}", "synchronous = FULL", "locking_mode = EXCLUSIVE"):
                    connection.execute(f"PRAGMA {pragma}")
                contenders[f"{name} {mode}"] = _sql_round(connection.execute, count)
        results = interleave(contenders, rounds)
    ours = results["ours"]
    # As they come, SQLite and SQLCipher keep a rollback journal; with a write-ahead log they sync once a transaction.
    return {
        "fs_sql_transactions_s": median(ours),
        "fs_sqlite_vs_sqlcipher": _ratio(ours, results["sqlcipher delete"]),
        "fs_sqlite_vs_sqlcipher_wal": _ratio(ours, results["sqlcipher wal"]),
        "fs_sqlite_vs_sqlite": _ratio(ours, results["sqlite delete"]),
        "fs_sqlite_vs_sqlite_wal": _ratio(ours, results["sqlite wal"]),
    }


def _sql_round(execute: Callable[..., Any], count: int) -> Round:
    execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v, w)")
    execute("CREATE TABLE c(id INTEGER PRIMARY KEY, n)")
    execute("INSERT INTO c VALUES(1, 0)")

    def work() -> int:
        for number in range(count):
            execute("BEGIN")
            execute("INSERT INTO t(v, w) VALUES(?, ?)", (number, "x" * 100))
            execute("UPDATE c SET n = n + 1 WHERE id = 1")
            execute("COMMIT")
        return count

    return lambda: rate(work)


# --- large images ------------------------------------------------------------------------------------------


def image(mib: int, *, commits: int = 300) -> Figures:
    """A filesystem full of files: restart time, memory, and what a commit costs beside that of an empty one."""
    with folder() as path:
        with open_store(path / "store", KEY, filesystem_size=2 * mib * MIB) as store:
            for number in range(mib // 16):
                with store.fs.open(f"/{number}", "wb") as file:
                    file.write(os.urandom(16 * MIB))
            full = _commit_cost(store, commits)
        with open_store(path / "empty", KEY, filesystem_size="16m") as store:
            empty = _commit_cost(store, commits)
        measured = subprocess.run(
            [sys.executable, "-m", "benchmarks.filesystem", "--open", str(path / "store")],
            capture_output=True,
            text=True,
            check=True,
        )
    seconds, kib = map(float, measured.stdout.split())
    return {
        f"fs_open_{mib}mib_s": seconds,
        f"fs_memory_{mib}mib": kib / 1024 / mib,  # peak resident memory over live bytes, in a restart
        f"fs_commit_cpu_{mib}mib": full / empty,  # CPU of a one-block commit, full over empty
    }


def _commit_cost(store: EmbeddedStore, commits: int) -> float:
    data = os.urandom(BLOCK)
    file: Any = store.fs.open("/hot", "wb", 0)

    def work() -> int:
        for _ in range(commits):
            file.seek(0)
            file.write(data)
        return commits

    return cpu(work)


def _open_and_report(path: str) -> None:
    """In a process of its own: seconds to open, then the peak resident memory in KiB."""
    opened: list[EmbeddedStore] = []

    def opening() -> int:
        opened.append(open_store(path, KEY))
        return 1

    seconds = 1 / rate(opening)
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    opened[0].close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--open"]:
        _open_and_report(sys.argv[2])
    else:
        for name, value in figures(rounds=int(sys.argv[1]) if sys.argv[1:] else 7).items():
            print(line(name, value))
