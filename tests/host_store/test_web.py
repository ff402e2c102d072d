"""The web server, over real sockets: mail passes, and every refusal has its status and its words."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import host_enclaves
import pytest
from host_enclaves import Ledger
from raw_client import RawClient

from host_store.host import EnclaveHost
from host_store.lmdb.lmdb_store import LmdbStore
from host_store.server import WebServer
from wire.attestation import Attestation
from wire.codec import unpack
from wire.errors import InvalidInput, StoreFenced
from wire.mail import Outcome
from wire.merkle import verify_consistency

HERE = Path(host_enclaves.__file__).parent
SECONDS = 60.0


class Site:
    """A server in a thread of its own, in front of a host."""

    def __init__(self, host: EnclaveHost, request_seconds: float = SECONDS) -> None:
        self.host = host
        self.server = WebServer(host, "127.0.0.1:0", request_seconds=request_seconds)
        self.address = urlsplit(self.server.url).netloc
        self.error: BaseException | None = None
        ready = threading.Event()
        self.ready_with: list[str] = []
        self.thread = threading.Thread(target=self._run, args=[ready])
        self.thread.start()
        assert ready.wait(SECONDS)

    def _run(self, ready: threading.Event) -> None:
        def on_ready(url: str) -> None:
            self.ready_with.append(url)
            ready.set()

        try:
            self.server.run(on_ready)
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=SECONDS)
        try:
            connection.request(method, path, body, headers)  # type: ignore[arg-type]
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def refusal(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        status, answer = self.ask(method, path, body, **headers)
        error = json.loads(answer)
        assert set(error) == {"error", "message"} and len(error["message"]) > 5
        return status, error["error"]

    def deliver(self, envelope: bytes) -> bytes:
        status, reply = self.ask("POST", "/deliver-mail", envelope)
        assert status == 200, reply
        return reply

    def client(self) -> RawClient:
        client = RawClient()
        status, document = self.ask("GET", "/attestation")
        assert status == 200
        client.hello(document, self.deliver)
        return client


@contextmanager
def open_site(folder: Path, **options: float) -> Iterator[Site]:
    with EnclaveHost.start(Ledger, folder / "store", in_process=True) as host:
        site = Site(host, **options)
        try:
            yield site
        finally:
            site.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("web")) as opened:
        yield opened


def test_mail_passes_in_both_directions(site: Site) -> None:
    client = site.client()
    assert client.mail(b"put web 1", site.deliver) == b"put"
    assert client.mail(b"get web", site.deliver) == b"1"


def test_many_connections_at_once_are_answered_each_with_its_own(site: Site) -> None:
    clients = [site.client() for _ in range(16)]

    def converse(number: int) -> None:
        for step in range(10):
            body = b"put %d/%d %d" % (number, step, step)
            assert clients[number].mail(body, site.deliver) == b"put"
            assert clients[number].mail(b"get %d/%d" % (number, step), site.deliver) == b"%d" % step

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(converse, range(16)))


def test_one_connection_carries_many_requests_also_after_errors(site: Site) -> None:
    client = site.client()
    connection = http.client.HTTPConnection(site.address, timeout=SECONDS)
    for _ in range(3):
        connection.request("POST", "/deliver-mail", b"garbage")
        assert connection.getresponse().read().startswith(b'{"error":"malformed"')
        connection.request("POST", "/deliver-mail", client.seal(b"count"))
        assert client.accept(connection.getresponse().read()).outcome is Outcome.EXECUTED
    connection.close()


def test_waiting_mails_are_polled(site: Site) -> None:
    client = site.client()
    client.mail(f"send {client.name} hello".encode(), site.deliver)
    status, polled = site.ask("POST", "/poll-mail", client.session)
    assert status == 200
    assert [reply.outcome for reply in client.open_polled(polled)] == [Outcome.INBOX, Outcome.EXECUTED]
    status, polled = site.ask("POST", "/poll-mail", bytes(16))
    assert (status, unpack(polled, 100)) == (200, [])


def test_consistency_proofs_are_served(site: Site) -> None:
    client = site.client()
    first = client.highest
    client.mail(b"count", site.deliver)
    last = client.highest
    assert first is not None and last is not None
    status, proof = site.ask("GET", f"/consistency?from={first.size}&to={last.size}")
    assert status == 200
    verify_consistency(first.size, first.root, last.size, last.root, unpack(proof, 10_000))


def test_health_tells_where_the_host_stands_and_no_more(site: Site) -> None:
    status, answer = site.ask("GET", "/healthz")
    health = json.loads(answer)
    assert status == 200
    assert set(health) == {"status", "enclave", "epoch", "persistent", "n", "waiting", "starts"}
    assert (health["status"], health["n"]) == ("running", site.host.status().n)
    epoch = Attestation.decode(site.host.attestation()).epoch
    assert epoch.hex().startswith(health["epoch"]) and len(health["epoch"]) == 16


def chunks(total: int, size: int = 1 << 16) -> Iterator[bytes]:
    for _ in range(total // size):
        yield bytes(size)


def test_a_body_over_the_bound_is_refused_said_or_unsaid(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for way in ("mail_protocol", "web"):
        monkeypatch.setattr(f"host_store.{way}.MAX_ENVELOPE_BYTES", 1 << 20)
    assert site.refusal("POST", "/deliver-mail", bytes((1 << 20) + 1)) == (413, "too_large")
    assert site.refusal("POST", "/deliver-mail", chunks(1 << 22)) == (413, "too_large")
    assert site.refusal("POST", "/deliver-mail", chunks(1 << 20)) == (400, "malformed")
    assert site.refusal("POST", "/poll-mail", bytes(17)) == (413, "too_large")


def test_bodies_that_together_are_too_much_are_refused_and_not_counted_for_ever(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host_store.mail_slot.MAX_WAITING_BYTES", 1 << 18)
    for _ in range(3):
        assert site.refusal("POST", "/deliver-mail", chunks(1 << 19)) == (503, "unavailable")
    with socket.create_connection(site.server._socket.getsockname()[:2]) as half:
        half.sendall(b"POST /deliver-mail HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(1 << 17))
    # Once the server has seen that the sender is gone, its half is not counted any more.
    while (refusal := site.refusal("POST", "/deliver-mail", bytes(1 << 18))) == (503, "unavailable"):
        pass
    assert refusal == (400, "malformed")


BAD_REQUESTS = {
    "empty mail": ("POST", "/deliver-mail", b"", 400, "malformed"),
    "garbage": ("POST", "/deliver-mail", b"garbage", 400, "malformed"),
    "reply as a mail": ("POST", "/deliver-mail", b"\x01\x03" + bytes(100), 400, "malformed"),
    "unknown session": ("POST", "/deliver-mail", b"\x01\x02" + bytes(100), 409, "session_unknown"),
    "hello to another epoch": ("POST", "/deliver-mail", b"\x01\x01" + bytes(100), 409, "session_unknown"),
    "short session": ("POST", "/poll-mail", bytes(15), 400, "malformed"),
    "proof without sizes": ("GET", "/consistency", None, 400, "malformed"),
    "proof of words": ("GET", "/consistency?from=one&to=2", None, 400, "malformed"),
    "proof of other digits": ("GET", "/consistency?from=%D9%A1&to=2", None, 400, "malformed"),
    "proof from nothing": ("GET", "/consistency?from=0&to=1", None, 400, "malformed"),
    "proof beyond the end": ("GET", "/consistency?from=1&to=9999999999999999999", None, 400, "malformed"),
    "unknown path": ("GET", "/secrets", None, 404, "not_found"),
    "unknown method": ("GET", "/deliver-mail", None, 405, "method_not_allowed"),
    "unknown method of a page": ("POST", "/attestation", b"", 405, "method_not_allowed"),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_bad_requests_are_answered_with_status_and_code(
    site: Site, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    assert site.refusal(method, path, body) == (status, code)


def read_response(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of the next answer."""
    received = b""
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += connection.recv(1)
    head = received[:end]
    body = b""
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(length - len(body))
    return head, body


