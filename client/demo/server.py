"""A host as a process of its own, run through the command line: started, stopped, killed, rolled back."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from client.demo.expectations import DemoFailed

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
_LISTENING: Final = re.compile(r"^listening on (http://\S+)$", re.MULTILINE)
_LOG_LINES_SHOWN: Final = 15


class HostProcess:
    """``pmap serve`` on a store folder of ours. The port stays the same over restarts: clients know the address."""

    def __init__(self, folder: Path, port: int = 0, *, in_process: bool = False, url: str | None = None) -> None:
        """``folder`` holds everything, and is made; ``port`` 0 means any free one.

        ``url``: of a store elsewhere, which must be new.
        ``in_process``: without a process for the enclave, which starts faster and shows less.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.store = folder / "store"
        self._shared = url is not None
        self._location = url or f"lmdb:{self.store}"
        self.url = ""
        self._yesterday = folder / "yesterdays-copy"
        self._key = folder / "simulated-tee.key"
        self._log = folder / "host.log"
        self._port = port
        self._in_process = in_process
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The host process's id. Only while it runs."""
        assert self._process is not None, "the host is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it listens. Raises :class:`DemoFailed` with the end of its log."""
        assert self._process is None, "the host is running"
        command = [sys.executable, "-m", "host_store.cli", "serve", "--store", self._location]
        command += ["--listen", f"127.0.0.1:{self._port}", "--simulated-key", str(self._key)]
        if self._in_process:
            command.append("--in-process")
        with self._log.open("ab") as log:
            told = log.tell()
            # A group of its own: a Ctrl-C is for the demo, which then stops the host in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START_SECONDS
        while (listening := _LISTENING.search(self._log.read_bytes()[told:].decode("utf-8", "replace"))) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.end()
                raise DemoFailed(f"the host did not start; the end of its log:\n{self._end_of_log()}")
            time.sleep(_POLL_SECONDS)
        self.url = listening[1]
        self._port = int(self.url.rpartition(":")[2])

    def stop(self) -> None:
        """Ask it to stop. Raises :class:`DemoFailed` if it does not end in order."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DemoFailed(f"the host did not stop within {_STOP_SECONDS:.0f} s of a SIGTERM") from error
        self._process = None
        if code != 0:
            raise DemoFailed(f"the host ended with exit code {code}; the end of its log:\n{self._end_of_log()}")

    def kill(self) -> None:
        """``kill -9``. Its enclave process ends by itself, because nobody holds the other end of its pipes."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None
        deadline = time.monotonic() + _STOP_SECONDS
        while members := _group_members(process.pid):
            if time.monotonic() > deadline:
                self._end_group(process.pid)
                raise DemoFailed(f"the enclave process {members[0]} outlived its host")
            time.sleep(_POLL_SECONDS)

    def commit(self) -> int:
        """The number of the store's newest commit, as the running host says. Raises :class:`DemoFailed`."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_STOP_SECONDS)
        try:
            connection.request("GET", "/healthz")
            health = json.loads(connection.getresponse().read())
        except (OSError, HTTPException, ValueError) as error:
            raise DemoFailed(f"the host does not say how it is: {error}") from error
        finally:
            connection.close()
        commit: int = health["n"]
        return commit

    def copy_store(self) -> None:
        """Keep a copy of the store. The host must not be writing."""
        if self._shared:
            self._command("backup", str(self._yesterday))
            return
        shutil.copytree(self.store, self._yesterday)

    def restore_copy(self) -> None:
        """Put the copy in the place of the stopped host's store."""
        if self._shared:
            self._command("restore", str(self._yesterday), "--yes")
            return
        shutil.rmtree(self.store)
        shutil.copytree(self._yesterday, self.store)

    @property
    def where(self) -> str:
        """What the store is, for people."""
        return f"{self._location.partition(':')[0]}" if self._shared else "LMDB"

    def refuse_old_store(self) -> None:
        """Raises :class:`DemoFailed`: a store that is there is somebody's, and the demo would roll it back."""
        if self._shared and self._run("status").returncode == 0:
            raise DemoFailed("there is a store at this URL already: name a new one, the demo rolls it back")

    def _command(self, name: str, *arguments: str) -> None:
        done = self._run(name, *arguments)
        if done.returncode != 0:
            raise DemoFailed(f"pmap {name}: {done.stderr.strip()}")

    def _run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "host_store.cli", name, "--store", self._location, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_START_SECONDS)

    def end(self) -> None:
        """End it, whatever state it is in. Again is fine."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._end_group(process.pid)
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the host is not running"
        return self._process

    def _end_of_log(self) -> str:
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES_SHOWN:])

    @staticmethod
    def _end_group(group: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _group_members(group: int) -> list[int]:
    """The living processes of a process group; those that have ended and wait to be reaped are not among them."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # pid (name) state parent group ...; the name may hold anything, so it is read from its end on.
            state, _parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # ended meanwhile
        if int(its_group) == group and state not in "ZX":
            members.append(int(stat.parent.name))
    return members
