"""A network between a host and an engine that a test can cut."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Self

LOOK_SECONDS = 0.005
CHUNK_BYTES = 1 << 16


class Network(Enum):
    """How it is."""

    FINE = "fine"
    CUT = "cut"
    """Connections are reset, and new ones as well."""
    SILENT = "silent"
    """Nothing arrives, on either side, and nothing is said."""
    DEAF = "deaf"
    """What the host sends arrives; what the engine answers is lost."""


class Proxy:
    """Listens on ``port`` and passes on to ``target``, both on loopback."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.network = Network.FINE
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True
        self._thread.join(10)

    def _run(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._listener, selectors.EVENT_READ)
        pairs: dict[socket.socket, socket.socket] = {}
        ours: set[socket.socket] = set()  # the sides that face the engine

        def drop(one: socket.socket) -> None:
            for each in (one, pairs.pop(one, one)):
                pairs.pop(each, None)
                ours.discard(each)
                with suppress(KeyError, ValueError):
                    selector.unregister(each)
                # A reset, not an end in order.
                with suppress(OSError):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                each.close()

        while not self._over:
            network = self.network
            if network is Network.CUT:
                for one in list(pairs):
                    drop(one)
            if network is Network.SILENT:
                time.sleep(LOOK_SECONDS)
                continue
            for key, _events in selector.select(LOOK_SECONDS):
                one = key.fileobj
                assert isinstance(one, socket.socket)
                if one is self._listener:
                    self._accept(selector, pairs, ours)
                elif one in pairs:
                    try:
                        data = one.recv(CHUNK_BYTES)
                        if data and not (network is Network.DEAF and one in ours):
                            pairs[one].sendall(data)
                    except OSError:
                        data = b""
                    if not data:
                        drop(one)
        for one in list(pairs):
            drop(one)
        self._listener.close()
        selector.close()

    def _accept(
        self,
        selector: selectors.BaseSelector,
        pairs: dict[socket.socket, socket.socket],
        ours: set[socket.socket],
    ) -> None:
        host, _address = self._listener.accept()
        if self.network is Network.CUT:
            host.close()
            return
        try:
            engine = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:
            host.close()
            return
        for one, other in ((host, engine), (engine, host)):
            one.settimeout(5)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pairs[one] = other
            selector.register(one, selectors.EVENT_READ)
        ours.add(engine)