def posted(envelope: bytes, version: bytes = b"1.1", *headers: bytes) -> bytes:
    lines = [b"POST /deliver-mail HTTP/" + version, b"Host: x", b"Content-Length: %d" % len(envelope), *headers]
    return b"\r\n".join([*lines, b"", envelope])


def test_mails_that_come_in_an_unusual_manner_are_answered_like_any_other(site: Site) -> None:
    clients = [site.client() for _ in range(5)]
    where = site.server._socket.getsockname()[:2]
    with socket.create_connection(where, timeout=SECONDS) as connection:
        # Three behind each other without waiting: in order.
        connection.sendall(b"".join(posted(client.seal(b"count")) for client in clients[:3]))
        for client in clients[:3]:
            head, body = read_response(connection)
            assert head.startswith(b"HTTP/1.1 200 ") and client.accept(body).payload is not None
        # In two pieces, cut in the body.
        request = posted(clients[0].seal(b"count"))
        connection.sendall(request[:-7])
        connection.sendall(request[-7:])
        assert clients[0].accept(read_response(connection)[1]).payload is not None
        # After asking whether it may.
        envelope = clients[3].seal(b"count")
        connection.sendall(posted(b"", b"1.1", b"Expect: 100-continue").replace(b": 0", b": %d" % len(envelope)))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(envelope)
        assert clients[3].accept(read_response(connection)[1]).payload is not None
        # With the wish to end the connection.
        connection.sendall(posted(clients[4].seal(b"count"), b"1.1", b"Connection: close"))
        head, body = read_response(connection)
        assert b"connection: close" in head and clients[4].accept(body).payload is not None
        assert connection.recv(1) == b""
    with socket.create_connection(where, timeout=SECONDS) as connection:
        connection.sendall(posted(clients[4].seal(b"count"), b"1.0"))
        assert clients[4].accept(read_response(connection)[1]).payload is not None
        assert connection.recv(1) == b""


