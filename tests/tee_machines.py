"""Machines of our own making with a TEE of each kind (:mod:`device_tree`), and servers on them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from wire.attestation import Attestation

TESTS = Path(__file__).resolve().parent
SECONDS = 60.0
"""After so long a test has failed; none is meant to wait for it."""


class Machine:
    """One machine: where its TEE's files are, and what its vendor says of it."""

    def __init__(self, kind: str, root: Path, endorsements: Path) -> None:
        self.kind, self.root, self.endorsements = kind, root, endorsements

    def arguments(self) -> list[str]:
        return ["--tee", self.kind, "--tee-root", str(self.root)]


@contextmanager
def machine(kind: str, folder: Path) -> Iterator[Machine]:
    if kind != "dstack" and not (os.access("/dev/fuse", os.R_OK | os.W_OK)):
        pytest.skip("FUSE needs /dev/fuse and the Debian package fuse3")
    root, endorsements = folder / "root", folder / "endorsements"
    root.mkdir(parents=True)
    endorsements.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "device_tree.py"), kind, str(endorsements), str(root)], stdin=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + SECONDS
        while not (os.path.ismount(root) or (root / "var/run/dstack.sock").exists()):
            assert process.poll() is None and time.monotonic() < deadline, "the machine does not start"
            time.sleep(0.02)
        yield Machine(kind, root, endorsements)
    finally:
        if os.path.ismount(root):
            subprocess.run(["fusermount3", "-u", "-z", root], check=True)
        process.communicate(timeout=SECONDS)


class Server:
    """``pmap serve`` as a process."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.log = folder / "serve.log"
        self._output = self.log.open("ab")
        start = self.log.stat().st_size
        self.process = subprocess.Popen(
            [sys.executable, "-m", "host_store.cli", "serve", *arguments, "--listen", "127.0.0.1:0"],
            cwd=folder, stdout=self._output, stderr=self._output, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        deadline = time.monotonic() + SECONDS
        while "stop with Ctrl-C" not in (said := self.log.read_text()[start:]):
            if self.process.poll() is not None:
                raise AssertionError(said)
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        self.said = said
        self.url = said.split("listening on ")[1].split("\n")[0]

    def wait(self) -> int:
        return self.process.wait(SECONDS)

    def stop(self) -> None:
        """End it in order. Again is fine."""
        self.process.terminate()
        self.wait()
        self._output.close()


def pmap(folder: Path, *arguments: str | Path, code: int = 0) -> str:
    """Run a command; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "host_store.cli", *map(str, arguments)],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def document_of(server: Server) -> Attestation:
    """The attestation document that a server shows."""
    with urlopen(f"{server.url}/attestation", timeout=SECONDS) as answer:
        return Attestation.decode(answer.read())
