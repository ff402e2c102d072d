"""Work in a process of its own: a fresh heap to weigh, a CPU clock of its own, code that may be patched.

A child is a module of this package with a ``main`` that writes JSON lines to its standard output. One that is asked
several times reads a line from its standard input for each answer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

_ROOT: Final = Path(__file__).resolve().parent.parent
_END_SECONDS: Final = 30
_ERROR_CHARACTERS: Final = 4000


class Child:
    """``python -m MODULE ARGUMENTS...``, ended with the context."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._name = module
        # Seen only if something goes wrong: a simulated TEE announces itself there at every start.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed at the end
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=_ROOT,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def answer(self) -> Any:
        """The next line of its output. Raises :class:`RuntimeError` if it ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"{self._name} ended with exit code {code}:\n{self._errors.read()[-_ERROR_CHARACTERS:]}")
        return json.loads(line)

    def ask(self, **question: object) -> Any:
        """Send a line and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def cpu_seconds(pid: int) -> float:
    """CPU seconds, user and system, that a running process has had."""
    # The name, in parentheses, may hold anything: what follows it is read from its end on.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """The ids of a process's children."""
    return [int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()]


def run_once(module: str, *arguments: object) -> Any:
    """The one answer of a child."""
    with Child(module, *arguments) as child:
        return child.answer()


def tell(answer: object) -> None:
    """From inside a child: the next answer."""
    print(json.dumps(answer), flush=True)


def questions() -> Any:
    """From inside a child: the questions as they come, to the end."""
    for line in sys.stdin:
        yield json.loads(line)
