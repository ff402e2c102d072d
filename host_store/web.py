"""The web server: a host's mail slot over HTTP/1.1.

======= ============================ ==================== ====================================
method  path                         body                 answer
======= ============================ ==================== ====================================
GET     ``/attestation``                                  attestation document
POST    ``/deliver-mail``            envelope             the reply's envelope
POST    ``/poll-mail``               session (16 bytes)   msgpack array of envelopes
GET     ``/consistency?from=A&to=B``                      msgpack array of hashes
GET     ``/healthz``                                      JSON, for people and load balancers
======= ============================ ==================== ====================================

Errors are JSON, ``{"error": code, "message": text}``: 400 ``malformed`` or ``undecryptable``, 404 ``not_found``, 405
``method_not_allowed``, 409 ``session_unknown``, 413 ``too_large``, 503 ``unavailable`` or ``reply_withheld``, 504
``timeout``. Of the last two statuses only ``reply_withheld`` says whether the mail was executed.

The server needs no secrets and protects none: what passes it is encrypted, and it is on the untrusted side. It bounds
what one request and all of them together may hold, and how long a request may take.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from host_store.host import EnclaveHost
from wire.codec import pack
from wire.errors import (
    HostUnavailable,
    InvalidInput,
    LimitExceeded,
    MailTooLarge,
    Malformed,
    PmapError,
    ReplyWithheld,
    SessionUnknown,
    Undecryptable,
)
from wire.limits import MAX_ENVELOPE_BYTES, MAX_WAITING_BYTES
from wire.mail import SESSION_BYTES

REQUEST_SECONDS: Final = 60.0
"""How long a request may take, from its first byte on, before it is answered with 504."""

_STATUS: Final[tuple[tuple[type[PmapError], int, str], ...]] = (
    (Undecryptable, 400, "undecryptable"),
    (Malformed, 400, "malformed"),
    (InvalidInput, 400, "malformed"),
    (SessionUnknown, 409, "session_unknown"),
    (LimitExceeded, 413, "too_large"),
    (ReplyWithheld, 503, "reply_withheld"),
    (PmapError, 503, "unavailable"),
)
"""The first class that fits decides."""

_BYTES: Final = "application/octet-stream"


def create_app(host: EnclaveHost, *, request_seconds: float = REQUEST_SECONDS) -> Starlette:
    """The application in front of a host. It does not close the host."""
    bodies = _Bodies()

    async def attestation(_request: Request) -> Response:
        # Not here: now and then the enclave makes new evidence for it.
        return Response(await asyncio.to_thread(host.attestation), media_type=_BYTES)

    async def poll_mail(request: Request) -> Response:
        async with asyncio.timeout(request_seconds):
            with bodies.receipt(SESSION_BYTES) as receipt:
                session = await receipt.read(request.receive, request.headers.get("content-length"))
            # Not here: a store that is being grown or synced would stop all other requests as well.
            return Response(pack(await asyncio.to_thread(host.poll, session)), media_type=_BYTES)

    async def consistency(request: Request) -> Response:
        sizes = [_number(request, name) for name in ("from", "to")]
        async with asyncio.timeout(request_seconds):
            return Response(pack(await asyncio.to_thread(host.consistency, *sizes)), media_type=_BYTES)

    async def healthz(_request: Request) -> Response:
        status = host.status()
        body = {
            "status": status.state,
            "enclave": status.enclave,
            "epoch": status.epoch,
            "persistent": status.persistent,
            "n": status.n,
            "waiting": status.waiting,
            "starts": status.starts,
        }
        return JSONResponse(body, 200 if status.state == "running" else 503)

    return Starlette(
        routes=[
            Route("/attestation", attestation),
            Route("/deliver-mail", _DeliverMail(host, bodies, request_seconds), methods=["POST"]),
            Route("/poll-mail", poll_mail, methods=["POST"]),
            Route("/consistency", consistency),
            Route("/healthz", healthz),
        ],
        exception_handlers={PmapError: _on_error, TimeoutError: _on_error, HTTPException: _on_http_error},
    )


# --- deliver-mail: every mail's way, so without request and response objects ----------------------------------


class _DeliverMail:
    """The endpoint as a plain ASGI application."""

    def __init__(self, host: EnclaveHost, bodies: _Bodies, seconds: float) -> None:
        self._host = host
        self._bodies = bodies
        self._seconds = seconds
        self._answers: _Answers | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                with self._bodies.receipt(MAX_ENVELOPE_BYTES) as receipt:
                    envelope = await receipt.read(receive, _content_length(scope))
                reply = await self._deliver(envelope)
        except (PmapError, TimeoutError) as error:
            await _error_response(error)(scope, receive, send)
            return
        headers = [(b"content-type", _BYTES.encode()), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    def _deliver(self, envelope: bytes) -> Awaitable[bytes]:
        answers = self._answers
        loop = asyncio.get_running_loop()
        if answers is None or answers.loop is not loop:
            self._answers = answers = _Answers(loop)
        promise = _Promise(answers)
        self._host.deliver_to(envelope, promise)
        return promise.future


class _Answers:
    """Carries answers from the store's thread to the event loop, waking it once for as many as there are."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._done: deque[tuple[asyncio.Future[bytes], bytes | None, BaseException | None]] = deque()
        self._woken = False

    def put(self, future: asyncio.Future[bytes], result: bytes | None, error: BaseException | None) -> None:
        """From any thread."""
        self._done.append((future, result, error))
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self.loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        self._woken = False  # before looking: what comes later wakes the loop again
        done = self._done
        while done:
            future, result, error = done.popleft()
            if future.done():
                continue  # its request was timed out or given up
            if error is not None:
                future.set_exception(error)
            else:
                assert result is not None
                future.set_result(result)


