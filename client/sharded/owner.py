"""The file of the key that signs shard maps: 32 bytes, for its owner's eyes only."""

from __future__ import annotations

import os
from pathlib import Path

from wire.crypto import KEY_BYTES, Randomness, SigningKey, system_randomness
from wire.errors import InvalidInput, WrongKey


def owner_key(path: Path, *, create: bool, randomness: Randomness = system_randomness) -> SigningKey:
    """Read the key; ``create``: make it if there is none.

    Raises :class:`WrongKey` without a key, and :class:`InvalidInput` for a file that is none, or that others can read.
    """
    try:
        if create and not path.exists():
            _make(path, randomness(KEY_BYTES))
        with path.open("rb") as file:
            seed, mode = file.read(KEY_BYTES + 1), os.fstat(file.fileno()).st_mode
    except FileNotFoundError as error:
        raise WrongKey(f"there is no key {path}: name the file of the key that signs the shard map") from error
    except OSError as error:
        raise InvalidInput(f"cannot use the key file {path}: {error.strerror}") from error
    if len(seed) != KEY_BYTES:
        raise InvalidInput(f"the key file {path} does not hold {KEY_BYTES} bytes")
    if mode & 0o077:
        raise InvalidInput(f"{path} can be read by others: set its mode to 600")
    return SigningKey(seed)


def _make(path: Path, seed: bytes) -> None:
    # Complete before it has its name: a crash leaves no key that is too short.
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(seed)
            file.flush()
            os.fsync(fd)
        os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)
