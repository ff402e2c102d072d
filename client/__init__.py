"""The client SDK: mail to an enclave, the evidence that keeps its host honest, and verdicts.

::

    with EnclaveClient.connect("http://127.0.0.1:8080", constraint="SEC:INSECURE", state="alice.state") as bank:
        reply = bank.send(b"25")
        bank.wait_stable(reply.receipt)

Needs no web framework: :class:`EnclaveClient` uses the standard library, :class:`AsyncEnclaveClient` aiohttp.
"""

from client.aio import AsyncEnclaveClient
from client.aio_transport import AsyncHttpTransport, AsyncInProcessTransport, AsyncTransport
from client.constraint import Constraint
from client.identity import Identity, SecurityLevel
from client.kv import KeyValueClient
from client.kv_aio import AsyncKeyValueClient
from client.kv_operations import Batch, SwapFailed
from client.reply import Fate, InboxMail, MailFailed, Receipt, Reply, Resolved
from client.sync import EnclaveClient
from client.transport import HttpTransport, InProcessTransport, Transport
from wire.alarm import Alarm, Verdict
from wire.checkpoint import Checkpoint
from wire.errors import (
    AttestationError,
    ClientStale,
    CorruptedStore,
    EvidenceInvalid,
    EvidenceUnproven,
    Fault,
    ForkDetected,
    FreshnessError,
    GapRefused,
    HandlerFailed,
    HostUnavailable,
    InvalidInput,
    LimitExceeded,
    MailError,
    MailTooLarge,
    Malformed,
    NotEnrolled,
    OutcomeUnknown,
    PmapError,
    ReplayRefused,
    ReplyWithheld,
    RollbackDetected,
    SessionUnknown,
    StoreError,
    StoreLocked,
    StoreReplaced,
    StoreUnavailable,
    UnsupportedVersion,
    WrongKey,
)
from wire.kv import Page, Usage
from wire.tee.endorsements import Endorsements

__all__ = [
    "Alarm",
    "AsyncEnclaveClient",
    "AsyncHttpTransport",
    "AsyncInProcessTransport",
    "AsyncKeyValueClient",
    "AsyncTransport",
    "AttestationError",
    "Batch",
    "Checkpoint",
    "ClientStale",
    "Constraint",
    "CorruptedStore",
    "EnclaveClient",
    "Endorsements",
    "EvidenceInvalid",
    "EvidenceUnproven",
    "Fate",
    "Fault",
    "ForkDetected",
    "FreshnessError",
    "GapRefused",
    "HandlerFailed",
    "HostUnavailable",
    "HttpTransport",
    "Identity",
    "InProcessTransport",
    "InboxMail",
    "InvalidInput",
    "KeyValueClient",
    "LimitExceeded",
    "MailError",
    "MailFailed",
    "MailTooLarge",
    "Malformed",
    "NotEnrolled",
    "OutcomeUnknown",
    "Page",
    "PmapError",
    "Receipt",
    "ReplayRefused",
    "Reply",
    "ReplyWithheld",
    "Resolved",
    "RollbackDetected",
    "SecurityLevel",
    "SessionUnknown",
    "StoreError",
    "StoreLocked",
    "StoreReplaced",
    "StoreUnavailable",
    "SwapFailed",
    "Transport",
    "UnsupportedVersion",
    "Usage",
    "Verdict",
    "WrongKey",
]
