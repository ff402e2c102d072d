"""SQL inside the enclave: SQLite databases are files of the log, with its transactions, restarts and limits."""

from __future__ import annotations

import errno
import random
import sqlite3

import apsw
import pytest
from core_host import CoreHost
from file_stores import MIB, LoggedFiles

from pmap import Enclave
from pmap.filesystem import FileSystem, memory_filesystem
from pmap.filesystem.sqlite import connect
from wire.boundary import AnswerKind
from wire.errors import InvalidInput


class Boom(Exception):
    pass


@pytest.fixture
def stored() -> LoggedFiles:
    return LoggedFiles(64 * MIB)


def integrity(files: FileSystem, path: str = "/db") -> list[object]:
    return [row[0] for row in connect(files, path).execute("PRAGMA integrity_check")]


def rows(files: FileSystem, path: str = "/db") -> list[tuple[object, ...]]:
    return list(connect(files, path).execute("SELECT * FROM t ORDER BY 1"))


def test_an_sql_transaction_is_one_commit_and_survives_a_restart(stored):
    db = connect(stored.fs, "/db")
    db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    before = len(stored.records)
    with db:
        for number in range(100):
            db.execute("INSERT INTO t VALUES(?, ?)", (number, "x" * 100))
    assert len(stored.records) == before + 1
    stored.restart()
    assert (len(rows(stored.fs)), integrity(stored.fs)) == (100, ["ok"])
    assert stored.fs.listdir() == ["db"], "no journal is left beside it"


def test_the_settings_suit_it(stored):
    db = connect(stored.fs, "/db")
    for pragma, value in (("journal_mode", "memory"), ("locking_mode", "exclusive"), ("temp_store", 2)):
        assert db.pragma(pragma) == value
    assert connect(stored.fs, "db") is db, "one connection for a path, however it is written"


def test_a_rollback_in_sql_leaves_the_file_as_it_was(stored):
    db = connect(stored.fs, "/db")
    db.execute("CREATE TABLE t(a, b); INSERT INTO t VALUES(1, 'kept')")
    before = stored.fs.read_bytes("/db")
    with pytest.raises(Boom), db:
        db.execute("UPDATE t SET b = 'lost'")
        db.execute("CREATE TABLE other AS SELECT randomblob(5000) FROM t")
        raise Boom
    assert rows(stored.fs) == [(1, "kept")]
    assert stored.fs.read_bytes("/db") == before


def test_sql_and_files_and_map_are_undone_together(stored):
    db = connect(stored.fs, "/db")
    db.execute("CREATE TABLE t(a); INSERT INTO t VALUES(1)")
    with pytest.raises(Boom), stored.transaction():
        db.execute("INSERT INTO t VALUES(2)")
        stored.map["k"] = b"1"
        assert rows(stored.fs) == [(1,), (2,)]
        raise Boom
    with pytest.raises(apsw.ConnectionClosedError):
        db.execute("SELECT * FROM t")  # whatever it remembers was undone
    assert (rows(stored.fs), "k" in stored.map, integrity(stored.fs)) == ([(1,)], False, ["ok"])


def test_an_sql_transaction_does_not_outlive_the_mail_that_began_it(stored):
    db = connect(stored.fs, "/db")
    db.execute("CREATE TABLE t(a)")
    with pytest.raises(InvalidInput, match="SQL transaction"), stored.transaction():
        db.execute("BEGIN")
        db.execute("INSERT INTO t VALUES('of this mail')")
    with stored.transaction():
        assert rows(stored.fs) == []


def test_without_syncs_a_mail_still_commits_all_of_it(stored):
    with stored.transaction():
        db = connect(stored.fs, "/db")
        db.execute("PRAGMA synchronous = OFF")
        db.execute("CREATE TABLE t(a); INSERT INTO t VALUES(1)")
    stored.restart()
    assert (rows(stored.fs), integrity(stored.fs)) == ([(1,)], ["ok"])


def test_one_connection_at_a_time(stored):
    connect(stored.fs, "/db").execute("CREATE TABLE t(a)")
    stored.fs.rename("/db", "/other name")
    with pytest.raises(apsw.BusyError):
        connect(stored.fs, "/other name").execute("SELECT * FROM t")


def test_a_full_filesystem_is_said_in_sql_and_harms_nothing():
    stored = LoggedFiles(40 * 4096)
    db = connect(stored.fs, "/db")
    db.execute("CREATE TABLE t(a, b)")
    with pytest.raises(apsw.FullError), db:
        for number in range(1000):
            db.execute("INSERT INTO t VALUES(?, randomblob(1000))", (number,))
    assert db.execute("SELECT count(*) FROM t").get == 0
    db.execute("INSERT INTO t VALUES(1, 'fits')")
    stored.restart()
    assert (rows(stored.fs), integrity(stored.fs)) == ([(1, "fits")], ["ok"])


def test_deleted_space_is_given_back_by_vacuum(stored):
    db = connect(stored.fs, "/db")
    db.execute("CREATE TABLE t(a, b)")
    with db:
        for number in range(500):
            db.execute("INSERT INTO t VALUES(?, randomblob(2000))", (number,))
    large = stored.fs.stat("/db").st_size
    db.execute("DELETE FROM t WHERE a > 3")
    db.execute("VACUUM")
    assert stored.fs.stat("/db").st_size < large / 20
    stored.restart()
    assert (len(rows(stored.fs)), integrity(stored.fs)) == (4, ["ok"])


