"""A store on a shared engine in the hands of its owner: every object of the log can be read, changed, put back.

What is changed stays a log that decodes, as far as the change allows, so that it is the enclave that has to notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from host_store.arguments import Commit
from host_store.store import OutboxItem
from host_store.stores.backup import every_name
from host_store.stores.engine import Patience
from host_store.stores.entry import Entry, Kind, decode_entry, encode_claim, encode_commit, encode_keyring
from host_store.stores.loading import LOG, entry_name, load
from host_store.stores.log_store import LogStore
from host_store.stores.objects import READ_OBJECTS, Objects
from host_store.stores.url import StoreUrl, connect
from wire.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class LogSnapshot:
    """Every object of a log, by name, and the number of the newest commit."""

    objects: dict[str, bytes] = field(repr=False)
    n: int


class LogMedium:
    """A :class:`host_store.adversary.medium.Medium` in the engine that a shared store's URL names."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine, options = connect(StoreUrl.parse(url))
        self._patience = Patience(options.timeout)
        self._objects = Objects(self._engine, self._patience)

    def open(self) -> LogStore:
        """Not as a polite host does: without asking whether another one serves the store."""
        engine, _options = connect(StoreUrl.parse(self._url))
        return LogStore.open(engine, "a malicious host", patience=self._patience)

    def beside(self, name: str) -> LogMedium:
        """Under a name with an ending."""
        parts = urlsplit(self._url)
        if parts.scheme == "postgresql":
            query = dict(parse_qsl(parts.query, keep_blank_values=True))
            query["store"] = f"{query.get('store', 'pmap')}-{name}"
            return LogMedium(parts._replace(query=urlencode(query, quote_via=quote)).geturl())
        return LogMedium(parts._replace(path=f"{parts.path.rstrip('/')}-{name}").geturl())

    def close(self) -> None:
        """Give the engine back; the store stays."""
        self._engine.close()

    # --- everything at once ---

    def snapshot(self, n: int) -> LogSnapshot:
        """Every object."""
        return LogSnapshot(self._everything(), n)

    def restore(self, snapshot: LogSnapshot) -> None:
        """Objects that are as they were stay as they are."""
        there = self._everything()
        self._objects.delete([name for name in there if name not in snapshot.objects])
        for name, value in snapshot.objects.items():
            if there.get(name) != value:
                self._put_bytes(name, value)

    def delete(self) -> None:
        """Every object."""
        self._objects.delete(list(every_name(self._engine, self._patience)))

    def _everything(self) -> dict[str, bytes]:
        names = list(every_name(self._engine, self._patience))
        found: dict[str, bytes] = {}
        for start in range(0, len(names), READ_OBJECTS):
            some = names[start : start + READ_OBJECTS]
            values = self._patience(lambda seconds, some=some: self._engine.get_all(some, seconds))  # type: ignore[misc]
            found |= {name: value for name, value in zip(some, values, strict=True) if value is not None}
        return found

    def _put_bytes(self, name: str, value: bytes) -> None:
        self._patience(lambda seconds: self._engine.put(name, value, seconds))

    # --- changes ---

    def read_record(self, n: int) -> bytes:
        """From its commit's entry."""
        _name, entry, data = self._commit(n)
        return _record(entry, data)

    def put_record(self, n: int, record: bytes | None) -> None:
        """Into its commit's entry. A record is gone with all of its entry."""
        name, entry, data = self._commit(n)
        if record is None:
            self._objects.delete([name])
        else:
            self._objects.put(name, _encoded(entry, record, _items(entry, data), entry.drops, entry.keyring))

    def put_keyring(self, keyring: bytes | None) -> None:
        """Into every entry that has one."""
        for name, entry, data in list(self._entries()):
            if entry.keyring is None:
                continue
            if entry.kind is Kind.COMMIT:
                changed = _encoded(entry, _record(entry, data), _items(entry, data), entry.drops, keyring)
            elif keyring is None:
                changed = encode_claim(entry.host, entry.nonce)
            else:
                changed = encode_keyring(entry.host, entry.nonce, keyring)
            self._objects.put(name, changed)

    def put_outbox_of(self, snapshot: LogSnapshot) -> None:
        """Each commit is given the messages that wait in the snapshot, and drops none."""
        waiting: dict[int, list[OutboxItem]] = {}
        aside = self.beside("aside")
        aside.restore(snapshot)
        for item in aside._waiting():
            waiting.setdefault(item.n, []).append(item)
        aside.delete()
        aside.close()
        for name, entry, data in list(self._entries()):
            if entry.kind is Kind.COMMIT:
                items = waiting.pop(entry.n, [])
                self._objects.put(name, _encoded(entry, _record(entry, data), items, [], entry.keyring))
        if waiting:
            raise InvalidInput("messages of commits wait there whose entries are not here")

    def _waiting(self) -> Iterator[OutboxItem]:
        for (n, index), found in load(self._objects).waiting.items():
            stored, place = self._objects.get(entry_name(found.place.position)), found.place
            if stored is not None:
                message = stored[0][place.offset : place.offset + place.length]
                yield OutboxItem(n, index, found.address, message)

    def _commit(self, n: int) -> tuple[str, Entry, bytes]:
        for name, entry, data in self._entries():
            if entry.kind is Kind.COMMIT and entry.n == n:
                return name, entry, data
        raise InvalidInput(f"there is no record {n}")

    def _entries(self) -> Iterator[tuple[str, Entry, bytes]]:
        names = list(self._objects.names(LOG))
        for name, found in zip(names, self._objects.get_all(names), strict=True):
            if found is not None:
                yield name, decode_entry(found[0], name), found[0]


def _record(entry: Entry, data: bytes) -> bytes:
    return data[entry.record_offset : entry.record_offset + entry.record_length]


def _items(entry: Entry, data: bytes) -> list[OutboxItem]:
    return [
        OutboxItem(entry.n, one.slot, one.address, data[one.offset : one.offset + one.length]) for one in entry.messages
    ]


def _encoded(
    entry: Entry, record: bytes, outbox: list[OutboxItem], drops: list[tuple[int, int]], keyring: bytes | None
) -> bytes:
    return encode_commit(entry.host, Commit(entry.n, record, entry.leaf, entry.trim, outbox, drops), keyring)[1]
