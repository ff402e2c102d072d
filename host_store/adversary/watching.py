"""Counting the runs of an enclave's handlers, in whatever process the enclave lives.

The watched class is a subclass that writes a line to a file before it lets the author's handler run. Nothing of
the enclave's behaviour changes, but its measurement does.

What a handler raises is logged with its traceback: its sender learns the class alone, which is little to mend it by.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from wire.errors import PmapError

_log: Final = logging.getLogger("pmap.adversary")

_SHOWN_BYTES: Final = 256
_MODULE: Final = """\
import sys
sys.path[:0] = {paths!r}
from host_store.adversary.watching import watch
from {module} import {name} as _enclave
{name} = watch(_enclave, {file!r})
"""


def watch(enclave: type, file: str | Path) -> type:
    """A subclass of ``enclave`` that appends the beginning of each mail's body, as a line of hexadecimal digits."""
    base: Any = enclave

    def note(body: bytes) -> None:
        # Opened for each line: many enclaves come and go in one process, and none of them is ever told to close it.
        with open(file, "ab", buffering=0) as log:
            log.write(body[:_SHOWN_BYTES].hex().encode() + b"\n")

    def run(handler: Callable[[Any, Any], Any], self: Any, given: Any) -> Any:
        try:
            return handler(self, given)
        except PmapError:
            raise  # its sender gets the text
        except Exception:
            _log.warning("a handler of %s raised", base.__qualname__, exc_info=True)
            raise

    def receive_mail(self: Any, mail: Any) -> Any:
        note(mail.body)
        return run(base.receive_mail, self, mail)

    def receive_from_host(self: Any, data: bytes) -> Any:
        note(data)
        return run(base.receive_from_host, self, data)

    members = {
        "receive_mail": receive_mail,
        "receive_from_host": receive_from_host,
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    return type(base.__name__, (base,), members)


def write_watched_module(enclave: type, folder: Path, file: Path, paths: list[str]) -> str:
    """Write a module with the watched class into ``folder``, for an enclave process; its name ``MODULE:CLASS``.

    ``paths``: where the enclave's own module is found.
    """
    name = f"watched_{file.stem.replace('-', '_')}"
    text = _MODULE.format(paths=paths, module=enclave.__module__, name=enclave.__qualname__, file=str(file))
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return f"{name}:{enclave.__qualname__}"


class HandlerLog:
    """What :func:`watch` wrote."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._skipped = 0

    def runs(self) -> list[bytes]:
        """Since the last :meth:`reset`: the beginnings of the bodies that a handler was run on."""
        return self._lines()[self._skipped :]

    def reset(self) -> None:
        """Forget what was."""
        self._skipped = len(self._lines())

    def _lines(self) -> list[bytes]:
        if not self.file.exists():
            return []
        return [bytes.fromhex(line.decode()) for line in self.file.read_bytes().splitlines()]
