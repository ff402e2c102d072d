"""Calls of device drivers (ioctl) whose argument points to a request and to a place for the response."""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from wire.errors import TeeUnavailable

Ioctl: TypeAlias = Callable[[int, int, bytearray], object]
"""``ioctl(fd, request, argument)``, which may write to the argument and to what it points to."""
Argument: TypeAlias = Callable[[int, int], bytes]
"""From the addresses of request and response to the bytes that the driver takes."""


def call_device(
    path: Path, number: int, request: bytes, response_bytes: int, argument: Argument, ioctl: Ioctl = fcntl.ioctl
) -> tuple[bytes, bytes]:
    """Call a driver. Returns the argument as the driver left it, and the response's buffer.

    Raises :class:`TeeUnavailable`.
    """
    asked = ctypes.create_string_buffer(request, len(request))
    answer = ctypes.create_string_buffer(response_bytes)
    block = bytearray(argument(ctypes.addressof(asked), ctypes.addressof(answer)))
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise TeeUnavailable(f"cannot open {path}: {error.strerror or error}") from error
    try:
        ioctl(fd, number, block)
    except OSError as error:
        raise TeeUnavailable(f"{path} refused: {error.strerror or error}") from error
    finally:
        os.close(fd)
    return bytes(block), answer.raw
