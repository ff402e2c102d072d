"""Carries out the effects of :class:`client.session.Session` on an event loop; there is no protocol in here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, TypeVar

from client.aio_transport import AsyncTransport
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
from wire.errors import InvalidInput, PmapError, StoreError

_T = TypeVar("_T")


class AsyncDriver:
    """Owns the transport and the state file. For the tasks of one event loop."""

    def __init__(
        self,
        session: Session,
        transport: AsyncTransport,
        file: StateFile | None,
        on_restart: Callable[[], object] | None,
    ) -> None:
        self._session = session
        self._transport = transport
        self._file = file
        self._on_restart = on_restart
        self._restarted = False
        self._closed = False
        self._renewing = asyncio.Lock()
        self._saving = asyncio.Lock()
        self._topics: dict[str, asyncio.Lock] = {}
        self._writes: set[asyncio.Task[None]] = set()
        # Numbers of the latest wish to save, and of the latest that is in the file, durably or not.
        self._wanted = self._saved = self._durable = 0

    async def operate(self, steps: Steps[_T], topic: str | None = None) -> _T:
        """Run a user's operation, one at a time on a topic. Raises :class:`InvalidInput` after a close."""
        if self._closed:
            raise InvalidInput("this client is closed")
        try:
            async with self._lock_of(topic):
                return await self._run(steps)
        finally:
            # Only now, when nothing is locked: whoever is told may use the client.
            if self._restarted:
                self._restarted = False
                if self._on_restart is not None:
                    self._on_restart()

    async def close(self) -> None:
        """Save and let go of everything. Again is fine."""
        if self._closed:
            return
        try:
            await self._save(durable=True)
        finally:
            await self.release()

    async def release(self) -> None:
        """Let go of everything without saving."""
        self._closed = True
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._transport.close()
        if self._file is not None:
            self._file.close()

    def _lock_of(self, topic: str | None) -> AbstractAsyncContextManager[object]:
        return nullcontext() if topic is None else self._topics.setdefault(topic, asyncio.Lock())

    async def _run(self, steps: Steps[_T]) -> _T:
        result: Any = None
        error: PmapError | None = None
        while True:
            try:
                effect = steps.send(result) if error is None else steps.throw(error)
            except StopIteration as stop:
                done: _T = stop.value
                return done
            result = error = None
            try:
                result = await self._perform(effect)
            except PmapError as raised:
                error = raised

    async def _perform(self, effect: Effect) -> Any:
        match effect:
            case Deliver(envelope):
                return await self._transport.deliver(envelope)
            case Save(durable):
                return await self._save(durable=durable)
            case PollMail(address):
                return await self._transport.poll(address)
            case FetchAttestation():
                return await self._transport.attestation()
            case FetchConsistency(size1, size2):
                return await self._transport.consistency(size1, size2)
            case Wait(seconds):
                return await asyncio.sleep(seconds)
            case Renew(dead):
                async with self._renewing:
                    return await self._run(self._session.renew(dead))
            case TellRestart():
                self._restarted = True
                return None

    async def _save(self, *, durable: bool) -> None:
        if self._file is None:
            return
        self._wanted += 1
        # A task of its own, which a cancellation leaves alone: two threads must not write the file at once.
        write = asyncio.create_task(self._write(self._file, self._wanted, durable=durable))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await asyncio.shield(write)

    async def _write(self, file: StateFile, wanted: int, *, durable: bool) -> None:
        async with self._saving:
            # Whoever saved while this one waited has saved its changes too.
            if (self._durable if durable else self._saved) >= wanted:
                return
            covered, state = self._wanted, self._session.state.encode()
            try:
                await asyncio.to_thread(file.write, state, durable=durable)
            except StoreError:
                if durable:
                    raise
                return  # after a receive: the next durable write will tell, and nothing is lost until then
            self._saved = covered
            if durable:
                self._durable = covered
