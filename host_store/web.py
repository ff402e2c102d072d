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
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from host_store.host import EnclaveHost
from host_store.mail_slot import Bodies, FutureReply, MailSlot, content_length
from host_store.web_errors import error_response, on_error, on_http_error
from wire.codec import pack
from wire.errors import HostUnavailable, InvalidInput, PmapError
from wire.limits import MAX_ENVELOPE_BYTES
from wire.mail import SESSION_BYTES

REQUEST_SECONDS: Final = 60.0
"""How long a request may take, from its first byte on, before it is answered with 504."""

_BYTES: Final = "application/octet-stream"


def create_app(
    host: EnclaveHost, *, request_seconds: float = REQUEST_SECONDS, slot: MailSlot | None = None
) -> Starlette:
    """The application in front of a host. It does not close the host. ``slot``: one that others use as well."""
    slot = MailSlot(host, request_seconds) if slot is None else slot

    async def attestation(_request: Request) -> Response:
        # Not here: now and then the enclave makes new evidence for it.
        return Response(await asyncio.to_thread(host.attestation), media_type=_BYTES)

    async def poll_mail(request: Request) -> Response:
        async with asyncio.timeout(request_seconds):
            session = await _read_body(request.scope, request.receive, slot.bodies, SESSION_BYTES)
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
            Route("/deliver-mail", _DeliverMail(slot), methods=["POST"]),
            Route("/poll-mail", poll_mail, methods=["POST"]),
            Route("/consistency", consistency),
            Route("/healthz", healthz),
        ],
        exception_handlers={PmapError: on_error, TimeoutError: on_error, HTTPException: on_http_error},
    )


class _DeliverMail:
    """The endpoint as a plain ASGI application. Most mails never come here: :mod:`host_store.mail_protocol`."""

    def __init__(self, slot: MailSlot) -> None:
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        slot = self._slot
        try:
            async with asyncio.timeout(slot.seconds):
                envelope = await _read_body(scope, receive, slot.bodies, MAX_ENVELOPE_BYTES)
                waiting = FutureReply()
                slot.drop(envelope, waiting)
                reply = await waiting.future
        except (PmapError, TimeoutError) as error:
            await error_response(error)(scope, receive, send)
            return
        headers = [(b"content-type", _BYTES.encode()), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})


async def _read_body(scope: Scope, receive: Receive, bodies: Bodies, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        MailTooLarge: it is longer than allowed, or says so beforehand.
        HostUnavailable: all bodies together hold too much; or the sender went away.
    """
    with bodies.receipt(max_bytes) as receipt:
        receipt.announced(content_length(scope["headers"]))
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HostUnavailable("the sender went away before the end of its mail: nothing was done")
            chunk = message.get("body", b"")
            receipt.arrived(len(chunk))
            if not message.get("more_body", False):
                return b"".join([*chunks, chunk]) if chunks else chunk
            chunks.append(chunk)


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 20):
        raise InvalidInput(f"'{name}' is to be the number of a commit")
    return int(text)
