"""More decoders for :mod:`fuzz.targets`: evidence of TEEs, hand-overs, shard maps, and the journal on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from fuzz.target import Target
from tee_vectors import SAMPLES, Sample

from host_store.lmdb import journal_frame
from pmap.handover import Predecessor, Successor
from pmap.keyring import Keyring
from pmap.tee.simulated import SimulatedTee
from wire.constraint import Constraint
from wire.crypto import SigningKey
from wire.errors import AttestationError, CorruptedStore, InvalidInput, Malformed, ShardMapInvalid
from wire.hpke import Kem
from wire.identity import Identity
from wire.shard_map import ShardMap, ShardStore, open_shard_map, parse_shard_map_text, shard_map_text, sign_shard_map
from wire.tee.verify import guess_kind, show_evidence, verify_evidence

NOW = 1_700_000_000
_KEY = SigningKey(bytes(range(32)))


def attested_targets() -> tuple[Target, ...]:
    """All of them."""
    return (*_evidence_targets(), *_handover_targets(), *_shard_targets(), _journal_target())


def _evidence_targets() -> tuple[Target, ...]:
    def verified(sample: Sample) -> Callable[[bytes], object]:
        return lambda data: verify_evidence(sample.kind, data, None, sample.at, sample.endorsements)

    def shown(data: bytes) -> None:
        for kind in ("sgx", "tdx", "dstack", "snp", "nitro", "simulated", "none"):
            try:
                show_evidence(kind, data)
            except AttestationError:
                continue
        guess_kind(data)

    errors = (AttestationError,)
    everything = tuple(sample.evidence for sample in SAMPLES)
    return (
        Target("evidence of any kind", shown, errors, everything),
        *(Target(f"{one.kind} evidence", verified(one), errors, (one.evidence,)) for one in SAMPLES),
    )


def _handover_targets() -> tuple[Target, ...]:
    def randomness(length: int) -> bytes:
        return hashlib.shake_256(b"hand-over").digest(length)

    def verify(kind: str, evidence: bytes, report_data: bytes) -> Identity:
        return verify_evidence(kind, evidence, report_data, NOW)

    tee, anybody = SimulatedTee(bytes(32), bytes(32)), Constraint.parse("SEC:INSECURE")
    keyring = Keyring.generate(randomness)

    def predecessor() -> Predecessor:
        return Predecessor(keyring, tee, anybody, verify, randomness)

    def successor() -> Successor:
        return Successor(tee, anybody, verify, randomness, Kem.X25519)

    invitation = predecessor().invitation
    waiting = successor()
    request = waiting.request(invitation, NOW)
    package = predecessor().answer(request, NOW)
    errors = (AttestationError, Malformed)
    return (
        Target("invitation of a hand-over", lambda data: successor().request(data, NOW), errors, (invitation,)),
        Target(
            "request of a hand-over",
            lambda data: predecessor().answer(data, NOW),
            (*errors, InvalidInput),
            (request,),
        ),
        Target("package of a hand-over", waiting.receive, errors, (package,)),
    )


def _shard_targets() -> tuple[Target, ...]:
    stores = [ShardStore(number.to_bytes(16, "big"), bytes(32), f"https://s{number}") for number in range(3)]
    signed = sign_shard_map(_KEY, ShardMap.found(_KEY.public, bytes(16), stores, 64))
    return (
        Target("shard map", open_shard_map, (ShardMapInvalid,), (signed,)),
        Target(
            "text of a shard map",
            lambda data: parse_shard_map_text(data.decode("utf-8", "surrogateescape")),
            (ShardMapInvalid,),
            (shard_map_text(signed).encode(),),
        ),
    )


def _journal_target() -> Target:
    """The checksum is no secret, so whoever writes to the disk can make a right one: the sample is what it is over."""
    journal = bytes(journal_frame.ID_BYTES)

    def decode(data: bytes) -> object:
        checksum = journal_frame._checksum(journal, memoryview(data))
        return journal_frame.decode(memoryview(checksum + data), journal)

    header = journal_frame._HEADER.pack(journal_frame.HEADER_BYTES + 6 + 12, 6, 1, 0, 7, 2, bytes(32), bytes(32))
    return Target("frame of the journal", decode, (CorruptedStore,), (header + b"record" + bytes(12),))
