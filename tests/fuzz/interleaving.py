"""Several operations of one client at once, interleaved at their effects by somebody who chooses: repeatable threads.

What :mod:`client.sync_driver` does with locks is done here by waiting: renewals of the session come one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from client.effects import Renew
from client.session import Session
from wire.errors import PmapError

_NOTHING: Final = object()


class Operation:
    """One operation, and the renewal that it may be waiting for."""

    def __init__(self, steps: Any) -> None:
        self._stack = [steps]
        self._value: Any = None
        self._error: PmapError | None = None
        self._wanted: Renew | None = None
        self.result: Any = _NOTHING

    @property
    def done(self) -> bool:
        return not self._stack

    def outcome(self) -> Any:
        """What it returned. Raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


def interleave(
    session: Session,
    operations: list[Operation],
    perform: Callable[[Any], Any],
    choose: Callable[[list[Operation]], Operation],
) -> None:
    """Run all to their ends. ``choose`` picks whose next effect is performed; it may do other things meanwhile."""
    renewing: Operation | None = None
    while ready := [one for one in operations if not one.done and (one._wanted is None or renewing in (None, one))]:
        one = choose(ready)
        if one._wanted is not None:
            renewing, dead = one, one._wanted.dead
            one._wanted = None
            one._stack.append(session.renew(dead))
            one._value = one._error = None
        depth = len(one._stack)
        _advance(one, perform)
        if renewing is one and len(one._stack) < depth and depth == 2:
            renewing = None


def _advance(one: Operation, perform: Callable[[Any], Any]) -> None:
    steps, error = one._stack[-1], one._error
    try:
        effect = steps.send(one._value) if error is None else steps.throw(error)
    except StopIteration as stop:
        one._stack.pop()
        one._value, one._error = stop.value, None
        return
    except PmapError as raised:
        one._stack.pop()
        one._value, one._error = None, raised
        return
    if isinstance(effect, Renew):
        one._wanted = effect
        return
    one._value = one._error = None
    try:
        one._value = perform(effect)
    except PmapError as raised:
        one._error = raised
