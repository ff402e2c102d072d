"""Every example runs, as a newcomer would run it, and shows what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

SHOWN = {
    "embedding.py": ["in the map: {'alice': b'0', 'bob': b'20'}", "refused: the store stands at commit"],
    "custom_enclave.py": ["alice has b'100'", "bob was refused: you would owe us 5", "bob has b'0'"],
    "sharded.py": [
        "entries: 200",
        "account 7 has b'42' and all are there: 200",
        "refused: shard map 1 was shown where",
    ],
    "async_client.py": ["entries: 100", "results of the batch: [None, True, b'100']", "is stable"],
}


def test_every_example_is_run() -> None:
    assert set(SHOWN) == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", SHOWN)
def test_the_example_runs(name: str, tmp_path: Path) -> None:
    run = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    for text in SHOWN[name]:
        assert text in done.stdout
    assert list(tmp_path.iterdir()) == [], "an example leaves nothing behind"
