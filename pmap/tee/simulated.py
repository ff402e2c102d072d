"""A simulated TEE: a key file instead of hardware. For development and tests; it protects nothing.

Clients refuse its evidence unless their constraint says ``SEC:INSECURE``.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from typing import Final

from wire.codec import pack
from wire.crypto import KEY_BYTES, derive_key
from wire.errors import InvalidInput
from wire.simulated import SIMULATED, SimulatedEvidence

SIGNER: Final = hashlib.sha256(b"pmap simulated signer").digest()
"""The one signer of every simulated enclave."""


class SimulatedTee:
    """Seals with a key that lies in a file; measures the enclave's source code and settings."""

    name = SIMULATED

    def __init__(self, key: bytes, measurement: bytes, *, product: int = 1, security_version: int = 1) -> None:
        """``key``: 32 bytes. Raises :class:`InvalidInput`."""
        if len(key) != KEY_BYTES:
            raise InvalidInput(f"the simulated TEE's key file holds {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._measurement = measurement
        self._product = product
        self._security_version = security_version

    def sealing_key(self) -> bytes:
        """The same for every enclave of this signer and product on this "platform", so that code can be upgraded."""
        return derive_key(self._key, SIGNER, b"simulated sealing", self._product.to_bytes(2, "big"))

    def evidence(self, report_data: bytes) -> bytes:
        """Evidence that anybody could have made, and that says so."""
        return SimulatedEvidence(self._measurement, SIGNER, self._product, self._security_version, report_data).encode()


def measure(enclave_class: type, settings: list[object]) -> bytes:
    """A hash over the enclave's source code and its settings: 32 bytes.

    The code is the class's module, and those of its bases that are not built in.
    """
    digest = hashlib.sha256(b"pmap/1 simulated measurement")
    for ancestor in enclave_class.__mro__:
        if ancestor is object:
            continue
        digest.update(pack([ancestor.__module__, ancestor.__qualname__, _source(ancestor)]))
    digest.update(pack(settings))
    return digest.digest()


def _source(enclave_class: type) -> str:
    try:
        return inspect.getsource(sys.modules[enclave_class.__module__])
    except (OSError, TypeError, KeyError):
        # Typed in at a prompt: there is no file to read. Its bytecode will have to do.
        codes = [f.__code__.co_code.hex() for f in vars(enclave_class).values() if inspect.isfunction(f)]
        return "\n".join(codes)
