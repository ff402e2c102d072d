"""Errors at the command line: a sentence, whose fault it is, what to do, an exit code; never a traceback."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints, distributions
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from client.demo.server import HostProcess
from host_store.cli import COMMANDS_GROUP, main
from host_store.cli.failure import describe
from wire.errors import (
    AttestationError,
    ClientStale,
    CorruptedStore,
    HandlerFailed,
    HostUnavailable,
    InvalidInput,
    MapFull,
    PmapError,
)


def test_a_host_that_rolls_back_is_caught_at_the_command_line_with_the_proof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(env={"PMAP_STATE": "s", "PMAP_CONSTRAINT": "SEC:INSECURE"})
    with HostProcess(tmp_path / "host", in_process=True) as host:
        host.start()
        assert runner.invoke(main, ["put", "k", "old", "--url", host.url]).exit_code == 0
        host.copy_store()  # of an idle host
        assert runner.invoke(main, ["put", "k", "new", "--url", host.url]).exit_code == 0
        host.kill()
        host.restore_copy()
        host.start()
        caught = runner.invoke(main, ["get", "k", "--url", host.url])
        again = runner.invoke(main, ["get", "k", "--url", host.url])
    assert caught.exit_code == again.exit_code == 3
    assert caught.stdout == again.stdout == ""
    assert caught.stderr.startswith("Error: rollback detected (the host's fault): ")
    assert "\nROLLBACK of pmap.store/" in caught.stderr
    assert "The enclave's checkpoint:" in caught.stderr and "The client's checkpoint:" in caught.stderr
    assert "Nothing was executed" in caught.stderr


def test_a_store_that_was_replaced_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner(env={"PMAP_STATE": "s", "PMAP_CONSTRAINT": "SEC:INSECURE"})
    for folder, code in (("first", 0), ("second", 1)):
        with HostProcess(tmp_path / folder, in_process=True) as host:
            host.start()
            result = runner.invoke(main, ["put", "k", "v", "--url", host.url])
        assert result.exit_code == code
    assert "store replaced (the host's fault)" in result.stderr and "--state" in result.stderr


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidInput("no"), "no"),
        (MapFull("no"), "map full: no"),
        (ClientStale("no"), "client stale (this client's fault): no"),
        (CorruptedStore("no"), "corrupted store (the host's fault): no"),
        (AttestationError("no"), "not the enclave you asked for (the host's fault): no"),
        (HandlerFailed("no"), "refused by the enclave: no"),
        (HostUnavailable("a\nb\x1b[2Jc"), "host unavailable (the network's fault, or the host's): a b [2Jc"),
    ],
)
def test_an_error_is_one_line_with_verdict_and_fault(error: PmapError, sentence: str) -> None:
    assert describe(error) == sentence


class _Plugged:
    """Stands for an installed distribution."""

    def __init__(self, name: str, value: str) -> None:
        self.entry_points = EntryPoints([EntryPoint(name, value, COMMANDS_GROUP)])


@pytest.mark.parametrize("value", ["no_such_module:command", "os:no_such_name", "os:getcwd"])
def test_a_plugged_in_command_that_is_broken_breaks_no_other(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    installed = list(distributions())
    monkeypatch.setattr("host_store.cli.distributions", lambda: [*installed, _Plugged("broken", value)])
    listed = CliRunner().invoke(main, ["--help"])
    assert listed.exit_code == 0 and "cannot be loaded" in listed.stdout and "  put " in listed.stdout
    called = CliRunner().invoke(main, ["broken"])
    assert called.exit_code == 1 and "cannot be loaded" in called.stderr


def test_a_plugged_in_command_takes_no_host_command_s_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("host_store.cli.distributions", lambda: [_Plugged("serve", "os:getcwd")])
    assert CliRunner().invoke(main, ["serve", "--help"]).exit_code == 0


def test_what_the_system_refuses_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command("status")
    def refused() -> None:
        Path("/no/such/folder/file").read_bytes()

    monkeypatch.setattr("host_store.cli.status.status", refused)
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1
    assert result.stderr == "Error: cannot use '/no/such/folder/file': No such file or directory\n"
