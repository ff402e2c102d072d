"""Running the author's code: it may raise anything and return anything; the enclave lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pmap.enclave import Rejected
from pmap.entries import Entries
from pmap.turn import Turn
from wire.errors import InvalidInput, LimitExceeded, PmapError
from wire.limits import MAX_BODY_BYTES, MAX_ERROR_TEXT_BYTES
from wire.mail import Outcome

T = TypeVar("T")


def run(handler: Callable[[T], object], given: T, entries: Entries, turn: Turn) -> tuple[Outcome, bytes | None]:
    """Run a handler in a transaction over everything that persists or is sent: all of it happens, or nothing.

    Returns EXECUTED and its payload, or HANDLER_FAILED and a text for the sender.
    """
    mark = turn.mark()
    try:
        with entries.transaction():
            return Outcome.EXECUTED, _payload(handler(given))
    except (Exception, SystemExit) as error:
        turn.back_to(mark)
        return Outcome.HANDLER_FAILED, _error_text(error)


def _payload(returned: object) -> bytes | None:
    if returned is None:
        return None
    if type(returned) is bytes:
        payload = returned
    elif isinstance(returned, bytes | bytearray | memoryview):
        payload = bytes(returned)
    else:
        raise InvalidInput(f"a handler returns bytes or None, not {type(returned).__name__}")
    if len(payload) > MAX_BODY_BYTES:
        raise LimitExceeded(f"a reply of {len(payload)} bytes; at most {MAX_BODY_BYTES} are allowed")
    return payload


def _error_text(error: BaseException) -> bytes:
    """What the sender learns: :class:`Rejected` and our own errors in words; of others the class alone, because
    their text can hold what another client wrote."""
    text = type(error).__name__
    if isinstance(error, Rejected):
        text = str(error)
    elif isinstance(error, PmapError):
        text += f": {error}"
    return text.encode(errors="replace")[:MAX_ERROR_TEXT_BYTES]
