"""A host's web interface as a client sees it: addresses, bounds, and what its answers mean. No I/O.

::

    GET  /attestation                    the attestation document
    POST /deliver-mail  an envelope      the reply's envelope
    POST /poll-mail     a session's id   msgpack [envelope, ...]
    GET  /consistency?from=A&to=B        msgpack [hash, ...]

An error is JSON, ``{"error": code, "message": text}``. No error says anything that an enclave vouches for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

from wire.codec import unpack
from wire.errors import (
    HostUnavailable,
    InvalidInput,
    MailTooLarge,
    Malformed,
    PmapError,
    ReplyWithheld,
    SessionUnknown,
    Undecryptable,
)
from wire.limits import (
    MAX_ATTESTATION_BYTES,
    MAX_CONSISTENCY_BYTES,
    MAX_ENVELOPE_BYTES,
    MAX_HTTP_ERROR_BYTES,
    MAX_POLL_BYTES,
)

BINARY: Final = {"Content-Type": "application/octet-stream"}
_SHOWN_CHARACTERS: Final = 200
_BY_CODE: Final[dict[str, type[PmapError]]] = {
    "malformed": Malformed,
    "undecryptable": Undecryptable,
    "session_unknown": SessionUnknown,
    "too_large": MailTooLarge,
    "reply_withheld": ReplyWithheld,
}
_BY_STATUS: Final[dict[int, type[PmapError]]] = {
    HTTPStatus.BAD_REQUEST: Malformed,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: MailTooLarge,
}
"""What a status means where no code is given: a proxy answers like this."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``max_bytes``: the longest acceptable body of a good answer."""

    method: str
    path: str
    body: bytes | None
    max_bytes: int

    def allowed(self, status: int) -> int:
        """How long an answer with this status may be, in bytes."""
        return self.max_bytes if status == HTTPStatus.OK else MAX_HTTP_ERROR_BYTES


def attestation_call() -> Call:
    """Fetch the attestation document."""
    return Call("GET", "/attestation", None, MAX_ATTESTATION_BYTES)


def deliver_call(envelope: bytes) -> Call:
    """Deliver a mail or hello."""
    return Call("POST", "/deliver-mail", envelope, MAX_ENVELOPE_BYTES)


def poll_call(address: bytes) -> Call:
    """Fetch what waits for a session."""
    return Call("POST", "/poll-mail", address, MAX_POLL_BYTES)


def consistency_call(size1: int, size2: int) -> Call:
    """Fetch a consistency proof."""
    return Call("GET", f"/consistency?from={size1}&to={size2}", None, MAX_CONSISTENCY_BYTES)


def parse_url(url: str) -> SplitResult:
    """Check a host's address. Raises :class:`InvalidInput`."""
    if not isinstance(url, str):
        raise InvalidInput(f"a host's address is a str, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"not a host's address: {error}") from error
    plain = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not plain or parts.query or parts.fragment or "@" in parts.netloc:
        raise InvalidInput(f"a host's address is like http://127.0.0.1:8080, not {url[:_SHOWN_CHARACTERS]!r}")
    return parts


def check_status(status: int, untrusted_body: bytes) -> None:
    """Raises the error that an answer tells, if it does."""
    if status == HTTPStatus.OK:
        return
    code, message = _read_error(untrusted_body)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status) or HostUnavailable
    raise kind(f"the host answered {status}: {message}")


def decode_list(untrusted: bytes, max_bytes: int) -> list[bytes]:
    """An array of byte strings. Raises :class:`Malformed`."""
    items = unpack(untrusted, max_bytes)
    if type(items) is not list or any(type(item) is not bytes for item in items):
        raise Malformed("the host answered something else than an array of byte strings")
    return items


def _read_error(untrusted_body: bytes) -> tuple[str, str]:
    """Code and text. The text is for people, on one line, and so are the first characters of what is no error."""
    code, message = "", untrusted_body[:_SHOWN_CHARACTERS].decode("ascii", "replace")
    try:
        fields = json.loads(untrusted_body)
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict):
        code, message = str(fields.get("error", "")), str(fields.get("message", ""))
    printable = "".join(character if character.isprintable() else " " for character in message[:_SHOWN_CHARACTERS])
    return code, printable
