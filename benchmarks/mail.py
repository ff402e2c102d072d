"""The mail path: mails per second and latencies, with and without freshness, in process and over HTTP, beside a bare echo."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.child import Child
from benchmarks.measure import Figure, quartiles, ratio
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
    def compared(ours: str, theirs: str, what: str = "mails_per_s") -> Figure:
        return ratio("", [each[what] for each in rounds[ours]], [each[what] for each in rounds[theirs]])

    fresh = compared(CORE, CORE_WITHOUT)
    fresh.name, fresh.bound = "freshness_cost", 0.97
    fresh.note = f"durable mails/s of enclave and store with freshness / without, {CLIENTS} clients, a put each"
    fresh.details = {
        "mails/s with": fresh.details["ours"],
        "mails/s without": fresh.details["theirs"],
        "mails per CPU second, with / without": compared(CORE, CORE_WITHOUT, "mails_per_cpu_s").value,
        "over HTTP, with / without": compared(HTTP, HTTP_WITHOUT).value,
        "over HTTP, spread": list(_spread(compared(HTTP, HTTP_WITHOUT))),
    }
    http = compared(HTTP, ECHO)
    http.name, http.bound = "http_vs_echo", 0.5
    http.note = f"durable mails/s over HTTP / a bare Starlette echo of the same bytes, same load, {CLIENTS} clients"
    http.details = {
        "mails/s": http.details["ours"],
        "echoes/s": http.details["theirs"],
        "echoes/s to clients that do nothing": _medians(rounds[IDLE])["mails_per_s"],
        "mails / echoes to clients that do nothing": compared(HTTP, IDLE).value,
        **{f"{name} of a mail": _medians(rounds[HTTP])[name] for name in ("p50_ms", "p99_ms")},
    }
    return [fresh, http]


def _spread(figure: Figure) -> tuple[float, float]:
    return figure.low, figure.high


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {what: quartiles([each[what] for each in rounds])[1] for what in rounds[0]}
