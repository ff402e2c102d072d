"""A real software TPM (swtpm) as a process."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def answers(address: Path) -> bool:
    """Whether somebody listens there: a socket has its name before it is listened on."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(address)) == 0


def start_tpm(state: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A TPM with its state in a folder, and its address in tpm2-tss' notation."""
    state.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--flags", "not-need-init,startup-clear",
            "--server", f"type=unixio,path={state}/sock", "--ctrl", f"type=unixio,path={state}/sock.ctrl",
        ]
    )  # fmt: skip
    for _ in range(3000):
        assert process.poll() is None, "swtpm ended"
        if answers(state / "sock.ctrl") and (state / "sock").exists():
            break
        time.sleep(0.01)
    return process, f"swtpm:path={state}/sock"


@contextmanager
def running_tpm(state: Path) -> Iterator[str]:
    """The address of a TPM that ends with the block."""
    process, address = start_tpm(state)
    try:
        yield address
    finally:
        process.terminate()
        process.wait()
