"""What a store says that does not take something because of its shard map: the texts, and what they mean."""

from __future__ import annotations

import re
from typing import Final

from wire.errors import HandlerFailed, PartitionMoving, ShardMapRefused, WrongShard

_NOT_OWNED: Final = re.compile(r"partition ([0-9]{1,5}) is not owned here, by shard map ([0-9]{1,19})")
_MOVING: Final = re.compile(r"partition ([0-9]{1,5}) is moving, by shard map ([0-9]{1,19})")
_REFUSED: Final = re.compile(r"refused under shard map ([0-9]{1,19}): [^\n]{1,500}")


def not_owned_text(partition: int, version: int) -> str:
    """By the shard map of this version (0: by none) the store does not own the partition."""
    return f"partition {partition} is not owned here, by shard map {version}"


def moving_text(partition: int, version: int) -> str:
    """The partition is on its way, and takes no writes."""
    return f"partition {partition} is moving, by shard map {version}"


def map_refused_text(reason: str, version: int) -> str:
    """The store, which has the shard map of this version, does not take what was sent."""
    return f"refused under shard map {version}: {reason}"


def shard_failure(text: str) -> HandlerFailed | None:
    """The error that such a text stands for; None for any other text."""
    if match := _NOT_OWNED.fullmatch(text):
        return WrongShard(text, int(match[1]), int(match[2]))
    if match := _MOVING.fullmatch(text):
        return PartitionMoving(text, int(match[1]), int(match[2]))
    if match := _REFUSED.fullmatch(text):
        return ShardMapRefused(text, int(match[1]))
    return None
