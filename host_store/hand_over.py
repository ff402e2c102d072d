"""The old host's side of a hand-over: an HTTP server for the successor's host (:mod:`host_store.take_over`).

======= =============== ==================================== ==========================================================
method  path            body                                 answer
======= =============== ==================================== ==========================================================
GET     ``/invitation``                                      msgpack array: invitation, endorsements
POST    ``/request``    msgpack array: request, endorsements the package; nothing is served to clients any more
GET     ``/closed``                                          nothing, once this host has left the store
GET     ``/store``                                           the data file of a store in a folder, once it was left
POST    ``/done``                                            nothing; the store here is marked as handed over
======= =============== ==================================== ==========================================================

Whether somebody may have the store is decided by the enclave alone. But whoever may have it can also take it out of
service here, so listen where only the new machine gets through. A successor that is not content has until ``/done``:
before that, this store may be served again.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from host_store.handed_over import mark_handed_over
from host_store.host import EnclaveHost
from host_store.lmdb.store_folder import DATA_FILE
from host_store.stores.url import StoreUrl, open_store
from wire.codec import expect, pack, unpack
from wire.errors import HostUnavailable, InvalidInput, PmapError
from wire.limits import MAX_ENDORSEMENTS_BYTES, MAX_HANDOVER_BYTES
from wire.messages import Declined

MAX_MESSAGE_BYTES: Final = MAX_HANDOVER_BYTES + MAX_ENDORSEMENTS_BYTES + 64
"""A message with endorsements beside it."""
_SOCKET_SECONDS: Final = 60.0
_LENGTH_DIGITS: Final = 9


class HandOverServer:
    """Listens for a successor. :meth:`start` first; after the host has ended with StoreHandedOver, :meth:`finish`."""

    def __init__(self, host: EnclaveHost, url: StoreUrl, listen: str, endorsements: bytes) -> None:
        """``listen``: ``ADDRESS:PORT``. ``endorsements``: what this platform's vendor says of it, encoded.

        Raises :class:`InvalidInput` for an address that is none, or cannot be bound.
        """
        address, colon, port = listen.rpartition(":")
        if not colon or not address or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
            raise InvalidInput(f"an address to listen on is ADDRESS:PORT, such as 127.0.0.1:9000, not {listen!r}")
        try:
            self._server = _Server((address, int(port)), _Answers)
        except OSError as error:
            raise InvalidInput(f"cannot listen on {listen}: {error.strerror or error}") from error
        self._server.desk = self
        self._thread = threading.Thread(target=self._server.serve_forever, name="hand-over", daemon=True)
        self._host = host
        self._store_url = url
        self._keyring: bytes | None = None
        self._endorsements = endorsements
        self._closed_store = threading.Event()
        self._done = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens."""
        address, port = self._server.server_address[:2]
        return f"http://{address!s}:{port}"

    def start(self) -> None:
        """Take requests from now on."""
        self._thread.start()

    def finish(self, keyring: bytes | None, seconds: float) -> None:
        """After the host and its store were closed: give the store out until the successor says that it is content.
        ``keyring``: the stored one.

        Raises :class:`HostUnavailable` if it does not within so many seconds.
        """
        self._keyring = keyring
        self._closed_store.set()
        if not self._done.wait(seconds):
            raise HostUnavailable(
                "the successor has not said that it took the store over. If it did not, the store may be served here"
                " again; if it did, serving it here would be a fork"
            )

    def close(self) -> None:
        """Stop listening."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    # --- answers, in threads of their own ---

    def invitation(self) -> bytes:
        return pack([self._host.invite(), self._endorsements])

    def package(self, untrusted: bytes) -> bytes:
        request, endorsements = expect(unpack(untrusted, MAX_MESSAGE_BYTES), bytes, bytes)
        return self._host.hand_over(request, endorsements)

    def closed(self) -> bytes:
        if not self._closed_store.is_set():
            raise HostUnavailable("the store is not handed over yet")
        return b""

    def data_file(self) -> Path:
        self.closed()
        folder = self._store_url.path
        if folder is None:
            raise InvalidInput("this store is no folder: the new host is to name the same --store")
        return folder / DATA_FILE

    def done(self) -> bytes:
        self.closed()
        with closing(open_store(self._store_url, create=False)) as store:
            if store.keyring() == self._keyring:  # else the successor goes on with this very store
                mark_handed_over(store)
        self._done.set()
        return b""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    desk: HandOverServer


class _Answers(BaseHTTPRequestHandler):
    server: _Server
    timeout = _SOCKET_SECONDS

    def do_GET(self) -> None:
        desk = self.server.desk
        if self.path == "/invitation":
            self._answer(desk.invitation)
        elif self.path == "/closed":
            self._answer(desk.closed)
        elif self.path == "/store":
            self._send_file(desk)
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        desk = self.server.desk
        length = self.headers.get("Content-Length", "")
        digits = length.isascii() and length.isdecimal() and len(length) <= _LENGTH_DIGITS
        if not digits or int(length) > MAX_MESSAGE_BYTES:
            self.send_error(413)
            return
        untrusted = self.rfile.read(int(length))
        if self.path == "/request":
            self._answer(lambda: desk.package(untrusted))
        elif self.path == "/done":
            self._answer(desk.done)
        else:
            self.send_error(404)

    def _answer(self, make: Callable[[], bytes]) -> None:
        try:
            body, status = make(), 200
        except PmapError as error:
            body, status = json.dumps(Declined.of(error)).encode(), 503 if isinstance(error, HostUnavailable) else 409
        self._head(status, len(body))
        self.wfile.write(body)

    def _send_file(self, desk: HandOverServer) -> None:
        try:
            file = desk.data_file().open("rb")
        except PmapError as error:
            self._answer(_raising(error))
            return
        with file:
            self._head(200, file.seek(0, 2))
            file.seek(0)
            shutil.copyfileobj(file, self.wfile, 1024 * 1024)

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _raising(error: PmapError) -> Callable[[], bytes]:
    def answer() -> bytes:
        raise error

    return answer
