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
from benchmarks.stores import entries_in, live_mib, open_store, scratch, write_store
from benchmarks.workload import VALUE_BYTES, names
from host_store.host import EnclaveHost
from wire.kv import Get, decode_results, encode_operations

ENCLAVE: Final = "benchmarks.enclaves:BigKeyValueEnclave"
ROOT: Final = Path(__file__).resolve().parent.parent
_ROUNDS: Final = 3


def restart_figure(big: Path, scale: Scale) -> tuple[Figure, list[dict[str, Any]]]:
    """``restart_mib_s`` on the store ``big`` of ``BIG_COUNT`` entries; for the plot, seconds against live size."""
    live = live_mib(BIG_COUNT)
    seconds = [_timed(big, BIG_COUNT) for _ in range(_ROUNDS)]
    with scratch(in_memory=True) as folder:
        write_store(folder / "empty", 1)
        empty = statistics.median(_timed(folder / "empty", 1) for _ in range(_ROUNDS))
    embedded = [_embedded_seconds(big) for _ in range(_ROUNDS)]
    middle = statistics.median(seconds)
    details = {
        "live MiB": live,
        "seconds to the first mail": middle,
        "of these with an empty store": empty,
        "MiB/s beyond these": live / (middle - empty),
        "MiB/s of open_map": live / statistics.median(embedded),
    }
    made = figure("restart_mib_s", [live / each for each in seconds], details)
    return made, [row for mib in scale.restart_mib for row in _curve(mib)]


def _curve(mib: int) -> list[dict[str, Any]]:
    count = entries_in(mib)
    rows = []
    for small in (False, True):
        with scratch(in_memory=True) as folder:
            write_store(folder / "store", count, small_commits=small)
            seconds = [_timed(folder / "store", count) for _ in range(_ROUNDS)]
        rows.append({"live_mib": mib, "small_commits": small, "seconds": statistics.median(seconds)})
    return rows


def _timed(folder: Path, count: int) -> float:
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


def _embedded_seconds(folder: Path) -> float:
    start = time.perf_counter()
    open_store(folder).close()
    return time.perf_counter() - start


if __name__ == "__main__":
    tell(first_mail_seconds(Path(sys.argv[1]), int(sys.argv[2])))
