"""What the command line says of a store that it cannot open."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from host_store.cli import main


def said(*arguments: object) -> str:
    """What a command that fails says: one line."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 1, done.output
    line = done.output.strip()
    assert line.startswith("Error: ") and "\n" not in line and "Traceback" not in line
    return line


def serve(url: str, tmp_path: Path) -> str:
    return said("serve", "--store", url, "--simulated-key", tmp_path / "key", "--in-process")
