"""Errors as the web server answers them: a status, and a code and a sentence in JSON."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from wire.errors import (
    InvalidInput,
    LimitExceeded,
    Malformed,
    PmapError,
    ReplyWithheld,
    SessionUnknown,
    Undecryptable,
)

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


def error_response(error: BaseException) -> JSONResponse:
    """The answer to a request that failed with a :class:`PmapError` or ran out of time."""
    if isinstance(error, TimeoutError):
        return _json_error(504, "timeout", "no answer in time: whether the mail was executed is open")
    status, code = next((status, code) for kind, status, code in _STATUS if isinstance(error, kind))
    return _json_error(status, code, str(error))


def _json_error(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": code, "message": message}, status)


async def on_error(_request: Request, error: Exception) -> Response:
    """For Starlette: an endpoint raised this."""
    return error_response(error)


async def on_http_error(_request: Request, error: Exception) -> Response:
    """For Starlette: no such path or method."""
    assert isinstance(error, HTTPException)
    return _json_error(error.status_code, error.detail.lower().replace(" ", "_"), error.detail)
