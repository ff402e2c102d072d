"""Be a client with asyncio, with many requests under way at once. Run it: python examples/async_client.py

It talks to a server that it starts itself, in a thread. The enclave is the ready-made key-value one.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from client import AsyncEnclaveClient, AsyncKeyValueClient
from host_store.host import EnclaveHost
from host_store.server import WebServer


async def use(url: str, state: Path) -> None:
    """Write a hundred entries from ten tasks, then read them."""
    async with await AsyncEnclaveClient.connect(url, constraint="SEC:INSECURE", state=state) as client:

        async def work(number: int) -> None:
            # On one topic mails are processed one after the other, in order. A topic for each task is what lets them
            # be under way at the same time; the host has mails that wait share one commit.
            entries = AsyncKeyValueClient(client, topic=f"worker-{number}")
            for step in range(10):
                await entries.put(f"{number}/{step}", b"done")

        await asyncio.gather(*(work(number) for number in range(10)))

        entries = AsyncKeyValueClient(client)
        print("entries:", await entries.size())
        print("those of task 3:", [key async for key, _ in entries.scan(prefix="3/")])
        async with entries.batch() as batch:  # one mail: all of it happens, or nothing
            batch.put("total", b"100").delete("0/0").get("total")
        print("results of the batch:", batch.results)
        assert client.receipt is not None
        await client.wait_stable(client.receipt)
        print(f"commit {client.receipt.commit} is stable: nobody can take it back unnoticed")


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """What 'pmap serve' does, in a thread. Gives the URL."""
    with EnclaveHost.start("pmap.kv:KeyValueEnclave", folder / "store") as host:
        web = WebServer(host, "127.0.0.1:0")
        ready = threading.Event()
        thread = threading.Thread(target=web.run, args=(lambda _url: ready.set(),))
        thread.start()
        try:
            ready.wait()
            yield web.url
        finally:
            web.stop()
            thread.join()


def main() -> int:
    """Start a server and use it."""
    with tempfile.TemporaryDirectory() as scratch, server(Path(scratch)) as url:
        asyncio.run(use(url, Path(scratch, "me.state")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
