"""``pmap serve`` and ``pmap status``, as processes, and what they say to those who get it wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client.demo.server import HostProcess
from host_store.cli import main

PMAP = [sys.executable, "-m", "host_store.cli"]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(*arguments: str | Path, code: int = 1) -> str:
    """The sentence that a command fails with."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), "a traceback is no sentence"
    return result.stderr


def test_serve_says_where_it_listens_and_that_nothing_protects_it_and_stops_in_order(tmp_path: Path) -> None:
    with HostProcess(tmp_path) as host:
        host.start()
        first = run("status", "--url", host.url)
        locked = refused("status", "--store", host.store)
        host.stop()
        host.start()
        again = run("status", "--url", host.url)
        host.stop()
        log = (tmp_path / "host.log").read_text()
    assert first.exit_code == again.exit_code == 0
    assert "running" in first.stdout and "pmap.kv:KeyValueEnclave" in first.stdout
    assert "is open in process" in locked
    assert log.count(f"listening on {host.url}\n") == 2, "the port stays the same"
    assert log.count("SIMULATED, NOT PROTECTED BY ANY HARDWARE") == 2
    assert log.count("stopping") == 2
    assert "commit 1\n" in log
    stored = run("status", "--store", f"lmdb:{host.store}")
    assert stored.exit_code == 0 and "newest commit" in stored.stdout


def test_an_enclave_of_ones_own_is_served_from_the_current_folder_in_either_kind_of_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from pmap import Enclave\nclass Mine(Enclave):\n    persistent_map = True\n")
    for number, extra in enumerate(([], ["--in-process"])):
        command = [*PMAP, "serve", "mine:Mine", "--store", f"store{number}", "--simulated-key", "k", *extra]
        process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(2)]
        process.terminate()
        rest = process.stdout.read()
        process.stdout.close()
        assert process.wait() == 0, rest
        assert lines[0].startswith("listening on http://127.0.0.1:")
        assert lines[1].startswith("enclave: mine:Mine, in ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--store", "redis:x"], "no kind of store 'redis'"),
        (["--store", "lmdb:"], "needs the path"),
        (["--store", "file"], "is a file"),
        (["--store", "s", "--listen", "nowhere"], "ADDRESS:PORT"),
        (["--store", "s", "--listen", "127.0.0.1:99999"], "ADDRESS:PORT"),
        (["nonsense", "--store", "s"], "MODULE:CLASS"),
        (["no.such:Enclave", "--store", "s"], "cannot import no.such"),
        (["pathlib:Path", "--store", "s"], "no subclass of pmap.Enclave"),
    ],
)
def test_serve_refuses_what_makes_no_sense_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert sentence in refused("serve", *arguments, "--simulated-key", "k", "--in-process")


def test_serve_asks_for_the_key_file_before_it_makes_anything(tmp_path: Path) -> None:
    assert "--simulated-key FILE" in refused("serve", "--store", tmp_path / "s", code=2)
    assert os.listdir(tmp_path) == []


def test_a_store_is_not_served_with_another_key(tmp_path: Path) -> None:
    with HostProcess(tmp_path, in_process=True) as host:
        host.start()
        host.stop()
    (tmp_path / "other.key").write_bytes(bytes(32))
    said = refused("serve", "--store", host.store, "--simulated-key", tmp_path / "other.key", "--in-process")
    assert said.startswith("Error: wrong key: ")


def test_status_of_what_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    assert "there is no store" in refused("status", "--store", tmp_path / "none")
    assert "http://HOST:PORT" in refused("status", "--url", "ftp://x")
    assert "http://HOST:PORT" in refused("status", "--url", "http://x:port")
    assert "pmap serve" in refused("status", "--url", "http://127.0.0.1:9")


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "-h"], ["status", "-h"], ["import", "-h"], ["demo", "-h"]])
def test_help_teaches_by_example(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 0 and "  pmap " in result.stdout


def test_help_lists_the_commands_of_both_sides() -> None:
    listed = run("--help").stdout
    assert all(f"  {name} " in listed for name in ("serve", "status", "put", "get", "import", "export", "demo"))


def test_an_unknown_command_is_refused() -> None:
    assert "No such command 'frobnicate'" in refused("frobnicate", code=2)


def test_the_start_of_the_command_line_loads_neither_side() -> None:
    heavy = ("rich", "lmdb", "uvicorn", "cryptography", "client", "pmap")
    code = f"import sys, host_store.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
