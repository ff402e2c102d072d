"""The same enclave without freshness: what the guarantee costs is measured against this. For benchmarks only.

:func:`drop_freshness` changes the enclave code of the process that it is called in, for good, and nothing else does:
no class, setting or variable of the product leads here, the package is not part of what gets installed, and
no module of the product imports it (``tests/benchmarks/test_unfresh.py``).

What goes: evidence in mails and replies and every check of it, the clients' positions in the history and their
acknowledgements, the Merkle tree and the hash of each record, signatures. What stays is what a store without freshness
needs as well: sessions and encryption, exactly-once execution, transactions, the log with its sweep, the outbox.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import pmap.core
import pmap.history
import pmap.log
import pmap.runtime
from pmap.clients import NOWHERE
from pmap.freshness import Evidence
from pmap.runtime import Runtime
from pmap.stability import Stability
from wire.checkpoint import Checkpoint
from wire.crypto import HASH_BYTES, SIGNATURE_BYTES

_NOTHING: Final = bytes(HASH_BYTES)


class _Counter:
    """In the place of the Merkle frontier: counts records."""

    def __init__(self) -> None:
        self.size = 0

    def append(self, leaf: bytes) -> None:
        self.size += 1

    def root(self) -> bytes:
        return _NOTHING

    def encode(self) -> bytes:
        return b""

    def copy(self) -> _Counter:
        other = _Counter()
        other.size = self.size
        return other


class _NoHistory(pmap.history.History):
    """Counts records and remembers nothing of them."""

    __slots__ = ()

    def append(self, leaf: bytes) -> bytes:
        self.frontier.size += 1
        return _NOTHING


class _NoEvidence:
    """In the place of a signed checkpoint, where a reply takes it from."""

    def encode(self) -> bytes:
        return b""


def _unsigned(core: pmap.core.EnclaveCore) -> Checkpoint:
    """Where the host asks how many records there are."""
    log = core._runtime.log
    return Checkpoint(log.store_id, log.n, _NOTHING, bytes(SIGNATURE_BYTES))


def drop_freshness() -> None:
    """From here on, every enclave of this process runs without. Call it before one is started."""
    replace: Any = setattr  # the types are meant not to fit
    replace(pmap.history, "Frontier", _Counter)
    replace(pmap.log, "History", _NoHistory)
    replace(pmap.log, "leaf_hash", lambda record: _NOTHING)
    replace(pmap.log.CommitLog, "checkpoint", _NoEvidence())
    replace(pmap.core.EnclaveCore, "checkpoint", property(_unsigned))
    replace(Evidence, "check_stream", lambda *_: True)
    replace(Runtime, "check_highest", lambda *_, **__: None)
    replace(Runtime, "issue", lambda _: NOWHERE)
    replace(Runtime, "acknowledge", lambda *_: None)
    replace(Stability, "acknowledge", lambda *_: None)
    replace(pmap.runtime, "resolve", lambda *_: None)


def main(arguments: list[str]) -> int:
    """An enclave process (:mod:`pmap.process`) without freshness."""
    from pmap.process import main as run

    drop_freshness()
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
