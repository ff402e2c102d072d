"""The way to one incarnation of an enclave, as an interface: a child process, or objects in this one.

A channel is used by one thread at a time, except for :meth:`EnclaveChannel.kill` and :meth:`EnclaveChannel.check`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

from wire.boundary import Delivery, Incoming
from wire.messages import Ready


class EnclaveChannel(Protocol):
    """One enclave, from its start to its end: one epoch."""

    @property
    def pid(self) -> int | None:
        """The process that it runs in, if that is one of its own."""
        ...

    def prepare(self, keyring: bytes | None) -> None:
        """Make all that needs no records, and see that the enclave's key opens this keyring (None: there is none yet).
        At most once, before :meth:`start`, which may come much later.

        Raises as :meth:`start`, as far as it shows by now.
        """
        ...

    def start(self, keyring: bytes | None, records: Iterable[bytes], *, rotate: bool = False) -> Ready:
        """Start it on a stored state; without a keyring on a new store, or on none. Once per channel.

        ``records``: the newest one, then the whole window in order, the newest included. ``rotate``: encrypt from now
        on under a new key.

        Raises:
            HostUnavailable: it ended, or could not be run at all.
            Malformed: it does not speak the protocol.
            InvalidInput: no such enclave, or settings that make no sense.
            WrongKey, CorruptedStore, UnsupportedVersion: what it says of the keyring and the records.
            StoreError: what ``records`` raises.
        """
        ...

    def deliver(self, batch: Sequence[Incoming]) -> Iterator[Delivery]:
        """The effects of a batch of at most ``MAX_BATCH_MAILS`` items and ``MAX_BATCH_BYTES``, as they are made.

        An enclave in a process of its own is at work when this returns. Nothing else is asked of it before the last
        effect was taken.

        Raises (also while iterating):
            HostUnavailable: it ended; what it had not answered may have been executed, but nothing of it is stored.
            Malformed: it does not speak the protocol.
        """
        ...

    def learn(self, size: int, root: bytes, to_size: int, proof: list[bytes]) -> None:
        """Answer a ProofWanted.

        Raises :class:`wire.errors.ProofInvalid` where the enclave does not accept it; else as :meth:`deliver`.
        """
        ...

    def attest(self) -> bytes:
        """The attestation document with new evidence. Raises :class:`TeeUnavailable`; else as :meth:`deliver`."""
        ...

    def invite(self) -> bytes:
        """Begin to hand the store over: the message for the successor.

        Raises :class:`InvalidInput` for an enclave that hands it to nobody; else as :meth:`deliver`.
        """
        ...

    def hand_over(self, request: bytes, endorsements: bytes) -> bytes:
        """Answer the successor: the package for it, after which this enclave has ended.

        Raises what the enclave refuses the successor for, and goes on (:mod:`pmap.handover`); else as :meth:`deliver`.
        """
        ...

    def check(self) -> None:
        """Raise :class:`HostUnavailable` if the enclave has ended."""
        ...

    def close(self) -> None:
        """End it in order, after the last answer. Again is fine."""
        ...

    def kill(self) -> None:
        """End it at once, from any thread; a call that waits for it raises :class:`HostUnavailable`."""
        ...


ChannelFactory: TypeAlias = Callable[[Callable[[], None]], EnclaveChannel]
"""Makes the next incarnation's channel; the argument is to be called, from any thread, when the enclave ends."""
