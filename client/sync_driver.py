"""Carries out the effects of :class:`client.session.Session` in the calling thread; there is no protocol in here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from client.effects import (
    Deliver,
    Effect,
    FetchAttestation,
    FetchConsistency,
    PollMail,
    Renew,
    Save,
    Steps,
    TellRestart,
    Wait,
)
from client.session import Session
from client.state_file import StateFile
from client.transport import Transport
from wire.errors import InvalidInput, PmapError, StoreError

_T = TypeVar("_T")


class Driver:
    """Owns the transport and the state file. Safe for use by several threads."""

    def __init__(
        self, session: Session, transport: Transport, file: StateFile | None, on_restart: Callable[[], object] | None
    ) -> None:
        self._session = session
        self._transport = transport
        self._file = file
        self._on_restart = on_restart
        self._restarted = False
        self._closed = False
        # Guards the session's state while a generator runs, never while anybody waits.
        self._guard = threading.Lock()
        self._renewing = threading.Lock()
        self._saving = threading.Lock()
        self._topics: dict[str, threading.Lock] = {}
        # Numbers of the latest wish to save, and of the latest that is in the file, durably or not.
        self._wanted = self._saved = self._durable = 0

    def pending_topics(self) -> list[str]:
        """Topics with a mail whose outcome is open."""
        with self._guard:
            return self._session.pending_topics

    def operate(self, steps: Steps[_T], topic: str | None = None) -> _T:
        """Run a user's operation, one at a time on a topic. Raises :class:`InvalidInput` after a close."""
        if self._closed:
            raise InvalidInput("this client is closed")
        try:
            with self._lock_of(topic):
                return self._run(steps)
        finally:
            # Only now, when nothing is locked: whoever is told may use the client.
            if self._restarted:
                self._restarted = False
                if self._on_restart is not None:
                    self._on_restart()

    def close(self) -> None:
        """Save and let go of everything. Again is fine."""
        if self._closed:
            return
        try:
            self._save(durable=True)
        finally:
            self.release()

    def release(self) -> None:
        """Let go of everything without saving."""
        self._closed = True
        self._transport.close()
        if self._file is not None:
            self._file.close()

    def _lock_of(self, topic: str | None) -> AbstractContextManager[object]:
        if topic is None:
            return nullcontext()
        with self._guard:
            return self._topics.setdefault(topic, threading.Lock())

    def _run(self, steps: Steps[_T]) -> _T:
        result: Any = None
        error: PmapError | None = None
        while True:
            try:
                with self._guard:
                    effect = steps.send(result) if error is None else steps.throw(error)
            except StopIteration as stop:
                done: _T = stop.value
                return done
            result = error = None
            try:
                result = self._perform(effect)
            except PmapError as raised:
                error = raised

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Deliver(envelope):
                return self._transport.deliver(envelope)
            case Save(durable):
                return self._save(durable=durable)
            case PollMail(address):
                return self._transport.poll(address)
            case FetchAttestation():
                return self._transport.attestation()
            case FetchConsistency(size1, size2):
                return self._transport.consistency(size1, size2)
            case Wait(seconds):
                return time.sleep(seconds)
            case Renew(dead):
                with self._renewing:
                    return self._run(self._session.renew(dead))
            case TellRestart():
                self._restarted = True
                return None

    def _save(self, *, durable: bool) -> None:
        file = self._file
        if file is None:
            return
        with self._guard:
            self._wanted += 1
            wanted = self._wanted
        with self._saving:
            # Whoever saved while this one waited has saved its changes too.
            if (self._durable if durable else self._saved) >= wanted:
                return
            with self._guard:
                covered, state = self._wanted, self._session.state.encode()
            try:
                file.write(state, durable=durable)
            except StoreError:
                if durable:
                    raise
                return  # after a receive: the next durable write will tell, and nothing is lost until then
            self._saved = covered
            if durable:
                self._durable = covered
