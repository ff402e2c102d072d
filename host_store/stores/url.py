"""Which store a URL names, and opening it.

============================================ ===================================================================
``PATH`` or ``lmdb:PATH``                    a folder, kept by LMDB: one host, one disk
``postgresql://[USER@]HOST[:PORT]/DATABASE`` a table in PostgreSQL; every option of libpq, and ``store=NAME``
``etcd://HOST:PORT[,HOST:PORT...]/PREFIX``   keys in etcd; ``ca``, ``cert``, ``key`` (files), ``tls=true``
``s3://BUCKET/PREFIX``                       objects in S3 and its like; ``endpoint``, ``region``, ``ca``, and more
============================================ ===================================================================

All but LMDB take ``timeout=SECONDS`` and ``lease=SECONDS`` as well. Credentials belong into the places where each
engine's own tools look for them, not into a URL that everybody on the machine can read in the list of processes.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from host_store.lmdb.lmdb_store import LmdbStore
from host_store.stores.engine import DEFAULT_TIMEOUT_SECONDS, Engine, Patience
from host_store.stores.tenure import DEFAULT_LEASE_SECONDS, OnWait, Tenure, wait_for_vacancy
from wire.errors import InvalidInput

if TYPE_CHECKING:
    from host_store.stores.log_store import LogStore

SCHEMES: Final = ("postgresql", "etcd", "s3")
MAX_SECONDS: Final = 3600.0
MIN_SECONDS: Final = 0.1

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):(.*)", re.DOTALL)
_LOOPBACK: Final = ("localhost", "127.", "[::1]")
_log: Final = logging.getLogger("pmap.host")
_FLAGS: Final = {"true": True, "false": False}
_ETCD_PORT: Final = 2379
_DEFAULT_STORE: Final = "pmap"


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store's URL, taken apart. ``path`` is None for everything but LMDB."""

    scheme: str
    text: str
    path: Path | None = None

    @classmethod
    def parse(cls, text: str | Path) -> StoreUrl:
        """Raises :class:`InvalidInput` for a kind of store that there is not."""
        if isinstance(text, Path):
            return cls("lmdb", str(text), text)
        match = _SCHEME.fullmatch(text)
        scheme = "lmdb" if match is None else match[1]
        if scheme == "postgres":
            scheme = "postgresql"
        if scheme == "lmdb":
            path = text if match is None else match[2]
            if not path:
                raise InvalidInput("--store needs the path of a folder")
            return cls("lmdb", text, Path(path))
        if scheme not in SCHEMES:
            raise InvalidInput(
                f"there is no kind of store '{scheme}': use lmdb:PATH or PATH (lmdb:PATH if the colon is in the path),"
                " postgresql://, etcd:// or s3://"
            )
        if not text.startswith(f"{match[1] if match else scheme}://"):
            raise InvalidInput(f"the URL of such a store begins with {scheme}://, not {scheme}:")
        return cls(scheme, text)

    @property
    def shared(self) -> bool:
        """Whether more than one machine can reach it."""
        return self.path is None

    @property
    def shown(self) -> str:
        """For people: without a password, and without options, which can hold secrets as well."""
        if self.path is not None:
            return str(self.path.absolute())
        return f"{self.scheme}://{re.split('[?#]', self.text.partition('://')[2].rpartition('@')[2])[0]}"


def open_store(
    url: StoreUrl | str | Path,
    *,
    create: bool = True,
    read_only: bool = False,
    standby: bool = False,
    on_wait: OnWait | None = None,
) -> LmdbStore | LogStore:
    """Open the store that ``url`` names, and become the one host that writes to it, unless ``read_only``.

    ``standby``: wait until no other host serves it. Without, another host that does is an error. ``on_wait``: see
    :data:`host_store.stores.tenure.OnWait`.

    Raises:
        InvalidInput: no such kind, options that make no sense, an extra that is not installed.
        StoreLocked: another host serves it.
        StoreError: as :meth:`host_store.lmdb.lmdb_store.LmdbStore.open` and :meth:`LogStore.open`.
    """
    if not isinstance(url, StoreUrl):
        url = StoreUrl.parse(url)
    if url.path is not None:
        if standby:
            raise InvalidInput(
                "to stand by, a host needs a store that two machines reach: postgresql://, etcd:// or s3://"
            )
        return LmdbStore.open(url.path, create=create)
    from host_store.stores.log_store import LogStore

    engine, options = connect(url)
    host = host_name()
    patience = Patience(options.timeout)
    tenure = None
    try:
        if not read_only:
            wait_for_vacancy(engine, patience, standby=standby, on_wait=on_wait)
            tenure = Tenure(engine, patience, host, options.lease)
    except BaseException:
        engine.close()
        raise
    return LogStore.open(engine, host, create=create, read_only=read_only, patience=patience, tenure=tenure)


@dataclass(frozen=True, slots=True)
class Options:
    """What every shared store's URL can say, in seconds."""

    timeout: float = DEFAULT_TIMEOUT_SECONDS
    lease: float = DEFAULT_LEASE_SECONDS


def host_name() -> str:
    """How this host is called in the store, for people."""
    return f"{socket.gethostname()} (process {os.getpid()})"


