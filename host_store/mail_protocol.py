"""Mails on the shortest way between socket and mail slot: uvicorn's HTTP/1.1 protocol, with one request of its own.

A plain ``POST /deliver-mail`` is what nearly all requests are. It needs no task, no scope and no events, so it is
received and answered here; everything else, and a mail that comes in an unusual manner (pipelined behind
another request, with ``Expect``, over HTTP/1.0, or while its client does not read), goes the ordinary way to the
application, which has the same endpoint.

What is used of uvicorn beside its public interface are the attributes that its own request cycle has and uses:
``cycle``, ``flow``, ``headers``, ``url``, ``parser`` and :meth:`on_response_complete`. The version is pinned.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from host_store.mail_slot import MailSlot, content_length
from host_store.web_errors import error_response
from wire.errors import HostUnavailable, PmapError
from wire.limits import MAX_ENVELOPE_BYTES

_PATH = b"/deliver-mail"
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: "
_CLOSE = b"connection: close\r\n"


class MailProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, slot: MailSlot, **given: Any) -> None:
        """``given``: what uvicorn gives to its protocols."""
        super().__init__(**given)
        self._slot = slot

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        cycle: Any = self.cycle
        parser = self.parser
        if (
            self.url == _PATH
            and parser.get_method() == b"POST"
            and (cycle is None or cycle.response_complete)
            and not self.flow.write_paused
            and not self.expect_100_continue
            and not parser.should_upgrade()
            and parser.get_http_version() == "1.1"
        ):
            exchange: Any = _Exchange(self, self._slot, parser.should_keep_alive())
            self.cycle = exchange
            exchange.begin(content_length(self.headers))
        else:
            super().on_headers_complete()


class _Exchange:
    """One mail and its answer, in the place of uvicorn's request cycle.

    The protocol appends to ``body``, clears ``more_body`` at its end, sets ``disconnected`` when the connection is
    gone, and calls :meth:`set` after each of these.
    """

    __slots__ = (
        "_protocol",
        "_receipt",
        "_seen",
        "_slot",
        "_timer",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
    )

    def __init__(self, protocol: HttpToolsProtocol, slot: MailSlot, keep_alive: bool) -> None:
        self._protocol = protocol
        self._slot = slot
        self._receipt = slot.bodies.receipt(MAX_ENVELOPE_BYTES)
        self._seen = 0
        self.keep_alive = keep_alive
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self._timer: asyncio.TimerHandle = protocol.loop.call_later(slot.seconds, self._time_out)

    def begin(self, announced: bytes | None) -> None:
        """Refuse a body that is announced as too long."""
        try:
            self._receipt.announced(announced)
        except PmapError as error:
            self.answered(None, error)

    @property
    def message_event(self) -> _Exchange:
        """What the protocol tells of changes."""
        return self

    def set(self) -> None:
        """There is more of the body, or its end, or the connection is lost."""
        if self.response_complete:
            return
        if self.disconnected:
            self._end()
            return
        size = len(self.body)
        try:
            self._receipt.arrived(size - self._seen)
        except PmapError as error:
            self.answered(None, error)
            return
        self._seen = size
        if self.more_body:
            self._protocol.flow.resume_reading()
        else:
            self._receipt.release()
            self._slot.drop(bytes(self.body), self)

    def answered(self, reply: bytes | None, error: BaseException | None) -> None:
        """See :class:`host_store.mail_slot.Waiting`."""
        if self.response_complete or self._protocol.transport.is_closing():
            return  # timed out, or given up
        if reply is not None:
            self._write(_OK + b"%d\r\n" % len(reply), reply)
            return
        if not isinstance(error, PmapError | TimeoutError):
            error = HostUnavailable(f"the host broke down: {type(error).__name__}")
        response = error_response(error)
        headers = b"".join([name + b": " + value + b"\r\n" for name, value in response.raw_headers])
        self._write(STATUS_LINE[response.status_code] + headers, bytes(response.body))

    def _write(self, head: bytes, body: bytes) -> None:
        transport = self._protocol.transport
        transport.write(b"".join([head, b"\r\n" if self.keep_alive else _CLOSE + b"\r\n", body]))
        self._end()
        if not self.keep_alive:
            transport.close()
        self._protocol.on_response_complete()

    def _end(self) -> None:
        self.response_complete = True
        self._receipt.release()
        self._timer.cancel()

    def _time_out(self) -> None:
        self.answered(None, TimeoutError())
