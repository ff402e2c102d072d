"""Invites: how a newcomer starts from a sponsor's evidence, so that no host can show it an old state, or another store.

::

    pmap-invite:1:<base64url, without padding, of msgpack [store id, checkpoint key, roster, checkpoint] ‖ check(4)>

The check (the first bytes of a SHA-256) finds slips in copying. Nothing in an invite is secret, but whoever can change
it on its way can send the newcomer to a store of their own: it travels as carefully as a public key.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Final

from client.acceptance import pin_of, raise_highest
from client.state import ClientState, Pin
from wire.alarm import proves_fork
from wire.checkpoint import Checkpoint, verify_checkpoint
from wire.codec import expect, pack, unpack
from wire.crypto import HASH_BYTES, PUBLIC_KEY_BYTES, sha256
from wire.errors import AttestationError, EvidenceInvalid, ForkDetected, InvalidInput, Malformed, StoreReplaced
from wire.limits import MAX_INVITE_CHARACTERS

_HEAD: Final = "pmap-invite:1:"
_CHECK_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Invite:
    """A store, and a checkpoint of it that was verified."""

    pin: Pin
    checkpoint: Checkpoint

    @classmethod
    def of(cls, state: ClientState) -> Invite:
        """To the store that this client uses. Raises :class:`InvalidInput` without a checkpoint of it."""
        if state.highest is None:
            raise InvalidInput("an enclave that keeps no state has no evidence to invite anybody with")
        return cls(pin_of(state), state.highest)

    def encode(self) -> str:
        """One line of text."""
        pin = self.pin
        data = pack([pin.store_id, pin.checkpoint_key, pin.roster, self.checkpoint.encode()])
        return _HEAD + urlsafe_b64encode(data + sha256(data)[:_CHECK_BYTES]).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Invite:
        """Read an invite and verify its checkpoint. Raises :class:`InvalidInput`."""
        try:
            data = _decode(text.strip())
            store_id, key, roster, encoded = expect(unpack(data, MAX_INVITE_CHARACTERS), bytes, bytes, bytes, bytes)
            if (len(key), len(roster)) != (PUBLIC_KEY_BYTES, HASH_BYTES):
                raise Malformed("an invite with fields of the wrong length")
            checkpoint = Checkpoint.decode(store_id, encoded)
            verify_checkpoint(checkpoint, key)
        except (Malformed, EvidenceInvalid) as error:
            raise InvalidInput(f"this is no invite, or not all of it: {error}") from error
        return cls(Pin(store_id, key, roster, True), checkpoint)

    def accept(self, state: ClientState) -> None:
        """Let the client start from the invite; one that knows the store already takes over roster and checkpoint.

        Raises:
            StoreReplaced: the client belongs to another store.
            AttestationError: the invite names another key for this store.
            ForkDetected: its checkpoint contradicts the client's.
        """
        known, highest = state.pin, state.highest
        if known is not None and known.store_id != self.pin.store_id:
            raise StoreReplaced("the invite is to another store than the one that this client's state belongs to")
        if known is not None and known.checkpoint_key != self.pin.checkpoint_key:
            raise AttestationError("the invite names another key for this client's store")
        if highest is not None and highest.size == self.checkpoint.size and highest.root != self.checkpoint.root:
            proves_fork(highest, self.checkpoint, self.pin.checkpoint_key)
            raise ForkDetected(
                f"the invite is to another history of this store: both have {highest.size} commits",
                checkpoint=self.checkpoint,
            )
        state.pin = self.pin
        # The enclave judges it at the next hello, like any evidence.
        raise_highest(state, self.checkpoint)


def _decode(text: str) -> bytes:
    """The authenticatable part. Raises :class:`Malformed`."""
    if len(text) > MAX_INVITE_CHARACTERS or not text.startswith(_HEAD):
        raise Malformed(f"an invite starts with {_HEAD!r}")
    encoded = text[len(_HEAD) :]
    try:
        decoded = urlsafe_b64decode(encoded.encode("ascii") + b"==")  # what is too much of it is ignored
    except (ValueError, binascii.Error) as error:
        raise Malformed("not base64") from error
    data, check = decoded[:-_CHECK_BYTES], decoded[-_CHECK_BYTES:]
    # Decoding skips what is no base64, so only the same text again is the text that was read.
    if urlsafe_b64encode(decoded).decode().rstrip("=") != encoded or sha256(data)[:_CHECK_BYTES] != check:
        raise Malformed("a character is wrong or missing")
    return data
