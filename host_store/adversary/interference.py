"""What a malicious host does to messages on their way. Each is for a ``with`` block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from host_store.adversary.archive import Message
from host_store.adversary.wire_tap import (
    Answer,
    Answering,
    ChangePoll,
    Double,
    Drop,
    Hold,
    Rule,
    Rules,
    ShowAttestation,
    direction_of,
)


class Interference:
    """A part of :class:`host_store.adversary.MaliciousHost`. ``client``: whose messages, by name; None: everybody's.
    ``times``: how many of them; None: all."""

    _rules: Rules

    def dropping(self, what: str, client: str | None = None, times: int | None = None) -> AbstractContextManager[Rule]:
        """Lose every ``"request"``, or every ``"reply"``, of a client, or of all."""
        return self._rules.standing(Drop(direction_of(what), client, times))

    @contextmanager
    def holding(self, client: str | None = None, times: int | None = None) -> Iterator[Hold]:
        """Keep requests back: delay and reorder them with :meth:`Hold.release`, also after the block."""
        rule = Hold(client, times)
        with self._rules.standing(rule):
            yield rule

    @contextmanager
    def duplicating(self, client: str | None = None, times: int | None = None) -> Iterator[Double]:
        """Hand every request over twice."""
        rule = Double(client, times)
        with self._rules.standing(rule):
            yield rule

    def answering(
        self, with_: Answering | Message | bytes, client: str | None = None, times: int | None = None
    ) -> AbstractContextManager[Rule]:
        """Answer with an old message, with bytes, or with what a function makes of ``(envelope, forward)``."""
        return self._rules.standing(Answer(with_, client, times))

    def polling(
        self,
        change: Callable[[list[bytes]], Iterable[bytes]],
        client: str | None = None,
        times: int | None = None,
    ) -> AbstractContextManager[Rule]:
        """Change what clients find waiting for them."""
        return self._rules.standing(ChangePoll(change, client, times))

    def attesting(
        self, document: bytes, client: str | None = None, times: int | None = None
    ) -> AbstractContextManager[Rule]:
        """Show another attestation document."""
        return self._rules.standing(ShowAttestation(document, client, times))

    def rules_for(self, call: str, client: str) -> list[Rule]:
        """For the taps: what stands in this message's way, the newest first."""
        return self._rules.acting(call, client)
