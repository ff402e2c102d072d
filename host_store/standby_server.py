"""What a host that stands by answers at its address: 503, so that clients and load balancers turn to the other one."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Final

import uvicorn
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from host_store.server import url_of

MAX_CONNECTIONS: Final = 256
"""Beyond these the answer is 503 as well, with less to read."""
_GRACE_SECONDS: Final = 1
_ANSWER: Final = {
    "error": "unavailable",
    "message": "this host stands by: another one serves the store",
    "status": "standing by",
}


class StandbyServer:
    """Answers in a thread of its own, on a listening socket that stays open for who comes afterwards."""

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return url_of(self._socket)

    def start(self) -> None:
        """Answer from now on."""
        config = uvicorn.Config(
            _stands_by,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=_GRACE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._server = server = _Server(config)
        ours = self._socket.dup()  # closed at the end; those who wait to be accepted stay for whoever serves afterwards
        threading.Thread(target=lambda: server.run_on(ours), name="standby", daemon=True).start()

    def stop(self) -> None:
        """Leave the socket to somebody else. Again is fine, and so is before :meth:`start`."""
        server, self._server = self._server, None
        if server is not None:
            server.leave()


class _Server(uvicorn.Server):
    """One that leaves its socket at once: the ordinary one takes its time, while a takeover waits."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._running = threading.Event()
        self._left = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def run_on(self, listening: socket.socket) -> None:
        try:
            self.run(sockets=[listening])
        finally:
            self._running.set()
            self._left.set()

    def leave(self) -> None:
        self._running.wait()
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
        self._left.wait()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._running.set()
        await self._stopping.wait()
        for server in self.servers:
            server.close()
        self._left.set()


async def _stands_by(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse(_ANSWER, 503, {"connection": "close", "retry-after": "1"})(scope, receive, send)
