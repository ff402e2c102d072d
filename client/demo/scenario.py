"""The story of the demo: load, crash, go on, roll back, get caught. Each step checks what it claims."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from client.demo.expectations import DemoFailed, expect_entries, expect_equal, expect_rollback
from client.demo.load import Load
from client.demo.server import HostProcess
from client.demo.show import Show
from client.kv import KeyValueClient
from wire.errors import PmapError

CLIENTS: Final = ("Alice", "Bob")
_MOST_PER_MAIL: Final = 250
_LEAST_MAILS: Final = 40
"""A load has at least so many mails, so that the host is killed between many of them."""


class Scenario:
    """One run. ``host`` does not run yet; ``folder`` is for the clients' state files."""

    def __init__(self, show: Show, host: HostProcess, folder: Path, entries: dict[str, bytes]) -> None:
        self._show = show
        self._host = host
        self._folder = folder
        self._entries = entries
        self._clients: dict[str, KeyValueClient] = {}
        self._load: Load | None = None
        self._bars = ExitStack()
        self._restored_commit = 0

    def run(self) -> None:
        """Play all steps. Raises :class:`DemoFailed`, or the error of ours that should not have come."""
        steps: list[tuple[str, Callable[[], str]]] = [
            ("Start a host and its enclave", self._start),
            (f"Two clients load {len(self._entries):,} character names", self._load_half),
            ("kill -9 the host mid-load", self._crash),
            ("Load the rest", self._load_rest),
            ("Read everything back", self._read_back),
            ("The host keeps a copy of its store", self._copy),
            ("Both clients write more", self._write_more),
            ("The host restores yesterday's copy", self._roll_back),
            ("A restart does not help the host", self._restart),
        ]
        try:
            for title, step in steps:
                self._show.step(title, step)
        finally:
            self._end()

    # --- load and crash ---

    def _start(self) -> str:
        self._host.start()
        for name in CLIENTS:
            self._clients[name] = self._connect(name)
        return (
            f"host process {self._host.pid} with an enclave process of its own, on {self._host.where}; two clients,"
            " each with a state file of its own"
        )

    def _load_half(self) -> str:
        names = list(self._entries)
        shares = {
            client: {name: self._entries[name] for name in names[number :: len(CLIENTS)]}
            for number, client in enumerate(CLIENTS)
        }
        per_mail = max(1, min(_MOST_PER_MAIL, len(names) // _LEAST_MAILS))
        bars = self._bars.enter_context(self._show.progress({client: len(share) for client, share in shares.items()}))
        self._load = Load(self._clients, shares, per_mail, len(names) // 2, bars)
        done = self._load.wait_for_mark()
        return f"half of it is acknowledged: {done:,} entries, {per_mail} in a mail"

    def _crash(self) -> str:
        assert self._load is not None
        self._host.kill()
        before = self._load.acknowledged
        done = sum(before.values())
        if not 0 < done < len(self._entries):
            raise DemoFailed(f"the host was to be killed mid-load, but {done:,} of {len(self._entries):,} were done")
        self._host.start()
        self._load.release()
        self._load.wait_for_progress(before)
        return f"killed at {done:,} of {len(self._entries):,}, started again, and both clients went on: no alarm"

    def _load_rest(self) -> str:
        assert self._load is not None
        self._load.wait_for_end()
        self._bars.close()
        return f"all {len(self._entries):,} acknowledged"

    def _read_back(self) -> str:
        for name, client in self._clients.items():
            found = dict(client.scan())
            expect_entries(self._entries, found)
            self._show.say(f"{name} read {len(found):,} entries: each is what was written")
        return "nothing lost, nothing changed, nothing added"

    # --- roll back ---

    def _copy(self) -> str:
        commit = self._host.commit()
        self._host.stop()
        self._host.copy_store()
        self._restored_commit = commit
        return f"a genuine copy, at commit {commit:,}"

    def _write_more(self) -> str:
        self._host.start()
        for name, client in self._clients.items():
            client.put(f"a note of {name}", b"written after the copy was made")
            expect_equal(f"what {name} wrote", b"written after the copy was made", client.get(f"a note of {name}"))
        commit = self._host.commit()
        self._host.stop()
        return f"the store is at commit {commit:,} now, and both clients hold evidence of it"

    def _roll_back(self) -> str:
        self._host.restore_copy()
        self._host.start()
        expect_equal("the commit of the restored store", self._restored_commit, self._host.commit())
        self._expect_verdicts(self._clients, "on the restored copy")
        # One record was added, the alarm's: no handler has run, and the second client's mail added nothing.
        expect_equal("the commit after the refused mails", self._restored_commit + 1, self._host.commit())
        return "both mails were refused before they ran: the store has one new record, which holds the alarm"

    def _restart(self) -> str:
        self._host.stop()
        self._host.start()
        for name in CLIENTS:
            self._clients.pop(name).close()
            self._clients[name] = self._connect(name)
        # The clients remember the verdict themselves. A newcomer knows nothing, so that one is the enclave's.
        with self._connect("newcomer") as newcomer:
            self._expect_verdicts({**self._clients, "a newcomer": newcomer}, "after the restart", exhibit=False)
        expect_equal("the commit after the restart", self._restored_commit + 1, self._host.commit())
        return "the same verdict for both clients, and for a newcomer who has no evidence: it is in the store"

    def _expect_verdicts(self, clients: dict[str, KeyValueClient], when: str, *, exhibit: bool = True) -> None:
        for name, client in clients.items():
            alarm = expect_rollback(
                name,
                _outcome_of_put(client, "this must not be written", b"..."),
                client.client.checkpoint_key,
                restored_commit=self._restored_commit,
                oldest_proof=self._restored_commit + 1,
            )
            if exhibit:
                self._show.exhibit(f"{name}, {when}: RollbackDetected", alarm.describe(client.client.checkpoint_key))
            else:
                self._show.say(f"{name}, {when}: RollbackDetected")

    # --- clients ---

    def _connect(self, name: str) -> KeyValueClient:
        state = self._folder / f"{name.lower()}.state"
        return KeyValueClient.connect(self._host.url, constraint="SEC:INSECURE", state=state)

    def _end(self) -> None:
        if self._load is not None:
            self._load.abandon()
        self._bars.close()
        for client in self._clients.values():
            client.close()


def _outcome_of_put(client: KeyValueClient, key: str, value: bytes) -> object:
    """The error of ours that a put raises, or its receipt."""
    try:
        client.put(key, value)
    except PmapError as error:
        return error
    return client.client.receipt
