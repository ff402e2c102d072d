"""Every error that this project raises, in one tree, each saying whose fault it is.

::

    PmapError                     .fault: Fault
    ├── InvalidInput (ValueError)      a setting or argument makes no sense; nothing was done
    ├── LimitExceeded                  a named bound would be broken; nothing was changed
    │   ├── MapFull                    the entry does not fit into the map's size
    │   └── MailTooLarge               a mail, reply or batch is over its bound
    ├── Malformed                      bytes that are not of the documented format
    │   └── Undecryptable              a mail that its session's key does not open
    ├── ProofInvalid                   a Merkle proof that does not hold
    ├── StoreError                     the host's store, or what it gave the enclave
    │   ├── StoreMissing               there is no store here
    │   ├── StoreExists                a new store was asked for where one is
    │   ├── StoreLocked                another process has the store open
    │   ├── StoreFenced                record n exists already, or n-1 does not
    │   ├── StoreUnavailable           the disk or engine refused (full, read-only, I/O error)
    │   ├── UnsupportedVersion         written by another version of the format
    │   ├── WrongKey                   the sealing key does not open this store
    │   ├── CorruptedStore             bytes that this store's enclave never wrote, or not in this place
    │   ├── DowngradeRefused           the state was written by newer code of this signer than the one that runs
    │   └── StoreHandedOver            the store was handed over to its successor, and is served there
    ├── FreshnessError                 .verdict, .alarm; the operation was not executed
    │   ├── RollbackDetected           the host runs the enclave on an older state
    │   ├── ForkDetected               the host runs the enclave on another history
    │   ├── StoreReplaced              another store answers under the pinned one's address
    │   ├── ReplayRefused              a mail that was processed before
    │   ├── GapRefused                 a mail from beyond the next sequence number
    │   ├── ClientStale                the client's own state is old (restored, or shared by two devices)
    │   ├── EvidenceInvalid            the client showed evidence that this store never signed
    │   ├── EvidenceUnproven           signed evidence that nobody has linked to this history yet
    │   ├── StaleShardMap              a shard map of a lower version than one that was seen before
    │   └── ShardMapForked             two shard maps of one version, both signed by the owner
    ├── ShardMapInvalid           not a shard map, or not one that the pinned owner signed
    ├── AttestationError               the enclave is not the one that the client asked for
    │   ├── EvidenceMalformed          not evidence of the kind that it claims to be
    │   ├── EvidenceForged             a signature, digest or chain in the evidence does not hold
    │   ├── UntrustedRoot              the chain ends in a root that nobody here trusts
    │   ├── EvidenceExpired            evidence, certificate or collateral is not valid at this time
    │   ├── ReportDataMismatch         evidence of another key, store or epoch
    │   ├── DebugEnclave               the TEE lets its host read the memory
    │   ├── TcbUnacceptable            the platform's security level is below the one asked for
    │   └── IdentityMismatch           another code, signer, product or version than the one asked for
    ├── TeeUnavailable                 the platform gives no sealing key or evidence here
    ├── MailError                      one mail, one verdict
    │   ├── HandlerFailed              the handler raised; its changes were undone
    │   │   ├── WrongShard             .partition, .version: another store owns the key
    │   │   │   └── PartitionMoving    it is on its way to another store: no writes until it is there
    │   │   └── ShardMapRefused        .version: the store does not take this shard map, or what belongs to it
    │   ├── NotEnrolled                this client may not use this enclave
    │   ├── SessionUnknown             the enclave restarted or never saw this session: say hello again
    │   ├── OutcomeUnknown             no answer: executed or not is open until the client recovers
    │   └── ReplyWithheld              executed, but the host no longer delivers the reply
    └── HostUnavailable                the host cannot be reached, or did not answer in time

Source for the split by fault: h11's local and remote protocol errors.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wire.alarm import Alarm
    from wire.checkpoint import Checkpoint


class Fault(Enum):
    """Who broke the rules, as far as the evidence tells."""

    CALLER = "caller"
    CLIENT = "client"
    HOST = "host"
    HANDLER = "handler"
    NETWORK = "network"
    UNKNOWN = "unknown"


class PmapError(Exception):
    """Root of the tree."""

    fault: Fault = Fault.UNKNOWN


class InvalidInput(PmapError, ValueError):
    """A setting or an argument makes no sense; nothing was done."""

    fault = Fault.CALLER


class LimitExceeded(PmapError):
    """A named bound (see :mod:`wire.limits`) would be broken; nothing was changed."""

    fault = Fault.CALLER


class MapFull(LimitExceeded):
    """The entry does not fit into the map's size; the put was refused and the map is unchanged."""


class MailTooLarge(LimitExceeded):
    """A mail, reply or batch is over its bound."""


class Malformed(PmapError):
    """Bytes that are not of the documented format."""

    fault = Fault.UNKNOWN


class Undecryptable(Malformed):
    """A mail that its session's key, or a hello that the enclave's key, does not open."""


class ProofInvalid(PmapError):
    """A Merkle proof that does not hold."""

    fault = Fault.UNKNOWN


class StoreError(PmapError):
    """The host's store, or what the host gave the enclave from it."""

    fault = Fault.HOST


class StoreMissing(StoreError):
    """There is no store here."""


class StoreExists(StoreError):
    """A new store was asked for where one is."""


