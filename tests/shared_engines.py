"""One server of each kind, for all tests of a run."""

from __future__ import annotations

import atexit
import functools
import os

import pytest

from benchmarks.engine_servers import KINDS, Server, missing


@functools.cache
def _started(kind: str) -> Server:
    server = KINDS[kind]()
    atexit.register(server.stop)
    return server


def engine(kind: str) -> Server:
    """The one server of this kind that all tests share. Skips the test where it cannot run, unless it must."""
    if lacks := missing(kind):
        if os.environ.get("PMAP_ENGINES") == "required":
            pytest.fail(lacks)
        pytest.skip(lacks)
    return _started(kind)
