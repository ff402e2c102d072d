"""One server of each kind, for all tests of a run."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from tls_authority import TlsAuthority

from benchmarks.engine_servers import KINDS, S3, Etcd, Postgresql, missing

AnyServer = Postgresql | Etcd | S3


@functools.cache
def authority(name: str) -> TlsAuthority:
    """An authority of this run. ``"ours"`` has issued the certificate of the shared S3 server."""
    folder = Path(tempfile.mkdtemp(prefix="pmap-tls-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return TlsAuthority(folder, name)


@functools.cache
def _started(kind: str) -> AnyServer:
    # A start of SeaweedFS takes seconds, and it serves both: the others get servers of their own for TLS.
    server = S3(tls=authority("ours").server()) if kind == "s3" else KINDS[kind]()
    atexit.register(server.stop)
    return server


EVERY_ENGINE = os.environ.get("PMAP_ENGINES") == "all"
"""Whether the long tests run on all of them (``make engines``), or on one, as in CI."""
REQUIRED = os.environ.get("PMAP_ENGINES") in ("required", "all")
"""Whether tests fail where an engine is not installed, and not just skip."""


def need(kind: str) -> None:
    """Skip the test where this engine cannot run, unless it must."""
    if lacks := missing(kind):
        if REQUIRED:
            pytest.fail(lacks)
        pytest.skip(lacks)


def engine(kind: str) -> AnyServer:
    """The one server of this kind that all tests share; see :func:`need`."""
    need(kind)
    return _started(kind)
