"""``python -m benchmarks.takeover``: a host is killed with -9; how long until another one has served a mail?

Two servers on one shared engine, the second with ``--standby``. A client writes through the first, which is killed; the
clock runs until the second has answered the client's next mail, a RECOVER and all.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.engine_servers import KINDS, missing, wait_until
from benchmarks.measure import quartiles
from client.kv import KeyValueClient

SECONDS: Final = 60.0


class Host:
    """``pmap serve`` on a shared store."""

    def __init__(self, url: str, folder: Path, name: str, *options: str) -> None:
        self._log = folder / f"{name}.log"
        command = [sys.executable, "-m", "host_store.cli", "serve", "--store", url, "--listen", "127.0.0.1:0"]
        command += ["--simulated-key", str(folder / "shared.key"), *options]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def says(self) -> str:
        """Everything that it has said."""
        return self._log.read_text("utf-8", "replace")

    def url(self) -> str:
        """Where it listens, once it does. Raises :class:`RuntimeError` if it has ended."""

        def listens() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(self.says())
            return "listening on " in self.says()

        wait_until(listens, "a host's start", SECONDS)
        return self.says().partition("listening on ")[2].split()[0]

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()
        self.process.wait(SECONDS)


def take_over(kind: str, lease: float, times: int) -> list[float]:
    """Seconds from each kill to the first mail that the next host has answered."""
    took = []
    server = KINDS[kind]()
    try:
        url = server.url("takeover")
        url = f"{url}{'&' if '?' in url else '?'}lease={lease:g}"
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            hosts = [Host(url, folder, "host-0")]
            try:
                for number in range(1, times + 1):
                    with _client(hosts[-1].url(), folder) as client:
                        client.put("before", b"%d" % number)
                    hosts.append(Host(url, folder, f"host-{number}", "--standby"))
                    wait_until(lambda: "waiting" in hosts[-1].says(), "a standby's start", SECONDS)
                    start = time.perf_counter()
                    hosts[-2].kill()
                    with _client(hosts[-1].url(), folder) as client:
                        client.put("after", b"%d" % number)
                        took.append(time.perf_counter() - start)
                        if client.get("before") != b"%d" % number:
                            raise RuntimeError("the other host has lost what was acknowledged")
            finally:
                for host in hosts:
                    host.kill()
    finally:
        server.stop()
    return took


def _client(url: str, folder: Path) -> KeyValueClient:
    return KeyValueClient.connect(url, constraint="SEC:INSECURE", state=folder / "client.state")


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.takeover", description=__doc__)
    parser.add_argument("--engines", nargs="+", choices=list(KINDS), default=list(KINDS), help="which (default: all)")
    parser.add_argument("--lease", type=float, default=3.0, help="seconds (default: 3)")
    parser.add_argument("--times", type=int, default=5, help="kills on each engine (default: 5)")
    options = parser.parse_args(arguments)
    for kind in options.engines:
        if lacks := missing(kind):
            print(f"{kind:<12} {lacks}")
            continue
        took = take_over(kind, options.lease, options.times)
        low, middle, high = quartiles(took)
        print(
            f"{kind:<12} {middle:.2f} s [{low:.2f} … {high:.2f}], longest {max(took):.2f} s: from kill -9 to the first"
            f" served mail, lease {options.lease:g} s, {len(took)} kills",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
