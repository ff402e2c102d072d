"""A mutation run that is short enough for every day; `make mutants` runs them all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.timeout(600)
def test_no_mutant_of_the_freshness_rules_survives(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mutation", "--work", tmp_path, "freshness"],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "freshness" in done.stdout.splitlines()[-1]
