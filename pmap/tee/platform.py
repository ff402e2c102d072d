"""Choosing the TEE at the enclave's start, by name.

The name may come from the untrusted host: a wrong one gives no key that opens the store, and evidence that clients
refuse. There is no search for whatever TEE happens to be there, so that none is used by accident.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from pmap.tee import KeySource, Tee
from wire.errors import InvalidInput
from wire.tee.choice import TeeChoice


def open_platform(choice: TeeChoice) -> Tee:
    """The hardware that this process runs on; the simulated TEE is made with its enclave's measurement instead.

    Raises :class:`InvalidInput` for a key source that is none, and :class:`wire.errors.TeeUnavailable` where this is
    not such a platform.
    """
    root = choice.root
    key_source = None if choice.key_source is None else parse_key_source(choice.key_source)
    # Each imports what only it needs, so one process loads one of them.
    if choice.kind == "gramine":
        from pmap.tee.gramine import GramineSgx

        return GramineSgx(root)
    if choice.kind == "snp":
        from pmap.tee.snp import SevSnp

        return SevSnp(root, key_source)
    if choice.kind == "tdx":
        from pmap.tee.tdx import Tdx

        return Tdx(root, key_source)
    if choice.kind == "dstack":
        from pmap.tee.dstack import Dstack

        return Dstack(root, choice.dstack_socket)
    if choice.kind == "nitro":
        from pmap.tee.nitro import NitroEnclave

        return NitroEnclave(root, key_source)
    raise InvalidInput(f"the TEE {choice.kind!r} is no hardware")


def parse_key_source(text: str) -> KeySource:
    """Read ``vtpm``, ``vtpm:TCTI`` (tpm2-tss' notation), ``file:PATH`` or ``provider:MODULE:NAME``.

    A provider is the author's own: NAME is called without arguments and returns the source.
    Raises :class:`InvalidInput`.
    """
    kind, colon, rest = text.partition(":")
    if kind == "vtpm" and (rest or not colon):
        from pmap.tee.vtpm import VtpmKey

        return VtpmKey(rest) if rest else VtpmKey()
    if kind == "file" and rest:
        from pmap.tee.provisioned import ProvisionedKey

        return ProvisionedKey(Path(rest))
    module, _, name = rest.partition(":")
    if kind == "provider" and name.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return _provider(module, name)
    raise InvalidInput(
        f"a key source is 'vtpm', 'vtpm:TCTI', 'file:PATH' or 'provider:MODULE:NAME', not {text[:100]!r}"
    )


def _provider(module: str, name: str) -> KeySource:
    try:
        source: KeySource = getattr(import_module(module), name)()
    except Exception as error:
        raise InvalidInput(f"cannot make the key source {module}:{name}: {type(error).__name__}: {error}") from error
    if not callable(getattr(source, "key", None)):
        raise InvalidInput(f"{module}:{name} makes no key source: it has no method key(policy)")
    return source
