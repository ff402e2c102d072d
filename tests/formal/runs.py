"""Which models are checked, with which bounds, and which weakened ones must be found wrong, by what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from formal.recording import Trace, encode_traces
from formal.tlc import HOLDS, Run

SAFETY: Final = (
    "NoForkJoin",
    "NoDoubleExecution",
    "RefusedBeforeExecuted",
    "AcknowledgedPresent",
    "NoFalseAlarm",
    "QuarantineHolds",
)
HONEST: Final = ("NoAlarm", "AcknowledgedStored", *SAFETY)


def malicious(name: str, clients: int, topics: int, *, enrolled: bool = True, **bounds: int) -> Run:
    """Any host. Bounds: ``epochs``, ``commits`` (nodes of the tree), ``mails`` and ``hellos`` of each client, ``calls``
    of the host; ``inbox``, ``comparisons``: whether there are any."""
    constants: dict[str, str | int] = {
        "Clients": clients,
        "Topics": "{" + ", ".join(str(topic + 1) for topic in range(topics)) + "}",
        "MaxEpochs": bounds["epochs"],
        "MaxNodes": bounds["commits"],
        "MaxMails": bounds["mails"],
        "MaxHellos": bounds["hellos"],
        "MaxCalls": bounds.get("calls", 0),
        "InboxMails": str(bool(bounds.get("inbox"))).upper(),
        "Comparisons": str(bool(bounds.get("comparisons"))).upper(),
    }
    spec = "EnrolledSpec" if enrolled else "Spec"
    return Run(name, "Malicious", constants, SAFETY, spec, symmetry=clients > 1)


def honest(name: str, clients: int, topics: int, *, mails: int, faults: int, live: bool = False) -> Run:
    """An honest host with so many faults; ``live``: and every mail ends with an answer."""
    constants: dict[str, str | int] = {
        "Clients": clients,
        "Topics": "{" + ", ".join(str(topic + 1) for topic in range(topics)) + "}",
        "MaxMails": mails,
        "MaxFaults": faults,
    }
    if live:
        return Run(name, "Honest", constants, HONEST, "FairSpec", properties=("EveryMailIsAnswered",))
    return Run(name, "Honest", constants, HONEST)


def traced(name: str, traces: Sequence[Trace]) -> Run:
    """Traces of the code, replayed."""
    constants: dict[str, str | int] = {"Clients": "<-People", "Topics": "<-TraceTopics"}
    return Run(name, "Trace", constants, SAFETY, deadlock=True, modules={"TraceData": encode_traces(traces)})


def without(run: Run, *rules: str, broken: str) -> Run:
    """A mutant of a model: without these rules, ``broken`` must be violated."""
    return replace(run, name=f"without: {', '.join(rules)}", weakened=rules, expected=broken)


TRUE: Final = (
    malicious("any host, two clients, from the start", 2, 1, enrolled=False, epochs=2, commits=5, mails=1, hellos=2),
    malicious("any host, two clients", 2, 1, epochs=2, commits=5, mails=1, hellos=2),
    malicious(
        "any host, two clients who compare", 2, 1, epochs=2, commits=4, mails=1, hellos=2, calls=1, comparisons=1
    ),
    malicious(
        "any host, two clients who only compare", 2, 1, epochs=2, commits=6, mails=0, hellos=2, calls=1, comparisons=1
    ),
    malicious("any host, three starts", 1, 1, epochs=3, commits=4, mails=2, hellos=3),
    malicious("any host, two streams", 1, 2, epochs=2, commits=5, mails=2, hellos=2),
    malicious("any host, two streams and an inbox", 1, 2, epochs=2, commits=4, mails=2, hellos=2, calls=1, inbox=1),
    honest("honest host, two clients", 2, 1, mails=1, faults=1),
    honest("honest host, two streams", 1, 2, mails=2, faults=1),
    honest("honest host, every mail ends", 1, 1, mails=2, faults=2, live=True),
    honest("honest host, every mail of two clients ends", 2, 1, mails=1, faults=0, live=True),
)
"""The models of ``make model``: some 200 CPU seconds of Java. One commit, fault or mail more makes most of them ten
times larger."""

SHORT: Final = (
    malicious("any host, two clients", 2, 1, epochs=2, commits=4, mails=1, hellos=2),
    malicious("any host, two streams", 1, 2, epochs=2, commits=4, mails=2, hellos=2),
    honest("honest host", 1, 2, mails=2, faults=1),
    honest("honest host, every mail ends", 1, 1, mails=2, faults=1, live=True),
)
"""Those of every test run."""

_TWO: Final = malicious("", 2, 1, epochs=2, commits=7, mails=1, hellos=2)
_STREAMS: Final = malicious("", 1, 2, epochs=2, commits=6, mails=2, hellos=2)
_LUCK: Final = honest("", 1, 1, mails=3, faults=2)

MUTANTS: Final = (
    without(replace(_TWO, constants={**_TWO.constants, "MaxHellos": 1}), "epoch", broken="NoForkJoin"),
    without(_STREAMS, "stream evidence", "highest evidence", broken="RefusedBeforeExecuted"),
    without(_STREAMS, "highest evidence", broken="RefusedBeforeExecuted"),
    without(_STREAMS, "sequence", broken="NoDoubleExecution"),
    without(_STREAMS, "fence is kept", broken="AcknowledgedPresent"),
    without(_STREAMS, "superseded sessions tell nothing", broken="NoForkJoin"),
    without(_STREAMS, "welcome answers the highest evidence", broken="NoForkJoin"),
    without(
        malicious("", 2, 1, epochs=2, commits=6, mails=1, hellos=2, calls=1, comparisons=1),
        "compared with the highest evidence",
        broken="NoForkJoin",
    ),
    without(_TWO, "quarantine is kept", broken="QuarantineHolds"),
    without(honest("", 2, 1, mails=1, faults=1), "persist before deliver", broken="AcknowledgedStored"),
    without(_LUCK, "pending mail is saved", broken="NoAlarm"),
    without(_LUCK, "told with the reply's evidence", broken="AcknowledgedPresent"),
    without(honest("", 1, 1, mails=1, faults=2, live=True), "a replay is asked about", broken="liveness"),
)
"""Each must be found wrong."""

LONG_MUTANTS: Final = (
    without(
        malicious("", 2, 1, epochs=2, commits=6, mails=1, hellos=2, inbox=1), "recover fences", broken="NoForkJoin"
    ),
)
"""Likewise, in ``make model`` only."""

__all__ = ["HOLDS", "LONG_MUTANTS", "MUTANTS", "SHORT", "TRUE", "honest", "malicious", "traced", "without"]
