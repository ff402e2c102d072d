"""The demo on a shared store: kill -9, go on, roll back, get caught."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from shared_engines import EVERY_ENGINE, engine

from benchmarks.engine_servers import KINDS
from client.demo.server import HostProcess
from host_store.cli import main


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", KINDS if EVERY_ENGINE else ["postgresql"])
def test_the_demo_comes_out_as_it_claims(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without an enclave process, hosts start in half the time.
    monkeypatch.setattr("client.demo.server.HostProcess", partial(HostProcess, in_process=True))
    url = engine(kind).url(tmp_path.name)
    url = f"{url}{'&' if '?' in url else '?'}lease=0.6"
    done = CliRunner().invoke(main, ["demo", "--entries", "200", "--store", url])
    assert done.exit_code == 0, done.output
    assert "a newcomer, after the restart: RollbackDetected" in done.output
    again = CliRunner().invoke(main, ["demo", "--entries", "200", "--store", url])
    assert again.exit_code == 1
    assert "there is a store at this URL already" in again.output
