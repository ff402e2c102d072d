"""The machine that a run was made on, and what a sync to its disk costs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import quartiles
from benchmarks.peers import available
from benchmarks.stores import scratch

_SYNCS: Final = 200
_FILE_BYTES: Final = 4 << 20
_LIBRARIES: Final = (
    "cryptography",
    "lmdb",
    "msgpack",
    "starlette",
    "uvicorn",
    "sqlcipher3",
    "rocksdict",
    "plyvel",
)


def describe() -> dict[str, Any]:
    """For the report. The load is that of the last minute, others' work included, when the run began."""
    low, middle, high = quartiles(sync_seconds())
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "file_system": _file_system(),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES if _installed(name)},
        "peers": available(),
        "load_average": os.getloadavg()[0],
        "fdatasync_us": {"median": 1e6 * middle, "quartiles": [1e6 * low, 1e6 * high]},
    }


def sync_seconds() -> list[float]:
    """How long ``fdatasync`` takes after overwriting 4 KiB of a file in place."""
    found = []
    with scratch() as folder, (folder / "file").open("wb+", buffering=0) as file:
        file.write(bytes(_FILE_BYTES))
        os.fsync(file.fileno())
        for number in range(_SYNCS):
            os.pwrite(file.fileno(), os.urandom(4096), 4096 * number % _FILE_BYTES)
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - start)
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system() -> str:
    """Of the folder that stores are made in: the mount with the longest path above it."""
    with scratch() as folder:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
        above = [(len(point), kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(above)[1] if above else "unknown"


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
