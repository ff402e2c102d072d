"""The mail path: mails per second and latencies, with and without freshness, in process, over HTTP, beside an echo."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.child import Child, children_of, cpu_seconds
from benchmarks.measure import Figure, figure, quartiles, quotients
from benchmarks.scale import CLIENTS, Scale
from benchmarks.stores import scratch

CORE: Final = "core"
CORE_WITHOUT: Final = "core, no freshness"
HTTP: Final = "HTTP"
HTTP_WITHOUT: Final = "HTTP, no freshness"
ECHO: Final = "echo"
IDLE: Final = "echo, idle clients"
KINDS: Final = (CORE, CORE_WITHOUT, HTTP, HTTP_WITHOUT, ECHO, IDLE)
BATCH_PUTS: Final = 50
"""Puts of a batch mail."""
Rounds = dict[str, list[dict[str, float]]]
"""Of each kind its rounds, each with what was measured in it by name."""


def mail_figures(scale: Scale) -> tuple[list[Figure], dict[str, Any]]:
    """``freshness_cost`` and ``http_vs_echo``; for the plots: clients -> kind -> what was measured."""
    curves: dict[str, Any] = {}
    figures: list[Figure] = []
    with scratch() as folder, ExitStack() as stack:
        contenders = _start(folder, stack)
        for clients in sorted({CLIENTS, *scale.clients}):
            rounds = _rounds(contenders, clients, scale)
            curves[str(clients)] = {kind: _medians(each) for kind, each in rounds.items()}
            if clients == CLIENTS:
                figures = _figures(rounds, _batch_puts(contenders, scale))
    return figures, curves


@dataclass
class _Contender:
    """Who is asked for rounds, and the processes whose CPU time goes into them, by name."""

    child: Child
    watched: dict[str, int]

    def round(self, clients: int, seconds: float, puts: int = 1) -> dict[str, float]:
        """One round of mails with so many puts; of each watched process the CPU time of one mail is added."""
        before = {name: cpu_seconds(pid) for name, pid in self.watched.items()}
        found: dict[str, float] = self.child.ask(clients=clients, seconds=seconds, puts=puts)
        mails = found.pop("mails")
        for name, pid in self.watched.items():
            found[f"{name}_cpu_us"] = 1e6 * (cpu_seconds(pid) - before[name]) / mails
        return found


def _start(folder: Path, stack: ExitStack) -> dict[str, _Contender]:
    """Every contender's processes, ready for rounds."""

    def child(module: str, *arguments: object) -> Child:
        return stack.enter_context(Child(f"benchmarks.{module}", *arguments))

    # All at once: starting takes longer than measuring.
    cores = {
        CORE: child("mail_core", folder / "core", "with"),
        CORE_WITHOUT: child("mail_core", folder / "core-without", "without"),
    }
    servers = {
        HTTP: child("serve", folder / "http", "with"),
        HTTP_WITHOUT: child("serve", folder / "http-without", "without"),
        ECHO: child("echo"),
    }
    for core in cores.values():
        core.answer()
    contenders = {kind: _Contender(core, {}) for kind, core in cores.items()}
    urls = {kind: server.answer() for kind, server in servers.items()}
    for kind, server in servers.items():
        load = child("load", urls[kind], "echo" if kind == ECHO else "mail")
        watched = {"load": load.pid, "host": server.pid}
        if enclaves := children_of(server.pid):
            watched["enclave"] = enclaves[0]
        contenders[kind] = _Contender(load, watched)
    contenders[IDLE] = _Contender(child("load", urls[ECHO], "idle"), {})
    return contenders


def _rounds(contenders: dict[str, _Contender], clients: int, scale: Scale) -> Rounds:
    for contender in contenders.values():
        # Opens the sessions of this number of clients, and is not counted.
        contender.round(clients, scale.mail_seconds / 10)
    rounds: Rounds = {kind: [] for kind in contenders}
    for number in range(scale.mail_rounds):
        for kind in contenders if number % 2 == 0 else reversed(contenders):
            rounds[kind].append(contenders[kind].round(clients, scale.mail_seconds))
    return rounds


def _batch_puts(contenders: dict[str, _Contender], scale: Scale) -> dict[str, float]:
    """Puts per second in mails of :data:`BATCH_PUTS`, of the whole thing and of its core."""
    puts: dict[str, float] = {}
    for kind in (CORE, HTTP):
        rounds = [contenders[kind].round(CLIENTS, scale.mail_seconds, BATCH_PUTS) for _ in range(3)]
        puts[kind] = BATCH_PUTS * _medians(rounds)["mails_per_s"]
    return puts


def _figures(rounds: Rounds, batch_puts: dict[str, float]) -> list[Figure]:
    def compared(ours: str, theirs: str, what: str = "mails_per_s") -> list[float]:
        return quotients([each[what] for each in rounds[ours]], [each[what] for each in rounds[theirs]])

    medians = {kind: _medians(each) for kind, each in rounds.items()}
    over_http = compared(HTTP, HTTP_WITHOUT)
    fresh = {
        "mails/s with": medians[CORE]["mails_per_s"],
        "mails/s without": medians[CORE_WITHOUT]["mails_per_s"],
        "mails per CPU second, with / without": quartiles(compared(CORE, CORE_WITHOUT, "mails_per_cpu_s"))[1],
        f"puts/s with, {BATCH_PUTS} in a mail": batch_puts[CORE],
        "over HTTP, with / without": quartiles(over_http)[1],
        "over HTTP, spread": [quartiles(over_http)[0], quartiles(over_http)[2]],
    }
    http = {
        "mails/s": medians[HTTP]["mails_per_s"],
        f"puts/s, {BATCH_PUTS} in a mail": batch_puts[HTTP],
        "echoes/s": medians[ECHO]["mails_per_s"],
        "echoes/s to clients that do nothing": medians[IDLE]["mails_per_s"],
        "mails / echoes to clients that do nothing": quartiles(compared(HTTP, IDLE))[1],
        **{f"{what} of a mail": medians[HTTP][what] for what in medians[HTTP] if what != "mails_per_s"},
    }
    return [
        figure("freshness_cost", compared(CORE, CORE_WITHOUT), fresh),
        figure("http_vs_echo", compared(HTTP, ECHO), http),
    ]


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {what: quartiles([each[what] for each in rounds])[1] for what in rounds[0]}
