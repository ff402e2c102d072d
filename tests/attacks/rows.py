"""The attacks, one row each: what is done, who has to notice, and the verdict that its test sees.

Who notices: **L** the enclave does not start · **E** the enclave refuses before it executes · **C** the client refuses
the answer · **N** the client's next operation · **X** two parties who compare their evidence · **S** prevented for
whoever waits until a commit is stable · **T** nobody answers, and that is all · **ok** it must not alarm and must lose
nothing that was acknowledged.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Row:
    """One attack.

    ``who`` uses the letters above. ``verdict`` is exactly what the row's test notes down (``tests/attack_steps.py``).
    ``not_yet``: why there is no test; empty where there is one. ``folder_only``: why it runs on folders only; every
    other row runs on shared engines as well.
    """

    number: str
    attack: str
    who: str
    verdict: str = ""
    not_yet: str = ""
    folder_only: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows about one kind of attack."""

    title: str
    rows: tuple[Row, ...]


LMDB = "they are about LMDB's own files"
MEMORY = "they are about an enclave's memory, and nothing is stored"
CALLS = "they compare what is stored before anything keeps it"
SHARDS = "each store behind a shard map is one as in all other rows"

SECTIONS = (
    Section(
        "Rollback",
        (
            Row("1", "put back a store that is one to several commits old", "E", "E RollbackDetected"),
            Row("2", "take back the last commit that was acknowledged", "E", "E RollbackDetected"),
            Row("3", "take back a commit whose reply never arrived; the client tries again", "ok", "ok"),
            Row(
                "4",
                "roll back, and serve only clients whose evidence is older",
                "X, S",
                "S not stable, X ForkDetected",
            ),
            Row("5", "roll back over mails that the handler answered with nothing", "E", "E RollbackDetected"),
            Row(
                "6",
                "act on an old state, and send a third client a mail about it",
                "X, S",
                "S not stable, X ForkDetected",
            ),
            Row(
                "7",
                "destroy LMDB's newest meta page, so that the transaction before it opens",
                "E",
                "E RollbackDetected",
                folder_only=LMDB,
            ),
            Row("8", "change between two old states with every request", "E", "E RollbackDetected"),
            Row("9", "roll back and refill to the same number with other mails", "E", "E ForkDetected"),
            Row("10", "put back the waiting replies only", "ok, L", "ok"),
        ),
    ),
    Section(
        "Fork and clone",
        (
            Row(
                "11",
                "two enclaves go on from one state, the clients parted between them",
                "X, S",
                "S not stable, X ForkDetected",
            ),
            Row("12", "the same two mails to two enclaves in opposite order", "E", "E SessionUnknown"),
            Row("13", "lead a client from one fork to the other", "E", "E ForkDetected"),
            Row("14", "enrol a newcomer in one fork", "X", "X ForkDetected"),
            Row("15", "move the store elsewhere and keep the old enclave running", "E, T", "E RollbackDetected"),
            Row("16", "let an old instance serve the reads", "E", "E RollbackDetected"),
            Row("17", "resume the image of a running enclave twice", "X", "X ForkDetected", folder_only=MEMORY),
            Row("17b", "two hosts on one store", "the second append is fenced", "StoreFenced"),
        ),
    ),
    Section(
        "Replay",
        (
            Row("18", "a mail again, in the same epoch", "E", "E ClientStale, E ReplayRefused"),
            Row("19", "a mail again, after a restart", "E", "E SessionUnknown"),
            Row("20", "a hello again", "E", "E ReplayRefused, E SessionUnknown"),
            Row("21", "an old reply for an answer", "C", "C OutcomeUnknown"),
            Row("22", "the same reply twice", "C", "C OutcomeUnknown"),
            Row("23", "an acknowledgement again", "E", "E ClientStale"),
            Row("24", "an old attestation", "C", "C OutcomeUnknown, C HostUnavailable"),
        ),
    ),
    Section(
        "Reorder and drop",
        (
            Row("25", "exchange two mails of one stream", "E", "E GapRefused"),
            Row("26", "drop a reply and pretend that it was a crash", "ok", "ok"),
            Row("27", "drop a request", "T", "T OutcomeUnknown"),
            Row("28", "hold a mail back until it is no longer wanted", "E", "E ReplayRefused, E ClientStale"),
            Row("29", "starve the acknowledgements", "stands still, visibly", "S not stable"),
            Row("30", "drop a mail that the enclave sent on its own", "N", "N GapRefused"),
        ),
    ),
    Section(
        "Splice",
        (
            Row("31", "one client's reply to another", "C", "C OutcomeUnknown"),
            Row("32", "one client's mail as another's", "E", "E Undecryptable"),
            Row("33", "a record of another store", "L", "L CorruptedStore"),
            Row("34", "a keyring or a quote of a simulated enclave", "L, C", "L WrongKey, C TcbUnacceptable"),
            Row("35", "exchange the bytes of two records", "L", "L CorruptedStore"),
            Row("36", "the newest record behind old ones", "L", "L CorruptedStore"),
            Row("37", "exchange tables of the store", "L", "L CorruptedStore", folder_only=LMDB),
        ),
    ),
    Section(
        "Partial and torn states",
        (
            Row("38", "one record of another branch in the window", "L", "L CorruptedStore"),
            Row("39", "an old sweep under a new header", "L", "L CorruptedStore"),
            Row("40", "an older head than its window", "L", "L CorruptedStore"),
            Row("41", "leave a record inside the window out", "L", "L CorruptedStore"),
            Row("42", "a crash between any two writes", "ok", "ok"),
            Row("43", "a disk that lies about its sync, and a power cut", "E", "E RollbackDetected"),
            Row("44", "an old 4 KiB page inside the data file", "L", "L or E, never a wrong answer", folder_only=LMDB),
            Row("45", "any byte turned over, anything cut off", "L", "L CorruptedStore"),
            Row("46", "delete a record", "L", "L CorruptedStore"),
            Row("47", "bring a deleted key back", "impossible", "impossible"),
            Row("48", "leave a part of a range out", "impossible", "impossible"),
            Row("49", "change a buffer after it was checked", "copied first", "impossible", folder_only=MEMORY),
            Row("50", "a key and nonce for two plaintexts, anywhere in this suite", "none", "none"),
        ),
    ),
    Section(
        "Amnesia",
        (
            Row("51", "delete the store and say that this is the first start", "C", "C StoreReplaced"),
            Row("52", "damage it so that it would begin anew by itself", "L", "L CorruptedStore"),
            Row("53", "show a newcomer an old state", "X; E with an invite", "X ForkDetected, E RollbackDetected"),
        ),
    ),
    Section(
        "Members",
        (
            Row("54", "undo a removal that the author's code has made", "E", "E RollbackDetected"),
            Row("55", "made-up members for a larger quorum", "C", "S not stable, C AttestationError"),
            Row("56", "evict members for a smaller quorum", "C", "C AttestationError"),
            Row("57", "use a removed member's name again", "E", "E ClientStale, E NotEnrolled"),
            Row("58", "an old list of voters to a newcomer", "C", "C AttestationError"),
        ),
    ),
    Section(
        "The client's own state",
        (
            Row("59", "restored from a backup", "E, no alarm for others", "E ClientStale"),
            Row("60", "lost", "X; the client enrols anew", "E ClientStale, X ForkDetected"),
            Row("61", "two devices with one state", "E", "E ClientStale"),
            Row("62", "a crash at any point around a send", "ok", "ok"),
        ),
    ),
    Section(
        "Alarms and acknowledgements",
        (
            Row("63", "restart after an alarm", "still quarantined", "E RollbackDetected"),
            Row("64", "a client makes evidence up", "E for that mail alone", "E EvidenceInvalid"),
            Row("65", "voters who collude and acknowledge what they forget", "bounded by weight", "S not stable"),
            Row("66", "a forged stable size", "C", "C OutcomeUnknown"),
            Row("67", "a voter that lost its memory", "told so, no longer counted", "E ClientStale, S not stable"),
            Row("68", "a voter that was itself put back", "S, E", "S not stable, E ForkDetected"),
            Row("69", "two stores with one voter", "ok", "ok"),
        ),
    ),
    Section(
        "Crash and try again",
        (
            Row("70", "before the append", "ok", "ok"),
            Row("71", "after the append, before anything else hears of it", "ok", "ok"),
            Row("72", "before the reply", "ok", "ok"),
            Row("73", "after the reply, before its acknowledgement", "ok", "ok"),
            Row("74", "the handler raises after it has changed the state", "the state is equal", "state equal"),
            Row("75", "two restarts during RECOVER", "ok", "ok"),
        ),
    ),
    Section(
        "Code and keys",
        (
            Row("76", "older code on a newer state", "L", "L UnsupportedVersion, L DowngradeRefused"),
            Row("77", "down to older code, and up again", "L, E", "L DowngradeRefused, E RollbackDetected"),
            Row(
                "78",
                "a state under a key that was exchanged",
                "L, E",
                "L CorruptedStore, L RollbackDetected, L ForkDetected, E RollbackDetected",
            ),
            Row("79", "a crash halfway through the exchange of a key", "ok", "ok"),
            Row("80", "a weakened policy", "C", "C IdentityMismatch"),
            Row("81", "a restore that nobody allowed, or not everybody", "E", "E RollbackDetected"),
        ),
    ),
    Section(
        "Side channels and denial of service",
        (
            Row("82", "look at the sizes of blobs", "equal traces", "equal", folder_only=CALLS),
            Row("83", "look at which records are touched", "equal traces", "equal", folder_only=CALLS),
            Row("84", "look at the sizes of commits over time", "equal traces", "equal", folder_only=CALLS),
            Row("85", "look for equal ciphertexts", "none", "none"),
            Row("86", "link clients by what is stable", "equal traces", "equal"),
            Row("87", "refuse service", "T", "T OutcomeUnknown"),
            Row("88", "fill the map", "the mail fails, the store lives", "MailFailed"),
            Row("89", "oversize or deeply nested messages", "C, E, in bounded memory", "C MailTooLarge, E Malformed"),
            Row("90", "a slow voter", "a visible policy", "S not stable"),
            Row(
                "91",
                "set the clock back",
                "nothing depends on it",
                "ok",
                folder_only="its test sets Python's clock, and etcd's client reads the machine's as well",
            ),
        ),
    ),
    Section(
        "Shards",
        (
            Row("92", "show a client an old shard map", "C", "C StaleShardMap", folder_only=SHARDS),
            Row("93", "move partitions without their owner", "E", "E ShardMapRefused", folder_only=SHARDS),
            Row("94", "an old move again", "E", "E ShardMapRefused", folder_only=SHARDS),
            Row("95", "a write by an old map, to the store that had the key", "E", "E WrongShard", folder_only=SHARDS),
            Row("96", "another store at the address of one", "C", "C StoreReplaced", folder_only=SHARDS),
            Row("97", "put one store of several back", "E; the others go on", "E RollbackDetected", folder_only=SHARDS),
        ),
    ),
)

ROWS = {row.number: row for section in SECTIONS for row in section.rows}


def number_of(test: str) -> str:
    """The row that a test is of, by its name: ``test_row_07_...`` or ``test_row_17b_...``."""
    return test.removeprefix("test_row_").split("_")[0].lstrip("0")


def find_tests() -> dict[str, list[str]]:
    """Row -> its tests, as ``file::name`` from the project's root."""
    found: dict[str, list[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_row_"):
                found.setdefault(number_of(node.name), []).append(f"tests/attacks/{path.name}::{node.name}")
    return found
