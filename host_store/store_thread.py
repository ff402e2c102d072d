"""A thread beside the enclave's that stores batches, for stores that take long.

Handing a batch over to it costs more than a fast store takes; behind a slow one, mails would wait for the enclave.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

from wire.errors import HostUnavailable, PmapError

_log: Final = logging.getLogger("pmap.host")
_Batch = TypeVar("_Batch")


class StoreThread(Generic[_Batch]):
    """Stores batches one after the other. All methods are for one other thread."""

    def __init__(
        self, store: Callable[[_Batch], None], fail: Callable[[_Batch, PmapError], None], on_failure: Callable[[], None]
    ) -> None:
        """Once ``store`` has raised an error, what follows is given to ``fail``. ``on_failure`` is called in the
        thread."""
        self._store = store
        self._fail = fail
        self._on_failure = on_failure
        self._queue: SimpleQueue[_Batch | None] = SimpleQueue()
        self._changed = threading.Condition(threading.Lock())
        self._undone = 0
        self._failure: PmapError | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a batch is not stored yet."""
        return self._undone > 0

    def put(self, batch: _Batch) -> None:
        """Have a batch stored when all before it are."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="store", daemon=True)
            thread.start()
            self._thread = thread
        with self._changed:
            self._undone += 1
        self._queue.put(batch)

    def wait(self, left: int = 0) -> None:
        """Wait until no more than ``left`` are not done with. Raises what a batch could not be stored for."""
        if self._undone > left:
            with self._changed:
                self._changed.wait_for(lambda: self._undone <= left)
        if self._failure is not None:
            raise self._failure

    def begin_epoch(self) -> None:
        """When all are done with: what failed concerns nobody any more."""
        self._failure = None

    def stop(self) -> None:
        """Do what is left and end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (batch := self._queue.get()) is not None:
            try:
                if self._failure is None:
                    self._store(batch)
                else:
                    self._fail(batch, self._failure)
            except PmapError as error:
                self._failed(error)
            except Exception as error:
                # Nothing in here may end the thread: every waiting client would wait for ever.
                _log.exception("the store's thread broke down")
                self._failed(HostUnavailable(f"the host broke down: {type(error).__name__}"))
            with self._changed:
                self._undone -= 1
                self._changed.notify()

    def _failed(self, error: PmapError) -> None:
        if self._failure is None:
            self._failure = error
            self._on_failure()
