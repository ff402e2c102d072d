"""A log's state while the store is open: between threads, and refused once it is closed."""

from __future__ import annotations

import threading

from host_store.stores.state import LogState
from wire.errors import StoreError


class OpenState:
    """``with open_state as state:`` gives the state under its lock. Held for moments, never over a call to the engine.

    Raises :class:`StoreError` once :meth:`close` was called.
    """

    def __init__(self, state: LogState) -> None:
        self.lock = threading.Lock()
        """For those who go on with the state while the store is closed."""
        self._state = state
        self._closed = False

    def close(self) -> bool:
        """Whether this was the first time."""
        with self.lock:
            first = not self._closed
            self._closed = True
        return first

    def __enter__(self) -> LogState:
        self.lock.acquire()
        if self._closed:
            self.lock.release()
            raise StoreError("the store is closed")
        return self._state

    def __exit__(self, *_error: object) -> None:
        self.lock.release()
