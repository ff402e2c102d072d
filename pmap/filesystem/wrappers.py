"""The standard buffered and text wrappers, which become stale with an abort.

After an abort no wrapper may serve what it read, or write what it was given, in the mail that was undone; and who goes
on using it must hear of that at once, not when the buffer is full. So an abort closes each one and changes its class.
While nothing was undone they are the standard library's own, without a line of ours in the way.
"""

from __future__ import annotations

import errno
import io
from contextlib import suppress
from typing import NoReturn
from weakref import WeakSet

from pmap.filesystem.volume import os_error


class BufferedReader(io.BufferedReader):
    """As in :mod:`io`."""


class BufferedWriter(io.BufferedWriter):
    """As in :mod:`io`."""


class BufferedRandom(io.BufferedRandom):
    """As in :mod:`io`."""


class TextIOWrapper(io.TextIOWrapper):
    """As in :mod:`io`."""


Wrapper = BufferedReader | BufferedWriter | BufferedRandom | TextIOWrapper


class _Stale:
    """Every use raises ``OSError(ESTALE)``; closing is fine."""

    __slots__ = ()

    def _refuse(self, *args: object, **options: object) -> NoReturn:
        raise os_error(errno.ESTALE)

    read = read1 = readall = readinto = readinto1 = readline = readlines = peek = __next__ = _refuse
    write = writelines = truncate = flush = seek = tell = detach = reconfigure = _refuse

    def close(self) -> None:
        """It is closed already."""


class _StaleReader(_Stale, BufferedReader):
    pass


class _StaleWriter(_Stale, BufferedWriter):
    pass


class _StaleRandom(_Stale, BufferedRandom):
    pass


class _StaleText(_Stale, TextIOWrapper):
    pass


_STALE = {
    BufferedReader: _StaleReader,
    BufferedWriter: _StaleWriter,
    BufferedRandom: _StaleRandom,
    TextIOWrapper: _StaleText,
}


class Wrappers:
    """All wrappers of one filesystem that are alive."""

    def __init__(self) -> None:
        self._texts: WeakSet[TextIOWrapper] = WeakSet()
        self._buffers: WeakSet[BufferedReader | BufferedWriter | BufferedRandom] = WeakSet()

    def add(self, wrapper: Wrapper) -> None:
        """Have this wrapper follow the transactions."""
        if isinstance(wrapper, TextIOWrapper):
            self._texts.add(wrapper)
        else:
            self._buffers.add(wrapper)

    def flush(self) -> None:
        """Write what wrappers hold back. Raises what the writes raise."""
        # Texts first: they write into buffers.
        for wrapper in [*self._texts, *self._buffers]:
            try:
                closed = wrapper.closed
            except ValueError:  # detached: its buffer, if it has one, is here as well
                continue
            if not closed and not isinstance(wrapper, BufferedReader):
                wrapper.flush()

    def make_stale(self) -> None:
        """After an abort: drop what they hold, and have them refuse everything."""
        for wrapper in [*self._texts, *self._buffers]:
            # Closing tries to write first, which the stale raw file refuses: that is what drops the data.
            with suppress(OSError, ValueError):
                wrapper.close()
            wrapper.__class__ = _STALE[type(wrapper)]  # type: ignore[assignment]
        self._texts.clear()
        self._buffers.clear()
