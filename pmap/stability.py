"""Stability: up to which commit a quorum of voters holds evidence.

A commit that a quorum has acknowledged can no longer be rolled back without one of the quorum noticing at its next
mail. With named voters the quorum is by weight, more than half unless said otherwise, and nobody but they
counts. Without named voters every enrolled client counts as one; that is convenient, but whoever can enrol
clients can then inflate it.

Positions only grow, so the stable size is kept by moving forward: O(log voters) per acknowledgement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

from wire.codec import pack
from wire.crypto import PUBLIC_KEY_BYTES, sha256
from wire.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Roster:
    """The voters (public key in hex -> weight) and the weight that makes a quorum; empty: every client, a majority."""

    voters: Mapping[str, int] = field(default_factory=dict)
    quorum: int | None = None

    def __post_init__(self) -> None:
        for voter, weight in self.voters.items():
            if len(voter) != 2 * PUBLIC_KEY_BYTES or not set(voter) <= set("0123456789abcdef"):
                raise InvalidInput(f"a voter is a client's public key in 64 hexadecimal digits, not {voter!r}")
            if type(weight) is not int or weight < 1:
                raise InvalidInput(f"a voter's weight is a whole number from 1, not {weight!r}")
        if self.quorum is not None and not (self.voters and 1 <= self.quorum <= sum(self.voters.values())):
            raise InvalidInput("a quorum is a weight from 1 to the sum of the named voters' weights")

    def digest(self) -> bytes:
        """32 bytes that a client can pin: they change with any voter, weight or quorum."""
        listed = [[voter, weight] for voter, weight in sorted(self.voters.items())]
        return sha256(b"pmap/1 roster" + pack([listed, self.quorum or 0]))


class Stability:
    """Tracks the stable size of one store."""

    __slots__ = ("_above", "_acked", "_heap", "_open", "_quorum", "_sizes", "_total", "_weights", "size")

    def __init__(self, roster: Roster) -> None:
        self.size = 0
        self._open = not roster.voters
        self._weights = {bytes.fromhex(voter): weight for voter, weight in roster.voters.items()}
        self._total = sum(self._weights.values())
        self._quorum = roster.quorum
        self._acked: dict[bytes, int] = {}
        # Weight of the voters at each acknowledged size above the stable one, and the sum of these weights. The heap
        # has each of these sizes once; one that the last voter has left stays in it, with a weight of 0.
        self._sizes: dict[int, int] = {}
        self._heap: list[int] = []
        self._above = 0

    def enrol(self, client: bytes) -> None:
        """A client joined. Without named voters it counts from now on, with nothing acknowledged."""
        if self._open and client not in self._weights:
            self._weights[client] = 1
            self._total += 1

    def acknowledge(self, client: bytes, size: int) -> None:
        """``client`` holds evidence of commit ``size``."""
        weight = self._weights.get(client)
        if weight is None:
            return
        before = self._acked.get(client, 0)
        if size <= before:
            return
        self._acked[client] = size
        if size <= self.size:
            return
        sizes = self._sizes
        if before > self.size:
            sizes[before] -= weight
            self._above -= weight
        if size in sizes:
            sizes[size] += weight
        else:
            sizes[size] = weight
            heappush(self._heap, size)
        self._above += weight
        if len(sizes) > 2 * len(self._weights):
            self._forget_left_sizes()
        while self._above >= self._needed():
            self.size = heappop(self._heap)
            self._above -= self._sizes.pop(self.size)

    def _forget_left_sizes(self) -> None:
        # While a quorum is silent nothing is taken off the heap; there are at most as many sizes as voters in use.
        self._sizes = {size: weight for size, weight in self._sizes.items() if weight}
        self._heap = sorted(self._sizes)

    def _needed(self) -> int:
        return self._total // 2 + 1 if self._quorum is None else self._quorum
