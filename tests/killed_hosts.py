"""Hosts as processes that tests kill, and clients that keep account of what became of their mails."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest
from attacked_enclaves import Ledger

from client import EnclaveClient, Fate, HostUnavailable, InProcessTransport, OutcomeUnknown
from host_store.host import EnclaveHost

TESTS = Path(__file__).resolve().parent
STRACE = shutil.which("strace")
SECONDS = 60.0


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServedHost:
    """``crash.served`` on a store folder, perhaps under strace. The port stays the same."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *step: str, under: Sequence[str] = ()) -> bool:
        """Run it; False if it died before it could serve."""
        command = [*under, sys.executable, "-m", "crash.served", str(self.store), str(self.port), *step]
        self._process = subprocess.Popen(
            command,
            cwd=TESTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=_environment(),
            start_new_session=True,
        )
        return self.line() == self.url

    def line(self) -> str:
        """The next line that it says; empty at its end."""
        assert self._process is not None and self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """``kill -9``, and wait for the end."""
        process, self._process = self._process, None
        if process is not None:
            # The group: what runs under strace outlives strace.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(SECONDS)
            assert process.stdout is not None
            process.stdout.read()  # until nobody holds its other end
            process.stdout.close()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill()


class Zygote:
    """Servers on one store, one after the other, forked from a process that has everything loaded."""

    def __init__(self, store: Path | str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "crash.served", "--zygote", str(store), str(self.port)]
        self._process = subprocess.Popen(
            command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=_environment(),
        )  # fmt: skip
        self._child = 0

    def start(self, *, process: bool = False) -> None:
        """Have one serve, with its enclave in the same process or in one of its own."""
        assert self._process.stdin is not None
        self._process.stdin.write("process\n" if process else "thread\n")
        self._process.stdin.flush()
        self._child = int(self._line())
        assert self._line() == self.url

    def kill(self) -> None:
        """``kill -9`` it, and wait for its end. Its enclave must not outlive it."""
        enclaves = self.enclaves()
        os.kill(self._child, signal.SIGKILL)
        assert self._line() == "ended"
        self._child = 0
        until = time.monotonic() + SECONDS
        while any(map(_lives, enclaves)):
            assert time.monotonic() < until, "an enclave outlives its host"
            time.sleep(0.005)

    def enclaves(self) -> list[int]:
        """The process ids of the running host's enclave, if that has a process."""
        tasks = Path(f"/proc/{self._child}/task")
        return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]

    def kill_enclave(self) -> bool:
        """``kill -9`` the enclave and leave its host alone; whether there was one."""
        enclaves = self.enclaves()
        for enclave in enclaves:
            with suppress(ProcessLookupError):
                os.kill(enclave, signal.SIGKILL)
        return bool(enclaves)

    def close(self) -> None:
        """End everything."""
        if self._child:
            self.kill()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(SECONDS)
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _lives(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
    except FileNotFoundError:
        return False


def _environment() -> dict[str, str]:
    # No coverage in there: what is killed writes none.
    return {key: value for key, value in os.environ.items() if not key.startswith("COV")}


def strace_or_skip(*inject: str) -> list[str]:
    """The command under which the kernel answers some calls with a signal or an error."""
    if STRACE is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run([STRACE, "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("processes may not be traced here")
    return [STRACE, "-f", "-qq", "-o", "/dev/null", *(part for one in inject for part in ("-e", f"inject={one}"))]


class Account:
    """One client that adds 1 to a number of its own, again and again, and knows what the number must be."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.state = folder / f"{name}.state"
        self.done = 0
        """Mails that are known to be executed."""
        self.client: EnclaveClient | None = None

    def connect(self, url: str) -> None:
        """Talk to the host at this address."""
        self.close()
        self.client = EnclaveClient.connect(
            url, constraint="SEC:INSECURE", state=self.state, retry_delays=(0.0,) * 3, timeout=SECONDS
        )

    def settle(self) -> None:
        """Find out what became of the mail that was under way."""
        assert self.client is not None
        for one in self.client.recover():
            assert one.fate is Fate.EXECUTED and one.reply is not None, one
            self.count(one.reply.payload)

    def count(self, payload: bytes | None) -> None:
        """One more mail was executed, with this answer."""
        self.done += 1
        assert payload == str(self.done).encode(), "once each, in order"

    def add(self) -> None:
        """One mail. Raises :class:`OutcomeUnknown` and :class:`HostUnavailable`; then :meth:`settle` is due."""
        assert self.client is not None
        self.count(self.client.send(f"add {self.name} 1".encode()).payload)

    def work(self, url: str, mails: int | None = None) -> bool:
        """Settle, then send so many mails, or until the host is gone. Whether all were answered."""
        try:
            if self.client is None:
                self.connect(url)
            self.settle()
            while mails is None or mails > 0:
                self.add()
                mails = None if mails is None else mails - 1
        except (HostUnavailable, OutcomeUnknown):
            return False
        return True

    def close(self) -> None:
        """Let go of the state."""
        if self.client is not None:
            self.client.close()
            self.client = None


def check_accounts(store: Path | str, accounts: Sequence[Account]) -> None:
    """On an honest host: every mail is settled, every number is what it must be, and there is no alarm.

    ``store``: as :mod:`crash.served` takes it.
    """
    where, _, named = str(store).partition("#")
    key = Path(named or where).with_suffix(".key")
    with EnclaveHost.start(Ledger, where, in_process=True, simulated_key=key) as host:
        for account in accounts:
            account.close()
            account.client = EnclaveClient.connect(
                InProcessTransport(host), constraint="SEC:INSECURE", state=account.state
            )
            account.settle()
            assert account.client.verdict is None
            expected = str(account.done).encode() if account.done else b"nothing"
            assert account.client.send(f"get {account.name}".encode()).payload == expected
            account.close()


@contextmanager
def mounted_tmpfs(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A small disk of its own. Skips where none may be mounted."""
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk takes root")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip("nothing may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Workers:
    """Accounts at work in threads of their own, for as long as a host lives."""

    def __init__(self, accounts: Sequence[Account], url: str) -> None:
        self._accounts = accounts
        self._url = url
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def done(self) -> int:
        """Mails that are known to be executed."""
        return sum(account.done for account in self._accounts)

    def begin(self) -> None:
        """Let all work; whoever gets no answer tries again."""
        self._over.clear()
        self._threads = [threading.Thread(target=self._work, args=[account]) for account in self._accounts]
        for thread in self._threads:
            thread.start()

    def wait_for(self, mails: int) -> None:
        """Until so many more are done. Raises :class:`AssertionError` if that takes too long."""
        enough, until = self.done + mails, time.monotonic() + SECONDS
        while self.done < enough:
            assert time.monotonic() < until, "nothing is answered any more"
            time.sleep(0.0005)

    def end(self) -> None:
        """Once the host is gone: wait for all."""
        self._over.set()
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def _work(self, account: Account) -> None:
        while not account.work(self._url) and not self._over.wait(0.01):
            pass
