"""A storm of SIGKILLs: ``python -m crash.storm --kills 1000`` (with ``tests`` on the path: ``make storm``).

Several clients send as fast as they can to a real web server, enclave and store, while the host, or its enclave, is
killed again and again. Each client adds 1 to a number of its own, so an answer says whether anything was lost or done
twice.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from killed_hosts import Account, Workers, Zygote, check_accounts
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from client import Fate
from wire.errors import FreshnessError, PmapError

CLIENTS = 4
ENCLAVE_KILLS_IN_A_ROW = 2
"""More of them, and the host waits before the next start."""
LONGEST_PAUSE_SECONDS = 0.003
"""About the time of a commit, so that a kill hits any moment of one."""


class Watched(Account):
    """An account that goes on after a fault, and counts it."""

    lost = executed_twice = alarms = other_errors = 0

    def settle(self) -> None:
        assert self.client is not None
        for one in self.client.recover():
            if one.fate is Fate.EXECUTED and one.reply is not None:
                self.count(one.reply.payload)
            else:
                self.other_errors += 1

    def count(self, payload: bytes | None) -> None:
        value = int(payload or b"0")
        self.lost += max(0, self.done + 1 - value)
        self.executed_twice += max(0, value - self.done - 1)
        self.done = value

    def work(self, url: str, mails: int | None = None) -> bool:
        try:
            return super().work(url, mails)
        except FreshnessError:
            self.alarms += 1
        except PmapError:
            self.other_errors += 1
        return False


@dataclass(frozen=True, slots=True)
class Storm:
    """What was done, and what came of it."""

    host_kills: int
    enclave_kills: int
    acknowledged: int
    lost: int
    executed_twice: int
    alarms: int
    other_errors: int

    def faults(self) -> dict[str, int]:
        """Whatever must be 0 and is not."""
        counts = {
            "acknowledged and lost": self.lost,
            "executed twice": self.executed_twice,
            "alarms": self.alarms,
            "other errors": self.other_errors,
        }
        return {what: number for what, number in counts.items() if number}


def storm(folder: Path, kills: int, tell: Callable[[int, int], None] = lambda _kills, _mails: None) -> Storm:
    """At least so many kills, two of five of the enclave alone. ``tell``: kills and acknowledged mails so far."""
    store, rng = folder / "store", random.Random(kills)
    accounts = [Watched(f"client-{number}", folder) for number in range(CLIENTS)]
    zygote = Zygote()
    workers = Workers(accounts, zygote.url)
    host_kills = enclave_kills = life = 0

    def load() -> None:
        # Some get far, some are killed in their very first commit.
        workers.wait_for(rng.randrange(5))
        time.sleep(rng.random() * LONGEST_PAUSE_SECONDS)

    try:
        while host_kills + enclave_kills < kills:
            life += 1
            own_process = life % 3 == 0
            assert zygote.start(store, process=own_process)
            workers.begin()
            load()
            for _ in range(ENCLAVE_KILLS_IN_A_ROW if own_process else 0):
                enclave_kills += zygote.kill_enclave()
                workers.wait_for(1)  # the host has started another one
                load()
            zygote.kill()
            host_kills += 1
            workers.end()
            tell(host_kills + enclave_kills, workers.done)
    finally:
        zygote.close()
        workers.end()
    check_accounts(store, accounts)
    return Storm(
        host_kills,
        enclave_kills,
        workers.done,
        sum(account.lost for account in accounts),
        sum(account.executed_twice for account in accounts),
        sum(account.alarms for account in accounts),
        sum(account.other_errors for account in accounts),
    )


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="crash.storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many in all (default: 1000)")
    kills: int = parser.parse_args().kills
    columns = (TextColumn("storm"), BarColumn(), MofNCompleteColumn(), TextColumn("kills"), TimeRemainingColumn())
    begun = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="pmap-storm-") as folder,
        Progress(*columns, TextColumn("{task.fields[mails]:,} mails"), console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("storm", total=kills, mails=0)
        result = storm(Path(folder), kills, lambda done, mails: progress.update(bar, completed=done, mails=mails))
    print(
        f"{result.host_kills:,} kills of the host and {result.enclave_kills:,} of the enclave alone, under the load of"
        f" {CLIENTS} clients, in {time.monotonic() - begun:.0f} s\n"
        f"mails acknowledged: {result.acknowledged:,}\n"
        f"acknowledged and lost: {result.lost}\n"
        f"executed twice: {result.executed_twice}\n"
        f"alarms: {result.alarms}\n"
        f"other errors: {result.other_errors}"
    )
    return 1 if result.faults() else 0


if __name__ == "__main__":
    sys.exit(main())