def test_a_sender_that_goes_away_before_its_answer_leaves_nothing_behind(site: Site) -> None:
    client = site.client()
    envelope = client.seal(b"count")
    for _ in range(3):
        with socket.create_connection(site.server._socket.getsockname()[:2], timeout=SECONDS) as connection:
            connection.sendall(posted(envelope))
    assert client.accept(site.deliver(envelope)).payload is not None


def test_an_altered_mail_is_undecryptable(site: Site) -> None:
    envelope = site.client().seal(b"count")
    assert site.refusal("POST", "/deliver-mail", envelope[:-1] + b"?") == (400, "undecryptable")


def test_a_host_that_was_closed_is_unavailable_and_unhealthy(tmp_path: Path) -> None:
    with open_site(tmp_path) as site:
        site.host.close()
        assert site.refusal("POST", "/deliver-mail", b"\x01\x02" + bytes(100)) == (503, "unavailable")
        assert site.refusal("POST", "/poll-mail", bytes(16)) == (503, "unavailable")
        assert site.refusal("GET", "/attestation") == (503, "unavailable")
        status, health = site.ask("GET", "/healthz")
        assert (status, json.loads(health)["status"]) == (503, "closed")


def test_an_answer_that_takes_too_long_is_a_timeout_and_the_mail_is_executed_all_the_same(tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    os.mkfifo(reached)
    with open_site(tmp_path, request_seconds=0.2) as site:
        client = site.client()
        # The host's own call, which waits for somebody to read what it writes, is before the mail.
        call = site.host.call(f"tell {reached}".encode())
        envelope = client.seal(b"put late 1")
        assert site.refusal("POST", "/deliver-mail", envelope) == (504, "timeout")
        reached.read_text()
        assert call.result(SECONDS) == b"told"
        assert client.accept(site.deliver(envelope)).payload == b"put"


def test_a_body_that_never_ends_is_a_timeout(tmp_path: Path) -> None:
    with (
        open_site(tmp_path, request_seconds=0.2) as site,
        socket.create_connection(site.server._socket.getsockname()[:2], timeout=SECONDS) as slow,
    ):
        slow.sendall(b"POST /deliver-mail HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        assert slow.recv(100).startswith(b"HTTP/1.1 504 ")


def test_a_host_that_fails_for_good_ends_the_server_with_its_error(tmp_path: Path) -> None:
    store = LmdbStore.open(tmp_path / "store")
    with EnclaveHost.start(Ledger, store, in_process=True, simulated_key=tmp_path / "test.key") as host:
        site = Site(host)

        def fenced(*_arguments: object, **_more: object) -> None:
            raise StoreFenced("another host has this store now")

        store.append = fenced  # type: ignore[method-assign]
        assert site.refusal("POST", "/deliver-mail", RawClient().seal_hello(host.attestation())) == (
            503,
            "unavailable",
        )
        site.thread.join(SECONDS)
        assert isinstance(site.error, StoreFenced)
    store.close()


@pytest.mark.parametrize("listen", ["", "8080", ":8080", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "no host:1"])
def test_an_address_that_is_none_is_refused(site: Site, listen: str) -> None:
    with pytest.raises(InvalidInput, match="listen"):
        WebServer(site.host, listen)


def test_an_address_in_use_is_refused(site: Site) -> None:
    with pytest.raises(InvalidInput, match="in use"):
        WebServer(site.host, site.address)


class Remote:
    """A server in another process, over one connection."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        self.connection.request(method, path, body)
        response = self.connection.getresponse()
        assert response.status == 200
        return response.read()

    def deliver(self, envelope: bytes) -> bytes:
        return self.ask("POST", "/deliver-mail", envelope)


SERVE = """
import sys
from host_store.host import EnclaveHost
from host_store.server import serve
with EnclaveHost.start("host_enclaves:Ledger", sys.argv[1], import_from=sys.argv[2]) as host:
    serve(host, "127.0.0.1:0", on_ready=lambda url: print(url, flush=True))
print("closed", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order_and_what_was_answered_is_there(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-c", SERVE, str(tmp_path / "store"), str(HERE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        site = Remote(process.stdout.readline().strip())
        client = RawClient()
        client.hello(site.ask("GET", "/attestation"), site.deliver)
        assert client.mail(b"put a 1", site.deliver) == b"put"
        process.send_signal(number)
        assert process.stdout.read() == "closed\n"
        assert process.wait(SECONDS) == 0
        site.connection.close()
    with EnclaveHost.start(Ledger, tmp_path / "store", in_process=True) as host:
        assert host.call(b"get a").result(SECONDS) == b"1"


def test_a_host_killed_in_the_middle_of_its_work_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(tmp_path / "store"), str(HERE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        clients = [RawClient() for _ in range(4)]
        answered = [0, 0, 0, 0]
        enough = threading.Semaphore(0)

        def load(number: int) -> None:
            site, client = Remote(url), clients[number]
            client.hello(site.ask("GET", "/attestation"), site.deliver)
            with suppress(OSError, http.client.HTTPException):
                while True:
                    assert client.mail(b"put %d/%d x" % (number, answered[number]), site.deliver) == b"put"
                    answered[number] += 1
                    enough.release()

        with ThreadPoolExecutor(4) as pool:
            loads = [pool.submit(load, number) for number in range(4)]
            for _ in range(100):
                assert enough.acquire(timeout=SECONDS)
            process.kill()
            for one in loads:
                one.result()
    with EnclaveHost.start(Ledger, tmp_path / "store", in_process=True) as host:

        def deliver(envelope: bytes) -> bytes:
            return host.deliver(envelope).result(SECONDS)

        for number, client in enumerate(clients):
            client.hello(host.attestation(), deliver)
            # The one that was on its way: executed or not, but the enclave says which.
            pending = f"{number}/{answered[number]}"
            executed = client.recover(deliver) is Outcome.RECOVERED
            assert client.mail(f"get {pending}".encode(), deliver) == (b"x" if executed else None)
            for earlier in range(answered[number]):
                assert client.mail(b"get %d/%d" % (number, earlier), deliver) == b"x"
