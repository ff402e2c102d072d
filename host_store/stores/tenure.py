"""Who serves a shared store: a lease, out of politeness.

The host that serves a store writes a **beat** into it, three times in each lease. Another one that wants to serve it
waits until the beat has stood still for as long as the lease says, by its own clock: nobody's clocks are compared.
Nothing is safe because of this. Two hosts that both believe that it is their turn are told apart by the log: the one
whose claim is the last one writes, the other is fenced at its next commit (:mod:`host_store.stores.log_store`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from host_store.stores.engine import Engine, Patience
from wire.codec import expect, pack, unpack
from wire.errors import Malformed, StoreLocked, StoreUnavailable

DEFAULT_LEASE_SECONDS: Final = 3.0
BEATS_IN_A_LEASE: Final = 3
LOOK_SECONDS: Final = 0.1
"""How often a host that waits looks."""
BEAT_NAME: Final = "beat"
_MAX_BEAT_BYTES: Final = 1024
_MAX_LEASE_SECONDS: Final = 3600
_NONCE_BYTES: Final = 8
_MILLISECONDS: Final = 1000
_log: Final = logging.getLogger("pmap.host")

OnWait = Callable[[str], None]
"""Called with the other host's name each time that a host that waits has looked, ten times a second. What it raises
ends the waiting."""


class Beat(NamedTuple):
    """A sign of life. ``lease`` in milliseconds."""

    host: str
    nonce: bytes
    number: int
    lease: int


def read_beat(engine: Engine, patience: Patience) -> Beat | None:
    """The newest sign of life; None: nobody serves the store, or whoever did has left in order."""
    found = patience(lambda seconds: engine.get(BEAT_NAME, seconds))
    if not found:
        return None
    try:
        return Beat(*expect(unpack(found, _MAX_BEAT_BYTES), str, bytes, int, int))
    except Malformed as error:
        raise StoreUnavailable(f"the beat in {engine.where} is damaged: delete that object") from error


def wait_for_vacancy(
    engine: Engine,
    patience: Patience,
    *,
    standby: bool,
    on_wait: OnWait | None = None,
    stopping: threading.Event | None = None,
) -> None:
    """Return once nobody serves the store any more.

    Raises:
        StoreLocked: somebody does, and ``standby`` is not set.
        StoreUnavailable: the engine does not answer, and ``standby`` is not set; or it does not even at first.
    """
    stopping = stopping or threading.Event()
    seen: Beat | None = None
    since, answered, silent = 0.0, False, False
    while not stopping.is_set():
        try:
            beat = read_beat(engine, patience)
        except StoreUnavailable as error:
            if not (standby and answered):
                raise
            if not silent:
                _log.warning("nobody can be seen serving the store while its engine is away: %s", error)
            seen, silent = None, True  # whoever serves it may well be alive: the waiting begins anew
            stopping.wait(LOOK_SECONDS)
            continue
        answered, silent = True, False
        now = time.monotonic()
        if beat is None:
            return
        if beat != seen:
            if seen is not None and not standby:
                raise StoreLocked(
                    f"the host {beat.host} serves the store in {engine.where}: with --standby this one waits, and takes"
                    " over when that one is gone"
                )
            seen, since = beat, now
        elif now - since >= min(beat.lease, _MAX_LEASE_SECONDS * _MILLISECONDS) / _MILLISECONDS:
            return
        if on_wait is not None:
            on_wait(beat.host)
        stopping.wait(LOOK_SECONDS)


class Tenure:
    """Beats for one host from its construction until :meth:`stop`."""

    def __init__(self, engine: Engine, patience: Patience, host: str, lease_seconds: float) -> None:
        self._engine = engine
        self._patience = patience
        self._host = host
        self._lease = lease_seconds
        self._nonce = os.urandom(_NONCE_BYTES)
        self._count = 0
        self._stopping = threading.Event()
        self._check: Callable[[], bool] = lambda: False
        self._beat()
        self._thread = threading.Thread(target=self._run, name="tenure", daemon=True)
        self._thread.start()

    def check_with(self, fenced: Callable[[], bool]) -> None:
        """``fenced``: looks into the log whether another host has taken over. Asked when another one beats, too."""
        self._check = fenced

    def stop(self) -> None:
        """Stop, and say that the store is free. Does not raise."""
        self._stopping.set()
        self._thread.join(self._patience.seconds)
        if not self._thread.is_alive():
            self._leave()

    def _run(self) -> None:
        silent = False
        while not self._stopping.wait(self._lease / BEATS_IN_A_LEASE):
            try:
                beat = read_beat(self._engine, self._patience)
                if beat is not None and beat.nonce != self._nonce and self._check():
                    _log.warning("the host %s has taken the store over", beat.host)
                    return
                self._beat()
                silent = False
            except StoreUnavailable as error:
                if not silent:
                    _log.warning("no sign of life can be written: %s", error)
                silent = True

    def _beat(self) -> None:
        self._count += 1
        value = pack(list(Beat(self._host, self._nonce, self._count, round(self._lease * _MILLISECONDS))))
        self._patience(lambda seconds: self._engine.put(BEAT_NAME, value, seconds))

    def _leave(self) -> None:
        once = Patience(min(self._patience.seconds, 1.0))
        try:
            beat = read_beat(self._engine, once)
            if beat is not None and beat.nonce == self._nonce:
                once(lambda seconds: self._engine.delete([BEAT_NAME], seconds))
        except StoreUnavailable as error:
            _log.info("the lease is left to lapse: %s", error)
