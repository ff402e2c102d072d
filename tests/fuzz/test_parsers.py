"""Decoders of bytes from somebody else accept them or raise their documented errors, in bounded memory."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.target import Target
from fuzz.targets import check, damaged, targets
from hypothesis import example, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = int(os.environ.get("PMAP_FUZZ_EXAMPLES", "40"))
TARGETS = targets()
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@each_target
def test_genuine_bytes_are_taken(target: Target) -> None:
    taken = 0
    for sample in target.samples:
        try:
            result = target.decode(sample)
        except target.errors:
            continue
        assert not isinstance(result, Iterator), "a generator: nothing was decoded yet"
        taken += 1
    # Some need a signature or a matching proof besides, and some only ever raise; their form is right all the same.
    needs_more = {"content of a hello", "consistency proof", "inclusion proof", "HTTP error", "HTTP error of a proxy"}
    assert taken == len(target.samples) or target.name in needs_more


@each_target
@settings(max_examples=EXAMPLES)
@given(seed=st.integers(0, 1 << 32), data=st.binary(max_size=200))
@example(seed=0, data=b"")
def test_damaged_and_arbitrary_bytes_are_taken_or_refused_as_documented(target: Target, seed: int, data: bytes) -> None:
    rng = random.Random(seed)
    check(target, data)
    for _ in range(8):
        check(target, damaged(rng.choice(target.samples), rng))


@each_target
def test_every_truncation_is_taken_or_refused_as_documented(target: Target) -> None:
    for sample in target.samples:
        for length in range(0, len(sample), max(1, len(sample) // 120)):
            check(target, sample[:length])


@each_target
def test_what_was_a_fault_or_might_have_been_stays_none(target: Target) -> None:
    files = sorted(CORPUS.glob("*"))
    assert files
    for file in files:
        check(target, file.read_bytes())


def test_the_enclave_really_gets_what_is_fuzzed() -> None:
    (target,) = (one for one in TARGETS if one.name == "anything to the enclave")
    (delivery,) = target.decode(target.samples[0])  # type: ignore[misc]
    assert sorted(answer.position for answer in delivery.answers) == [0, 1]


BYTES_PER_BYTE = {"client state": 80}  # it was authenticated before, so nobody else can fill it with empty arrays


@pytest.mark.parametrize("target", TARGETS, ids=[one.name for one in TARGETS])
def test_memory_is_bounded_by_the_input(target: Target) -> None:
    rng = random.Random(1)
    inputs = [file.read_bytes() for file in CORPUS.glob("*")]
    inputs += [damaged(rng.choice(target.samples), rng) for _ in range(20)]
    for data in inputs:
        check(target, data)  # what is loaded once is not the input's
        tracemalloc.start()
        try:
            check(target, data)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 512 * 1024 + BYTES_PER_BYTE.get(target.name, 40) * len(data), f"{peak} bytes for {len(data)}"
