"""Carries out the rounds of :mod:`client.sharded.router` with one :class:`EnclaveClient` for each store, in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from os import PathLike
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from client.kv import KeyValueClient
from client.sharded.keeping import Keeping, check_document, check_store
from client.sharded.router import MOVING_DELAYS, Ask, Keep, Outcome, Pause, Router, Steps
from client.sync import EnclaveClient
from client.transport import HttpTransport, Transport
from wire.errors import FreshnessError, InvalidInput, PmapError, StoreReplaced
from wire.shard_map import ShardStore, parse_shard_map_text

_T = TypeVar("_T")
_MOST_THREADS: Final = 32
"""So many stores are asked at the same time."""


class Cluster:
    """All stores of a shard map, each with a client of its own. Safe for use by several threads."""

    def __init__(self, keeping: Keeping, reach: Callable[[ShardStore], Transport], settings: dict[str, Any]) -> None:
        self.router: Router = keeping.router
        self._keeping = keeping
        self._reach = reach
        self._settings = settings
        self._clients: dict[bytes, tuple[str, EnclaveClient]] = {}
        self._connecting: dict[bytes, threading.Lock] = {}
        self._guard = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._closed = False

    @classmethod
    def open(
        cls,
        owner: str,
        shard_map: str | None = None,
        *,
        folder: str | PathLike[str] | None = None,
        reach: Callable[[ShardStore], Transport] | None = None,
        moving_delays: Sequence[float] = MOVING_DELAYS,
        **settings: Any,
    ) -> Self:
        """Open a sharded client's folder; the stores are connected to when they are first needed.

        Args:
            owner: the public key, in hexadecimal, that shard maps must be signed by.
            shard_map: the text of a map, from whoever has one; needed the first time only.
            folder: where the newest map and each store's client state are kept; made if it is missing. None: in
                memory only.
            reach: how to get to a store; None: by HTTP, at the address in the map.
            moving_delays: seconds to wait between attempts while a partition moves.
            settings: those of :meth:`EnclaveClient.connect` for each store, such as ``constraint``.

        Raises what :meth:`client.sharded.keeping.Keeping.open` says.
        """
        if "state" in settings or "invite" in settings:
            raise InvalidInput("a sharded client has a state for each store: give a folder")
        return cls(Keeping.open(folder, owner, shard_map, moving_delays), reach or _by_http, settings)

    @property
    def quarantined(self) -> dict[bytes, FreshnessError]:
        """Of each store that this client has caught (its id) the verdict. Known at once for stores that were asked."""
        with self._guard:
            clients = dict(self._clients)
        known = {store: client.verdict for store, (_, client) in clients.items()}
        return {**self.router.quarantined, **{store: error for store, error in known.items() if error is not None}}

    def show(self, shard_map: str) -> None:
        """Take a shard map that somebody shows (its text), if it is newer than the one that holds.

        Raises :class:`ShardMapInvalid`, :class:`StaleShardMap`, :class:`ShardMapForked`; that one holds on then.
        """
        self._keeping.show(parse_shard_map_text(shard_map))

    def keep(self, signed: bytes) -> None:
        """As :meth:`show`, for a signed map in bytes: it is kept durably once this returns."""
        self._keeping.show(signed)

    def client(self, store: bytes) -> EnclaveClient:
        """The client of one store (its id), connected. Raises what :meth:`EnclaveClient.connect` raises."""
        named = self._named(store)
        with self._guard:
            if self._closed:
                raise InvalidInput("this client is closed")
            connecting = self._connecting.setdefault(store, threading.Lock())
        with connecting:
            with self._guard:
                url, known = self._clients.get(store, ("", None))
            if known is not None and url == named.url:
                return known
            if known is not None:
                known.close()  # it lives elsewhere by now; its state goes on there
            client = self._connect(named)
            with self._guard:
                self._clients[store] = named.url, client
            return client

    def _named(self, store_id: bytes) -> ShardStore:
        shards = self.router.shards
        place = shards.place_of(store_id)
        if place is None:
            raise InvalidInput(f"store {store_id.hex()} is not in shard map {shards.version}")
        return shards.stores[place]

    def run(self, steps: Steps[_T], topic: str) -> _T:
        """Carry out an operation, its mails over this topic of each store."""
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self._perform(wanted, topic))
        except StopIteration as stop:
            done: _T = stop.value
            return done

    def _perform(self, wanted: list[Ask] | Pause | Keep, topic: str) -> list[Outcome]:
        match wanted:
            case Pause(seconds):
                time.sleep(seconds)
            case Keep(signed):
                self._keeping.write(signed)
            case _:
                return self._round(wanted, topic)
        return []

    def _round(self, asks: list[Ask], topic: str) -> list[Outcome]:
        if len(asks) == 1:
            return [self._ask(asks[0], topic)]
        with self._guard:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_MOST_THREADS, "shard")
            threads = self._threads
        return list(threads.map(lambda ask: self._ask(ask, topic), asks))

    def _ask(self, ask: Ask, topic: str) -> Outcome:
        try:
            outcome: Outcome = KeyValueClient(self.client(ask.store), topic).execute(ask.operations)
        except PmapError as error:
            outcome = error
        return self.router.noted(ask, outcome)

    def _connect(self, store: ShardStore) -> EnclaveClient:
        transport = self._reach(store)
        try:
            check_document(store, transport.attestation())
            client = EnclaveClient.connect(transport, state=self._keeping.state_of(store.store_id), **self._settings)
        except BaseException:
            transport.close()
            raise
        try:
            check_store(store, client.store_id, client.checkpoint_key)
        except StoreReplaced:
            client.close()
            raise
        return client

    def close(self) -> None:
        """Save and let go of everything. Again is fine."""
        with self._guard:
            clients, self._clients, self._closed = list(self._clients.values()), {}, True
        try:
            if self._threads is not None:
                self._threads.shutdown()
            for _, client in clients:
                client.close()
        finally:
            self._keeping.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(PmapError):
                self.close()


def _by_http(store: ShardStore) -> Transport:
    return HttpTransport(store.url)
