"""What an adversary does on the way between clients and host: see, drop, hold, double, exchange.

A :class:`Rule` stands in that way for as long as its ``with`` block lasts. Rules apply to one client or to all; the one
that was made last is the first that a request meets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from host_store.adversary.archive import Archive, Direction, Message
from wire.errors import HostUnavailable, InvalidInput, PmapError

if TYPE_CHECKING:
    from host_store.adversary.host import MaliciousHost

Forward: TypeAlias = Callable[[bytes], bytes]
"""Hands an envelope on towards the enclave; the answer. Raises what the host says instead."""
Answering: TypeAlias = Callable[[bytes, Forward], bytes]


class Rule:
    """Lets everything pass. ``client``: whom it is about, None for everybody; ``times``: how often it acts, at most."""

    def __init__(self, client: str | None = None, times: int | None = None) -> None:
        self.client = client
        self._left = times
        self._lock = threading.Lock()

    def acts(self, client: str) -> bool:
        """Whether this message is the rule's; counts it."""
        with self._lock:
            if self.client not in (None, client) or self._left == 0:
                return False
            if self._left is not None:
                self._left -= 1
            return True

    def deliver(self, envelope: bytes, forward: Forward) -> bytes:
        """A hello or mail on its way; the answer for its sender."""
        return forward(envelope)

    def poll(self, messages: list[bytes]) -> list[bytes]:
        """What waits for a client; what it gets."""
        return messages

    def attestation(self, document: bytes) -> bytes:
        """The document; what the client gets."""
        return document

    @property
    def calls(self) -> tuple[str, ...]:
        """The calls that this rule is about."""
        return tuple(name for name in ("deliver", "poll", "attestation") if name in vars(type(self)))


class Drop(Rule):
    """Loses requests on their way, or replies on theirs back."""

    def __init__(self, what: Direction, client: str | None, times: int | None) -> None:
        super().__init__(client, times)
        self._what = what

    def deliver(self, envelope: bytes, forward: Forward) -> bytes:
        """Raises :class:`HostUnavailable`."""
        if self._what is Direction.REPLY:
            forward(envelope)
        raise HostUnavailable(f"the {self._what.value} was dropped")


class Hold(Rule):
    """Keeps requests back, so that their senders hear nothing, until somebody lets them go."""

    def __init__(self, client: str | None, times: int | None) -> None:
        super().__init__(client, times)
        self.held: list[tuple[bytes, Forward]] = []

    def deliver(self, envelope: bytes, forward: Forward) -> bytes:
        """Raises :class:`HostUnavailable`."""
        self.held.append((envelope, forward))
        raise HostUnavailable("no answer in time: the request is held")

    def release(self, order: Sequence[int] | None = None) -> list[bytes | PmapError]:
        """Hand the held requests over after all, in this order; each one's answer, or what the host said."""
        answers: list[bytes | PmapError] = []
        for index in range(len(self.held)) if order is None else order:
            envelope, forward = self.held[index]
            try:
                answers.append(forward(envelope))
            except PmapError as error:
                answers.append(error)
        return answers


class Double(Rule):
    """Hands each request over twice; its sender gets the second answer. ``answers``: all pairs of them."""

    def __init__(self, client: str | None, times: int | None) -> None:
        super().__init__(client, times)
        self.answers: list[tuple[bytes, bytes]] = []

    def deliver(self, envelope: bytes, forward: Forward) -> bytes:
        """The second answer."""
        self.answers.append((forward(envelope), forward(envelope)))
        return self.answers[-1][1]


class Answer(Rule):
    """Answers with what the adversary makes up, or with an old message."""

    def __init__(self, with_: Answering | Message | bytes, client: str | None, times: int | None) -> None:
        super().__init__(client, times)
        self._with = with_

    def deliver(self, envelope: bytes, forward: Forward) -> bytes:
        """The answer."""
        if isinstance(self._with, Message):
            return self._with.data
        return self._with if isinstance(self._with, bytes) else self._with(envelope, forward)


class ChangePoll(Rule):
    """Changes what a client finds waiting."""

    def __init__(self, change: Callable[[list[bytes]], Iterable[bytes]], client: str | None, times: int | None) -> None:
        super().__init__(client, times)
        self._change = change

    def poll(self, messages: list[bytes]) -> list[bytes]:
        """The changed list."""
        return list(self._change(messages))


class ShowAttestation(Rule):
    """Shows another attestation document than the enclave's."""

    def __init__(self, document: bytes, client: str | None, times: int | None) -> None:
        super().__init__(client, times)
        self._document = document

    def attestation(self, document: bytes) -> bytes:
        """The other document."""
        return self._document


class Tap:
    """One client's way to a host, as :class:`client.InProcessTransport` wants it. Everything that passes is kept.

    ``host`` can be exchanged at any time: the client is then led to another one, and need not notice.
    """

    def __init__(self, client: str, host: MaliciousHost, archive: Archive) -> None:
        self.client = client
        self.host = host
        self._archive = archive

    def attestation(self) -> bytes:
        """The attestation document."""
        document = self.host.attestation()
        for rule in self.host.rules_for("attestation", self.client):
            document = rule.attestation(document)
        self._keep("attestation", Direction.REPLY, document, genuine=False)
        return document

    def deliver(self, envelope: bytes) -> Future[bytes]:
        """Hand a hello or mail over; done when this returns."""
        future: Future[bytes] = Future()
        self._keep("deliver", Direction.REQUEST, envelope)
        try:
            answer = self.pass_on(envelope)
        except PmapError as error:
            future.set_exception(error)
        else:
            future.set_result(answer)
        return future

    def pass_on(self, envelope: bytes) -> bytes:
        """Through the rules to the enclave and back."""
        host = self.host

        def genuine(envelope: bytes) -> bytes:
            answer = host.deliver(envelope)
            self._keep("deliver", Direction.REPLY, answer)
            return answer

        forward: Forward = genuine
        for rule in reversed(host.rules_for("deliver", self.client)):
            forward = _through(rule, forward)
        return forward(envelope)

    def poll(self, address: bytes) -> list[bytes]:
        """What waits for a session."""
        self._keep("poll", Direction.REQUEST, address, genuine=False)
        messages = self.host.poll(address)
        for message in messages:
            self._keep("poll", Direction.REPLY, message)
        for rule in self.host.rules_for("poll", self.client):
            messages = rule.poll(messages)
        return messages

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        """A consistency proof."""
        proof = self.host.consistency(size1, size2)
        self._keep("consistency", Direction.REPLY, b"".join(proof), genuine=False)
        return proof

    def _keep(self, call: str, direction: Direction, data: bytes, *, genuine: bool = True) -> None:
        self._archive.keep_message(self.host.number, self.client, call, direction, data, genuine=genuine)


def _through(rule: Rule, forward: Forward) -> Forward:
    return lambda envelope: rule.deliver(envelope, forward)


class Rules:
    """The rules of one host."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    @contextmanager
    def standing(self, rule: Rule) -> Iterator[Rule]:
        """Let a rule stand for a ``with`` block."""
        self._rules.append(rule)
        try:
            yield rule
        finally:
            self._rules.remove(rule)

    def acting(self, call: str, client: str) -> list[Rule]:
        """The rules that act on this message, the newest first."""
        return [rule for rule in reversed(self._rules) if call in rule.calls and rule.acts(client)]


def direction_of(what: str) -> Direction:
    """``request`` or ``reply``. Raises :class:`InvalidInput`."""
    try:
        return Direction(what)
    except ValueError as error:
        raise InvalidInput(f"a message is a 'request' or a 'reply', not {what!r}") from error
