"""The mail path without host and network: the enclave's core and a durable store, in one process.

``python -m benchmarks.mail_core FOLDER with|without`` holds one enclave, with or without freshness, and answers
questions ``{"clients": n, "seconds": s, "puts": p}``: one mail of each client makes a batch, which is delivered, stored
and answered. The clock runs while the enclave and the store work, and stands while the clients do.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.child import questions, tell
from benchmarks.mail_client import MailClient
from benchmarks.measure import percentile
from benchmarks.stores import Written
from benchmarks.unfresh import drop_freshness
from benchmarks.workload import names, values
from wire.boundary import Delivery, Incoming, IncomingKind
from wire.kv import Put, encode_operations

MAP_ENTRIES: Final = 20_000
"""Entries in the enclave's map; mails overwrite them."""


def bodies(seed: int, puts: int = 1) -> Iterator[bytes]:
    """Mail bodies of so many small puts each."""
    source, keys, value = random.Random(seed), names(MAP_ENTRIES), values(seed)
    while True:
        yield encode_operations([Put(source.choice(keys), value()) for _ in range(puts)])


class Core:
    """One enclave on a durable store, and the clients that have a session with it."""

    def __init__(self, folder: Path, kept: list[Delivery] | None = None) -> None:
        """``kept``: gets every delivery."""
        self.written = Written(folder)
        self.written.kept = kept
        self.written.load(MAP_ENTRIES)
        self.bodies = bodies(6)
        self._clients: list[MailClient] = []

    def clients(self, count: int) -> list[MailClient]:
        """So many, with sessions."""
        document = self.written.core.attestation.encode()
        while len(self._clients) < count:
            client = MailClient(document)
            (welcome,), _ = self.exchange([client.hello()])
            client.welcome(welcome)
            self._clients.append(client)
        return self._clients[:count]

    def exchange(self, envelopes: list[bytes]) -> tuple[list[bytes], tuple[float, float]]:
        """One batch: the answers in order, and seconds and CPU seconds until they may leave."""
        batch = [Incoming(IncomingKind.MAIL, envelope) for envelope in envelopes]
        start, cpu = time.perf_counter(), time.process_time()
        deliveries = []
        for delivery in self.written.core.deliver(batch):
            self.written.keep(delivery)
            deliveries.append(delivery)
        took = time.perf_counter() - start, time.process_time() - cpu
        answers: dict[int, bytes] = {}
        for delivery in deliveries:
            boxed = {message.slot: message.message for message in delivery.outbox}
            for answer in delivery.answers:
                answers[answer.position] = answer.data if answer.data is not None else boxed[answer.slot]
        return [answers[position] for position in range(len(batch))], took

    def round(self, clients: int, seconds: float, puts: int = 1) -> dict[str, float]:
        """As many batches as fit into ``seconds``, of mails with so many puts."""
        talking = self.clients(clients)
        mails_with = self.bodies if puts == 1 else bodies(6, puts)
        spent = cpu = 0.0
        latencies = []
        while spent < seconds:
            answers, (took, used) = self.exchange([client.seal(next(mails_with)) for client in talking])
            for client, answer in zip(talking, answers, strict=True):
                client.accept(answer)
            spent, cpu = spent + took, cpu + used
            latencies.append(took)
        mails = len(latencies) * clients
        latencies.sort()
        return {
            "mails": mails,
            "mails_per_s": mails / spent,
            "mails_per_cpu_s": mails / cpu,
            "p50_ms": 1e3 * percentile(latencies, 0.5),
            "p99_ms": 1e3 * percentile(latencies, 0.99),
        }


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    folder, freshness = arguments
    if freshness == "without":
        drop_freshness()
    core = Core(Path(folder))
    tell("ready")
    for question in questions():
        answer: dict[str, Any] = core.round(question["clients"], question["seconds"], question.get("puts", 1))
        tell(answer)


if __name__ == "__main__":
    main(sys.argv[1:])
