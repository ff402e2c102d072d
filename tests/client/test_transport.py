"""HTTP as a client meets it: a small real server, honest or not, bounded in bytes and time."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from adversarial_host import AdversarialHost, executed
from small_servers import Raw, raw_server, serving

from client import AsyncHttpTransport, EnclaveClient, HttpTransport, InProcessTransport
from client.http_interface import check_status, decode_list, parse_url
from wire.codec import pack
from wire.errors import (
    HostUnavailable,
    InvalidInput,
    MailTooLarge,
    Malformed,
    PmapError,
    ReplyWithheld,
    SessionUnknown,
    StoreUnavailable,
    Undecryptable,
)
from wire.limits import MAX_ATTESTATION_BYTES, MAX_CONSISTENCY_BYTES, MAX_HTTP_ERROR_BYTES


def answering(data: bytes) -> Raw:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(data)

    return answer


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@contextmanager
def closing(transport: HttpTransport) -> Iterator[HttpTransport]:
    try:
        yield transport
    finally:
        transport.close()


@pytest.mark.parametrize("prefix", ["", "/behind/a/proxy"])
def test_a_client_works_over_http(host: AdversarialHost, tmp_path: Path, prefix: str) -> None:
    with (
        serving(host, prefix) as url,
        EnclaveClient.connect(url, constraint="SEC:INSECURE", state=tmp_path / "s") as client,
    ):
        early = client.send(b"one").receipt.checkpoint
        host.restart()
        assert client.send(b"two").payload == b"done two"
        assert client.poll() == []
        assert client.send(bytes(300_000)).payload == b"done " + bytes(300_000)
        assert early is not None
        client.compare(early)
    assert executed[:2] == [b"one", b"two"]


def test_connections_are_kept_and_a_closed_one_is_replaced(host: AdversarialHost) -> None:
    document = host.attestation()
    connections: list[int] = []

    def two_then_close(connection: socket.socket) -> None:
        connections.append(1)
        for _ in range(2):
            connection.recv(65536)
            connection.sendall(ok(document))

    with raw_server(two_then_close) as url, closing(HttpTransport(url, timeout=5)) as transport:
        for _ in range(5):
            assert transport.attestation() == document
    assert len(connections) == 3


def test_nobody_there_is_the_hosts_absence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    transport = HttpTransport(f"http://127.0.0.1:{port}", timeout=5)
    with pytest.raises(HostUnavailable, match=r"127\.0\.0\.1"):
        transport.deliver(b"x")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://example.invalid/\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_http_or_breaks_off_is_no_answer(answer: bytes) -> None:
    with (
        raw_server(answering(answer)) as url,
        closing(HttpTransport(url, timeout=5)) as transport,
        pytest.raises(HostUnavailable),
    ):
        transport.deliver(b"x")


@pytest.mark.parametrize("status", [b"200 OK", b"503 Busy"])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_body_over_its_bound_is_refused_without_reading_on(status: bytes, framing: str) -> None:
    bound = MAX_ATTESTATION_BYTES if status.startswith(b"200") else MAX_HTTP_ERROR_BYTES
    headers = {
        "length": b"Content-Length: %d\r\n" % (1 << 40),
        "chunked": b"Transfer-Encoding: chunked\r\n",
        "close": b"Connection: close\r\n",
    }
    sent: list[int] = []

    def flood(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\n" + headers[framing] + b"\r\n")
        piece = bytes(65536)
        while len(sent) * 65536 < 1 << 28:
            connection.sendall(b"10000\r\n" + piece + b"\r\n" if framing == "chunked" else piece)
            sent.append(1)

    with (
        raw_server(flood) as url,
        closing(HttpTransport(url, timeout=20)) as transport,
        pytest.raises(Malformed, match=f"more than {bound} bytes"),
    ):
        transport.attestation()
    assert len(sent) * 65536 < 1 << 26, "the rest was never taken"


@pytest.mark.parametrize("slow", ["never", "headers", "body"])
def test_a_host_that_sends_a_byte_now_and_then_does_not_hold_the_client_for_ever(slow: str) -> None:
    gone = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        if slow == "body":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        elif slow == "headers":
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while slow != "never" and not gone.wait(0.02):
            connection.sendall(b"x")
        gone.wait(10)

    with raw_server(drip) as url, closing(HttpTransport(url, timeout=0.3)) as transport:
        with pytest.raises(HostUnavailable):
            transport.attestation()
        gone.set()


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (409, b'{"error": "session_unknown", "message": "who?"}', SessionUnknown, "who?"),
        (413, b'{"error": "too_large", "message": "m"}', MailTooLarge, "m"),
        (400, b'{"error": "malformed", "message": "m"}', Malformed, "m"),
        (400, b'{"error": "undecryptable", "message": "m"}', Undecryptable, "m"),
        (503, b'{"error": "reply_withheld", "message": "m"}', ReplyWithheld, "m"),
        (503, b'{"error": "unavailable", "message": "m"}', HostUnavailable, "m"),
        (504, b'{"error": "timeout", "message": "m"}', HostUnavailable, "504: m"),
        (413, b"<html>a proxy</html>", MailTooLarge, "a proxy"),
        (400, b"", Malformed, "400"),
        (502, b"\xff\xfe", HostUnavailable, "502"),
        (500, b"[" * 16000, HostUnavailable, "500"),
        (500, b'{"error": ["session_unknown"], "message": {"a": 1}}', HostUnavailable, "500"),
        (409, b'{"error": "session_unknown", "message": "\\u001b[31mred\\nline"}', SessionUnknown, r" \[31mred line"),
        (204, b"", HostUnavailable, "204"),
        (301, b"", HostUnavailable, "301"),
    ],
)
def test_an_error_says_what_the_host_says(status: int, body: bytes, error: type[PmapError], text: str) -> None:
    with pytest.raises(error, match=text) as raised:
        check_status(status, body)
    assert type(raised.value) is error
    assert str(raised.value).isprintable() and len(str(raised.value)) < 300


@pytest.mark.parametrize("data", [b"", b"x", b"\x01", b"\x91\x01", b"\x91\x90", b"\x91\xa1x", b"\x90\x90", bytes(300)])
def test_what_is_not_a_list_of_bytes_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode_list(data, 200)


def test_lists_are_bounded() -> None:
    assert decode_list(pack([b"a", b""]), 100) == [b"a", b""]
    with pytest.raises(Malformed):
        decode_list(pack([bytes(MAX_CONSISTENCY_BYTES)]), MAX_CONSISTENCY_BYTES)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8080",
        "ftp://host",
        "http://",
        "http://:80",
        "http://host:0",
        "http://host:99999",
        "http://host:x",
        "http://user:password@host",
        "http://host/?q",
        "http://host/#f",
        "http://[::1",
        None,
        5,
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        parse_url(url)
    if isinstance(url, str):
        with pytest.raises(InvalidInput):
            HttpTransport(url)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_is_a_positive_number_of_seconds(timeout: float) -> None:
    for transport in (HttpTransport, AsyncHttpTransport):
        with pytest.raises(InvalidInput):
            transport("http://localhost", timeout)


def test_https_verifies_the_servers_certificate(host: AdversarialHost) -> None:
    with (
        serving(host) as url,
        closing(HttpTransport(url.replace("http:", "https:"), timeout=5)) as transport,
        pytest.raises(HostUnavailable),
    ):
        transport.attestation()  # that server speaks no TLS
    context = HttpTransport("https://localhost")._tls
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname


def test_a_host_in_the_same_process_is_bounded_in_time_and_its_errors_are_translated(host: AdversarialHost) -> None:
    from concurrent.futures import Future

    transport = InProcessTransport(host, timeout=0.05)
    never: Future[bytes] = Future()
    host.deliver = lambda envelope: never  # type: ignore[method-assign]
    with pytest.raises(HostUnavailable, match="in time"):
        transport.deliver(b"x")
    failed: Future[bytes] = Future()
    failed.set_exception(StoreUnavailable("the disk is full"))
    host.deliver = lambda envelope: failed  # type: ignore[method-assign]
    with pytest.raises(HostUnavailable, match="the disk is full"):
        transport.deliver(b"x")
    with pytest.raises(HostUnavailable):
        transport.consistency(5, 1)
    with pytest.raises(Malformed):
        transport.poll(b"too short")
