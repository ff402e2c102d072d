"""Hosts as processes that tests kill, and clients that keep account of what became of their mails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from attacked_enclaves import Ledger

from client import EnclaveClient, Fate, HostUnavailable, InProcessTransport, OutcomeUnknown
from host_store.host import EnclaveHost

TESTS = Path(__file__).resolve().parent
STRACE = shutil.which("strace")
SECONDS = 60.0
PATIENCE_SECONDS = 600.0
"""After so long a host that was killed, or whose enclave was, is back also on a busy machine."""
MAILS = 4
"""So many are sent to a host that is going to be killed at a system call."""


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
    """Servers, one after the other, forked from a process that has everything loaded. The port stays the same."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "crash.served", "--zygote", str(self.port)]
        self._process = subprocess.Popen(
            command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=_environment(),
        )  # fmt: skip
        self._child = 0
        self._tracer: subprocess.Popen[bytes] | None = None

    def start(self, store: Path | str, *, process: bool = False, under: Sequence[str] = ()) -> bool:
        """Serve a store, with the enclave in the same process or in one of its own; False if it died before it could.

        ``under``: a command that attaches to a process.
        """
        self._tell(f"{'process' if process else 'thread'} {store}\n")
        self._child = int(self._line())
        if under:
            self._tracer = subprocess.Popen([*under, "-p", str(self._child)], stderr=subprocess.DEVNULL)
            _wait_until(lambda: _is_traced(self._child))
        self._tell("\n")
        return self._line() == self.url or self._ended()

    def _tell(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def _ended(self) -> bool:
        self._child = 0
        if self._tracer is not None:
            self._tracer.wait(SECONDS)
            self._tracer = None
        return False

    def kill(self) -> None:
        """``kill -9`` it if it lives, and wait for its end. Its enclave must not outlive it."""
        if self._child:
            enclaves = self.enclaves()
            with suppress(ProcessLookupError):  # it died by itself meanwhile
                os.kill(self._child, signal.SIGKILL)
            assert self._line() == "ended"
            self._ended()
            _wait_until(lambda: not any(map(_lives, enclaves)))

    def enclaves(self) -> list[int]:
        """The process ids of the running host's enclave, if that has a process."""
        tasks = Path(f"/proc/{self._child}/task")
        if not tasks.exists():
            return []
        found: list[int] = []
        for task in tasks.iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread has just ended
                found += map(int, (task / "children").read_text().split())
        return found

    def kill_enclave(self) -> bool:
        """``kill -9`` the enclave and leave its host alone; whether there was one."""
        enclaves = self.enclaves()
        for enclave in enclaves:
            with suppress(ProcessLookupError):
                os.kill(enclave, signal.SIGKILL)
        return bool(enclaves)

    def close(self) -> None:
        """End everything."""
        self.kill()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(SECONDS)
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def _wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < until, "this takes too long"
        time.sleep(0.002)


def _is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return "TracerPid:\t0\n" not in status


def _lives(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
    except FileNotFoundError:
        return False


def _environment() -> dict[str, str]:
    # No coverage in there: what is killed writes none.
    return {key: value for key, value in os.environ.items() if not key.startswith("COV")}


# --- system calls -------------------------------------------------------------------------------------------

_CHANGES_NOTHING = frozenset(
    {"access", "close", "execve", "faccessat2", "fadvise64", "fcntl", "flock", "fstat", "fstatfs", "getdents64"}
    | {"ioctl", "lseek", "mmap", "munmap", "newfstatat", "pread64", "preadv", "read", "readlink", "readlinkat"}
    | {"readv", "statfs", "statx"}
)


@dataclass(frozen=True, slots=True)
class Calls:
    """System calls that change something in a store: how often each was made, and the paths that they named."""

    counts: Counter[str]
    store: Path
    paths: tuple[str, ...]

    def paths_in(self, store: Path) -> list[str]:
        """The same paths in another store."""
        return [path.replace(str(self.store), str(store), 1) for path in self.paths]


def strace_or_skip(*inject: str, paths: Sequence[str] = ()) -> list[str]:
    """The command under which the kernel answers some calls (with these paths, if any) with a signal or an error."""
    command = _strace_or_skip()
    names = ",".join(one.partition(":")[0] for one in inject)
    options = ["-e", f"trace={names}", *(part for one in inject for part in ("-e", f"inject={one}"))]
    return [*command, "-o", "/dev/null", *options, *(part for path in paths for part in ("-P", path))]


def tracing(log: Path) -> list[str]:
    """The command under which every call with a file goes into a log."""
    return [*_strace_or_skip(), "-y", "-o", str(log), "-e", "trace=desc,file"]


def changing_calls(log: Path, store: Path) -> Calls:
    """What a log of :func:`tracing` says of a store. No list of expected calls: a store may find others to use."""
    counts: Counter[str] = Counter()
    paths = {str(store)}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        name = line.partition(" ")[2].strip().partition("(")[0]
        found = set(re.findall(rf"{re.escape(str(store))}[^\s\"<>,)]*", line))
        found = {path for path in found if not path.endswith(".new")}  # named after a process: another one each time
        opened = name == "openat" and "O_CREAT" not in line
        if found and name.isidentifier() and name not in _CHANGES_NOTHING and not opened:
            counts[name] += 1
            paths |= found
    return Calls(counts, store, tuple(sorted(paths)))


def _strace_or_skip() -> list[str]:
    if STRACE is None:
        pytest.skip("strace is not installed")
    probe = subprocess.run([STRACE, "-o", "/dev/null", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("processes may not be traced here")
    return [STRACE, "-f", "-qq"]


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
        enough, until = self.done + mails, time.monotonic() + PATIENCE_SECONDS
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
