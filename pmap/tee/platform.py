"""Choosing the TEE at the enclave's start, by name.

The name may come from the untrusted host: a wrong one gives no key that opens the store, and evidence that clients
refuse. There is no search for whatever TEE happens to be there, so that none is used by accident.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pmap.tee import KeySource, Tee
from wire.errors import InvalidInput

PLATFORMS: Final = ("sgx", "snp", "tdx", "dstack", "nitro")
"""The kinds of hardware; the simulated TEE is made with its key, :class:`pmap.tee.simulated.SimulatedTee`."""
_WITH_KEY_SOURCE: Final = frozenset({"snp", "tdx", "nitro"})


def open_platform(kind: str, root: Path = Path("/"), key_source: KeySource | None = None) -> Tee:
    """The platform that this process runs on.

    Raises :class:`InvalidInput` for an unknown kind or a key source that the kind has no use for, and
    :class:`wire.errors.TeeUnavailable` where this is not such a platform.
    """
    if key_source is not None and kind not in _WITH_KEY_SOURCE:
        raise InvalidInput(f"{kind} has sealing keys of its own")
    # Each imports what only it needs, so one process loads one of them.
    if kind == "sgx":
        from pmap.tee.gramine import GramineSgx

        return GramineSgx(root)
    if kind == "snp":
        from pmap.tee.snp import SevSnp

        return SevSnp(root, key_source)
    if kind == "tdx":
        from pmap.tee.tdx import Tdx

        return Tdx(root, key_source)
    if kind == "dstack":
        from pmap.tee.dstack import Dstack

        return Dstack(root)
    if kind == "nitro":
        from pmap.tee.nitro import NitroEnclave

        return NitroEnclave(root, key_source)
    raise InvalidInput(f"there is no TEE {kind!r}: there are {', '.join(PLATFORMS)}")


def parse_key_source(text: str) -> KeySource:
    """Read ``vtpm``, ``vtpm:TCTI`` (tpm2-tss' notation) or ``file:PATH``. Raises :class:`InvalidInput`."""
    kind, colon, rest = text.partition(":")
    if kind == "vtpm" and (rest or not colon):
        from pmap.tee.vtpm import VtpmKey

        return VtpmKey(rest) if rest else VtpmKey()
    if kind == "file" and rest:
        from pmap.tee.provisioned import ProvisionedKey

        return ProvisionedKey(Path(rest))
    raise InvalidInput(f"a key source is 'vtpm', 'vtpm:TCTI' or 'file:PATH', not {text[:100]!r}")
