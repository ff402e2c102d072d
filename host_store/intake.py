"""Items that wait for the enclave: from any thread in, in batches to one thread out.

Whatever has gathered while the enclave was busy leaves as one batch and becomes one commit (group commit), so the load
sets the batch's size by itself.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import NamedTuple, Protocol

from wire.boundary import Incoming
from wire.errors import HostUnavailable, MailTooLarge, PmapError
from wire.limits import (
    MAX_BATCH_BYTES,
    MAX_BATCH_MAILS,
    MAX_ENVELOPE_BYTES,
    MAX_WAITING_BYTES,
    MAX_WAITING_MAILS,
)


class Promise(Protocol):
    """Takes one item's result, or the error instead: once, from any thread, without raising.

    :class:`concurrent.futures.Future` is one, if nobody can cancel it.
    """

    def set_result(self, result: bytes | None, /) -> None:
        """The reply envelope of a mail; what a call returned."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """An error of :mod:`wire.errors`."""
        ...


class Lesson(NamedTuple):
    """What the enclave is to learn before an item is handed over again: see :class:`wire.messages.Learn`."""

    size: int
    root: bytes
    to_size: int
    proof: list[bytes]


class Item:
    """One mail or call, and who waits for its answer."""

    __slots__ = ("incoming", "lesson", "promise")

    def __init__(self, incoming: Incoming, promise: Promise) -> None:
        self.incoming = incoming
        self.promise = promise
        self.lesson: Lesson | None = None


class Intake:
    """The queue. Bounded: what does not fit is refused, so that a slow disk does not fill the memory."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._wanted = 1
        self._interrupted = False
        self._closed = False
        self._refusal: PmapError | None = None

    def put(self, incoming: Incoming, promise: Promise) -> None:
        """Add an item.

        Raises:
            MailTooLarge: more than ``MAX_ENVELOPE_BYTES``.
            HostUnavailable: too much waits already, or the intake is closed.
            PmapError: what :meth:`refuse` was given.
        """
        item = Item(incoming, promise)
        with self._changed:
            self._put(item)
            self._notify()

    def put_all(self, items: list[Item]) -> None:
        """Add items at once, so that whoever takes them is woken once. What :meth:`put` raises is an item's error."""
        refused: list[tuple[Item, PmapError]] = []
        with self._changed:
            for item in items:
                try:
                    self._put(item)
                except PmapError as error:
                    refused.append((item, error))
            self._notify()
        for item, reason in refused:
            item.promise.set_exception(reason)

    def _notify(self) -> None:
        if len(self._items) >= self._wanted:  # nobody is woken to find too few
            self._changed.notify()

    def _put(self, item: Item) -> None:
        size = len(item.incoming.data)
        if size > MAX_ENVELOPE_BYTES:
            raise MailTooLarge(f"a mail of {size} bytes; at most {MAX_ENVELOPE_BYTES} are allowed")
        if self._closed:
            raise HostUnavailable("the host is closing: nothing was done")
        if self._refusal is not None:
            raise again(self._refusal)
        if len(self._items) >= MAX_WAITING_MAILS or self._bytes + size > MAX_WAITING_BYTES:
            raise HostUnavailable("the host is busy, too many mails wait already: nothing was done, try again")
        self._bytes += size
        self._items.append(item)

    def put_back(self, item: Item) -> None:
        """Let an item that was taken go again, before all others. Always possible."""
        with self._changed:
            self._bytes += len(item.incoming.data)
            self._items.appendleft(item)
            self._changed.notify()

    def take(self, wanted: int = 1, patience: float = 0.0) -> list[Item] | None:
        """Wait for items and take as many as make a batch. An empty list after :meth:`interrupt`; None at the end.

        Once there is one, wait for ``wanted`` of them, but no longer than ``patience`` seconds.
        """
        with self._changed:
            while not self._items and not self._interrupted and not self._closed:
                self._changed.wait()
            if len(self._items) < wanted:
                self._wanted = wanted
                self._changed.wait_for(
                    lambda: len(self._items) >= wanted or self._interrupted or self._closed, patience
                )
                self._wanted = 1
            if self._interrupted:
                self._interrupted = False
                return []
            return self._batch() if self._items else None

    def take_now(self, wanted: int) -> list[Item]:
        """As many as make a batch, if there are ``wanted`` of them. Does not wait, nor take back an interruption."""
        with self._changed:
            return self._batch() if len(self._items) >= wanted and not self._interrupted else []

    def _batch(self) -> list[Item]:
        items = self._items
        batch: list[Item] = []
        size = 0
        while items and len(batch) < MAX_BATCH_MAILS:
            item = items[0]
            size += len(item.incoming.data)
            if size > MAX_BATCH_BYTES:
                size -= len(item.incoming.data)
                break
            batch.append(items.popleft())
        self._bytes -= size
        return batch

    def interrupt(self) -> None:
        """Let :meth:`take` return, so that its caller looks around."""
        with self._changed:
            self._interrupted = True
            self._changed.notify()

    def close(self) -> None:
        """Take nothing more in; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def refuse(self, error: PmapError) -> None:
        """Fail what waits, and whatever comes, until :meth:`accept`."""
        with self._changed:
            self._refusal = error
            failed = list(self._items)
            self._items.clear()
            self._bytes = 0
        for item in failed:
            item.promise.set_exception(again(error))

    def accept(self) -> None:
        """Undo :meth:`refuse`."""
        with self._changed:
            self._refusal = None

    def __len__(self) -> int:
        return len(self._items)


def again(error: PmapError) -> PmapError:
    """The same error as a new object: one that is raised in several threads would collect all their tracebacks."""
    fresh = type(error)(*error.args)
    fresh.__cause__ = error.__cause__
    return fresh
