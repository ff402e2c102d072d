"""The commands of who uses a store, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from client.demo.server import HostProcess
from host_store.cli import main

Pmap = Callable[..., Result]


@pytest.fixture
def pmap(server: HostProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pmap:
    """Runs a command as one client, in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    environment = {"PMAP_URL": server.url, "PMAP_STATE": "my.state", "PMAP_CONSTRAINT": "SEC:INSECURE"}

    def run(*arguments: str | Path, input: bytes | None = None, code: int = 0) -> Result:
        result = CliRunner().invoke(main, [str(one) for one in arguments], env=environment, input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception  # no traceback reaches a user
        assert result.exit_code == code, result.output
        return result

    return run


def test_a_value_goes_in_and_comes_out_byte_for_byte(pmap: Pmap) -> None:
    value = bytes(range(256))
    assert "in commit" in pmap("put", "bytes", "--file", "-", input=value).stdout
    assert pmap("get", "bytes").stdout_bytes == value
    pmap("get", "bytes", "-o", "out")
    assert Path("out").read_bytes() == value
    pmap("put", "text", "é")
    assert pmap("get", "text").stdout_bytes == "é".encode()
    pmap("put", "empty", "")
    assert pmap("get", "empty").stdout_bytes == b""


def test_separate_processes_share_one_client_state(server: HostProcess, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "host_store.cli"]
    options = ["--url", server.url, "--state", str(tmp_path / "s"), "--constraint", "SEC:INSECURE"]
    subprocess.run([*command, "put", "from a process", "1", *options], check=True, capture_output=True)
    got = subprocess.run([*command, "get", "from a process", *options], check=True, capture_output=True)
    assert (got.stdout, got.stderr) == (b"1", b"")


def test_the_default_state_is_in_the_home_folder(pmap: Pmap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(main, ["put", "home", "x"], env={"PMAP_CONSTRAINT": "SEC:INSECURE"})
    assert result.exit_code == 1, "there is no server at the default address"
    assert (tmp_path / "home" / ".pmap").stat().st_mode & 0o777 == 0o700


def test_what_is_not_there_is_no_success(pmap: Pmap) -> None:
    assert "there is no entry 'nowhere'" in pmap("get", "nowhere", "-o", "out", code=1).stderr
    assert not Path("out").exists()
    assert "there is no entry 'nowhere'" in pmap("delete", "nowhere", code=1).stderr


def test_what_was_deleted_is_gone(pmap: Pmap) -> None:
    pmap("put", "short-lived", "x")
    assert "deleted 'short-lived' in commit" in pmap("delete", "short-lived").stdout
    pmap("get", "short-lived", code=1)


def test_a_write_waits_until_it_is_stable_and_says_if_it_is_not(pmap: Pmap, tmp_path: Path) -> None:
    with HostProcess(tmp_path / "server", in_process=True) as host:
        host.start()
        alone = pmap("put", "k", "1", "--wait-stable", "--url", host.url).stdout
        pmap("put", "k", "2", "--url", host.url, "--state", "other.state")
        # A majority of two clients is both, and the other one has left.
        stalled = pmap("put", "k", "3", "--wait-stable", "--stable-timeout", "0.3", "--url", host.url, code=1)
    assert "is stable" in alone
    assert "stored 'k'" in stalled.stdout and "has not become stable" in stalled.stderr
    assert "The write itself is done" in stalled.stderr


def test_scan_prints_lines_that_an_entry_cannot_break(pmap: Pmap) -> None:
    pmap("put", "scan/a\nb", "c\td\\\x1b[2J")
    pmap("put", "scan/bytes", "--file", "-", input=b"\xff\x00")
    assert pmap("scan", "--prefix", "scan/").stdout == (
        "scan/a\\nb\tc\\td\\\\\\x1b[2J\n"  # one line, no escape sequence
        "scan/bytes\tbase64:/wA=\n"
    )
    listed = pmap("scan", "--start", "scan/", "--stop", "scan0", "--json", "--limit", "1").stdout
    assert json.loads(listed) == {"key": "scan/a\nb", "value": "c\td\\\x1b[2J"}


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_what_was_exported_is_imported_again(pmap: Pmap, form: str) -> None:
    entries = {f"{form}/{number:05}": f'line\r\n"{number}",é' for number in range(2500)}
    source = "".join(json.dumps({"key": key, "value": value}) + "\n" for key, value in entries.items())
    said = pmap("import", "-", input=source.encode()).stdout
    assert said.startswith("imported 2,500 entries")
    pmap("export", f"out.{form}", "--prefix", f"{form}/")
    Path(f"again.{form}").write_bytes(
        Path(f"out.{form}").read_bytes().replace(f"{form}/".encode(), f"{form}2/".encode())
    )
    pmap("import", f"again.{form}")
    lines = pmap("scan", "--prefix", f"{form}2/", "--json").stdout.splitlines()
    assert {fields["key"]: fields["value"] for fields in map(json.loads, lines)} == {
        key.replace(form, form + "2", 1): value for key, value in entries.items()
    }
    exported = pmap("export", "-", "--format", form, "--prefix", f"{form}/")
    assert exported.stdout_bytes == Path(f"out.{form}").read_bytes()


def test_bytes_survive_json_lines_and_are_refused_by_csv_without_leaving_half_a_file(pmap: Pmap) -> None:
    pmap("put", "raw/1", "--file", "-", input=b"\xff")
    assert "export to .jsonl" in pmap("export", "raw.csv", "--prefix", "raw/", code=1).stderr
    assert [name for name in os.listdir() if "csv" in name] == []
    pmap("export", "raw.jsonl", "--prefix", "raw/")
    assert json.loads(Path("raw.jsonl").read_text()) == {"key": "raw/1", "value_base64": "/w=="}


def test_an_import_that_stored_nothing_says_so_and_skips_nothing(pmap: Pmap) -> None:
    Path("headless.csv").write_text("alice,100\n")
    said = pmap("import", "headless.csv", code=1).stderr
    assert "the header 'key,value'" in said and "Nothing of it was stored." in said and "--skip" not in said


def test_a_broken_import_says_what_is_stored_and_how_to_go_on(pmap: Pmap) -> None:
    lines = [json.dumps({"key": f"broken/{number:04}", "value": "x"}) for number in range(1500)]
    Path("broken.jsonl").write_text("\n".join([*lines, "nonsense"]))
    said = pmap("import", "broken.jsonl", code=1).stderr
    assert "line 1501 is not an entry" in said and "--skip 1000" in said
    assert len(pmap("scan", "--prefix", "broken/").stdout.splitlines()) == 1000
    Path("broken.jsonl").write_text("\n".join(lines))
    assert "imported 500 entries" in pmap("import", "broken.jsonl", "--skip", "1000").stdout
    assert len(pmap("scan", "--prefix", "broken/").stdout.splitlines()) == 1500
    assert "nothing to import" in pmap("import", "broken.jsonl", "--skip", "1500").stdout


def test_evidence_is_a_checkpoint_that_another_client_can_compare(pmap: Pmap) -> None:
    pmap("put", "evidence", "1")
    note = pmap("evidence").stdout
    assert note.startswith("pmap.store/") and "— pmap.store/" in note
    Path("mine.checkpoint").write_text(note)
    invite = pmap("evidence", "--invite").stdout.strip()
    pmap("evidence", "--state", "new.state", "--accept-invite", invite)
    assert "of one history" in pmap("evidence", "--state", "new.state", "--compare", "mine.checkpoint").stdout
    origin, size, rest = note.split("\n", 2)
    Path("mine.checkpoint").write_text(f"{origin}\n{int(size) + 1}\n{rest}")
    assert "evidence invalid" in pmap("evidence", "--compare", "mine.checkpoint", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["put", "k"], 2, "as an argument or with --file"),
        (["put", "k", "v", "--file", "-"], 2, "as an argument or with --file"),
        (["put", "k" * 2000, "v"], 1, "1024 bytes"),
        (["put", "k\udcff", "v"], 1, "UTF-8"),
        (["put", "k", "v\udcff"], 1, "UTF-8"),
        (["get", "k", "--url", "http://127.0.0.1:9"], 1, "pmap serve"),
        (["get", "k", "--url", "nonsense"], 1, "http"),
        (["get", "k", "--constraint", "SEC:FINE"], 1, "SEC:"),
        (["get", "k", "--constraint", "C:" + "0" * 64], 1, "constraint asks for SECURE"),
        (["get", "k", "--state", "no/such/folder"], 1, "no such folder"),
        (["get", "k", "-o", "no/such/file"], 1, "no such file"),
        (["scan", "--prefix", "a", "--start", "b"], 1, "prefix, or from a start"),
        (["import", "missing.csv"], 2, "does not exist"),
        (["import", "tells-no-format"], 1, "--format"),
        (["export", "x.txt"], 1, "--format"),
        (["export", "no/such/folder.csv"], 1, "no/such"),
        (["evidence", "--accept-invite", "nonsense"], 1, "invite"),
    ],
)
def test_mistakes_get_a_sentence(pmap: Pmap, arguments: list[str], code: int, sentence: str) -> None:
    Path("tells-no-format").touch()
    pmap("put", "k", "v")
    said = pmap(*arguments, code=code).stderr
    assert sentence.lower() in said.lower(), said


def test_without_a_constraint_nothing_is_accepted_and_the_error_teaches(pmap: Pmap, server: HostProcess) -> None:
    result = CliRunner().invoke(main, ["get", "k", "--url", server.url, "--state", "my.state"])
    assert result.exit_code == 2
    assert "--constraint SEC:INSECURE" in " ".join(result.stderr.split())
    assert not Path("my.state").exists()
