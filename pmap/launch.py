"""Bringing an author's class to life: find it, check it, start its core on what the host hands over.

Used by the enclave process and by hosts that run an enclave in their own process.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from pmap.core import EnclaveCore
from pmap.enclave import Enclave, EnclaveSettings
from pmap.keyring import Keyring
from pmap.startup import Restart, start_new, start_stateless
from pmap.succession import HandingOver, TakingOver
from pmap.tee import Tee
from pmap.tee.platform import open_platform
from pmap.tee.simulated import DEFAULT_SIGNER, SimulatedTee, measure, named_signer
from wire.boundary import Delivery
from wire.crypto import KEY_BYTES, Randomness, system_randomness
from wire.errors import InvalidInput, WrongKey
from wire.simulated import SIMULATED
from wire.tee.choice import TeeChoice

_Made = TypeVar("_Made")

_EXAMPLE: Final = "MODULE:CLASS, such as bank:Bank"


class Launched(NamedTuple):
    """A running core, and what its host must store before anything that the core makes.

    ``keyring`` (sealed) and ``genesis`` for a new store, together; a ``keyring`` alone takes the stored one's place.
    """

    core: EnclaveCore
    keyring: bytes | None
    genesis: Delivery | None


class Launcher:
    """An enclave class and the TEE to run it in."""

    def __init__(
        self, enclave: type[Enclave], tee: TeeChoice | Path | None, randomness: Randomness = system_randomness
    ) -> None:
        """``tee``: where to run; a path stands for the simulated TEE with this key file, which an enclave that keeps no
        state does not need.

        Raises :class:`InvalidInput` for a class that is no enclave, or whose settings make no sense.
        """
        if not (isinstance(enclave, type) and issubclass(enclave, Enclave)):
            raise InvalidInput(f"{_name(enclave)} is no subclass of pmap.Enclave")
        self._enclave = enclave
        self._settings = EnclaveSettings.of(enclave)
        self._choice = tee if isinstance(tee, TeeChoice) else TeeChoice(simulated_key=tee)
        self._randomness = randomness
        self._prepared: Enclave | None = None
        self._prepared_tee: Tee | None = None

    def prepare(self, untrusted_keyring: bytes | None) -> None:
        """Make what needs no records, for :meth:`launch` to use: the enclave's object and, for a stored state, the TEE.

        Raises what :meth:`launch` would, as far as it shows by now: a key that does not open the keyring, above all.
        """
        self._prepared = self._make()
        if untrusted_keyring is not None:
            tee = self._tee_of_stored_state()
            Keyring.unseal(tee.sealing_key(self._settings.seal_to), untrusted_keyring)
            self._prepared_tee = tee

    def launch(
        self,
        untrusted_keyring: bytes | None,
        untrusted_records: Iterable[Iterable[bytes | memoryview]],
        *,
        rotate: bool = False,
    ) -> Launched:
        """Start on a stored state (records in portions), or, without a keyring, on a new store or none.

        ``rotate``: encrypt a stored state from now on under a new generation of its key.

        Raises :class:`InvalidInput`, :class:`WrongKey`, :class:`CorruptedStore`, :class:`UnsupportedVersion`,
        :class:`TeeUnavailable`, and what :meth:`pmap.startup.Restart.finish` says.
        """
        enclave, self._prepared = self._prepared or self._make(), None
        if untrusted_keyring is None:
            tee = self.tee(create=True)
            if not self._settings.persistent:
                return Launched(start_stateless(enclave, tee, self._randomness), None, None)
            return Launched(*start_new(enclave, tee, self._randomness))
        tee = self._prepared_tee or self._tee_of_stored_state()
        restart = Restart(enclave, tee, self._randomness, untrusted_keyring, rotate=rotate)
        # In one go, not a portion at a time: records are opened ahead of the one that is applied.
        restart.feed(chain.from_iterable(untrusted_records))
        core = restart.finish()
        return Launched(core, restart.new_keyring, None)

    def hand_over(self, core: EnclaveCore) -> HandingOver:
        """The side of a core that this object has launched in a hand-over of its store."""
        return HandingOver(core, self._randomness)

    def take_over(self) -> TakingOver:
        """The side of this enclave where it is to take a store over. Raises :class:`InvalidInput` as it says."""
        return TakingOver(self._enclave, self.tee(create=True), self._randomness)

    def _make(self) -> Enclave:
        return author_code(f"cannot make a {self._enclave.__name__}", self._enclave)

    def _tee_of_stored_state(self) -> Tee:
        if not self._settings.persistent:
            name = self._enclave.__name__
            raise InvalidInput(f"the store is that of an enclave which keeps state, and {name} keeps none")
        return self.tee(create=False)

    def tee(self, *, create: bool) -> Tee:
        """The chosen TEE; ``create``: make the simulated one's key file if it is missing."""
        if self._choice.kind != SIMULATED:
            return open_platform(self._choice)
        if self._choice.simulated_key is not None:
            key = read_key_file(self._choice.simulated_key, self._randomness, create=create)
        elif not self._settings.persistent:
            key = self._randomness(KEY_BYTES)
        else:
            raise InvalidInput(
                f"{self._enclave.__name__} keeps state: the simulated TEE needs a key file"
                " to seal it (--simulated-key FILE)"
            )
        code = measure(self._enclave, self._settings.measured())
        name = self._choice.simulated_signer
        signer = DEFAULT_SIGNER if name is None else named_signer(name)
        return SimulatedTee(key, code, signer=signer, security_version=self._settings.security_version)


