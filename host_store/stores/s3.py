"""``s3://``: objects as objects. ``If-None-Match: *`` creates one where there is none: one request.

Any S3-compatible service that enforces that header will do; opening a store tries whether it does. Credentials come
from the URL's options, ``AWS_*`` variables, web identity, or the machine's role.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from host_store.stores.engine import ATTEMPT_PART, EngineDown
from wire.errors import CorruptedStore, InvalidInput, StoreUnavailable

PART_BYTES: Final = 4 << 20
READERS: Final = 16
"""Objects that are read at once."""
_SAID_CHARACTERS: Final = 500  # of what the service or the library says

# The reason stands in what the library says for debugging, or in the service's XML.
_BAD_CERTIFICATE: Final = re.compile(r"InvalidCertificate\(\s*(\w+)")
_CERTIFICATE_IS: Final = {
    "UnknownIssuer": "no authority that we trust has issued it (ca=, AWS_CA_BUNDLE)",
    "NotValidForName": "it is for another host",
    "NotValidForNameContext": "it is for another host",
}
_MACHINE_ROLE: Final = re.compile(r"/latest/(api/token|meta-data)\b")  # who asks for it found no other credentials
_SERVICE_ERROR: Final = re.compile(r"<Code>([^<]+)</Code>\s*<Message>([^<]+)</Message>")

Result = TypeVar("Result")


class S3Engine:
    """See :class:`host_store.stores.engine.Engine`. Every object's key begins with ``prefix/``."""

    part_bytes = PART_BYTES

    def __init__(
        self, bucket: str, prefix: str, options: dict[str, str], seconds: float, authority: bytes | None
    ) -> None:
        """``options``: as :class:`obstore.store.S3Store` takes them; ``authority``: PEM. Does not connect yet.

        Raises :class:`InvalidInput` for options that make no sense.
        """
        at = options.get("endpoint", "")
        self.where = f"the S3 bucket {bucket}{f' at {at}' if at else ''}, prefix {prefix!r}"
        self._prefix = prefix + "/" if prefix else ""
        wait = timedelta(seconds=seconds * ATTEMPT_PART)
        client: Any = {"timeout": wait, "connect_timeout": wait, "allow_http": at.startswith("http:")}
        if authority is not None:
            client["root_certificate"] = authority
        try:
            self._store = S3Store(
                bucket,
                config=options,  # type: ignore[arg-type]
                client_options=client,
                retry_config={"max_retries": 0, "retry_timeout": wait},  # we are the ones who try again
            )
        except (BaseError, ValueError, TypeError) as error:
            said = re.sub('"[^"]*"', "a value", _one_line(error))  # which may be a key that stands at the wrong option
            raise InvalidInput(f"these options of s3:// make no sense: {said}") from None
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="s3-reader")
        self._closed = threading.Event()

    # --- contracts: host_store.stores.engine.Engine ---

    def create(self, name: str, value: bytes, seconds: float) -> bool:
        """A conditional PUT."""
        try:
            self._call(lambda: obstore.put(self._store, self._key(name), value, mode="create", use_multipart=False))
        except AlreadyExistsError:
            return False
        return True

    def put(self, name: str, value: bytes, seconds: float) -> None:
        """A PUT."""
        self._call(lambda: obstore.put(self._store, self._key(name), value, use_multipart=False))

    def get(self, name: str, seconds: float) -> bytes | None:
        """A GET."""
        try:
            return self._call(lambda: self._read(name))
        except FileNotFoundError:
            return None

    def _read(self, name: str) -> bytes:
        found = obstore.get(self._store, self._key(name))
        if found.meta["size"] > PART_BYTES:  # said before any of it is read
            raise CorruptedStore(f"the object {name} in {self.where} is longer than any that was written there")
        return bytes(found.bytes())

    def get_all(self, names: Sequence[str], seconds: float) -> list[bytes | None]:
        """So many GETs, several at once."""
        try:
            return list(self._readers.map(lambda name: self.get(name, seconds), names))
        except RuntimeError as error:
            raise StoreUnavailable("the store is closed") from error

    def names(self, prefix: str, after: str, limit: int, seconds: float) -> list[str]:
        """A list request."""
        offset = self._key(max(after, prefix))
        found = self._call(
            lambda: next(iter(obstore.list(self._store, self._key(prefix), offset=offset, chunk_size=limit)), [])
        )
        return sorted(str(each["path"]).removeprefix(self._prefix) for each in found)

    def delete(self, names: Sequence[str], seconds: float) -> None:
        """A request that deletes many."""
        if names:
            self._call(lambda: obstore.delete(self._store, [self._key(name) for name in names]))

    def close(self) -> None:
        """End the readers."""
        self._closed.set()
        self._readers.shutdown(wait=False, cancel_futures=True)

    # --- calls ---

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _call(self, call: Callable[[], Result]) -> Result:
        if self._closed.is_set():
            raise StoreUnavailable("the store is closed")
        try:
            return call()
        except (AlreadyExistsError, FileNotFoundError):
            raise
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise StoreUnavailable(f"{self.where} refuses, nothing was changed: {_one_line(error)}") from error
        except (PreconditionError, NotModifiedError) as error:
            raise EngineDown(f"{self.where}: another request for the same object is under way") from error
        except (BaseError, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Any) -> StoreUnavailable:
        if refused := _BAD_CERTIFICATE.search(str(error)):
            reason = _CERTIFICATE_IS.get(refused[1], refused[1])
            return StoreUnavailable(f"cannot connect to {self.where}: its certificate is refused, {reason}")
        said = _one_line(error)
        if _MACHINE_ROLE.search(said):
            return EngineDown(
                f"no credentials for {self.where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; this machine has no"
                " role that gives any"
            )
        return EngineDown(f"{self.where} does not answer as it should, the outcome is unknown: {said}")


def _one_line(error: object) -> str:
    said = str(error).partition("Debug source")[0]
    if answer := _SERVICE_ERROR.search(said):
        said = f"{answer[2]} ({answer[1]})"
    return " ".join(said.split())[:_SAID_CHARACTERS]
