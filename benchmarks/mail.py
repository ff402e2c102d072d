"""The mail path: mails per second and latencies, with and without freshness, in process and over HTTP, beside a bare echo."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.child import Child
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
                figures = _figures(rounds)
    return figures, curves


def _start(folder: Path, stack: ExitStack) -> dict[str, Child]:
    """Every contender's process, ready for rounds."""

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
    urls = {kind: server.answer() for kind, server in servers.items()}
    loads = {kind: child("load", url, "echo" if kind == ECHO else "mail") for kind, url in urls.items()}
    return {**cores, **loads, IDLE: child("load", urls[ECHO], "idle")}


def _rounds(contenders: dict[str, Child], clients: int, scale: Scale) -> Rounds:
    for child in contenders.values():
        # Opens the sessions of this number of clients, and is not counted.
        child.ask(clients=clients, seconds=scale.mail_seconds / 10)
    rounds: Rounds = {kind: [] for kind in contenders}
    for number in range(scale.mail_rounds):
        for kind in contenders if number % 2 == 0 else reversed(contenders):
            rounds[kind].append(contenders[kind].ask(clients=clients, seconds=scale.mail_seconds))
    return rounds


def _figures(rounds: Rounds) -> list[Figure]:
    def compared(ours: str, theirs: str, what: str = "mails_per_s") -> list[float]:
        return quotients([each[what] for each in rounds[ours]], [each[what] for each in rounds[theirs]])

    medians = {kind: _medians(each) for kind, each in rounds.items()}
    over_http = compared(HTTP, HTTP_WITHOUT)
    fresh = {
        "mails/s with": medians[CORE]["mails_per_s"],
        "mails/s without": medians[CORE_WITHOUT]["mails_per_s"],
        "mails per CPU second, with / without": quartiles(compared(CORE, CORE_WITHOUT, "mails_per_cpu_s"))[1],
        "over HTTP, with / without": quartiles(over_http)[1],
        "over HTTP, spread": [quartiles(over_http)[0], quartiles(over_http)[2]],
    }
    http = {
        "mails/s": medians[HTTP]["mails_per_s"],
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