@pytest.mark.parametrize("page", [512, 4096, 16384])
def test_any_page_size_works(stored, page):
    db = connect(stored.fs, "/db")
    db.execute(f"PRAGMA page_size = {page}")
    db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    for number in range(50):
        db.execute("INSERT INTO t VALUES(?, randomblob(900))", (number,))
    stored.restart()
    assert connect(stored.fs, "/db").pragma("page_size") == page
    assert (len(rows(stored.fs)), integrity(stored.fs)) == (50, ["ok"])


def test_a_journal_on_disk_works_too(stored):
    db = connect(stored.fs, "/db")
    assert db.pragma("journal_mode", "delete") == "delete"
    db.execute("CREATE TABLE t(a); INSERT INTO t VALUES(1)")
    with pytest.raises(Boom), db:
        db.execute("INSERT INTO t VALUES(2)")
        raise Boom
    assert stored.fs.listdir() == ["db", "db-journal"]
    stored.restart()
    assert (rows(stored.fs), integrity(stored.fs)) == ([(1,)], ["ok"])


def test_sqlite_itself_can_read_the_file(stored, tmp_path):
    connect(stored.fs, "/db").execute("CREATE TABLE t(a); INSERT INTO t VALUES(1)")
    (tmp_path / "db").write_bytes(stored.fs.read_bytes("/db"))
    plain = sqlite3.connect(tmp_path / "db")
    try:
        assert plain.execute("SELECT * FROM t").fetchall() == [(1,)]
    finally:
        plain.close()


def test_a_hundred_thousand_inserts_and_mixed_queries_as_plain_sqlite_does_them(stored):
    rng = random.Random(5)
    plain = sqlite3.connect(":memory:", isolation_level=None)
    schema = "CREATE TABLE t(id INTEGER PRIMARY KEY, k INTEGER, v TEXT)", "CREATE INDEX i ON t(k)"
    for statement in schema:
        plain.execute(statement)
        connect(stored.fs, "/db").execute(statement)
    for batch in range(20):
        some = [(batch * 5000 + at, rng.randrange(1000), "v" * rng.randrange(100)) for at in range(5000)]
        doomed, changed = rng.randrange(1000), rng.randrange(1000)
        mixed = (
            ("DELETE FROM t WHERE k = ?", (doomed,)),
            ("UPDATE t SET v = v || 'changed', k = k + 1 WHERE k = ?", (changed,)),
        )
        with stored.transaction():
            db = connect(stored.fs, "/db")
            with db:
                db.executemany("INSERT INTO t VALUES(?, ?, ?)", some)
                for statement, values in mixed:
                    db.execute(statement, values)
        plain.executemany("INSERT INTO t VALUES(?, ?, ?)", some)
        for statement, values in mixed:
            plain.execute(statement, values)
        if batch % 7 == 6:
            stored.restart()
        query = "SELECT count(*), sum(length(v)), min(id), max(k) FROM t WHERE k BETWEEN ? AND ?"
        low = rng.randrange(1000)
        assert (
            connect(stored.fs, "/db").execute(query, (low, low + 50)).fetchall()
            == plain.execute(query, (low, low + 50)).fetchall()
        )
    stored.restart()
    everything = "SELECT * FROM t ORDER BY id"
    assert connect(stored.fs, "/db").execute(everything).fetchall() == plain.execute(everything).fetchall()
    assert integrity(stored.fs) == ["ok"]
    plain.close()


def test_databases_in_memory_files_work():
    files = memory_filesystem("1m")
    connect(files, "/db").execute("CREATE TABLE t(a); INSERT INTO t VALUES(1)")
    assert rows(files) == [(1,)]


# --- in an enclave ---


class Ledger(Enclave):
    persistent_filesystem_size = "1m"

    def receive_from_host(self, data: bytes) -> bytes:
        db = connect(self.fs, "/ledger.db")
        db.execute("CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b)")
        if data:
            db.execute("INSERT INTO t(b) VALUES(?)", (data,))
        if data == b"fail":
            raise Boom
        return b",".join(row[0] for row in db.execute("SELECT b FROM t ORDER BY a"))


def test_an_enclaves_database_follows_its_mails_and_restarts():
    host = CoreHost.found(Ledger)
    assert host.call(b"one") == (AnswerKind.CALL_DONE, b"one")
    assert host.call(b"fail")[0] is AnswerKind.CALL_FAILED
    assert host.call(b"two")[1] == b"one,two"
    again = host.start()
    assert again.call(b"")[1] == b"one,two"
    assert again.call(b"three")[1] == b"one,two,three"
    assert again.start().call(b"")[1] == b"one,two,three"


def test_outside_a_mail_sql_can_read_but_not_write():
    host = CoreHost.found(Ledger)
    host.call(b"one")
    files = host.core.fs
    assert files is not None
    db = connect(files, "/ledger.db")
    assert db.execute("SELECT b FROM t").get == b"one"
    with pytest.raises(OSError) as caught:
        db.execute("INSERT INTO t(b) VALUES('x')")
    assert caught.value.errno == errno.EROFS
