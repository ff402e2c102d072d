"""A storm over the engines: ``python -m engines.storm --faults 1000`` (``tests`` on the path; ``make engines-storm``).

Clients send as fast as they can to a real web server whose store is a shared engine behind a proxy. Again and again the
host is killed, or the engine, or the network between them is cut, goes silent, or loses the answers. Each client adds
1 to a number of its own, so that an answer says whether anything was lost or done twice.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from crash.storm import CLIENTS, Watched
from engines.proxy import Network, Proxy
from killed_hosts import Workers, Zygote, check_accounts

from benchmarks.engine_servers import KINDS, S3, Etcd, Postgresql

AnyServer = Postgresql | Etcd | S3
URL_OPTIONS = "timeout=2&lease=0.3"
LONGEST_FAULT_SECONDS = 0.4
"""Some end before a call's time is over, some after one attempt of it."""
MAILS_BETWEEN = 3
FAULTS = ("host", "host", "engine", "cut", "silent", "deaf")
SLOW_TO_START = {"s3": ("engine",) + 2 * ("host", "host", "cut", "silent", "deaf")}
"""A killed SeaweedFS takes seconds to come back."""


@dataclass
class Storm:
    """What was done to one engine, and what came of it."""

    kind: str
    faults: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    lost: int = 0
    executed_twice: int = 0
    alarms: int = 0
    other_errors: int = 0

    @property
    def clean(self) -> bool:
        """Whether nothing happened that must not."""
        return self.lost == self.executed_twice == self.alarms == self.other_errors == 0


class Target:
    """An engine behind proxies, and what can be done to it."""

    def __init__(self, kind: str, stack: ExitStack, server: AnyServer | None = None) -> None:
        """``server``: one that runs already, and goes on running."""
        self.server = server or KINDS[kind]()
        if server is None:
            stack.callback(self.server.stop)
        ports = self.server.ports if isinstance(self.server, Etcd) else [self.server.port]
        self.proxies = [stack.enter_context(Proxy(port)) for port in ports]

    def url(self, store: str, *, direct: bool = False) -> str:
        """The store's URL, through the proxies or not."""
        server, proxied = self.server, [proxy.port for proxy in self.proxies]
        if isinstance(server, Etcd):
            url = server.url(store, None if direct else proxied)
        else:
            url = server.url(store, None if direct else proxied[0])
        return f"{url}{'&' if '?' in url else '?'}{URL_OPTIONS}"

    def set(self, network: Network) -> None:
        """What the network is like from now on."""
        for proxy in self.proxies:
            proxy.network = network

    def kill_and_restart(self) -> None:
        """``kill -9`` the engine, or the member of the cluster that leads, and start it again."""
        server = self.server
        if isinstance(server, Etcd):
            server.start(server.kill_leader())
            server.wait()
        elif isinstance(server, Postgresql):
            server.kill()
            server.start()
        else:
            server.kill()
            server.start()


def storm(
    folder: Path,
    kind: str,
    faults: int,
    tell: Callable[[str], None] = lambda _what: None,
    choices: tuple[str, ...] = (),
) -> Storm:
    """So many faults on one kind of engine, of ``choices`` or any. Raises :class:`AssertionError` on a hang."""
    rng, result = random.Random(f"{kind} {faults}"), Storm(kind)
    accounts = [Watched(f"client-{number}", folder) for number in range(CLIENTS)]
    with ExitStack() as stack:
        target = Target(kind, stack)
        zygote, served = Zygote(), f"{target.url('storm')}#{folder / 'store'}"
        stack.callback(zygote.close)
        workers = Workers(accounts, zygote.url)
        stack.callback(workers.end)
        assert zygote.start(served)
        workers.begin()
        for _ in range(faults):
            workers.wait_for(rng.randrange(1, MAILS_BETWEEN))
            time.sleep(rng.random() * 0.003)
            fault = rng.choice(choices or SLOW_TO_START.get(kind, FAULTS))
            seconds = rng.random() * LONGEST_FAULT_SECONDS
            if fault == "host":
                zygote.kill()
                assert zygote.start(served)
            elif fault == "engine":
                target.kill_and_restart()
            else:
                target.set(Network(fault))
                time.sleep(seconds)
                if fault == "deaf":
                    target.set(Network.CUT)
                    time.sleep(0.05)
                target.set(Network.FINE)
            result.faults[fault] = result.faults.get(fault, 0) + 1
            tell(fault)
        workers.wait_for(1)
        zygote.kill()
        workers.end()
        check_accounts(f"{target.url('storm', direct=True)}#{folder / 'store'}", accounts)
    result.acknowledged = workers.done
    for account in accounts:
        result.lost += account.lost
        result.executed_twice += account.executed_twice
        result.alarms += account.alarms
        result.other_errors += account.other_errors
    return result


def main() -> int:
    """The exit code."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    parser = argparse.ArgumentParser(prog="engines.storm", description=__doc__)
    parser.add_argument("--faults", type=int, default=1000, help="how many on all engines together (default: 1000)")
    parser.add_argument("--engines", nargs="+", choices=list(KINDS), default=list(KINDS), help="which (default: all)")
    options = parser.parse_args()
    each = -(-options.faults // len(options.engines))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    begun, results = time.monotonic(), []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for kind in options.engines:
            bar = progress.add_task(kind, total=each)
            with tempfile.TemporaryDirectory(prefix="pmap-storm-") as folder:
                found = storm(Path(folder), kind, each, lambda _what, bar=bar: progress.advance(bar))  # type: ignore[misc]
            results.append(found)
            done = ", ".join(f"{number} {what}" for what, number in sorted(found.faults.items()))
            print(
                f"{kind}: {done}; mails acknowledged {found.acknowledged:,}, lost {found.lost},"
                f" executed twice {found.executed_twice}, alarms {found.alarms}, other errors {found.other_errors}",
                flush=True,
            )
    total = sum(sum(found.faults.values()) for found in results)
    print(f"{total:,} kills and cuts in {time.monotonic() - begun:.0f} s")
    return 0 if all(found.clean for found in results) else 1


if __name__ == "__main__":
    sys.exit(main())
