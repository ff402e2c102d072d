"""Host and web server, as users of enclaves know them."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from raw_client import RawClient

from client import EnclaveClient, MailFailed
from host_store.adversary import MaliciousHost
from host_store.server import WebServer
from wire.attestation import Attestation
from wire.codec import unpack
from wire.crypto import SigningKey, derive_key, sha256

SECONDS = 60.0


@contextmanager
def served(host: MaliciousHost) -> Iterator[str]:
    server, ready = WebServer(host.running(), "127.0.0.1:0"), threading.Event()
    thread = threading.Thread(target=server.run, args=[lambda url: ready.set()])
    thread.start()
    try:
        assert ready.wait(SECONDS)
        yield server.url
    finally:
        server.stop()
        thread.join(SECONDS)


def ask(url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_no_one_and_two_responses(host: MaliciousHost) -> None:
    """The second one is a mail that the enclave sends on its own: it waits until it is polled."""
    alice = host.client("alice")
    assert alice.send(b"quietly x 1").payload is None
    assert alice.send(b"get x").payload == b"1"
    assert alice.send(f"mail {alice.client_id} the-second".encode()).payload == b"mailed"
    assert [mail.body for mail in alice.poll()] == [b"the-second"]


def test_many_clients_with_buffered_responses(host: MaliciousHost) -> None:
    sender = host.client("sender")
    clients = [host.client(f"client-{number}") for number in range(12)]
    for client in clients:
        client.send(b"get x")
    for _ in range(2):
        for number, client in enumerate(clients):
            sender.send(f"mail {client.client_id} for-{number}".encode())
    host.restart()
    for number, client in enumerate(clients):
        assert [mail.body for mail in client.poll()] == [f"for-{number}".encode()] * 2
        assert client.poll() == []


def test_what_cannot_be_decrypted_is_400_with_a_typed_error(host: MaliciousHost) -> None:
    client = RawClient()
    client.hello(host.attestation(), host.deliver)
    mail = client.seal(b"add x 1")
    with served(host) as url:
        for body, code in ((mail[:-1] + b"\x00", "undecryptable"), (b"garbage", "malformed"), (b"", "malformed")):
            status, answer = ask(url, "POST", "/deliver-mail", body)
            assert (status, json.loads(answer)["error"]) == (400, code)
        status, answer = ask(url, "POST", "/deliver-mail", mail)
        assert status == 200 and client.accept(answer).payload == b"1"


def test_a_handler_that_fails_is_a_typed_error_for_its_sender(host: MaliciousHost) -> None:
    with served(host) as url, EnclaveClient.connect(url, constraint="SEC:INSECURE") as alice:
        with pytest.raises(MailFailed, match="spoilt on purpose"):
            alice.send(b"spoil x")
        assert alice.send(b"get x").payload == b"nothing"


def test_the_web_interface_has_the_three_known_calls(host: MaliciousHost) -> None:
    client = RawClient()
    with served(host) as url:
        status, document = ask(url, "GET", "/attestation")
        assert status == 200 and Attestation.decode(document).persistent

        def deliver(envelope: bytes) -> bytes:
            status, answer = ask(url, "POST", "/deliver-mail", envelope)
            assert status == 200, answer
            return answer

        client.hello(document, deliver)
        client.mail(f"mail {client.name} hello".encode(), deliver)
        status, polled = ask(url, "POST", "/poll-mail", client.session)
        assert status == 200 and len(unpack(polled, 1 << 20)) >= 1


def test_the_address_of_a_session_is_not_derived_from_any_key(host: MaliciousHost) -> None:
    """Two sessions of one client have nothing in common, and neither follows from the keys that are known."""
    client = RawClient(key=SigningKey(bytes(range(32))))
    client.hello(host.attestation(), host.deliver)
    first = client.session
    client.hello(host.attestation(), host.deliver)
    assert client.session != first
    public = client.key.public
    guesses: list[Callable[[], bytes]] = [
        lambda: sha256(public)[:16],
        lambda: public[:16],
        lambda: derive_key(public, b"", b"session")[:16],
        lambda: sha256(client.secret)[:16],
    ]
    assert all(guess() not in (first, client.session) for guess in guesses)
    assert host.poll(sha256(public)[:16]) == []
