"""``etcd://``: objects as keys. One transaction creates a key if there is none: one round trip, one Raft entry.

The messages are aetcd's; the channels are gRPC's own, which call from any thread with a deadline. The member that leads
is asked, which saves a hop; when a member does not answer, the next one that leads is looked for. Whoever is asked,
reads are linearizable.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

# Else gRPC writes of its own to standard error, for example whenever a certificate is refused. It is read once, below.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from aetcd import rpc

from host_store.stores.engine import EngineDown
from wire.errors import StoreUnavailable

PART_BYTES: Final = 1 << 20
"""etcd takes requests of 1.5 MiB unless it is told otherwise."""
DELETIONS: Final = 100
"""Operations in one transaction; etcd takes 128 unless it is told otherwise."""

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 8 * PART_BYTES),  # the longest answer is a list of names
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_DOWN: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_RENEW: Final = ("invalid auth token", "revision of auth store is old")
"""A token has lapsed, or users and rights were changed since it was given."""
_NOT_CONNECTED: Final = "failed to connect"
_BAD_TLS: Final = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is refused, no authority that we trust has issued it (ca=)"),
    ("Hostname Verification Check failed", "its certificate is refused, it is for another host"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
)
_ENDED: Final = ("TSI_", "Socket closed", "Connection reset")
"""What gRPC says of a connection that the server ends before anything was asked."""
LOOK_SECONDS: Final = 0.5
"""How long each member is asked who leads."""


class Credentials(NamedTuple):
    """Who we are, and whom we trust: PEM bytes. ``tls`` without an authority: those that the system trusts."""

    user: str | None = None
    password: str | None = None
    tls: bool = False
    authority: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None


class EtcdEngine:
    """See :class:`host_store.stores.engine.Engine`. Every key begins with ``prefix``."""

    part_bytes = PART_BYTES

    def __init__(self, members: Sequence[str], prefix: str, credentials: Credentials) -> None:
        """``members``: ``HOST:PORT`` each. Does not connect yet."""
        self.where = f"etcd on {', '.join(members)}, prefix {prefix!r}"
        self._prefix = prefix.encode()
        self._credentials = credentials
        self._token: str | None = None
        self._token_lock = threading.Lock()
        self._members = [self._member(address) for address in members]
        self._asked: _Member | None = None
        self._next = 0
        self._closed = False

    # --- contracts: host_store.stores.engine.Engine ---

    def create(self, name: str, value: bytes, seconds: float) -> bool:
        """A transaction: if the key was never created, put it."""
        key = self._key(name)
        request = rpc.TxnRequest(
            compare=[rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.CREATE, key=key, create_revision=0)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))],
        )
        return bool(self._call("Txn", request, seconds).succeeded)

    def put(self, name: str, value: bytes, seconds: float) -> None:
        """A put."""
        self._call("Put", rpc.PutRequest(key=self._key(name), value=value), seconds)

    def get(self, name: str, seconds: float) -> bytes | None:
        """A linearizable read."""
        found = self._call("Range", rpc.RangeRequest(key=self._key(name)), seconds).kvs
        return bytes(found[0].value) if found else None

    def get_all(self, names: Sequence[str], seconds: float) -> list[bytes | None]:
        """So many reads, all under way at once."""
        requests = [rpc.RangeRequest(key=self._key(name)) for name in names]
        answers = self._reads(requests, seconds)
        return [bytes(answer.kvs[0].value) if answer.kvs else None for answer in answers]

    def names(self, prefix: str, after: str, limit: int, seconds: float) -> list[str]:
        """A range of keys, without values."""
        start = self._key(max(after, prefix)) + b"\x00"
        end = self._key(prefix)
        request = rpc.RangeRequest(
            key=start,
            range_end=end[:-1] + bytes([end[-1] + 1]),
            limit=limit,
            keys_only=True,
            sort_order=rpc.RangeRequest.ASCEND,
            sort_target=rpc.RangeRequest.KEY,
        )
        found = self._call("Range", request, seconds).kvs
        return [bytes(each.key).removeprefix(self._prefix).decode() for each in found]

    def delete(self, names: Sequence[str], seconds: float) -> None:
        """Transactions of many deletions."""
        for start in range(0, len(names), DELETIONS):
            deletions = [
                rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=self._key(name)))
                for name in names[start : start + DELETIONS]
            ]
            self._call("Txn", rpc.TxnRequest(success=deletions), seconds)

    def close(self) -> None:
        """Close the channels; what is under way fails."""
        self._closed = True
        for member in self._members:
            member.channel.close()

    # --- calls ---

    def _key(self, name: str) -> bytes:
        return self._prefix + name.encode()

    def _member(self, address: str) -> _Member:
        given = self._credentials
        if given.tls:
            trusted = grpc.ssl_channel_credentials(given.authority, given.key, given.certificate)
            return _Member(grpc.secure_channel(address, trusted, _CHANNEL_OPTIONS))
        return _Member(grpc.insecure_channel(address, _CHANNEL_OPTIONS))

    def _chosen(self, seconds: float) -> _Member:
        """The member to ask: the one that leads, or the next one if none says that it does."""
        if self._asked is not None:
            return self._asked
        chosen = self._members[self._next % len(self._members)]
        self._next += 1
        if len(self._members) > 1:
            look = min(LOOK_SECONDS, seconds / len(self._members))
            asked = [(member, member.ask_who_leads(look)) for member in self._members]
            chosen = next((member for member, answer in asked if _leads(answer)), chosen)
        self._asked = chosen
        return chosen

    def _call(self, name: str, request: Any, seconds: float) -> Any:
        try:
            member = self._chosen(seconds)
            return getattr(member.kv, name)(request, timeout=seconds, metadata=self._authenticated(member, seconds))
        except grpc.RpcError as error:
            raise self._failure(error) from error
        except ValueError as error:  # what gRPC raises on a closed channel
            raise StoreUnavailable("the store is closed") from error

    def _reads(self, requests: Sequence[Any], seconds: float) -> list[Any]:
        try:
            member = self._chosen(seconds)
            token = self._authenticated(member, seconds)
            under_way = [member.kv.Range.future(request, timeout=seconds, metadata=token) for request in requests]
            return [each.result() for each in under_way]
        except grpc.RpcError as error:
            raise self._failure(error) from error
        except ValueError as error:
            raise StoreUnavailable("the store is closed") from error

    def _authenticated(self, member: _Member, seconds: float) -> list[tuple[str, str]] | None:
        user = self._credentials.user
        if user is None:
            return None
        with self._token_lock:
            if self._token is None:
                request = rpc.AuthenticateRequest(name=user, password=self._credentials.password or "")
                self._token = member.auth.Authenticate(request, timeout=seconds).token
            return [("token", self._token)]

    def _failure(self, error: grpc.RpcError) -> StoreUnavailable:
        code, details = error.code(), " ".join((error.details() or "").split())
        if self._closed:
            return StoreUnavailable("the store is closed")
        if any(text in details for text in _RENEW):
            self._token = None
            return EngineDown(f"{self.where}: the session has ended, nothing was changed")
        self._asked = None  # whoever leads now is looked for
        if _NOT_CONNECTED in details and (meaning := self._connection_failure(details)):
            return EngineDown(f"cannot connect to {self.where}: {meaning}")  # to this member; others may do better
        if code in _DOWN or "leader" in details or "too many requests" in details:
            return EngineDown(f"{self.where} does not answer, the outcome is unknown: {details}")
        return StoreUnavailable(f"{self.where} refuses, nothing was changed: {details or code.name}")

    def _connection_failure(self, details: str) -> str:
        """What is wrong with TLS, for people; empty where it is something else."""
        for text, meaning in _BAD_TLS:
            if text in details:
                return meaning
        if any(text in details for text in _ENDED):
            wanted = "another certificate of ours (cert=, key=)" if self._credentials.tls else "TLS (ca=, tls=true)"
            return f"it ends the connection, and may want {wanted}"
        return ""


class _Member:
    """One member of the cluster."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.kv = rpc.KVStub(channel)
        self.auth = rpc.AuthStub(channel)
        self._maintenance = rpc.MaintenanceStub(channel)

    def ask_who_leads(self, seconds: float) -> Any:
        """A call under way."""
        return self._maintenance.Status.future(rpc.StatusRequest(), timeout=seconds)


def _leads(answer: Any) -> bool:
    """Whether the member that gives this answer says that it leads."""
    try:
        status = answer.result()
    except grpc.RpcError:
        return False
    return bool(status.leader) and status.leader == status.header.member_id
