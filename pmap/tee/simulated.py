"""A simulated TEE: a key file instead of hardware. For development and tests; it protects nothing.

Clients refuse its evidence unless their constraint says ``SEC:INSECURE``.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path
from typing import Final

from pmap.tee import CODE, SIGNER, SealPolicy
from pmap.tee.files import check_seal_policy
from wire.codec import pack
from wire.crypto import KEY_BYTES, derive_key
from wire.errors import InvalidInput
from wire.identity import Identity
from wire.simulated import SIMULATED, SimulatedEvidence

DEFAULT_SIGNER: Final = hashlib.sha256(b"pmap simulated signer").digest()
"""The signer of every simulated enclave that is not given another."""
_CODE_SUFFIXES: Final = frozenset({".py", ".so"})


class SimulatedTee:
    """Seals with a key that lies in a file; measures the enclave's source code and settings."""

    name = SIMULATED

    def __init__(
        self,
        key: bytes,
        measurement: bytes,
        *,
        signer: bytes = DEFAULT_SIGNER,
        product: int = 1,
        security_version: int = 1,
    ) -> None:
        """``key``: 32 bytes, the "platform". Raises :class:`InvalidInput`."""
        if len(key) != KEY_BYTES:
            raise InvalidInput(f"the simulated TEE's key file holds {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._measurement = measurement
        self._signer = signer
        self._product = product
        self._security_version = security_version

    def sealing_key(self, policy: SealPolicy = SIGNER) -> bytes:
        """The same for this very code, or for all code of this signer and product, on this "platform"."""
        if check_seal_policy(policy) == CODE:
            return derive_key(self._key, self._measurement, b"simulated sealing to code")
        return derive_key(self._key, self._signer, b"simulated sealing", self._product.to_bytes(2, "big"))

    def evidence(self, report_data: bytes) -> bytes:
        """Evidence that anybody could have made, and that says so."""
        return SimulatedEvidence(
            self._measurement, self._signer, self._product, self._security_version, report_data
        ).encode()

    def identity(self) -> Identity:
        """See :class:`pmap.tee.Tee`."""
        # Here, because it brings the verifiers of every kind of TEE along, which no start needs.
        from wire.tee.verify import show_evidence

        return show_evidence(self.name, self.evidence(bytes(64)))


def named_signer(name: str) -> bytes:
    """The signer (32 bytes) of that name: each has sealing keys of its own."""
    return hashlib.sha256(b"pmap simulated signer" + pack(name)).digest()


def measure(enclave_class: type, settings: list[object]) -> bytes:
    """A hash over the enclave's code and its settings: 32 bytes.

    The code is every source file and extension module of the packages that the class and its bases come from (of a
    lone module, its file), of ``pmap`` and of ``wire``. Installed packages of others are not in it.
    """
    digest = hashlib.sha256(b"pmap/1 simulated measurement")
    digest.update(pack([enclave_class.__module__, enclave_class.__qualname__]))
    places = {Path(sys.modules[name].__file__ or "").resolve().parent for name in ("pmap", "wire")}
    for ancestor in enclave_class.__mro__:
        if ancestor.__module__.partition(".")[0] in sys.stdlib_module_names:
            continue  # as typing.Generic, and object; __main__ is not among these names
        file = getattr(sys.modules.get(ancestor.__module__), "__file__", None)
        if file is None or not Path(file).is_file():
            digest.update(pack(["no file", ancestor.__qualname__, _bytecode(ancestor)]))
        else:
            places.add(_package_of(Path(file).resolve()))
    for place in sorted(places, key=lambda place: (place.name, place)):
        _measure_place(digest, place)
    digest.update(pack(settings))
    return digest.digest()


def _package_of(file: Path) -> Path:
    """The folder of the outermost package that a module is in, or the module's own file."""
    place = file
    while (place.parent / "__init__.py").exists():
        place = place.parent
    return place


def _measure_place(digest: hashlib._Hash, place: Path) -> None:
    files = [place] if place.is_file() else sorted(place.rglob("*"))
    for file in files:
        if file.suffix in _CODE_SUFFIXES and file.is_file():
            # Where the project lies does not matter, where in the package a file lies does.
            digest.update(pack([file.relative_to(place.parent).as_posix(), file.read_bytes()]))


def _bytecode(enclave_class: type) -> list[list[object]]:
    # Typed in at a prompt: there is no file to read. Its bytecode will have to do.
    functions = [value for _, value in sorted(vars(enclave_class).items()) if inspect.isfunction(value)]
    return [[one.__qualname__, one.__code__.co_code, repr(one.__code__.co_consts)] for one in functions]
