"""Writing a file that appears whole or not at all, or to standard output."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

STDOUT: Final = "-"


@contextmanager
def output_file(path: str) -> Iterator[IO[bytes]]:
    """A file for bytes that replaces ``path`` at the end, unless the block raises; ``-`` is standard output.

    Something that is no regular file, such as a pipe or a device, is written to directly. Raises :class:`OSError`.
    """
    if path == STDOUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            yield file
        return
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        aside = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(aside, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
            aside.rename(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def _umask() -> int:
    """What a new file's mode lacks. The system tells only by setting another one."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
