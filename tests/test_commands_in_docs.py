"""Every command and option that the documents and the files in deploy/ name is there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from host_store.cli import main

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *(path for path in ROOT.glob("deploy/*/*"))])
COMMAND = re.compile(r"(?<![\w./:-])pmap((?: [a-z][a-z-]*)+)([^`\n]*)")
PROCESS = re.compile(r"-m\W+pmap\b([^`\n]*)")
OPTION = re.compile(r"(?<!\S)--[a-z][a-z-]*")


def plain(text: str) -> str:
    """Lists of arguments in JSON or TOML as the command lines that they are."""
    return re.sub(r'"(?:,\s*)"', " ", text).replace('["', "").replace('"]', "").replace("${ENCLAVE} ", "")


@cache
def command_of(*names: str) -> click.Command | None:
    """The command that these words begin with; None if there is none."""
    found: click.Command | None = main
    for name in names:
        if not isinstance(found, click.Group):
            break
        inner = found.get_command(click.Context(found), name)
        if inner is None:
            return None
        found = inner
    return found


@cache
def process_options() -> frozenset[str]:
    shown = subprocess.run([sys.executable, "-m", "pmap", "--help"], capture_output=True, text=True, check=True).stdout
    return frozenset(re.findall(r"--[a-z][a-z-]*", shown))


def unknown(text: str) -> Iterator[str]:
    """What is named in a text and not there."""
    text = plain(text)
    for words, rest in COMMAND.findall(text):
        names = words.split()
        command = command_of(*names)
        if command is main or command is None:
            if command is None and OPTION.search(rest):  # else it is a sentence about pmap
                yield f"pmap {names[0]}"
            continue
        known = {option for parameter in command.params for option in parameter.opts} | {"--help", "--version"}
        yield from (
            f"pmap {names[0]} {option}" for option in OPTION.findall(rest.split(" | ")[0]) if option not in known
        )
    for rest in PROCESS.findall(text):
        options = OPTION.findall(rest.split(" -- ")[0])
        yield from (f"python -m pmap {option}" for option in options if option not in process_options())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_option_that_a_file_names_exists(path: Path) -> None:
    assert list(unknown(path.read_text(encoding="utf-8"))) == []


def test_what_does_not_exist_is_seen() -> None:
    assert list(unknown("`pmap serve --tea x` and pmap serve --tee snp")) == ["pmap serve --tea"]
    assert list(unknown("pmap frobnicate --hard")) == ["pmap frobnicate"]
    assert list(unknown('["pmap", "serve", "b:B", "--tee", "x", "--stoer", "s"]')) == ["pmap serve --stoer"]
    assert list(unknown('argv = ["python3", "-I", "-m", "pmap", "--teeth", "--", "x"]')) == ["python -m pmap --teeth"]


def test_nothing_of_the_measured_compose_file_comes_from_outside_of_it() -> None:
    compose = (ROOT / "deploy/dstack/docker-compose.yaml").read_text(encoding="utf-8")
    assert "$" not in compose
    assert re.search(r"^ +image: \S+@sha256:[0-9a-f]{64}$", compose, re.MULTILINE)


def test_deployments_name_commands_at_all() -> None:
    named = [path.parent.name for path in FILES if PROCESS.search(plain(path.read_text())) or "pmap serve" in
             plain(path.read_text())]  # fmt: skip
    assert {"gramine", "dstack", "confidential-vm", "nitro"} <= set(named)
