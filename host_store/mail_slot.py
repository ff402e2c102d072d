"""The mail slot behind the web server: the mails of one turn of the event loop go to the host together.

So the enclave's thread is woken once for all of them, and finds them all. What that thread has answered
meanwhile is carried back to the loop by one wake-up as well. Used in one event loop at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Protocol

from host_store.host import EnclaveHost
from wire.errors import HostUnavailable, MailTooLarge
from wire.limits import MAX_WAITING_BYTES


class Waiting(Protocol):
    """Somebody in the event loop who waits for one mail's answer."""

    def answered(self, reply: bytes | None, error: BaseException | None) -> None:
        """Called once, in the loop: the reply's envelope, or an error of :mod:`wire.errors`."""
        ...


class MailSlot:
    """Where requests drop their mails. ``seconds``: how long one may take. ``bodies``: what all are receiving."""

    def __init__(self, host: EnclaveHost, seconds: float) -> None:
        self._host = host
        self.seconds = seconds
        self.bodies = Bodies()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dropped: list[tuple[bytes, _Promise]] = []
        self._answers: deque[tuple[Waiting, bytes | None, BaseException | None]] = deque()
        self._woken = False

    def drop(self, envelope: bytes, waiting: Waiting) -> None:
        """Hand a mail to the host at the end of this turn of the loop."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # what another loop left behind has nobody who waits for it
            self._loop, self._dropped, self._answers, self._woken = loop, [], deque(), False
        if not self._dropped:
            loop.call_soon(self._hand_over)
        self._dropped.append((envelope, _Promise(self, waiting)))

    def _hand_over(self) -> None:
        dropped, self._dropped = self._dropped, []
        self._host.deliver_all(dropped)

    def answer(self, waiting: Waiting, reply: bytes | None, error: BaseException | None) -> None:
        """From any thread."""
        self._answers.append((waiting, reply, error))
        if not self._woken:
            self._woken = True
            assert self._loop is not None
            with suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        self._woken = False  # before looking: what comes later wakes the loop again
        answers = self._answers
        while answers:
            waiting, reply, error = answers.popleft()
            waiting.answered(reply, error)


class _Promise:
    """See :class:`host_store.intake.Promise`."""

    __slots__ = ("_slot", "_waiting")

    def __init__(self, slot: MailSlot, waiting: Waiting) -> None:
        self._slot = slot
        self._waiting = waiting

    def set_result(self, result: bytes | None, /) -> None:
        self._slot.answer(self._waiting, result, None)

    def set_exception(self, exception: BaseException, /) -> None:
        self._slot.answer(self._waiting, None, exception)


class FutureReply:
    """A future that waits for an answer."""

    def __init__(self) -> None:
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answered(self, reply: bytes | None, error: BaseException | None) -> None:
        """See :class:`Waiting`."""
        if self.future.done():
            return  # its request was timed out or given up
        if error is not None:
            self.future.set_exception(error)
        else:
            assert reply is not None
            self.future.set_result(reply)


class Bodies:
    """What all requests together are receiving; used in the event loop only."""

    def __init__(self) -> None:
        self.bytes = 0

    def receipt(self, max_bytes: int) -> Receipt:
        """For one request's body, at most so long."""
        return Receipt(self, max_bytes)


class Receipt:
    """One body on its way in. A context manager, so that an aborted one is not counted for ever."""

    __slots__ = ("_bodies", "_bytes", "_max_bytes")

    def __init__(self, bodies: Bodies, max_bytes: int) -> None:
        self._bodies = bodies
        self._max_bytes = max_bytes
        self._bytes = 0

    def __enter__(self) -> Receipt:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()

    def release(self) -> None:
        """The body is received, or will not be."""
        self._bodies.bytes -= self._bytes
        self._bytes = 0

    def announced(self, content_length: bytes | None) -> None:
        """What the request says beforehand. Raises :class:`MailTooLarge`."""
        if content_length is not None and content_length.isdigit() and int(content_length) > self._max_bytes:
            raise self._too_long()

    def arrived(self, count: int) -> None:
        """So many bytes more.

        Raises :class:`MailTooLarge`, and :class:`HostUnavailable` if all bodies together hold too much.
        """
        self._bytes += count
        self._bodies.bytes += count
        if self._bytes > self._max_bytes:
            raise self._too_long()
        if self._bodies.bytes > MAX_WAITING_BYTES:
            raise HostUnavailable("the host is busy with too many large mails: nothing was done, try again")

    def _too_long(self) -> MailTooLarge:
        return MailTooLarge(f"at most {self._max_bytes} bytes are taken here: nothing was done")


def content_length(headers: list[tuple[bytes, bytes]]) -> bytes | None:
    """What a request says about its body's length; names are in lower case."""
    for name, value in headers:
        if name == b"content-length":
            return value
    return None
