"""What the TEE's vendor says of a platform, from a folder: read again at each attestation, since it expires."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TypeAlias

from wire.errors import InvalidInput
from wire.limits import MAX_COLLATERAL_BYTES
from wire.tee.endorsements import NO_ENDORSEMENTS, Endorsements

__all__ = ["NO_ENDORSEMENTS", "Endorsements", "EndorsementsFrom", "read_endorsements"]

EndorsementsFrom: TypeAlias = Endorsements | str | PathLike[str]
"""Endorsements, or a folder of them (:meth:`wire.tee.endorsements.Endorsements.of_files`)."""


def read_endorsements(source: EndorsementsFrom) -> Endorsements:
    """The endorsements, as they are now.

    Raises :class:`InvalidInput` for a folder that cannot be read, or holds other things, and
    :class:`wire.errors.EvidenceMalformed` for certificates that are none.
    """
    if isinstance(source, Endorsements):
        return source
    files = {}
    try:
        for path in Path(source).iterdir():
            with path.open("rb") as file:
                files[path.name] = file.read(MAX_COLLATERAL_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read the endorsements in {source}: {error.strerror or error}") from error
    return Endorsements.of_files(files)
