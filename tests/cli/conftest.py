"""A key-value server as a process, for the tests of the client commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from client.demo.server import HostProcess


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A running server that all tests of a run share: each uses keys of its own."""
    with HostProcess(tmp_path_factory.mktemp("server"), in_process=True) as host:
        host.start()
        yield host
