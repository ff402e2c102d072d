"""``etcd://``: objects as keys. One transaction creates a key if there is none: one round trip, one Raft entry.

The messages are aetcd's; the channel is gRPC's own, which calls from any thread with a deadline and finds the members
that live. Whoever is asked, reads are linearizable.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import grpc
from aetcd import rpc

from host_store.stores.engine import EngineDown
from wire.errors import StoreUnavailable

PART_BYTES: Final = 1 << 20
"""etcd takes requests of 1.5 MiB unless it is told otherwise."""
DELETIONS: Final = 100
"""Operations in one transaction; etcd takes 128 unless it is told otherwise."""

_CHANNEL_OPTIONS: Final = (
    ("grpc.lb_policy_name", "round_robin"),  # a member that is cut off from the others must not be the only one asked
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 1000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_DOWN: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_RENEW: Final = "invalid auth token"


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
        # One name is left to DNS; several addresses can be given as they are.
        target = members[0] if len(members) == 1 else "ipv4:" + ",".join(members)
        options = list(_CHANNEL_OPTIONS)
        if credentials.tls:
            trusted = grpc.ssl_channel_credentials(credentials.authority, credentials.key, credentials.certificate)
            self._channel = grpc.secure_channel(target, trusted, options)
        else:
            self._channel = grpc.insecure_channel(target, options)
        self._kv = rpc.KVStub(self._channel)
        self._auth = rpc.AuthStub(self._channel)
        self._closed = False

    # --- contracts: host_store.stores.engine.Engine ---

    def create(self, name: str, value: bytes, seconds: float) -> bool:
        """A transaction: if the key was never created, put it."""
        key = self._key(name)
        request = rpc.TxnRequest(
            compare=[rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.CREATE, key=key, create_revision=0)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))],
        )
        return bool(self._call(self._kv.Txn, request, seconds).succeeded)

    def put(self, name: str, value: bytes, seconds: float) -> None:
        """A put."""
        self._call(self._kv.Put, rpc.PutRequest(key=self._key(name), value=value), seconds)

    def get(self, name: str, seconds: float) -> bytes | None:
        """A linearizable read."""
        found = self._call(self._kv.Range, rpc.RangeRequest(key=self._key(name)), seconds).kvs
        return bytes(found[0].value) if found else None

    def get_all(self, names: Sequence[str], seconds: float) -> list[bytes | None]:
        """So many reads, all under way at once."""
        requests = [rpc.RangeRequest(key=self._key(name)) for name in names]
        answers = self._calls(self._kv.Range, requests, seconds)
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
        found = self._call(self._kv.Range, request, seconds).kvs
        return [bytes(each.key).removeprefix(self._prefix).decode() for each in found]

    def delete(self, names: Sequence[str], seconds: float) -> None:
        """Transactions of many deletions."""
        for start in range(0, len(names), DELETIONS):
            deletions = [
                rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=self._key(name)))
                for name in names[start : start + DELETIONS]
            ]
            self._call(self._kv.Txn, rpc.TxnRequest(success=deletions), seconds)

    def close(self) -> None:
        """Close the channel; what is under way fails."""
        self._closed = True
        self._channel.close()

    # --- calls ---

    def _key(self, name: str) -> bytes:
        return self._prefix + name.encode()

    def _call(self, method: Callable[..., Any], request: Any, seconds: float) -> Any:
        token = self._authenticated(seconds)
        try:
            return method(request, timeout=seconds, metadata=token)
        except grpc.RpcError as error:
            raise self._failure(error) from error
        except ValueError as error:  # what gRPC raises on a closed channel
            raise StoreUnavailable("the store is closed") from error

    def _calls(self, method: Any, requests: Sequence[Any], seconds: float) -> list[Any]:
        token = self._authenticated(seconds)
        try:
            under_way = [method.future(request, timeout=seconds, metadata=token) for request in requests]
            return [each.result() for each in under_way]
        except grpc.RpcError as error:
            raise self._failure(error) from error
        except ValueError as error:
            raise StoreUnavailable("the store is closed") from error

    def _authenticated(self, seconds: float) -> list[tuple[str, str]] | None:
        user = self._credentials.user
        if user is None:
            return None
        with self._token_lock:
            if self._token is None:
                request = rpc.AuthenticateRequest(name=user, password=self._credentials.password or "")
                try:
                    self._token = self._auth.Authenticate(request, timeout=seconds).token
                except grpc.RpcError as error:
                    raise self._failure(error) from error
            return [("token", self._token)]

    def _failure(self, error: grpc.RpcError) -> StoreUnavailable:
        code, details = error.code(), " ".join((error.details() or "").split())
        if self._closed:
            return StoreUnavailable("the store is closed")
        if _RENEW in details:
            self._token = None
            return EngineDown(f"{self.where}: the session has ended, nothing was changed")
        if code in _DOWN or "leader" in details or "too many requests" in details:
            return EngineDown(f"{self.where} does not answer, the outcome is unknown: {details}")
        return StoreUnavailable(f"{self.where} refuses, nothing was changed: {details or code.name}")
