"""``postgresql://``: objects as rows of one table, in PostgreSQL and what speaks like it.

Every call is one statement in a transaction of its own, hence one round trip; there is nothing here that CockroachDB or
YugabyteDB would refuse. libpq is driven asynchronously, without an event loop: a call sends, then waits on the socket
until its deadline. So a server or network that went silent costs a call its time and no more. Credentials and TLS are
libpq's: the URL, ``PG*`` variables, ``~/.pgpass``, ``~/.pg_service.conf``, ``sslmode`` and the like.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Sequence
from typing import Final

from psycopg import errors, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from host_store.stores.engine import EngineDown
from wire.errors import InvalidInput, StoreUnavailable

PART_BYTES: Final = 4 << 20
IDLE_CONNECTIONS: Final = 4
TABLE: Final = "pmap_objects"

_CREATE_TABLE: Final = f"""CREATE TABLE IF NOT EXISTS {TABLE}
    (store text NOT NULL, name bytea NOT NULL, value bytea NOT NULL, PRIMARY KEY (store, name))"""
_CREATE: Final = f"INSERT INTO {TABLE} (store, name, value) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"  # noqa: S608
_PUT: Final = (
    f"INSERT INTO {TABLE} (store, name, value) VALUES ($1, $2, $3)"  # noqa: S608
    " ON CONFLICT (store, name) DO UPDATE SET value = excluded.value"
)
_GET: Final = f"SELECT name, value FROM {TABLE} WHERE store = $1 AND name = ANY($2)"  # noqa: S608
_NAMES: Final = f"SELECT name FROM {TABLE} WHERE store = $1 AND name > $2 AND name < $3 ORDER BY name LIMIT $4"  # noqa: S608
_DELETE: Final = f"DELETE FROM {TABLE} WHERE store = $1 AND name = ANY($2)"  # noqa: S608

_TEXT, _BYTES, _INTEGER, _ARRAY_OF_BYTES = 25, 17, 20, 1001  # types' numbers (pg_type.oid), fixed since PostgreSQL 7
_BINARY: Final = 1
_UNDEFINED_TABLE: Final = "42P01"
_TRY_AGAIN: Final = ("40001", "40P01", "53300", "57P01", "57P02", "57P03", "25006")
"""Serialization failure, deadlock, too many connections, shutdown, crash, starting up, a standby that was promoted."""
_DENIED: Final = ("28", "3D", "42501")
"""Classes and codes: authorization, no such database, no right to this table."""


class PostgresqlEngine:
    """See :class:`host_store.stores.engine.Engine`. ``store`` tells stores in one database apart."""

    part_bytes = PART_BYTES

    def __init__(self, conninfo: str, store: str) -> None:
        """Does not connect yet. Raises :class:`InvalidInput` for a URL that libpq does not read."""
        try:
            known = conninfo_to_dict(conninfo)
            self._conninfo = make_conninfo(conninfo, fallback_application_name="pmap").encode()
        except errors.ProgrammingError as error:
            said = _one_line(str(error))
            if not said.startswith("invalid URI query parameter"):
                # It quotes what it does not understand, and a password may be a part of that.
                said = said.partition('"')[0].rstrip(": ")
            raise InvalidInput(f"libpq does not take this PostgreSQL URL: {said}") from None
        host, database = known.get("host") or known.get("service") or "the default host", known.get("dbname") or ""
        self.where = f"the PostgreSQL database {database or 'of this user'} on {host}, store {store!r}"
        self._store = store.encode()
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._closed = False

    # --- contracts: host_store.stores.engine.Engine ---

    def create(self, name: str, value: bytes, seconds: float) -> bool:
        """One INSERT; the row's key decides."""
        result = self._execute(_CREATE, (_TEXT, _BYTES, _BYTES), (self._store, name.encode(), value), seconds)
        return result.command_tuples == 1

    def put(self, name: str, value: bytes, seconds: float) -> None:
        """One INSERT that may overwrite."""
        self._execute(_PUT, (_TEXT, _BYTES, _BYTES), (self._store, name.encode(), value), seconds)

    def get(self, name: str, seconds: float) -> bytes | None:
        """One SELECT."""
        return self.get_all([name], seconds)[0]

    def get_all(self, names: Sequence[str], seconds: float) -> list[bytes | None]:
        """One SELECT."""
        wanted = [name.encode() for name in names]
        result = self._execute(_GET, (_TEXT, _ARRAY_OF_BYTES), (self._store, _array(wanted)), seconds)
        found = {result.get_value(row, 0): result.get_value(row, 1) for row in range(result.ntuples)}
        return [found.get(name) for name in wanted]

    def names(self, prefix: str, after: str, limit: int, seconds: float) -> list[str]:
        """One SELECT of a range of the key."""
        start = max(after, prefix).encode()
        end = prefix[:-1].encode() + bytes([prefix.encode()[-1] + 1])
        count = limit.to_bytes(8, "big")
        result = self._execute(_NAMES, (_TEXT, _BYTES, _BYTES, _INTEGER), (self._store, start, end, count), seconds)
        return [(result.get_value(row, 0) or b"").decode() for row in range(result.ntuples)]

    def delete(self, names: Sequence[str], seconds: float) -> None:
        """One DELETE."""
        array = _array([name.encode() for name in names])
        self._execute(_DELETE, (_TEXT, _ARRAY_OF_BYTES), (self._store, array), seconds)

    def close(self) -> None:
        """Close the idle connections; those at work are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # --- connections ---

    def _execute(
        self, statement: str, types: Sequence[int], values: Sequence[bytes], seconds: float
    ) -> pq.abc.PGresult:
        end = time.monotonic() + seconds
        connection = self._connection(end)
        try:
            result = connection.execute(statement, types, values, end)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            kept = not self._closed and len(self._idle) < IDLE_CONNECTIONS
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()
        return self._checked(result, statement, end)

    def _checked(self, result: pq.abc.PGresult, statement: str, end: float) -> pq.abc.PGresult:
        if result.status in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
            return result
        code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        message = _one_line((result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace"))
        if code == _UNDEFINED_TABLE and statement is not _CREATE_TABLE:
            self._execute(_CREATE_TABLE, (), (), max(end - time.monotonic(), 0))
            raise EngineDown(f"{self.where} had no table yet")
        if code in _TRY_AGAIN or (statement is _CREATE_TABLE and code.startswith(("23", "42P07"))):
            raise EngineDown(f"{self.where} refuses for now, nothing was changed: {message}")
        raise StoreUnavailable(f"{self.where} refuses, nothing was changed: {message} (SQLSTATE {code})")

    def _connection(self, end: float) -> _Connection:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._idle:
                return self._idle.pop()
        return _Connection(self._conninfo, self.where, end)


class _Connection:
    """One connection to a server, and the time that a call may wait for it."""

    def __init__(self, conninfo: bytes, where: str, end: float) -> None:
        self._where = where
        self._prepared: dict[str, bytes] = {}
        self._libpq = pq.PGconn.connect_start(conninfo)
        try:
            if self._libpq.status == pq.ConnStatus.BAD:  # before a socket was opened
                raise self._refused()
            self._libpq.nonblocking = 1
            self._connect(end)
            # Where it was switched off, an answered commit could still be lost.
            if self.execute("SHOW synchronous_commit", (), (), end).get_value(0, 0) == b"off":
                self.execute("SET synchronous_commit = on", (), (), end)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._libpq.finish()

    def execute(self, statement: str, types: Sequence[int], values: Sequence[bytes], end: float) -> pq.abc.PGresult:
        """Run one statement and return its result, which may be an error. Raises :class:`EngineDown`."""
        libpq = self._libpq
        try:
            name = self._prepared.get(statement)
            if name is None and values:
                name = b"pmap_%d" % len(self._prepared)
                libpq.send_prepare(name, statement.encode(), types)
                prepared = self._answer(end)
                if prepared.status != pq.ExecStatus.COMMAND_OK:
                    return prepared
                self._prepared[statement] = name
            if name is None:
                libpq.send_query_params(statement.encode(), values, types, (), _BINARY)
            else:
                libpq.send_query_prepared(name, values, [_BINARY] * len(values), _BINARY)
            return self._answer(end)
        except errors.OperationalError as error:
            raise EngineDown(
                f"the connection to {self._where} was lost, the outcome is unknown: {_one_line(str(error))}"
            ) from error

    def _answer(self, end: float) -> pq.abc.PGresult:
        """Send what is to be sent, then wait for the result."""
        libpq, last = self._libpq, None
        while libpq.flush():
            if self._wait(select.POLLIN | select.POLLOUT, end) & select.POLLIN:
                libpq.consume_input()
        while True:
            while libpq.is_busy():
                self._wait(select.POLLIN, end)
                libpq.consume_input()
            result = libpq.get_result()
            if result is None:
                break
            last = result
        if last is None or libpq.status != pq.ConnStatus.OK:
            raise EngineDown(f"the connection to {self._where} was lost, the outcome is unknown: {self._libpq_says()}")
        return last

    def _connect(self, end: float) -> None:
        libpq = self._libpq
        while True:
            status = pq.PollingStatus.FAILED if libpq.status == pq.ConnStatus.BAD else libpq.connect_poll()
            if status == pq.PollingStatus.OK:
                return
            if status == pq.PollingStatus.FAILED:
                raise self._refused()
            self._wait(select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT, end)

    def _refused(self) -> StoreUnavailable:
        """Why there is no connection. libpq gives words only: those that waiting does not help against are few."""
        said = self._libpq_says()
        lasting = (
            "password",
            "authentication",
            "does not exist",
            "pg_hba",
            "certificate",
            "not supported",
            "SSL",
            "invalid",
        )
        if any(word in said for word in lasting) and "starting up" not in said:
            return StoreUnavailable(f"cannot connect to {self._where}: {said}")
        return EngineDown(f"cannot connect to {self._where}: {said}")

    def _libpq_says(self) -> str:
        first, *others = self._libpq.get_error_message().strip().splitlines() or ["no reason was given"]
        # One attempt with TLS and one without, as sslmode=prefer makes them, say the same twice.
        return _one_line(". ".join([first, *(line.strip() for line in others if not line.endswith(first))]))

    def _wait(self, events: int, end: float) -> int:
        left = end - time.monotonic()
        if left > 0:
            poll = select.poll()
            poll.register(self._libpq.socket, events)
            if ready := poll.poll(1000 * left):
                return ready[0][1]
        raise EngineDown(f"{self._where} does not answer in time: the outcome is unknown")


def _array(values: Sequence[bytes]) -> bytes:
    """A bytea[] in binary: dimensions, no nulls, element type, then length, lower bound, and the elements."""
    head = b"".join(number.to_bytes(4, "big") for number in (1, 0, _BYTES, len(values), 1))
    return head + b"".join(len(value).to_bytes(4, "big") + value for value in values)


def _one_line(text: str) -> str:
    return " ".join(text.split())
