"""The commands run, and write what others read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.catalogue import PROMISES
from benchmarks.child import Child, children_of, cpu_seconds, run_once
from benchmarks.report import DOCUMENT, blocks, filled


def test_a_quick_run_prints_a_line_and_writes_a_file_for_each_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--quick", "--only", "mail_bytes_to_store", "--json", str(tmp_path / "figures.json")]) == 0
    (line, summary) = capsys.readouterr().out.splitlines()
    assert re.match(r"mail_bytes_to_store +\d+ bytes \[\d+ … \d+\] +≤ 8192 +holds$", line)
    assert summary.startswith("1 figures in ")
    found = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert set(found) == {"mail_bytes_to_store"}
    assert set(found["mail_bytes_to_store"]) == {"value", "bound", "holds", "spread", "details"}


def test_an_unknown_figure_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "no_such_figure"])
    assert "no_such_figure" in capsys.readouterr().err


def test_the_document_shows_the_results_of_the_last_full_run() -> None:
    results = json.loads(command.RESULTS.read_text(encoding="utf-8"))
    text = DOCUMENT.read_text(encoding="utf-8")
    assert filled(text, results) == text, "make the tables and plots anew: python -m benchmarks --render"
    for image in re.findall(r"\]\((img/performance/[^)]+)\)", text):
        assert (DOCUMENT.parent / image).read_text(encoding="utf-8").startswith("<?xml")
    assert set(results["figures"]) == set(PROMISES)


def test_a_document_without_a_block_is_not_filled() -> None:
    results = json.loads(command.RESULTS.read_text(encoding="utf-8"))
    with pytest.raises(ValueError):
        filled("nothing to fill", results)
    assert "missed" in blocks(results)["figures"] or all(each["holds"] for each in results["figures"].values())


def test_the_load_generator_and_the_echo_talk() -> None:
    with Child("benchmarks.echo") as echo:
        url = echo.answer()
        for kind in ("echo", "idle"):
            with Child("benchmarks.load", url, kind) as load:
                found = load.ask(clients=3, seconds=0.05)
                assert found["mails"] >= 3
                assert 0 < found["p50_ms"] <= found["p99_ms"]
                assert cpu_seconds(load.pid) > 0
        assert children_of(echo.pid) == []


def test_the_load_generator_talks_to_the_real_server_with_and_without_freshness(tmp_path: Path) -> None:
    for freshness in ("with", "without"):
        with Child("benchmarks.serve", tmp_path / freshness, freshness) as server:
            url = server.answer()
            assert len(children_of(server.pid)) == 1, "the enclave is a process of its own"
            with Child("benchmarks.load", url, "mail") as load:
                assert load.ask(clients=3, seconds=0.05)["mails"] >= 3


def test_the_core_answers_rounds(tmp_path: Path) -> None:
    with Child("benchmarks.mail_core", tmp_path / "store", "with") as core:
        assert core.answer() == "ready"
        found = core.ask(clients=3, seconds=0.01)
    assert found["mails"] % 3 == 0
    assert found["mails_per_s"] > 0


def test_what_a_child_says_last_is_told_when_it_fails() -> None:
    with pytest.raises(RuntimeError, match=r"ended with exit code 1:\n(.|\n)*ValueError"):
        run_once("benchmarks.mail_core", "one argument only")
