"""What the host sees of the files: the same whichever block is written, and whether it was a file at all."""

from __future__ import annotations

import random

import pytest
from file_stores import MIB, LoggedFiles

from pmap.filesystem.settings import SMALLEST_RECORD_BYTES
from pmap.log import LogSettings

BLOCKS = 60
COMMITS = 150
Trace = list[tuple[str, int, int, int]]


class Boom(Exception):
    pass


def trace(workload: str, size: int = 4096, seed: int = 1) -> Trace:
    """(call, record number, length, tail) of every store call, after the same load."""
    rng = random.Random(seed)
    stored = LoggedFiles()
    # The class that every store with files has, for its own logs and enclaves (SMALLEST_RECORD_BYTES).
    stored.log.settings = LogSettings(smallest_class=SMALLEST_RECORD_BYTES)
    with stored.transaction():
        stored.fs.write_bytes("/f", bytes(BLOCKS * 4096))
        for number in range(BLOCKS):
            stored.map[f"key {number:06}"] = bytes(size)
    with stored.fs.open("/f", "r+b", 0) as file:
        for _ in range(COMMITS):
            place = rng.randrange(BLOCKS)
            try:
                with stored.transaction():
                    if workload == "map":
                        stored.map[f"key {place:06}"] = rng.randbytes(size)
                    elif workload != "nothing":
                        file.seek({"hot": 7, "random": place, "raising": place}[workload] * 4096)
                        file.write(rng.randbytes(size))
                    if workload == "raising":
                        raise Boom
            except Boom:
                stored._store()  # as a core does: a failed mail is a commit too
                file = stored.fs.open("/f", "r+b", 0)
    return [("append", n, length, tail) for n, length, tail in stored.trace]


@pytest.fixture(scope="module")
def random_blocks() -> Trace:
    return trace("random", seed=2)


@pytest.mark.parametrize("workload", ["hot", "map", "raising", "nothing"])
def test_the_hosts_trace_is_that_of_random_blocks(workload, random_blocks):
    assert trace(workload) == random_blocks


@pytest.mark.parametrize("workload", ["hot", "map", "raising", "nothing"])
def test_the_same_for_small_writes(workload):
    assert trace(workload, size=100) == trace("random", size=100, seed=2)


def test_the_trace_moves_and_is_of_one_class(random_blocks):
    assert random_blocks[-1][3] > random_blocks[COMMITS // 2][3]
    assert {length for _, _, length, _ in random_blocks[2:]} == {SMALLEST_RECORD_BYTES}


def test_formatting_is_one_small_record_whatever_the_size():
    assert [len(LoggedFiles(size).records[0]) for size in (MIB, 1024 * MIB)] == [4080, 4080]


def test_overwriting_a_file_never_repeats_a_ciphertext():
    stored = LoggedFiles()
    for _ in range(3):
        for _ in range(20):
            stored.fs.write_bytes("/f", b"the same content " * 500)
        stored.restart()
    pieces = [record[at : at + 16] for record in stored.records for at in range(100, len(record) - 16, 16)]
    assert len(set(pieces)) == len(pieces)


def test_the_log_of_a_store_with_files_has_the_larger_class():
    from core_host import CoreHost

    from pmap import Enclave

    class Archive(Enclave):
        persistent_filesystem_size = "1m"

        def receive_from_host(self, data: bytes) -> None:
            if data:
                self.fs.write_bytes("/f", data)
            if data == b"fail":
                raise Boom

    host = CoreHost.found(Archive)
    for data in (b"", b"x", b"x" * 4096, b"fail"):
        host.call(data)
    assert {len(record) for record in host.records} == {SMALLEST_RECORD_BYTES}
