"""The thread that stores tiles and indexes, and deletes what is dead.

Nothing here is on the way of a mail, and nothing here has to happen: a collector that cannot work, or is killed at any
point, leaves garbage and a longer way to open the log, and the next one goes on.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from host_store.stores.loading import INDEX, entry_name, index_name, tile_name
from host_store.stores.objects import NO_PARTS, Objects
from host_store.stores.state import LogState
from wire.errors import PmapError

INDEX_ENTRIES: Final = 256
"""An index is stored once the log behind the last one has grown by so many entries ..."""
WAITING_PER_ENTRY: Final = 8
"""... and by one entry for so many waiting messages: an index lists them all, so a large one is stored less often."""
STOP_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5.0

_log: Final = logging.getLogger("pmap.host")


class Collector:
    """Collects until :meth:`stop`. ``lock`` guards ``state``, and is never held over a call to the engine."""

    def __init__(self, objects: Objects, state: LogState, lock: threading.Lock, entries: int | None = None) -> None:
        self._objects = objects
        self._state = state
        self._lock = lock
        self._entries = INDEX_ENTRIES if entries is None else entries
        self._indexed = state.position
        self._index_parts = NO_PARTS
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._thread.start()

    def grown(self) -> None:
        """The state has a new entry."""
        behind = self._state.position - self._indexed
        if behind >= self._entries and behind >= len(self._state.waiting) // WAITING_PER_ENTRY:
            self._due.set()

    def stop(self) -> None:
        """End the thread, or let it end with the engine."""
        self._stopping.set()
        self._due.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        strays = True
        while True:
            self._due.wait()
            self._due.clear()
            if self._stopping.is_set():
                return
            try:
                self.collect()
                if strays:
                    self._delete_strays()
                    strays = False
            except PmapError as error:
                if self._stopping.is_set():
                    return
                _log.warning("old entries of the log could not be collected, and will be later: %s", error)
                self._stopping.wait(_RETRY_SECONDS)
                self._due.set()
            except Exception:
                _log.exception("the collector broke down")
                return

    def collect(self) -> None:
        """Store what is due, then the index, then delete what it makes superfluous. Raises :class:`StoreError`."""
        objects = self._objects
        while True:
            with self._lock:
                tile = next(iter(self._state.tiles.due.items()), None)
                if tile is None:
                    index, position = self._state.encode(), self._state.position
                    dead = dict(self._state.dead)
                    break
            objects.put(tile_name(tile[0]), tile[1])
            with self._lock:
                self._state.tiles.stored(tile[0])
        parts, before = objects.put(index_name(position), index), self._index_parts
        self._indexed, self._index_parts = position, parts
        objects.delete([name for name in objects.names(INDEX) if name < index_name(position)], [before])
        objects.delete([entry_name(at) for at in dead], [parts for parts in dead.values() if parts.pieces])
        with self._lock:
            for at in dead:
                del self._state.dead[at]

    def _delete_strays(self) -> None:
        with self._lock:
            known = self._state.tokens()
        strays = list(self._objects.stray_parts(known))
        self._objects.delete(strays)
