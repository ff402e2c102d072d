"""The figures that this project answers for: their names, what they are to keep to, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Promise:
    """One figure's bound, from above or from below, its unit, and its meaning in a line."""

    bound: float
    at_least: bool
    unit: str
    meaning: str


def _at_least(bound: float, unit: str, meaning: str) -> Promise:
    return Promise(bound, True, unit, meaning)


def _at_most(bound: float, unit: str, meaning: str) -> Promise:
    return Promise(bound, False, unit, meaning)


PROMISES: Final[dict[str, Promise]] = {
    "flat_cost": _at_most(1.5, "x", "CPU of a one-put commit, at 1,000,000 entries / at 1,000"),
    "commit_vs_lmdb": _at_most(1.2, "x", "time of a durable one-put commit / raw LMDB's, 100,000 entries"),
    "commit50_vs_lmdb": _at_most(0.8, "x", "time of a durable commit of 50 puts / raw LMDB's, 100,000 entries"),
    "batch1000_vs_sqlcipher": _at_least(1.5, "x", "puts/s, 1000 a durable commit / SQLCipher's, 100,000 entries"),
    "batch1000_vs_lmdb_aesgcm": _at_least(
        3.0, "x", "puts/s, 1000 a durable commit / those of LMDB with AES-GCM per value, 100,000 entries"
    ),
    "get_vs_lmdb": _at_least(1.5, "x", "random gets of the newest value per CPU second / raw LMDB's, 100,000 entries"),
    "scan_vs_lmdb": _at_least(1.0, "x", "entries per CPU second in order, all of 100,000 / raw LMDB's"),
    "whole_map_speedup": _at_least(30.0, "x", 'durable one-put commits/s / those of sweep="full", 100,000 entries'),
    "freshness_cost": _at_least(
        0.97, "x", "durable mails/s of enclave and store, with freshness / without, 16 clients, one put a mail"
    ),
    "http_vs_echo": _at_least(
        0.5, "x", "durable mails/s over HTTP / a bare Starlette echo of the same bytes to the same load, 16 clients"
    ),
    "restart_mib_s": _at_least(
        150.0, "MiB/s", "live MiB / seconds until a stopped host has served a mail, 1,000,000 entries"
    ),
    "memory_per_live_byte": _at_most(
        3.0, "x", "memory of a fresh process that opened 1,000,000 entries / their keys and values"
    ),
    "space_amplification": _at_most(
        2.5,
        "x",
        "pages in use / live bytes, at worst while each entry is overwritten and replaced once, one put a commit",
    ),
    "mail_bytes_to_store": _at_most(
        8192.0, "bytes", "handed to the store for one mail with one put: record, leaf hash, reply in the outbox, places"
    ),
    "engine_postgresql": _at_least(
        0.8, "x", "durable mail commits/s of the host on PostgreSQL / bare INSERTs of the same bytes"
    ),
    "engine_etcd": _at_least(
        0.8,
        "x",
        "durable mail commits/s of the host on 3 etcd members / bare puts of the same bytes",
    ),
    "engine_s3": _at_least(
        0.8, "x", "durable mail commits/s of the host on S3 (SeaweedFS) / bare PUTs of the same bytes"
    ),
    "shard_batch_speedup": _at_least(
        1.6, "x", "puts/s of one sharded client over 4 stores / over 1, all on this machine, batches of 4,000 puts"
    ),
    "shard_mail_speedup": _at_least(
        1.6, "x", "puts/s of one sharded client over 4 stores / over 1, all on this machine, 16 tasks, one put a mail"
    ),
}
"""In the order in which they are reported. All of it on entries of 16-byte keys and 100-byte values."""
