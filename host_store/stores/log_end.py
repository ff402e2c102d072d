"""The end of the log: where the next entry goes, and who may put one there.

Entry p of the log is the object ``log/p``, and of all who create it the engine lets one succeed. That is all of the
fencing: a host that opens the store puts a *claim* behind the newest entry, and any other host, which would put its
next commit there, finds it taken.

**Unknown outcomes.** When a call to create an entry got no answer, the entry may be there, or may still come to be,
long after. Whoever calls again with the same bytes learns it: they are created now, or found. Anything else first
*settles* it: a claim of our own takes the place, and if the entry was there before it, it counts.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from host_store.stores.entry import NONCE_BYTES, Entry, decode_entry, encode_claim
from host_store.stores.loading import entry_name
from host_store.stores.objects import Objects, Parts
from host_store.stores.state import LogState
from wire.errors import StoreFenced, StoreUnavailable

CLAIM_ATTEMPTS: Final = 1000
"""How many entries of others may come between looking for the newest one and claiming the place behind it."""


class LogEnd:
    """Puts entries behind the newest one of ``state``, and applies them to it under ``lock``."""

    def __init__(self, objects: Objects, host: str, state: LogState, lock: threading.Lock) -> None:
        self.on_growth: Callable[[], None] = lambda: None
        """Called when the state has a new entry."""
        self.fenced: StoreFenced | None = None
        """Set once another host has taken the store over."""
        self._objects = objects
        self._host = host
        self._state = state
        self._lock = lock
        self._nonce = os.urandom(NONCE_BYTES)
        self._writing = threading.Lock()  # held over calls to the engine
        self._unsettled: bytes | None = None
        """An entry that was sent and got no answer."""

    @contextmanager
    def writing(self, data: bytes | None = None) -> Iterator[None]:
        """For one thread at a time, which may then :meth:`extend` the log. Settles what is unsettled, unless it is
        ``data`` itself, which is about to be sent again.

        Raises :class:`StoreFenced`, :class:`StoreUnavailable`.
        """
        with self._writing:
            if self._unsettled is not None and self._unsettled != data:
                self.claim(settling=True)
            yield

    def settle(self) -> None:
        """If an entry got no answer: find out what became of it, and keep it from coming to be later.

        Raises as :meth:`writing`.
        """
        if self._unsettled is not None:
            with self.writing():
                pass

    def claim(self, *, settling: bool = False) -> None:
        """Take the place behind the newest entry. ``settling``: only an entry of ours may be there already.

        Raises :class:`StoreFenced`, :class:`StoreUnavailable`, :class:`CorruptedStore`.
        """
        claim = encode_claim(self._host, self._nonce)
        for _attempt in range(CLAIM_ATTEMPTS):
            position = self._state.position + 1
            parts = self._objects.create(entry_name(position), claim)
            if parts is not None:
                self._apply(self.decode(claim, position), parts)
                break
            found, parts = self._found(position)
            if settling and found not in (self._unsettled, claim):
                raise self._fence(found, position)
            self._apply(self.decode(found, position), parts)
            if found == claim:  # of an attempt that got no answer
                break
        else:
            raise StoreUnavailable(f"{self._where} grows too fast to be claimed: is another host at work?")
        self._unsettled = None

    def extend(self, entry: Entry, data: bytes) -> None:
        """Create the next entry, which may be one that was sent before. Inside :meth:`writing`.

        Raises :class:`StoreFenced`, :class:`StoreUnavailable`.
        """
        if self.fenced is not None:
            raise StoreFenced(*self.fenced.args)
        position = self._state.position + 1
        try:
            parts = self._objects.create(entry_name(position), data)
            if parts is None:
                found, parts = self._found(position)
                if found != data:
                    raise self._fence(found, position)
        except StoreUnavailable:
            self._unsettled = data
            raise
        self._unsettled = None
        self._apply(entry, parts)

    def taken_over(self) -> bool:
        """Whether another host's entry is where our next one would go. Raises :class:`StoreUnavailable`."""
        with self._writing:
            if self.fenced is None and self._unsettled is None:
                position = self._state.position + 1
                found = self._objects.get(entry_name(position))
                if found is not None:
                    self._fence(found[0], position)
            return self.fenced is not None

    def decode(self, data: bytes, position: int) -> Entry:
        """An entry. Raises :class:`CorruptedStore`, :class:`UnsupportedVersion`."""
        return decode_entry(data, f"entry {position} of the log in {self._where}")

    @property
    def _where(self) -> str:
        return self._objects.engine.where

    def _found(self, position: int) -> tuple[bytes, Parts]:
        found = self._objects.get(entry_name(position))
        if found is None:
            raise StoreUnavailable(f"{self._where} says that entry {position} is there, and that it is not")
        return found

    def _apply(self, entry: Entry, parts: Parts) -> None:
        with self._lock:
            self._state.apply(entry, parts)
        self.on_growth()

    def _fence(self, found: bytes, position: int) -> StoreFenced:
        other = self.decode(found, position)
        self.fenced = StoreFenced(
            f"the host {other.host} has taken over the store in {self._where}: this one wrote its last commit,"
            f" number {self._state.n}, before that, and can write no more"
        )
        return self.fenced