class StoreLocked(StoreError):
    """Another process has the store open."""


class StoreFenced(StoreError):
    """The record's place is taken (n exists) or not reached (n-1 does not exist)."""


class StoreUnavailable(StoreError):
    """The disk or engine refused: full, read-only, or an I/O error."""


class UnsupportedVersion(StoreError):
    """Written by another version of the format."""


class WrongKey(StoreError):
    """The sealing key does not open this store."""

    fault = Fault.CALLER


class CorruptedStore(StoreError):
    """Bytes that this store's enclave never wrote, or not in this place."""


class DowngradeRefused(StoreError):
    """The state was written by newer code than the one that was started on it."""


class StoreHandedOver(StoreError):
    """The store was handed over to its successor, and is served there: to go on here would be a fork."""

    fault = Fault.CALLER


class FreshnessError(PmapError):
    """An operation refused before it was executed, because of what the evidence says.

    ``alarm`` is the portable, signed statement behind a rollback or fork verdict, if there is one.
    ``checkpoint`` is the client's checkpoint that led to the verdict, where one did.
    """

    def __init__(self, message: str, alarm: Alarm | None = None, checkpoint: Checkpoint | None = None) -> None:
        super().__init__(message)
        self.alarm = alarm
        self.checkpoint = checkpoint


class RollbackDetected(FreshnessError):
    """The host runs the enclave on an older state than one that was acknowledged."""

    fault = Fault.HOST


class ForkDetected(FreshnessError):
    """The host runs the enclave on a history that contradicts an acknowledged one."""

    fault = Fault.HOST


class StoreReplaced(FreshnessError):
    """Another store answers under the address of the pinned one."""

    fault = Fault.HOST


class ReplayRefused(FreshnessError):
    """A mail that was processed before."""

    fault = Fault.UNKNOWN


class GapRefused(FreshnessError):
    """A mail from beyond the next sequence number of its stream."""

    fault = Fault.CLIENT


class ClientStale(FreshnessError):
    """The client's own state is old: restored from a backup, or used by two devices."""

    fault = Fault.CLIENT


class EvidenceInvalid(FreshnessError):
    """The client showed evidence that this store's key never signed."""

    fault = Fault.CLIENT


class EvidenceUnproven(FreshnessError):
    """Signed evidence that nobody has linked to this history yet."""

    fault = Fault.UNKNOWN


class StaleShardMap(FreshnessError):
    """A shard map of a lower version than one that was seen before: whoever showed it went back in time."""

    fault = Fault.HOST


class ShardMapForked(FreshnessError):
    """Two shard maps of one version, both signed by the owner: only the owner's key can make them."""

    fault = Fault.UNKNOWN


class ShardMapInvalid(PmapError):
    """Not a shard map, or not one that the pinned owner signed."""

    fault = Fault.HOST


class AttestationError(PmapError):
    """The enclave is not the one that the client asked for."""

    fault = Fault.HOST


class EvidenceMalformed(AttestationError):
    """Not evidence of the kind that it claims to be."""


class EvidenceForged(AttestationError):
    """A signature, digest or certificate chain in the evidence does not hold."""


class UntrustedRoot(AttestationError):
    """The certificate chain ends in a root that nobody here trusts."""


class EvidenceExpired(AttestationError):
    """The evidence, a certificate or the collateral is not valid at the given time."""


class ReportDataMismatch(AttestationError):
    """Genuine evidence, but of another key, store or epoch."""


class DebugEnclave(AttestationError):
    """The TEE runs in a mode that lets its host read the memory."""


class TcbUnacceptable(AttestationError):
    """The platform's security level is below the one that was asked for."""


class IdentityMismatch(AttestationError):
    """Genuine evidence of another code, signer, product or version than the one asked for."""


class TeeUnavailable(PmapError):
    """The platform gives no sealing key or evidence here: no such hardware, driver or agent, or it refused."""

    fault = Fault.CALLER


class MailError(PmapError):
    """One mail that got no ordinary reply."""


class HandlerFailed(MailError):
    """The handler raised; everything that it had changed was undone."""

    fault = Fault.HANDLER


class WrongShard(HandlerFailed):
    """The store does not own this key's partition, by the shard map of this version that it has (0: by none)."""

    fault = Fault.CALLER

    def __init__(self, message: str, partition: int, version: int) -> None:
        super().__init__(message)
        self.partition = partition
        self.version = version


class PartitionMoving(WrongShard):
    """The key's partition is on its way to another store; until it is there it takes no writes."""


class ShardMapRefused(HandlerFailed):
    """The store does not take a shard map, or what belongs to a move. ``version``: that of the map that it has."""

    fault = Fault.CALLER

    def __init__(self, message: str, version: int) -> None:
        super().__init__(message)
        self.version = version


class NotEnrolled(MailError):
    """This client may not use this enclave."""

    fault = Fault.CLIENT


class SessionUnknown(MailError):
    """The enclave restarted, or never saw this session: say hello again."""


class OutcomeUnknown(MailError):
    """No answer came: whether the mail was executed stays open until the client recovers."""

    fault = Fault.NETWORK


class ReplyWithheld(MailError):
    """The mail was executed, but the host no longer delivers its reply."""

    fault = Fault.HOST


class HostUnavailable(PmapError):
    """The host cannot be reached, or did not answer in time."""

    fault = Fault.NETWORK
