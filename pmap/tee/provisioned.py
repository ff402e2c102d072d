"""A sealing key that somebody trusted put into the guest: a file that the host cannot read.

Such as a systemd credential that the guest unsealed, or a file on a disk whose key an attestation service gave out.
Who may have it was decided by whoever put it there; this code only keeps the two policies' keys apart.
"""

from __future__ import annotations

from pathlib import Path

from pmap.tee import SealPolicy
from pmap.tee.files import check_seal_policy, read_file
from wire.crypto import KEY_BYTES, derive_key
from wire.errors import TeeUnavailable


class ProvisionedKey:
    """A :class:`pmap.tee.KeySource`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def key(self, policy: SealPolicy) -> bytes:
        """See :class:`pmap.tee.KeySource`."""
        secret = read_file(self._path, KEY_BYTES)
        if len(secret) != KEY_BYTES or not any(secret):
            raise TeeUnavailable(f"the provisioned key {self._path} does not hold {KEY_BYTES} random bytes")
        return derive_key(secret, b"", b"provisioned sealing", check_seal_policy(policy).encode())