class _Promise:
    """See :class:`host_store.intake.Promise`."""

    __slots__ = ("_answers", "future")

    def __init__(self, answers: _Answers) -> None:
        self._answers = answers
        self.future: asyncio.Future[bytes] = answers.loop.create_future()

    def set_result(self, result: bytes | None, /) -> None:
        self._answers.put(self.future, result, None)

    def set_exception(self, exception: BaseException, /) -> None:
        self._answers.put(self.future, None, exception)


# --- bodies -----------------------------------------------------------------------------------------------


class _Bodies:
    """What all requests together are receiving; used in the event loop only."""

    def __init__(self) -> None:
        self.bytes = 0

    def receipt(self, max_bytes: int) -> _Receipt:
        """For one request's body, at most so long."""
        return _Receipt(self, max_bytes)


class _Receipt:
    """One body on its way in. A context manager, so that an aborted one is not counted for ever."""

    __slots__ = ("_bodies", "_bytes", "_max_bytes")

    def __init__(self, bodies: _Bodies, max_bytes: int) -> None:
        self._bodies = bodies
        self._max_bytes = max_bytes
        self._bytes = 0

    def __enter__(self) -> _Receipt:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bodies.bytes -= self._bytes

    async def read(self, receive: Receive, content_length: str | None) -> bytes:
        """The whole body.

        Raises:
            MailTooLarge: it is longer than allowed, or says so beforehand.
            HostUnavailable: all bodies together hold too much; or the sender went away.
        """
        if content_length is not None and content_length.isdecimal() and int(content_length) > self._max_bytes:
            raise self._too_long()
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HostUnavailable("the sender went away before the end of its mail: nothing was done")
            chunk = message.get("body", b"")
            self._bytes += len(chunk)
            self._bodies.bytes += len(chunk)
            if self._bytes > self._max_bytes:
                raise self._too_long()
            if self._bodies.bytes > MAX_WAITING_BYTES:
                raise HostUnavailable("the host is busy with too many large mails: nothing was done, try again")
            if not message.get("more_body", False):
                return b"".join([*chunks, chunk]) if chunks else chunk
            chunks.append(chunk)

    def _too_long(self) -> MailTooLarge:
        return MailTooLarge(f"at most {self._max_bytes} bytes are taken here: nothing was done")


def _content_length(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return str(value, "latin-1")
    return None


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidInput(f"'{name}' is to be the number of a commit")
    return int(text)


# --- errors -------------------------------------------------------------------------------------------------


def _error_response(error: Exception) -> JSONResponse:
    if isinstance(error, TimeoutError):
        return _json_error(504, "timeout", "no answer in time: whether the mail was executed is open")
    status, code = next((status, code) for kind, status, code in _STATUS if isinstance(error, kind))
    return _json_error(status, code, str(error))


def _json_error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": code, "message": message}, status)


async def _on_error(_request: Request, error: Exception) -> Response:
    return _error_response(error)


async def _on_http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json_error(error.status_code, error.detail.lower().replace(" ", "_"), error.detail)
