"""What a log of objects asks of an engine, and how patient it is with one.

An engine keeps named objects: names are ASCII, values are bytes, and nothing is ever changed in place but the few
objects that :meth:`Engine.put` writes. The one operation that has to be decided by the engine is :meth:`Engine.create`:
of all who create an object of one name, one succeeds. Every engine here does that in one round trip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from wire.errors import StoreUnavailable

DEFAULT_TIMEOUT_SECONDS: Final = 5.0
"""How long a call waits for an engine, with all attempts, unless the URL says otherwise (``?timeout=``)."""
ATTEMPT_PART: Final = 0.5
"""One attempt gets this part of the time: a connection that went silent leaves time for another one."""
FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5

Result = TypeVar("Result")


class EngineDown(StoreUnavailable):
    """No answer, or an answer that may be another one in a moment. Whether anything was changed is unknown."""


class Engine(Protocol):
    """Named objects, durable when a call returns. Calls come from several threads.

    ``seconds`` is the time that one call may take; then it raises :class:`EngineDown`. Every other
    :class:`wire.errors.StoreUnavailable` says that the engine refused, and that waiting does not help.
    """

    where: str
    """The engine and the store in it, for people. Without passwords."""
    part_bytes: int
    """The longest value that one object may have."""

    def create(self, name: str, value: bytes, seconds: float) -> bool:
        """Store an object whose name is free, and no other: False, and nothing is changed, if it is taken."""
        ...

    def put(self, name: str, value: bytes, seconds: float) -> None:
        """Store an object, in the place of any other of its name."""
        ...

    def get(self, name: str, seconds: float) -> bytes | None:
        """The object's value, at least as new as every call that had returned before; None: there is none."""
        ...

    def get_all(self, names: Sequence[str], seconds: float) -> list[bytes | None]:
        """As :meth:`get`, of a few at once."""
        ...

    def names(self, prefix: str, after: str, limit: int, seconds: float) -> list[str]:
        """The first names with this prefix that are above ``after``, in byte order."""
        ...

    def delete(self, names: Sequence[str], seconds: float) -> None:
        """Delete objects; one that is not there is none of its business."""
        ...

    def close(self) -> None:
        """Give connections back. Calls that are under way may fail."""
        ...


class Patience:
    """Calls an engine again while it does not answer, for ``seconds`` in all."""

    def __init__(self, seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self.seconds = seconds

    def __call__(self, call: Callable[[float], Result]) -> Result:
        """``call`` is given the seconds of one attempt. Raises :class:`StoreUnavailable`."""
        end = time.monotonic() + self.seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            left = end - time.monotonic()
            try:
                return call(max(min(left, self.seconds * ATTEMPT_PART), FIRST_PAUSE_SECONDS))
            except EngineDown as error:
                if time.monotonic() + pause >= end:
                    raise StoreUnavailable(str(error)) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


_NAMES_AT_ONCE: Final = 1000


def all_names(engine: Engine, patience: Patience, prefix: str, after: str = "") -> Iterator[str]:
    """Every name with a prefix, in order."""
    while True:
        names = patience(lambda seconds, after=after: engine.names(prefix, after, _NAMES_AT_ONCE, seconds))  # type: ignore[misc]
        yield from names
        if len(names) < _NAMES_AT_ONCE:
            return
        after = names[-1]