def connect(url: StoreUrl) -> tuple[Engine, Options]:
    """The engine that a shared store's URL names. Raises :class:`InvalidInput`."""
    try:
        parts = urlsplit(url.text)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:  # whose text quotes the URL, and so a password in it
        raise InvalidInput(
            "the store's URL cannot be read: it is KIND://USER@HOST/NAME?OPTION=VALUE&..., with / ? # % @ in a name or"
            " password written as %2F %3F %23 %25 %40"
        ) from None
    if "@" in parts.path or parts.fragment:
        raise InvalidInput(
            "the store's URL has an @ behind the host, or a #: / ? # % @ in a name or password are written as"
            " %2F %3F %23 %25 %40"
        )
    options = Options(
        _seconds(query.pop("timeout", None), "timeout", DEFAULT_TIMEOUT_SECONDS),
        _seconds(query.pop("lease", None), "lease", DEFAULT_LEASE_SECONDS),
    )
    makers: dict[str, Callable[[Any, dict[str, str], Options], Engine]] = {
        "postgresql": _postgresql,
        "etcd": _etcd,
        "s3": _s3,
    }
    return makers[url.scheme](parts, query, options), options


def _postgresql(parts: Any, query: dict[str, str], options: Options) -> Engine:
    module = _extra("postgresql", "psycopg")
    store = query.pop("store", _DEFAULT_STORE)
    if not store:
        raise InvalidInput("store= in the store's URL needs a name")
    options_of_libpq = f"?{urlencode(query, quote_via=quote)}" if query else ""
    engine: Engine = module.PostgresqlEngine(f"postgresql://{parts.netloc}{parts.path}{options_of_libpq}", store)
    return engine


def _etcd(parts: Any, query: dict[str, str], options: Options) -> Engine:
    module = _extra("etcd", "aetcd")
    given, _at, members = parts.netloc.rpartition("@")
    user, password = (unquote(part) for part in given.partition(":")[::2])
    environment = os.environ
    if not user and environment.get("ETCDCTL_USER"):
        user, _colon, password = environment["ETCDCTL_USER"].partition(":")
    password = password or environment.get("ETCDCTL_PASSWORD", "")
    if not members:
        raise InvalidInput("an etcd store's URL is etcd://HOST:PORT[,HOST:PORT...]/PREFIX: it names no member")
    authority = query.pop("ca", environment.get("ETCDCTL_CACERT"))
    certificate = query.pop("cert", environment.get("ETCDCTL_CERT"))
    key = query.pop("key", environment.get("ETCDCTL_KEY"))
    tls = query.pop("tls", "")
    if tls and tls not in _FLAGS:
        raise InvalidInput(f"tls={tls} in the store's URL: it is true or false")
    _nothing_left(query, "ca, cert, key, tls, timeout, lease")
    if (certificate is None) != (key is None):
        raise InvalidInput("a client certificate for etcd is two files, cert= and key= (ETCDCTL_CERT, ETCDCTL_KEY)")
    credentials = module.Credentials(
        user=user or None,
        password=password,
        tls=_FLAGS.get(tls, authority is not None or certificate is not None),
        authority=_file(authority),
        certificate=_file(certificate),
        key=_file(key),
    )
    prefix = parts.path.strip("/") or _DEFAULT_STORE
    addresses = [member if _has_port(member) else f"{member}:{_ETCD_PORT}" for member in members.split(",")]
    if credentials.user and not credentials.tls and not all(map(_on_this_machine, addresses)):
        _log.warning("etcd's user and password go over the network in the clear: use TLS (ca=FILE or tls=true)")
    engine: Engine = module.EtcdEngine(addresses, unquote(prefix) + "/", credentials)
    return engine


def _s3(parts: Any, query: dict[str, str], options: Options) -> Engine:
    module = _extra("s3", "obstore")
    if not parts.netloc:
        raise InvalidInput("an S3 store's URL is s3://BUCKET/PREFIX: it names no bucket")
    if "@" in parts.netloc or "@" in query.get("endpoint", ""):
        raise InvalidInput(
            "an S3 store's URL and its endpoint= have no user in front of an @: credentials come from"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    authority = _file(query.pop("ca", os.environ.get("AWS_CA_BUNDLE")))
    engine: Engine = module.S3Engine(
        parts.netloc, unquote(parts.path.strip("/")) or _DEFAULT_STORE, query, options.timeout, authority
    )
    return engine


def _extra(name: str, library: str) -> Any:
    """The engine's module. Raises :class:`InvalidInput` if its library is not installed."""
    try:
        return importlib.import_module(f"host_store.stores.{name}")
    except ImportError as error:
        raise InvalidInput(
            f"a store in {name}:// needs the extra '{name}' ({library}), which is not installed:"
            f" pip install 'pmap[{name}]'"
        ) from error


def _seconds(text: str | None, name: str, default: float) -> float:
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise InvalidInput(f"{name}={text} in the store's URL: it takes {MIN_SECONDS:g} to {MAX_SECONDS:g} seconds")
    return seconds


def _file(path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"cannot read {path}, which the store's URL or environment names: {error.strerror}"
        ) from error


def _on_this_machine(address: str) -> bool:
    return address.startswith(_LOOPBACK)


def _has_port(member: str) -> bool:
    return re.search(r":\d+$", member) is not None


def _nothing_left(query: dict[str, str], known: str) -> None:
    if query:
        raise InvalidInput(f"the store's URL has no option {', '.join(query)}; there are {known}")
