"""How large the files may be: what an enclave's class says, without the code that keeps them."""

from __future__ import annotations

from dataclasses import dataclass

from wire.errors import InvalidInput
from wire.limits import BLOCK_BYTES
from wire.sizes import parse_size

SMALLEST_RECORD_BYTES = 4 * BLOCK_BYTES - 16
"""The least record class of a store with files: one written block, one appended line and none look alike."""


@dataclass(frozen=True, slots=True)
class FilesystemSettings:
    """Sizes in bytes; 0: off. ``grow``: a stored filesystem that is smaller becomes larger at the start."""

    persistent: int = 0
    memory: int = 0
    grow: bool = False

    @classmethod
    def parse(cls, persistent: str | int, memory: str | int, grow: bool = False) -> FilesystemSettings:
        """Read settings in the syntax of :mod:`wire.sizes`. Raises :class:`InvalidInput`."""
        sizes = parse_size(persistent), parse_size(memory)
        for size in sizes:
            if 0 < size < BLOCK_BYTES:
                raise InvalidInput(f"a filesystem of {size} bytes: it needs at least one block, {BLOCK_BYTES}")
        return cls(*sizes, grow)
