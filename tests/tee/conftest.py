"""Servers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tee_machines import Server

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers in ``tmp_path``, with the given arguments."""
    with ExitStack() as stack:

        def begin(*arguments: str | Path) -> Server:
            server = Server(tmp_path, [str(argument) for argument in arguments])
            stack.callback(server.stop)
            return server

        yield begin
