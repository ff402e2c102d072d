"""Embed the store in a program of your own, without server and mail. Run it: python examples/embedding.py

The map is a folder of ciphertext. Whoever owns the disk can neither read nor change it; and if they put an old copy
of the folder back, opening it with the checkpoint that you kept raises.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from host_store import open_map
from wire.errors import RollbackDetected


def main() -> int:
    """Write, read, roll the disk back, get the exception."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "accounts")
        key = os.urandom(32)  # keep it secret, and keep it: without it the map cannot be read

        # All of the usage, in five lines. Without `expect` only because the store is new.
        with open_map(folder, key) as accounts:
            with accounts.transaction():  # all of it or, after an exception, nothing
                accounts["alice"] = b"100"
                accounts["bob"] = b"20"
            checkpoint = accounts.checkpoint  # a short text: keep it where the disk's owner cannot reach

        # The disk's owner takes a copy of the folder, and we go on. `expect` says that no older state will do.
        yesterday = shutil.copytree(folder, Path(scratch, "yesterday"))
        with open_map(folder, key, expect=checkpoint) as accounts:
            accounts["alice"] = b"0"  # outside a transaction each write is durable by itself
            checkpoint = accounts.checkpoint
            print("in the map:", dict(accounts))
        print(f"\nthe checkpoint that we keep:\n{checkpoint}")

        # They put the copy back: every byte of it is genuine, but Alice would have her money again.
        shutil.rmtree(folder)
        shutil.copytree(yesterday, folder)
        try:
            open_map(folder, key, expect=checkpoint).close()
        except RollbackDetected as verdict:
            print(f"refused: {verdict}")
            return 0
    print("the old copy was taken for the newest state", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
