"""The load generator, a process of its own: so many clients, each on a connection of its own, each sending its next
mail when the last one is answered (a closed loop).

``python -m benchmarks.load URL mail|echo|idle`` answers questions ``{"clients": n, "seconds": s, "puts": p}``. The
three kinds are the clients of :mod:`benchmarks.mail_client`; everything else is the same for all of them. It speaks
just enough HTTP for servers that answer with a content-length: a general client would be slower than what is measured.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

import uvloop

from benchmarks.child import questions, tell
from benchmarks.mail_client import EchoClient, IdleClient, MailClient, Talker
from benchmarks.mail_core import bodies
from benchmarks.measure import percentile

_END_OF_HEAD: Final = b"\r\n\r\n"
_OK: Final = b"HTTP/1.1 200 "
_LENGTH: Final = b"content-length:"


class Connection(asyncio.Protocol):
    """One client's connection: a request, its answer, the next request."""

    def __init__(self, host: str) -> None:
        self._head = f"POST /deliver-mail HTTP/1.1\r\nhost: {host}\r\ncontent-length: ".encode()
        self._received = b""
        self._answered: Callable[[bytes], None] | None = None
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = transport

    def request(self, body: bytes, answered: Callable[[bytes], None]) -> None:
        """Send a body; ``answered`` is called with that of the answer."""
        if self._transport.is_closing():
            _give_up("the server closed a connection between two mails")
        self._answered = answered
        self._transport.write(self._head + b"%d\r\n\r\n" % len(body) + body)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._received = received = self._received + data if self._received else data
        end = received.find(_END_OF_HEAD)
        if end < 0:
            return
        head, start = received[:end].lower(), end + len(_END_OF_HEAD)
        at = head.find(_LENGTH)
        length = int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
        if len(received) < start + length:
            return
        if not received.startswith(_OK):
            _give_up(f"the server answered {received!r}")
        self._received = b""
        answered, self._answered = self._answered, None
        assert answered is not None, "an answer that nobody asked for"
        answered(received[start:])

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop."""
        if self._answered is not None:
            _give_up(f"the server closed a connection: {error}")


def _give_up(why: str) -> NoReturn:
    # The rest of a round would wait for ever, and the loop would only log an exception: end the process instead.
    print(why, file=sys.stderr, flush=True)
    os._exit(1)


class Client:
    """One talker on one connection."""

    def __init__(self, talker: Talker, connection: Connection, number: int) -> None:
        self._talker = talker
        self._connection = connection
        self._number = number
        self._bodies: dict[int, Iterator[bytes]] = {}

    async def talk(self, until: float, puts: int) -> list[float]:
        """Send mails of so many puts until then; the seconds that each answer took."""
        loop, clock = asyncio.get_running_loop(), time.perf_counter
        over: asyncio.Future[None] = loop.create_future()
        seconds: list[float] = []
        talker, connection = self._talker, self._connection
        if puts not in self._bodies:
            self._bodies[puts] = bodies(self._number, puts)
        body = self._bodies[puts]
        sent = 0.0

        def send() -> None:
            nonlocal sent
            envelope = talker.seal(next(body))
            sent = clock()
            connection.request(envelope, take)

        def take(answer: bytes) -> None:
            now = clock()
            seconds.append(now - sent)
            try:
                talker.accept(answer)
            except Exception as error:
                over.set_exception(error)
                return
            if now < until:
                send()
            else:
                over.set_result(None)

        send()
        await over
        return seconds


class Load:
    """All clients of one server."""

    def __init__(self, url: str, kind: str) -> None:
        self._url, self._kind = url, kind
        self._clients: list[Client] = []

    async def round(self, clients: int, seconds: float, puts: int) -> dict[str, float]:
        """One round of so many clients."""
        while len(self._clients) < clients:
            self._clients.append(await self._connect(len(self._clients)))
        start = time.perf_counter()
        talks = [client.talk(start + seconds, puts) for client in self._clients[:clients]]
        latencies = sorted(one for talk in await asyncio.gather(*talks) for one in talk)
        took = time.perf_counter() - start
        return {
            "mails": len(latencies),
            "mails_per_s": len(latencies) / took,
            "p50_ms": 1e3 * percentile(latencies, 0.5),
            "p99_ms": 1e3 * percentile(latencies, 0.99),
        }

    async def _connect(self, number: int) -> Client:
        where = urlsplit(self._url)
        assert where.hostname is not None and where.port is not None, "our servers say where they listen"
        _transport, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(where.netloc), where.hostname, where.port
        )
        talker: Talker = EchoClient() if self._kind == "echo" else IdleClient()
        if self._kind == "mail":
            with urllib.request.urlopen(f"{self._url}/attestation") as answer:
                talker = mail_client = MailClient(answer.read())
            welcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            connection.request(mail_client.hello(), welcome.set_result)
            mail_client.welcome(await welcome)
        return Client(talker, connection, number)


async def _serve(url: str, kind: str) -> None:
    load = Load(url, kind)
    for question in questions():
        tell(await load.round(question["clients"], question["seconds"], question.get("puts", 1)))


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    url, kind = arguments
    uvloop.run(_serve(url, kind))


if __name__ == "__main__":
    main(sys.argv[1:])
