"""Reading and writing the small files through which a platform is asked, with bounds and in our own errors."""

from __future__ import annotations

from pathlib import Path

from pmap.tee import CODE, SIGNER, SealPolicy
from wire.attestation import REPORT_DATA_BYTES
from wire.errors import InvalidInput, TeeUnavailable


def read_file(path: Path, max_bytes: int) -> bytes:
    """A platform file's content. Raises :class:`TeeUnavailable`, also for more than ``max_bytes``."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise TeeUnavailable(f"cannot read {path}: {error.strerror or error}") from error
    if len(data) > max_bytes:
        raise TeeUnavailable(f"{path} holds more than {max_bytes} bytes")
    return data


def write_file(path: Path, data: bytes) -> None:
    """Write in one call, as such files demand. Raises :class:`TeeUnavailable`."""
    try:
        with path.open("wb", buffering=0) as file:
            written = file.write(data)
    except OSError as error:
        raise TeeUnavailable(f"cannot write {path}: {error.strerror or error}") from error
    if written != len(data):
        raise TeeUnavailable(f"{path} took {written} of {len(data)} bytes")


def check_report_data(report_data: bytes) -> bytes:
    """Raises :class:`InvalidInput` unless it has 64 bytes."""
    if len(report_data) != REPORT_DATA_BYTES:
        raise InvalidInput(f"report data has {REPORT_DATA_BYTES} bytes, not {len(report_data)}")
    return report_data


def check_seal_policy(policy: str) -> SealPolicy:
    """Raises :class:`InvalidInput` unless it is ``"code"`` or ``"signer"``."""
    if policy == CODE:
        return CODE
    if policy == SIGNER:
        return SIGNER
    raise InvalidInput(f'a store is sealed to "{CODE}" or to "{SIGNER}", not to {policy!r}')
