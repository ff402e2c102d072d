"""Running the web application: uvicorn on a socket of ours, until a signal or the host's end."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import uvicorn

from host_store.host import EnclaveHost
from host_store.mail_protocol import MailProtocol
from host_store.mail_slot import MailSlot
from host_store.web import REQUEST_SECONDS, create_app
from wire.errors import InvalidInput

GRACE_SECONDS: Final = 15
"""How long requests that are being answered may go on after the server was told to stop."""
KEEP_ALIVE_SECONDS: Final = 75
_BACKLOG: Final = 2048
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class WebServer:
    """One listening socket in front of a host."""

    def __init__(
        self, host: EnclaveHost, listen: str | socket.socket, *, request_seconds: float = REQUEST_SECONDS
    ) -> None:
        """``listen``: an address, see :func:`bind`, or what that returned."""
        self._socket = bind(listen) if isinstance(listen, str) else listen
        slot = MailSlot(host, request_seconds)
        app = create_app(host, request_seconds=request_seconds, slot=slot)
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=partial(MailProtocol, slot),  # type: ignore[arg-type]  # it is called, no more
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = _Server(config, host)

    @property
    def url(self) -> str:
        """Where it listens."""
        return url_of(self._socket)

    def run(self, on_ready: Callable[[str], None] | None = None) -> None:
        """Serve until SIGTERM, SIGINT, :meth:`stop`, or the host's failure, which is raised.

        ``on_ready`` is called with the URL once requests are taken. In the main thread this handles the two signals;
        what is being answered then is finished.
        """
        self._server.on_ready = None if on_ready is None else lambda: on_ready(self.url)
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
        if self._server.host.failure is not None:
            raise self._server.host.failure

    def stop(self) -> None:
        """Let :meth:`run` return, from any thread."""
        self._server.should_exit = True


def serve(host: EnclaveHost, listen: str = "127.0.0.1:8080", *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve a host over HTTP until SIGTERM or SIGINT. The host stays open. Raises as :class:`WebServer` does."""
    WebServer(host, listen).run(on_ready)


class _Server(uvicorn.Server):
    on_ready: Callable[[], None] | None = None

    def __init__(self, config: uvicorn.Config, host: EnclaveHost) -> None:
        super().__init__(config)
        self.host = host

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.on_ready is not None:
            self.on_ready()

    async def on_tick(self, counter: int) -> bool:
        # Ten times a second. A host that gave up for good answers nothing any more: say why, and end.
        return await super().on_tick(counter) or self.host.failure is not None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Ours, because uvicorn's raises the signal again at the end, before the host could be closed in order.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def url_of(listening: socket.socket) -> str:
    """Where a socket listens."""
    address, port = listening.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def bind(listen: str) -> socket.socket:
    """Listen at ``ADDRESS:PORT``, port 0 for any free one, IPv6 addresses in brackets.

    Raises :class:`InvalidInput`: no address, or one that cannot be bound.
    """
    address, colon, port = listen.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not colon or not address or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise InvalidInput(f"an address to listen on is ADDRESS:PORT, such as 127.0.0.1:8080, not {listen!r}")
    try:
        family, kind, protocol, _name, where = socket.getaddrinfo(
            address, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidInput(f"cannot listen on {listen}: {error.strerror or error}") from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(where)
        bound.listen(_BACKLOG)
        return bound
    except OSError as error:
        bound.close()
        raise InvalidInput(f"cannot listen on {listen}: {error.strerror or error}") from error
