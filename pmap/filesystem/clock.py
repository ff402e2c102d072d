"""The time that files are stamped with.

In an enclave the host sets the clock, so a time stamp says only when the host claimed it to be. Nothing here depends
on it: not freshness, not order, not access.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Says what time it is."""

    def __call__(self) -> int:
        """Nanoseconds since 1970-01-01 00:00 UTC."""
        ...


def system_clock() -> int:
    """The machine's clock."""
    return time.time_ns()
