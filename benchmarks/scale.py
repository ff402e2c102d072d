"""How much is measured: a quick look, or all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Scale:
    """Sizes and lengths of one run. Figures with a bound are taken at the same sizes in every scale."""

    rounds: int
    """Rounds of each contender where two are compared."""
    round_seconds: float
    peer_counts: tuple[int, ...]
    """Entries in the stores that are compared with peers, beside :data:`PEER_COUNT`."""
    every_peer: bool
    """Whether peers that no figure needs are measured as well."""
    ycsb_steps: int
    """Operations of one round of a YCSB workload; 0: none."""
    cost_counts: tuple[int, ...]
    """Map sizes of the curve "cost of a commit", beside those of ``flat_cost``."""
    restarts: int
    restart_mib: tuple[int, ...]
    """Live sizes of the curve "time to the first mail", beside that of ``restart_mib_s``."""
    clients: tuple[int, ...]
    """Concurrent clients of the mail path, beside :data:`CLIENTS`."""
    mail_rounds: int
    mail_seconds: float
    engine_rounds: int
    """Blocks of commits on each shared engine, beside as many on the bare engine."""
    engine_servers: bool
    """Whether a whole server on each of them is measured as well."""
    space_entries: int
    space_cycles: int
    """How many times a long run overwrites and replaces all entries."""


PEER_COUNT: Final = 100_000
"""Entries in the stores that the figures compare."""
SMALL_COUNT: Final = 1_000
BIG_COUNT: Final = 1_000_000
CLIENTS: Final = 16

QUICK: Final = Scale(
    rounds=9,
    round_seconds=0.06,
    peer_counts=(),
    every_peer=False,
    ycsb_steps=0,
    cost_counts=(),
    restarts=2,
    restart_mib=(),
    clients=(),
    mail_rounds=5,
    mail_seconds=0.25,
    engine_rounds=15,
    engine_servers=False,
    space_entries=3_000,
    space_cycles=1,
)
FULL: Final = Scale(
    rounds=11,
    round_seconds=0.2,
    peer_counts=(20_000, 1_000_000),
    every_peer=True,
    ycsb_steps=2_000,
    cost_counts=(3_000, 10_000, 30_000, 100_000, 300_000),
    restarts=3,
    restart_mib=(1, 4, 16, 64, 256, 1024),
    clients=(1, 64),
    mail_rounds=9,
    mail_seconds=0.6,
    engine_rounds=41,
    engine_servers=True,
    space_entries=20_000,
    space_cycles=3,
)
