"""An enclave brought to life on what its host hands over, a portion at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from sealed_store import Counter, SealedStore

from pmap.launch import Launcher
from wire.record import decode_header

_VALUE_BYTES = 300_000


class LargeCounter(Counter):
    """Its records are large enough to be opened in threads."""

    max_persistent_map_size = "64m"

    def receive_from_host(self, data: bytes) -> bytes:
        answer = super().receive_from_host(data)
        self.map[f"page {answer.decode()}"] = bytes(_VALUE_BYTES)
        return answer


def test_records_are_opened_ahead_over_the_portions_in_which_a_host_hands_them_over(tmp_path: Path) -> None:
    launcher = Launcher(LargeCounter, tmp_path / "test.key")
    founded = launcher.launch(None, ())
    assert founded.keyring is not None and founded.genesis is not None and founded.genesis.commit is not None
    store = SealedStore(founded.keyring, [founded.genesis.commit.record])
    for _ in range(12):
        store.call(founded.core)
    at_work: list[bool] = []

    def portions() -> Iterator[list[bytes]]:
        last = store.records[-1]
        for record in [last, *store.records[decode_header(last).tail - 1 :]]:
            at_work.append("opening records" in [thread.name for thread in threading.enumerate()])
            yield [record]

    core = launcher.launch(store.keyring, portions()).core
    assert at_work[-3:] == [True] * 3, "while a portion is asked for, those before it are being opened"
    assert store.call(core) == b"13"
