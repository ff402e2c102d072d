"""The attestation document: which enclave this is, and the keys of its present epoch.

A client checks the TEE's evidence, that the evidence's report data is :func:`report_data` of this very document,
and its own constraint, before any secret leaves it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from wire.codec import expect, pack, unpack
from wire.crypto import HASH_BYTES, PUBLIC_KEY_BYTES
from wire.errors import Malformed
from wire.hpke import Kem, MailPublicKey
from wire.limits import MAX_ATTESTATION_BYTES
from wire.record import EPOCH_BYTES, STORE_ID_BYTES

ATTESTATION_VERSION: Final = 1
REPORT_DATA_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Attestation:
    """One epoch of one enclave.

    ``persistent``: whether the enclave keeps state over restarts at all. ``roster``: digest (32 bytes) of
    the voters and the quorum behind "stable". ``tee``: which kind of evidence ``evidence`` is.
    """

    store_id: bytes
    epoch: bytes
    mail_key: MailPublicKey
    checkpoint_key: bytes
    persistent: bool
    roster: bytes
    tee: str
    evidence: bytes

    def report_data(self) -> bytes:
        """The 64 bytes that the TEE's evidence must carry."""
        return report_data(self.store_id, self.epoch, self.mail_key, self.checkpoint_key, self.persistent, self.roster)

    def encode(self) -> bytes:
        """Canonical bytes."""
        return pack(
            [
                ATTESTATION_VERSION,
                self.store_id,
                self.epoch,
                int(self.mail_key.kem),
                self.mail_key.data,
                self.checkpoint_key,
                self.persistent,
                self.roster,
                self.tee,
                self.evidence,
            ]
        )

    @classmethod
    def decode(cls, untrusted: bytes) -> Attestation:
        """Parse a document that a host served. Raises :class:`Malformed`. Nothing is verified yet."""
        fields = unpack(untrusted, MAX_ATTESTATION_BYTES)
        version, store_id, epoch, kem, key, checkpoint_key, persistent, roster, tee, evidence = expect(
            fields, int, bytes, bytes, int, bytes, bytes, bool, bytes, str, bytes
        )
        if version != ATTESTATION_VERSION:
            raise Malformed(f"an attestation of version {version}; this code reads version {ATTESTATION_VERSION}")
        lengths = (len(store_id), len(epoch), len(checkpoint_key), len(roster))
        if lengths != (STORE_ID_BYTES, EPOCH_BYTES, PUBLIC_KEY_BYTES, HASH_BYTES):
            raise Malformed("an attestation with fields of the wrong length")
        try:
            mail_key = MailPublicKey(Kem(kem), key)
        except ValueError as error:
            raise Malformed(f"no such mail key kind: {kem}") from error
        return cls(store_id, epoch, mail_key, checkpoint_key, persistent, roster, tee, evidence)


def report_data(
    store_id: bytes, epoch: bytes, mail_key: MailPublicKey, checkpoint_key: bytes, persistent: bool, roster: bytes
) -> bytes:
    """SHA-512 over everything that the client is about to rely on."""
    bound = pack([store_id, epoch, int(mail_key.kem), mail_key.data, checkpoint_key, persistent, roster])
    return hashlib.sha512(b"pmap/1 report data" + bound).digest()
