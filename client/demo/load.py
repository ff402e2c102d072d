"""Clients that write at the same time, each in a thread of its own, and do not mind a host that is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from client.demo.expectations import DemoFailed
from client.reply import Fate
from wire.errors import HostUnavailable, OutcomeUnknown
from wire.kv import Put

if TYPE_CHECKING:
    from client.kv import KeyValueClient

_STANDSTILL_SECONDS: Final = 120.0
"""So long nothing may happen before the demo is given up."""
_RETRY_SECONDS: Final = 0.1


class Load:
    """All writers together. Whatever stops one of them is raised to whoever waits."""

    def __init__(
        self,
        writers: Mapping[str, KeyValueClient],
        shares: Mapping[str, Mapping[str, bytes]],
        per_mail: int,
        hold_at: int,
        advance: Mapping[str, Callable[[int], object]],
    ) -> None:
        """Start to write.

        Args:
            writers: name -> client.
            shares: name -> what this client is to write.
            per_mail: entries in one mail.
            hold_at: the writer that brings the number of acknowledged entries to this waits for :meth:`release`; the
                others go on.
            advance: name -> told how many entries were acknowledged.
        """
        self._advance = advance
        self._hold_at = hold_at
        self._changed = threading.Condition()
        self._acknowledged = dict.fromkeys(writers, 0)
        self._totals = {name: len(share) for name, share in shares.items()}
        self._released = self._abandoned = False
        self._failure: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(name, writer, dict(shares[name]), per_mail), daemon=True)
            for name, writer in writers.items()
        ]
        for thread in self._threads:
            thread.start()

    @property
    def acknowledged(self) -> dict[str, int]:
        """Name -> entries that the enclave has acknowledged."""
        with self._changed:
            return dict(self._acknowledged)

    def wait_for_mark(self) -> int:
        """Wait until ``hold_at`` is reached; returns the number of acknowledged entries."""
        self._wait_for(lambda: sum(self._acknowledged.values()) >= self._hold_at)
        return sum(self.acknowledged.values())

    def release(self) -> None:
        """Let the writer go on that waits at the mark."""
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def wait_for_progress(self, since: Mapping[str, int]) -> None:
        """Wait until every writer has gone on from there, or was done by then."""
        self._wait_for(
            lambda: all(
                count > since[name] or count == self._totals[name] for name, count in self._acknowledged.items()
            )
        )

    def wait_for_end(self) -> None:
        """Wait until everything is acknowledged."""
        self._wait_for(lambda: self._acknowledged == self._totals)

    def abandon(self) -> None:
        """Have the writers stop, and wait for them. Again is fine."""
        with self._changed:
            self._abandoned = self._released = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_STANDSTILL_SECONDS)

    # --- the writers' threads ---

    def _run(self, name: str, writer: KeyValueClient, share: dict[str, bytes], per_mail: int) -> None:
        puts = [Put(key, value) for key, value in share.items()]
        try:
            for begin in range(0, len(puts), per_mail):
                mail = puts[begin : begin + per_mail]
                if not self._write(writer, mail):
                    return
                self._advance[name](len(mail))
                self._acknowledge(name, len(mail))
        except BaseException as error:
            with self._changed:
                self._failure = self._failure or error
                self._changed.notify_all()

    def _write(self, writer: KeyValueClient, mail: list[Put]) -> bool:
        """Have one mail executed, through any number of outages. False: the load was abandoned."""
        while not self._abandoned:
            try:
                writer.execute(mail)
                return True
            except OutcomeUnknown:
                # It is on its way, and stays so over restarts: finding out what became of it also sees to it.
                return self._settle(writer)
            except HostUnavailable:
                time.sleep(_RETRY_SECONDS)  # it never left
        return False

    def _settle(self, writer: KeyValueClient) -> bool:
        while not self._abandoned:
            try:
                resolved = writer.client.recover()
            except (OutcomeUnknown, HostUnavailable):
                time.sleep(_RETRY_SECONDS)
                continue
            for one in resolved:
                if one.fate is not Fate.EXECUTED:
                    raise DemoFailed(f"a mail that was on its way when the host was killed: {one.fate.value}")
            return True
        return False

    def _acknowledge(self, name: str, count: int) -> None:
        with self._changed:
            before = sum(self._acknowledged.values())
            self._acknowledged[name] += count
            self._changed.notify_all()
            if before < self._hold_at <= before + count:
                self._changed.wait_for(lambda: self._released)

    def _wait_for(self, reached: Callable[[], bool]) -> None:
        with self._changed:
            while not self._changed.wait_for(lambda: reached() or self._failure is not None, _STANDSTILL_SECONDS):
                raise DemoFailed(f"the clients made no progress in {_STANDSTILL_SECONDS:.0f} s")
            if self._failure is not None:
                raise self._failure
