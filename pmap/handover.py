"""Handing a store's secrets to an attested successor: new code, or the same code on another machine.

Three messages, carried by the hosts of both enclaves, who are not trusted. Without I/O::

    predecessor -> successor   invitation   store id, nonce, signing key; evidence over them
    successor -> predecessor   request      a fresh encryption key; evidence over it and the invitation
    predecessor -> successor   package      the keyring, encrypted to that key, signed over all that was said

Which successor is good enough stands in the predecessor's *code* (``Enclave.successors``, a constraint), never in what
the host says: whoever could choose would choose himself. The successor checks its predecessor likewise, so that it
does not take a store from a stranger. Evidence is fresh because it binds the other side's random values; the clock,
which the host sets, decides only whether a vendor's certificates still hold.

The successor seals the keyring for its own TEE and starts on a copy of the store. If the predecessor is kept running,
that is a fork like any other, and found like any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from pmap.keyring import Keyring
from pmap.tee import Tee
from wire.codec import expect, pack, unpack
from wire.constraint import Constraint
from wire.crypto import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    Randomness,
    SigningKey,
    Unauthentic,
    sha256,
    verify,
)
from wire.errors import EvidenceForged, IdentityMismatch, InvalidInput, Malformed
from wire.hpke import Kem, MailKey, MailPublicKey
from wire.identity import Identity
from wire.limits import MAX_HANDOVER_BYTES
from wire.record import STORE_ID_BYTES
from wire.simulated import SIMULATED

EvidenceVerifier: TypeAlias = Callable[[str, bytes, bytes], Identity]
"""From kind, untrusted evidence and the report data that it must bind, to an identity: ``wire.tee.verify``."""

_VERSION: Final = 1
_NONCE_BYTES: Final = 32
_SEED_BYTES: Final = 32


class Predecessor:
    """The side that has the secrets. One object makes one hand-over."""

    def __init__(
        self, keyring: Keyring, tee: Tee, successors: Constraint, verifier: EvidenceVerifier, randomness: Randomness
    ) -> None:
        self._keyring = keyring
        self._tee = tee
        self._successors = successors
        self._verifier = verifier
        self._randomness = randomness
        self._signing_key = SigningKey(randomness(_SEED_BYTES))
        nonce = randomness(_NONCE_BYTES)
        bound = [keyring.store_id, nonce, self._signing_key.public]
        evidence = tee.evidence(_report_data(b"invitation", *bound))
        self.invitation: bytes = pack([_VERSION, *bound, tee.name, evidence])
        """The first message."""
        self._done = False

    def answer(self, untrusted_request: bytes, at: int, head: tuple[int, bytes] | None = None) -> bytes:
        """Verify the successor as of ``at`` (Unix seconds) and make the package.

        ``head``: the newest commit and its root. The successor's keyring then begins a new generation there
        (:mod:`pmap.rotation`): it opens the store in exactly this state, neither an older one nor one that goes on
        without it; and what it writes, no other copy of the old keyring reads.

        Raises :class:`wire.errors.AttestationError` (each reason its own class) for a successor that is not to have the
        secrets, :class:`Malformed`, :class:`InvalidInput` when asked again, and :class:`LimitExceeded` where the
        keyring has no room for another generation yet.
        """
        if self._done:
            raise InvalidInput("a hand-over is made once: begin another with a new invitation")
        kem, key, kind, evidence = _fields(untrusted_request, int, bytes, str, bytes)
        mail_key = _mail_key(kem, key)
        bound = _request_data(self.invitation, mail_key)
        identity = self._verifier(kind, evidence, bound)
        if identity.tee == SIMULATED and self._tee.name != SIMULATED:
            raise IdentityMismatch("an enclave on hardware hands nothing to a simulated one")
        self._successors.check(identity, at)
        keyring = self._keyring if head is None else self._keyring.rotated(self._randomness, *head)
        transcript = sha256(self.invitation + untrusted_request)
        sealed = mail_key.seal(keyring.encode(), b"pmap/1 handover package" + transcript)
        signature = self._signing_key.sign(b"pmap/1 handover" + transcript + sealed)
        self._done = True
        return pack([_VERSION, signature, sealed])


class Successor:
    """The side that gets the secrets. One object makes one hand-over."""

    def __init__(
        self,
        tee: Tee,
        predecessors: Constraint,
        verifier: EvidenceVerifier,
        randomness: Randomness,
        kem: Kem = Kem.MLKEM768_X25519,
    ) -> None:
        self._tee = tee
        self._predecessors = predecessors
        self._verifier = verifier
        self._key = MailKey(kem, randomness)
        self._transcript: bytes | None = None
        self._store_id = b""
        self._signing_key = b""

    def request(self, untrusted_invitation: bytes, at: int) -> bytes:
        """Verify the predecessor as of ``at`` (Unix seconds) and ask it for the store's secrets.

        Raises :class:`wire.errors.AttestationError`, :class:`Malformed`.
        """
        store_id, nonce, signing_key, kind, evidence = _fields(untrusted_invitation, bytes, bytes, bytes, str, bytes)
        if (len(store_id), len(nonce), len(signing_key)) != (STORE_ID_BYTES, _NONCE_BYTES, PUBLIC_KEY_BYTES):
            raise Malformed("a hand-over's invitation with fields of the wrong length")
        identity = self._verifier(kind, evidence, _report_data(b"invitation", store_id, nonce, signing_key))
        self._predecessors.check(identity, at)
        public = self._key.public
        own = self._tee.evidence(_request_data(untrusted_invitation, public))
        request = pack([_VERSION, int(public.kem), public.data, self._tee.name, own])
        self._transcript = sha256(untrusted_invitation + request)
        self._store_id, self._signing_key = store_id, signing_key
        return request

    def receive(self, untrusted_package: bytes) -> Keyring:
        """Open the package: the keyring, to be sealed for this TEE.

        Raises :class:`EvidenceForged` for a package by another than the invitation's enclave, :class:`Malformed`, and
        :class:`InvalidInput` before a request.
        """
        if self._transcript is None:
            raise InvalidInput("there is no package before a request")
        signature, sealed = _fields(untrusted_package, bytes, bytes)
        if len(signature) != SIGNATURE_BYTES:
            raise Malformed("a hand-over's package with a signature of the wrong length")
        try:
            verify(self._signing_key, signature, b"pmap/1 handover" + self._transcript + sealed)
            plaintext = self._key.open(sealed, b"pmap/1 handover package" + self._transcript)
        except Unauthentic as error:
            raise EvidenceForged("the package is not by the enclave that sent the invitation") from error
        keyring = Keyring.decode(plaintext)
        if keyring.store_id != self._store_id:
            raise Malformed("a hand-over's package with another store's keyring than was announced")
        return keyring


def _report_data(step: bytes, *bound: bytes) -> bytes:
    return hashlib.sha512(b"pmap/1 handover " + step + pack(list(bound))).digest()


def _request_data(invitation: bytes, key: MailPublicKey) -> bytes:
    return _report_data(b"request", sha256(invitation), bytes([key.kem]), key.data)


def _mail_key(kem: int, key: bytes) -> MailPublicKey:
    try:
        return MailPublicKey(Kem(kem), key)
    except ValueError as error:
        raise Malformed(f"no such kind of key: {kem}") from error


def _fields(untrusted: bytes, *types: type) -> list[Any]:
    version, *fields = expect(unpack(untrusted, MAX_HANDOVER_BYTES), int, *types)
    if version != _VERSION:
        raise Malformed(f"a hand-over of version {version}; this code speaks version {_VERSION}")
    return fields
