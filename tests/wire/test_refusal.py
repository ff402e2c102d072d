"""Refusals in words: which error a payload or a text stands for, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from wire.alarm import Verdict, sign_alarm
from wire.checkpoint import sign_checkpoint
from wire.codec import pack
from wire.crypto import SigningKey
from wire.errors import (
    ClientStale,
    EvidenceInvalid,
    EvidenceUnproven,
    ForkDetected,
    FreshnessError,
    GapRefused,
    LimitExceeded,
    Malformed,
    NotEnrolled,
    PartitionMoving,
    PmapError,
    ReplayRefused,
    RollbackDetected,
    ShardMapRefused,
    WrongShard,
)
from wire.limits import MAX_REFUSAL_BYTES, MAX_REFUSAL_TEXT_CHARACTERS
from wire.refusal import decode_refusal, encode_refusal
from wire.shard_refusals import map_refused_text, moving_text, not_owned_text, shard_failure

KEY, STORE_ID = SigningKey(bytes(range(32))), bytes(range(16))
CHECKPOINT = sign_checkpoint(KEY, STORE_ID, 5, b"r" * 32)
ALARM = sign_alarm(KEY, Verdict.ROLLBACK, CHECKPOINT, sign_checkpoint(KEY, STORE_ID, 9, b"s" * 32), b"e" * 32)

CODES: dict[int, type[PmapError]] = {
    1: RollbackDetected,
    2: ForkDetected,
    3: ReplayRefused,
    4: GapRefused,
    5: ClientStale,
    6: EvidenceInvalid,
    7: EvidenceUnproven,
    8: NotEnrolled,
    9: LimitExceeded,
}


@pytest.mark.parametrize(("code", "error"), CODES.items())
def test_each_refusal_has_its_number_and_comes_out_as_the_same_error(code: int, error: type[PmapError]) -> None:
    payload = encode_refusal(error("why"), CHECKPOINT)
    assert payload == pack([code, "why", CHECKPOINT.encode(), b""])
    raised = decode_refusal(payload, STORE_ID)
    assert type(raised) is error and str(raised) == "why"


@pytest.mark.parametrize("error", [RollbackDetected, ForkDetected])
def test_a_verdict_brings_its_alarm(error: type[FreshnessError]) -> None:
    payload = encode_refusal(error("why", ALARM), CHECKPOINT)
    assert payload == pack([1 if error is RollbackDetected else 2, "why", CHECKPOINT.encode(), ALARM.encode()])
    raised = decode_refusal(payload, STORE_ID)
    assert type(raised) is error and isinstance(raised, FreshnessError)
    assert (str(raised), raised.alarm) == ("why", ALARM)
    without = decode_refusal(encode_refusal(error("why"), CHECKPOINT), STORE_ID)
    assert isinstance(without, FreshnessError) and without.alarm is None


def test_a_long_text_is_cut() -> None:
    longest = "ю" * MAX_REFUSAL_TEXT_CHARACTERS
    payload = encode_refusal(ForkDetected(longest + "x", ALARM), CHECKPOINT)
    assert len(payload) <= MAX_REFUSAL_BYTES
    assert str(decode_refusal(payload, STORE_ID)) == longest
    assert str(decode_refusal(encode_refusal(LimitExceeded(longest), CHECKPOINT), STORE_ID)) == longest


@pytest.mark.parametrize(
    "fields",
    [
        [0, "why", CHECKPOINT.encode(), b""],
        [10, "why", CHECKPOINT.encode(), b""],
        [11, "why", CHECKPOINT.encode(), b""],
        [True, "why", CHECKPOINT.encode(), b""],
        [1, b"why", CHECKPOINT.encode(), b""],
        [1, "why", b"", b""],
        [1, "why", "", b""],
        [9, "why", CHECKPOINT.encode()[:-1], b""],
        [1, "why", CHECKPOINT.encode(), b"x"],
        [1, "why", CHECKPOINT.encode(), ALARM.encode()[:-1]],
        [1, "why", CHECKPOINT.encode(), None],
        [1, "why", CHECKPOINT.encode()],
        [1, "why", CHECKPOINT.encode(), b"", b""],
        [1, "x" * MAX_REFUSAL_BYTES, CHECKPOINT.encode(), b""],
    ],
)
def test_what_is_no_refusal_is_malformed(fields: list[Any]) -> None:
    with pytest.raises(Malformed):
        decode_refusal(pack(fields), STORE_ID)


# --- because of a shard map ------------------------------------------------------------------------------


def test_the_texts_about_shards_come_out_as_their_errors_with_their_numbers() -> None:
    owned = shard_failure(not_owned_text(65_535, 1 << 62))
    assert type(owned) is WrongShard
    assert str(owned) == f"partition 65535 is not owned here, by shard map {1 << 62}"
    assert (owned.partition, owned.version) == (65_535, 1 << 62)
    moving = shard_failure(moving_text(7, 3))
    assert type(moving) is PartitionMoving
    assert str(moving) == "partition 7 is moving, by shard map 3"
    assert (moving.partition, moving.version) == (7, 3)
    refused = shard_failure(map_refused_text("why", 3))
    assert type(refused) is ShardMapRefused
    assert str(refused) == "refused under shard map 3: why"
    assert refused.version == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "partition 7 is not owned here, by shard map 3\n",
        " partition 7 is moving, by shard map 3",
        "partition 123456 is moving, by shard map 3",
        "partition -1 is moving, by shard map 3",
        "partition ٣ is moving, by shard map 3",
        "refused under shard map 3: ",
        "refused under shard map 3: a\nb",
        "refused under shard map 3: " + "x" * 501,
    ],
)
def test_any_other_text_is_none_of_them(text: str) -> None:
    assert shard_failure(text) is None
