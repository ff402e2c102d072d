"""The demo comes out as it claims, and says so when it does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import unicodedata
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from client.demo.expectations import DemoFailed, expect_entries, expect_equal, expect_rollback
from client.demo.names import character_names
from client.demo.server import HostProcess
from host_store.cli import main
from wire.alarm import Alarm, Verdict, sign_alarm
from wire.checkpoint import Checkpoint, sign_checkpoint
from wire.crypto import SigningKey
from wire.errors import ClientStale, ForkDetected, HostUnavailable, RollbackDetected

KEY = SigningKey(bytes(range(32)))
STORE = bytes(16)


def checkpoint(size: int, key: SigningKey = KEY, store: bytes = STORE) -> Checkpoint:
    return sign_checkpoint(key, store, size, bytes([size]) * 32)


def rollback_alarm(key: SigningKey = KEY) -> Alarm:
    return sign_alarm(key, Verdict.ROLLBACK, checkpoint(5, key), checkpoint(9, key), bytes(32))


def test_the_demo_shows_all_it_claims_and_leaves_what_it_is_asked_to(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "host_store.cli", "demo", "--entries", "2000", "--keep", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Alice, on the restored copy: RollbackDetected" in done.stdout
    assert "Bob, on the restored copy: RollbackDetected" in done.stdout
    assert "a newcomer, after the restart: RollbackDetected" in done.stdout
    assert done.stdout.count("The enclave's checkpoint:") == done.stdout.count("The client's checkpoint:") == 2
    assert re.search(r"killed at [1-9][0-9,]* of 2,000", done.stdout)
    assert done.stdout.count("read 2,000 entries") == 2
    assert "What was shown" in done.stdout and "\x1b[" not in done.stdout
    stored = CliRunner().invoke(main, ["status", "--store", str(tmp_path / "kept" / "store")])
    assert stored.exit_code == 0, "the host has ended and left the store"


@pytest.fixture
def quick_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts without an enclave process: they start in half the time."""
    monkeypatch.setattr("client.demo.server.HostProcess", partial(HostProcess, in_process=True))


@pytest.mark.usefixtures("quick_hosts")
def test_a_host_that_restores_nothing_fails_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HostProcess, "restore_copy", lambda host: None)
    result = CliRunner().invoke(main, ["demo", "--entries", "100"])
    assert result.exit_code == 1
    assert "the commit of the restored store: expected" in result.stderr
    assert "DIFFERS" in result.stdout and "A restart does not help" not in result.stdout


@pytest.mark.usefixtures("quick_hosts")
def test_a_host_that_loses_what_it_acknowledged_in_a_crash_fails_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    start, kill = HostProcess.start, HostProcess.kill
    starts: list[int] = []

    def start_and_copy(host: HostProcess) -> None:
        start(host)
        if not starts:
            host.copy_store()  # of an idle host
        starts.append(host.pid)

    def kill_and_lose(host: HostProcess) -> None:
        kill(host)
        host.restore_copy()  # as after a write cache that lied: the disk is in the state of the beginning

    monkeypatch.setattr(HostProcess, "start", start_and_copy)
    monkeypatch.setattr(HostProcess, "kill", kill_and_lose)
    result = CliRunner().invoke(main, ["demo", "--entries", "100"])
    assert result.exit_code == 1
    assert "RollbackDetected" in result.stderr and "Read everything back" not in result.stdout


def test_a_host_that_does_not_start_fails_the_demo_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(DemoFailed, match="is a file"), HostProcess(tmp_path) as host:
        host.start()


def test_the_demo_keeps_to_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    result = CliRunner().invoke(main, ["demo", "--keep", str(tmp_path)])
    assert result.exit_code == 2 and "not empty" in result.stderr
    assert os.listdir(tmp_path) == ["something"]


def test_a_killed_host_takes_its_enclave_along_and_gives_its_store_free(tmp_path: Path) -> None:
    with HostProcess(tmp_path) as host:
        host.start()
        pid = host.pid
        host.kill()  # raises if the enclave process stays
        assert not Path("/proc", str(pid)).exists()
        host.start()
        assert host.commit() == 1


def test_names_are_those_of_all_named_characters() -> None:
    names = character_names()
    assert len(names) > 30_000
    assert all(unicodedata.lookup(name).encode() == character for name, character in list(names.items())[::997])
    assert len(character_names(123)) == 123


# --- what has to come out, on wrong outcomes -----------------------------------------------------------------


def test_the_verdict_with_its_evidence_is_what_is_expected() -> None:
    alarm = rollback_alarm()
    verdict = RollbackDetected("caught", alarm)
    assert expect_rollback("Alice", verdict, KEY.public, restored_commit=5, oldest_proof=6) is alarm


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [
        (None, "answered on the old state"),
        ("a receipt", "answered on the old state"),
        (HostUnavailable("down"), "expected 'RollbackDetected', found 'HostUnavailable'"),
        (ClientStale("old"), "expected 'RollbackDetected', found 'ClientStale'"),
        (ForkDetected("fork", rollback_alarm()), "expected 'RollbackDetected', found 'ForkDetected'"),
        (RollbackDetected("no proof"), "without the enclave's signed alarm"),
        (RollbackDetected("forged", rollback_alarm(SigningKey(bytes(32)))), "proves nothing"),
    ],
)
def test_any_other_outcome_of_a_mail_after_the_rollback_fails(outcome: object, complaint: str) -> None:
    with pytest.raises(DemoFailed, match=complaint):
        expect_rollback("Alice", outcome, KEY.public, restored_commit=5, oldest_proof=6)


@pytest.mark.parametrize(("restored", "oldest"), [(4, 6), (5, 10)])
def test_an_alarm_about_other_commits_fails(restored: int, oldest: int) -> None:
    verdict = RollbackDetected("caught", rollback_alarm())
    with pytest.raises(DemoFailed):
        expect_rollback("Alice", verdict, KEY.public, restored_commit=restored, oldest_proof=oldest)


@pytest.mark.parametrize(
    ("found", "complaint"),
    [({"a": b"1"}, "lost"), ({"a": b"1", "b": b"3"}, "is b'3'"), ({"a": b"1", "b": b"2", "c": b""}, "never written")],
)
def test_entries_that_are_lost_changed_or_added_fail(found: dict[str, bytes], complaint: str) -> None:
    expected = {"a": b"1", "b": b"2"}
    expect_entries(expected, dict(expected))
    with pytest.raises(DemoFailed, match=complaint):
        expect_entries(expected, found)


def test_a_number_that_differs_fails_with_both() -> None:
    expect_equal("commits", 1, 1)
    with pytest.raises(DemoFailed, match=r"commits: expected 1, found 2"):
        expect_equal("commits", 1, 2)
