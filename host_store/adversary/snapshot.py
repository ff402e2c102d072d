"""A store's folder at one moment."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from host_store.lmdb.journal import JOURNAL_FILE
from host_store.lmdb.store_folder import DATA_FILE


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The data file and the journal beside it, byte for byte, and the number of the newest commit.

    ``journal`` may be left out of a store that was closed in order: its data file has everything.
    """

    data: bytes = field(repr=False)
    n: int
    journal: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, folder: Path, n: int) -> Snapshot:
        """The store in a folder that nobody writes to meanwhile, at commit ``n``."""
        journal = folder / JOURNAL_FILE
        return cls((folder / DATA_FILE).read_bytes(), n, journal.read_bytes() if journal.exists() else None)

    def write(self, folder: Path) -> None:
        """Put it in the place of whatever is in the folder."""
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(mode=0o700)
        (folder / DATA_FILE).write_bytes(self.data)
        if self.journal is not None:
            (folder / JOURNAL_FILE).write_bytes(self.journal)


def flip_byte(data: bytes, at: int, mask: int = 1) -> bytes:
    """``data`` with some bits of one byte turned over."""
    at = range(len(data))[at]
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
