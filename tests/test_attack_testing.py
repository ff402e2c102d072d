"""The example of docs/attack-testing.md runs as it stands there, with nothing but the installed package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from host_store.adversary import MaliciousHost

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs/attack-testing.md").read_text(encoding="utf-8")
CODE = re.compile(r"`(\w+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)


def test_the_example_of_the_document_runs(tmp_path: Path) -> None:
    files = dict(CODE.findall(DOCUMENT))
    assert set(files) == {"bank.py", "test_bank.py"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0 and "5 passed" in result.stdout, result.stdout + result.stderr


def test_every_method_that_the_document_names_exists() -> None:
    named = set(re.findall(r"\bhost\.(\w+)", DOCUMENT)) | {"truncate", "swap_records", "splice", "delete_record"}
    missing = {name for name in named if not hasattr(MaliciousHost, name) and name not in ("archive", "trace")}
    assert missing == set()
