"""Tens of thousands of reads, writes and truncations of one file, against the bytes that it must hold.

The method is that of fsx, the file system exerciser of Apple and the BSDs.
"""

from __future__ import annotations

import os
import random

import pytest
from file_stores import MIB, LoggedFiles

OPERATIONS = int(os.environ.get("PMAP_EXERCISER_OPERATIONS", "45000"))
MAX_BYTES = 150_000


@pytest.mark.parametrize("buffering", [-1, 0, 1000])
def test_a_file_holds_what_was_written_through_everything(buffering):
    rng = random.Random(buffering)
    stored = LoggedFiles(4 * MIB)
    model = saved = bytearray()
    transaction = stored.transaction()
    transaction.__enter__()
    stored.fs.touch("/f")
    file = stored.fs.open("/f", "r+b", buffering)
    for number in range(OPERATIONS // 3):
        offset, length = rng.randrange(MAX_BYTES), rng.choice([1, 100, 4096, rng.randrange(20_000)])
        if rng.random() < 0.3:
            offset -= offset % 4096
        match rng.choices(["read", "write", "truncate", "append", "end"], [40, 40, 5, 5, 0.6])[0]:
            case "read":
                file.seek(offset)
                assert file.read(length) == model[offset : offset + length], number
            case "write":
                data = rng.randbytes(length)
                file.seek(offset)
                assert file.write(data) == length
                model = model.ljust(offset, b"\0")
                model[offset : offset + length] = data
            case "truncate":
                file.truncate(offset)
                model = model[:offset].ljust(offset, b"\0")
            case "append":
                with stored.fs.open("/f", "ab") as appending:
                    file.flush()
                    appending.write(b"end")
                model += b"end"
            case "end":
                if rng.random() < 0.5:
                    transaction.__exit__(None, None, None)
                    saved = bytearray(model)
                elif saved:
                    transaction.__exit__(ValueError, ValueError(), None)
                    model = bytearray(saved)
                else:
                    continue
                if rng.random() < 0.3:
                    stored.restart()
                assert stored.fs.read_bytes("/f") == model
                transaction = stored.transaction()
                transaction.__enter__()
                file = stored.fs.open("/f", "r+b", buffering)
    transaction.__exit__(None, None, None)
    stored.restart()
    assert stored.fs.read_bytes("/f") == model
    assert stored.fs.stat("/f").st_size == len(model)
