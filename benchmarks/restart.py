"""From a stopped host to the first mail served: the store is opened, an enclave process started, the window read,
decrypted, checked and replayed, a client says hello and gets an answer.

``python -m benchmarks.restart FOLDER COUNT`` is one such start, in a host process that did nothing else.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.child import run_once, tell
from benchmarks.mail_client import MailClient
from benchmarks.measure import Figure, figure
from benchmarks.scale import BIG_COUNT, Scale
from benchmarks.stores import entries_in, live_mib, scratch, write_store
from benchmarks.workload import VALUE_BYTES, names
from host_store.host import EnclaveHost
from wire.kv import Get, encode_operations
from wire.kv_results import decode_results

ENCLAVE: Final = "benchmarks.enclaves:BigKeyValueEnclave"
ROOT: Final = Path(__file__).resolve().parent.parent


def restart_figure(big: Path, scale: Scale) -> tuple[Figure, list[dict[str, Any]]]:
    """``restart_mib_s`` on the store ``big`` of ``BIG_COUNT`` entries; for the plot, seconds against live size."""
    live, rounds = live_mib(BIG_COUNT), scale.restarts
    seconds = [_start(big, BIG_COUNT) for _ in range(rounds)]
    with scratch(in_memory=True) as folder:
        write_store(folder / "empty", 1)
        empty = statistics.median(_start(folder / "empty", 1) for _ in range(rounds))
    middle = statistics.median(seconds)
    details = {
        "live MiB": live,
        "seconds to the first mail": middle,
        "of these with an empty store": empty,
        "MiB/s beyond these": live / (middle - empty),
    }
    made = figure("restart_mib_s", [live / each for each in seconds], details)
    return made, [row for mib in scale.restart_mib for row in _curve(mib, rounds)]


def _curve(mib: int, rounds: int) -> list[dict[str, Any]]:
    """Of a store as a load leaves it, and of one as long use leaves it."""
    count = entries_in(mib)
    rows = []
    for small in (False, True):
        with scratch(in_memory=True) as folder:
            write_store(folder / "store", count, small_commits=small)
            seconds = [_start(folder / "store", count) for _ in range(rounds)]
        rows.append({"live_mib": mib, "small_commits": small, "seconds": statistics.median(seconds)})
    return rows


def _start(folder: Path, count: int) -> float:
    return float(run_once("benchmarks.restart", folder, count))


def first_mail_seconds(folder: Path, count: int) -> float:
    """Start a host on a store of ``count`` entries, have one mail served, stop it."""
    name = names(count)[0]
    start = time.perf_counter()
    with EnclaveHost.start(ENCLAVE, folder, import_from=ROOT, create=False) as host:
        client = MailClient(host.attestation())
        client.welcome(host.deliver(client.hello()).result())
        get = [Get(name)]
        (value,) = decode_results(client.accept(host.deliver(client.seal(encode_operations(get))).result()), get)
        seconds = time.perf_counter() - start
    assert isinstance(value, bytes) and len(value) == VALUE_BYTES, "the restarted enclave has the entry"
    return seconds


if __name__ == "__main__":
    tell(first_mail_seconds(Path(sys.argv[1]), int(sys.argv[2])))