def load_enclave(spec: str) -> type[Enclave]:
    """Import the class that ``MODULE:CLASS`` names. Raises :class:`InvalidInput`, whatever the module raises."""
    module_name, colon, class_name = spec.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module_name.split("."), *class_name.split(".")]):
        raise InvalidInput(f"an enclave is named {_EXAMPLE}, not {spec[:100]!r}")
    found: object = author_code(f"cannot import {module_name}", lambda: importlib.import_module(module_name))
    for part in class_name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise InvalidInput(f"there is no {class_name} in {module_name}") from error
    if not (isinstance(found, type) and issubclass(found, Enclave)):
        raise InvalidInput(f"{spec} is no subclass of pmap.Enclave")
    return found


def read_key_file(path: Path, randomness: Randomness, *, create: bool) -> bytes:
    """The 32 bytes of a simulated TEE's key file; ``create``: make it, readable by its owner only, if it is missing.

    Raises:
        WrongKey: there is none, and it was not to be made: a store needs the key that it was made with.
        InvalidInput: it cannot be read or made, or has another length.
    """
    try:
        if create and not path.exists():
            _make_key_file(path, randomness(KEY_BYTES))
        with path.open("rb") as file:
            key = file.read(KEY_BYTES + 1)
    except FileNotFoundError as error:
        if create:
            raise InvalidInput(f"cannot make the key file {path}: there is no such folder") from error
        raise WrongKey(f"there is no key file {path}, and the store needs the one that it was made with") from error
    except OSError as error:
        raise InvalidInput(f"cannot use the key file {path}: {error.strerror}") from error
    if len(key) != KEY_BYTES:
        raise InvalidInput(f"the key file {path} does not hold {KEY_BYTES} bytes")
    return key


def _make_key_file(path: Path, key: bytes) -> None:
    # Complete before it has its name: a crash leaves no key file that is too short, and nobody's is replaced.
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(fd)
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def author_code(doing: str, code: Callable[[], _Made]) -> _Made:
    """Run code of the enclave's author that may raise anything. Raises :class:`InvalidInput`, with the line's place."""
    try:
        return code()
    except (Exception, SystemExit) as error:
        where = ""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if not frame.filename.startswith("<") and frame.filename not in (__file__, importlib.__file__):
                where = f" ({frame.filename}, line {frame.lineno})"
                break
        if isinstance(error, ModuleNotFoundError) and not where:
            where = f" (looked in {sys.path[0] or os.getcwd()} and {len(sys.path) - 1} more folders of sys.path)"
        raise InvalidInput(f"{doing}: {type(error).__name__}: {error}{where}") from error


def _name(value: object) -> str:
    return value.__qualname__ if isinstance(value, type) else repr(value)[:100]
