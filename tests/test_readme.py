"""The README's quick start, run as it stands there."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
LIBRARY, ENCLAVE, CLIENT = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
SERVE = next(line for line in README.read_text().splitlines() if line.startswith("$ pmap serve bank:Bank"))
ADDRESS = "127.0.0.1:8080"


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_library_in_a_few_lines(tmp_path: Path) -> None:
    run(LIBRARY, tmp_path)
    assert (tmp_path / "state").is_dir()


@pytest.fixture
def address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_an_enclave_its_host_and_its_client(tmp_path: Path, address: str) -> None:
    (tmp_path / "bank.py").write_text(ENCLAVE)
    command = SERVE.removeprefix("$ pmap ").replace(ADDRESS, address).split()
    log = tmp_path / "serve.log"
    with log.open("w") as output:
        host = subprocess.Popen(
            [sys.executable, "-m", "host_store.cli", *command],
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            deadline = time.monotonic() + 60
            while "listening" not in log.read_text():
                assert host.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            for balance in (25, 50):
                assert f"b'{balance}'" in run(CLIENT.replace(ADDRESS, address), tmp_path)
        finally:
            host.terminate()
            host.wait(30)
