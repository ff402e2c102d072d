"""The demo's writers: nothing is lost over an outage, and what stops a writer reaches whoever waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.demo.expectations import expect_entries
from client.demo.load import Load
from client.demo.server import HostProcess
from client.kv import KeyValueClient
from wire.errors import InvalidInput


def connect(host: HostProcess, state: Path | None = None) -> KeyValueClient:
    # Without retries of the SDK's own, each outage reaches the writer as an error.
    return KeyValueClient.connect(host.url, constraint="SEC:INSECURE", state=state, retry_delays=())


def test_writers_lose_nothing_when_the_host_is_killed_and_away_for_a_while(tmp_path: Path) -> None:
    entries = {f"{number:04}": str(number).encode() for number in range(400)}
    shares = {
        name: {key: entries[key] for key in list(entries)[number::2]} for number, name in enumerate(("one", "two"))
    }
    told = dict.fromkeys(shares, 0)

    def advance(name: str, count: int) -> None:
        told[name] += count

    with HostProcess(tmp_path, in_process=True) as host:
        host.start()
        writers = {name: connect(host, tmp_path / f"{name}.state") for name in shares}
        advances = {name: lambda count, name=name: advance(name, count) for name in shares}
        load = Load(writers, shares, per_mail=2, hold_at=100, advance=advances)
        try:
            assert 100 <= load.wait_for_mark() < 400
            host.kill()
            before = load.acknowledged
            load.release()
            host.start()
            load.wait_for_progress(before)
            load.wait_for_end()
            assert load.acknowledged == told == {"one": 200, "two": 200}
            expect_entries(entries, dict(writers["one"].scan()))
        finally:
            load.abandon()
            for writer in writers.values():
                writer.close()


def test_what_stops_a_writer_is_raised_to_whoever_waits(server: HostProcess) -> None:
    writer = connect(server)
    writer.close()
    load = Load({"one": writer}, {"one": {"k": b"v"}}, 1, 1, {"one": lambda count: None})
    with pytest.raises(InvalidInput, match="closed"):
        load.wait_for_end()
    load.abandon()


def test_an_abandoned_load_ends_while_the_host_is_away(tmp_path: Path) -> None:
    with HostProcess(tmp_path, in_process=True) as host:
        host.start()
        writer = connect(host)
        host.kill()
        load = Load({"one": writer}, {"one": {"k": b"v"}}, 1, 1, {"one": lambda count: None})
        load.abandon()
        assert load.acknowledged == {"one": 0}
        writer.close()
