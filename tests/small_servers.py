"""Small real web servers for tests of clients: an honest one, and ones that do as a script says."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

from adversarial_host import AdversarialHost

from wire.codec import pack
from wire.errors import MailTooLarge, PmapError, SessionUnknown

Raw = Callable[[socket.socket], None]


@contextmanager
def serving(host: AdversarialHost, prefix: str = "") -> Iterator[str]:
    """An honest web server before a host."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            if parts.path == f"{prefix}/attestation":
                self._answer(host.attestation)
            elif parts.path == f"{prefix}/consistency":
                self._answer(lambda: pack(host.consistency(int(query["from"][0]), int(query["to"][0]))))
            else:
                self._send(404, b"not found")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == f"{prefix}/deliver-mail":
                self._answer(lambda: host.deliver(body).result(20))
            elif self.path == f"{prefix}/poll-mail":
                self._answer(lambda: pack(host.poll(body)))
            else:
                self._send(404, b"not found")

        def _answer(self, make: Callable[[], bytes]) -> None:
            try:
                self._send(200, make())
            except PmapError as error:
                codes = {SessionUnknown: (409, "session_unknown"), MailTooLarge: (413, "too_large")}
                status, code = codes.get(type(error), (503, "unavailable"))
                self._send(status, json.dumps({"error": code, "message": str(error)}).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def raw_server(*scripts: Raw) -> Iterator[str]:
    """A server that does as the scripts say, one connection after the other; the last one again and again."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def run() -> None:
        at = 0
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                scripts[min(at, len(scripts) - 1)](connection)
            at += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
