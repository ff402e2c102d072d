"""What people write: a subclass of :class:`Enclave` with a ``receive_mail`` method.

Settings are class attributes: they are part of the enclave's code, so they are measured, and the host cannot
change them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Protocol

from pmap.entries import Entries
from pmap.filesystem.settings import SMALLEST_RECORD_BYTES, FilesystemSettings
from pmap.log import LogSettings
from pmap.map import PersistentMap
from pmap.stability import Roster
from pmap.sweep import FULL, INCREMENTAL, SweepPolicy
from pmap.tee import SIGNER, SealPolicy
from pmap.tee.files import check_seal_policy
from wire.constraint import Constraint
from wire.errors import EvidenceMalformed, InvalidInput, PmapError
from wire.hpke import Kem
from wire.limits import MAX_FULL_SWEEP_MAP_BYTES
from wire.padding import Padding, padme
from wire.record import SMALLEST_CLASS_BYTES
from wire.sizes import parse_size
from wire.tee.snp_report import SnpTcb
from wire.tee.x509 import Certificate, parse_pem

if TYPE_CHECKING:
    from pmap.filesystem.filesystem import FileSystem

_MAX_SECURITY_VERSION: Final = 0xFFFF  # what SGX has for it


class Rejected(PmapError):
    """Raise this in ``receive_mail`` to refuse a mail: everything is undone and the sender gets your message."""


class Mail(NamedTuple):
    """A mail that the enclave may act on: fresh, in order, from a client whose evidence fits this history.

    ``sender`` is the client's public key in 64 hexadecimal digits: the same over all its sessions.
    """

    sender: str
    topic: str
    sequence: int
    body: bytes


class Platform(Protocol):
    """What a running enclave can use."""

    @property
    def map(self) -> PersistentMap: ...

    @property
    def fs(self) -> FileSystem | None: ...

    @property
    def store_id(self) -> bytes: ...

    @property
    def entries(self) -> Entries: ...

    def send(self, recipient: str, body: bytes) -> None: ...


class Enclave:
    """Base class of all enclaves.

    ``receive_mail`` runs in a transaction over everything that persists and everything that is sent: if it raises,
    nothing of it has happened. What it returns goes back to the sender (None: a receipt without a payload).
    """

    persistent_map: ClassVar[bool] = False
    """Whether ``self.map`` exists. Without any persistent storage the enclave keeps no state over restarts."""
    max_persistent_map_size: ClassVar[str | int] = "16m"
    """The most that the map may hold: bytes, or a number with ``k``, ``m`` or ``g``."""
    persistent_filesystem_size: ClassVar[str | int] = "0"
    """The size of the filesystem that is kept, in the same syntax; ``"0"``: none. Fixed at the first start."""
    persistent_filesystem_grows: ClassVar[bool] = False
    """Whether a larger ``persistent_filesystem_size`` than that of the first start makes the filesystem grow."""
    in_memory_filesystem_size: ClassVar[str | int] = "0"
    """The size of the filesystem that is gone after a restart: at ``/``, or at ``/tmp`` beside a persistent one."""
    voters: ClassVar[Mapping[str, int]] = {}
    """Whose acknowledgements make a commit stable: public key (hex) -> weight. Empty: every client, a majority."""
    quorum: ClassVar[int | None] = None
    """The voters' weight that makes a commit stable; None: more than half."""
    sweep: ClassVar[SweepPolicy] = INCREMENTAL
    """``"incremental"``: each commit re-encrypts a slice of the map; ``"full"``: all of it."""
    smallest_record: ClassVar[int] = SMALLEST_CLASS_BYTES
    """The smallest size class of a commit's record, 4096 * 2**k - 16 bytes: writes below it look alike to the host.
    At least 16368 with a persistent filesystem, so that writing one of its blocks does."""
    reply_padding: ClassVar[Padding] = staticmethod(padme)
    """How replies are padded."""
    mail_key: ClassVar[Kem] = Kem.MLKEM768_X25519
    """Key encapsulation for hellos."""
    seal_to: ClassVar[SealPolicy] = SIGNER
    """Who can open the store on this platform: ``"signer"``, all code of the same signer (and then
    ``security_version`` keeps older code out), or ``"code"``, this very code only."""
    security_version: ClassVar[int] = 1
    """Raise this when older versions of the code are to be locked out: they refuse state that a newer one wrote."""
    successors: ClassVar[str | None] = None
    """A constraint: which enclaves may be handed this store's secrets. None: none."""
    predecessors: ClassVar[str | None] = None
    """A constraint: from which enclaves this one takes a store's secrets. None: from none."""
    vendor_roots: ClassVar[str] = ""
    """Roots (certificates in PEM) that a hand-over trusts beside those built in: AMD's future ones, or a test's."""
    least_amd_firmware: ClassVar[tuple[int, ...] | None] = None
    """What counts as up to date on AMD's platforms in a hand-over: boot loader, TEE, SNP, microcode, and FMC from Turin
    on. None: nothing does."""

    _platform: Platform | None = None

    # --- to be written by the enclave's author -----------------------------------------------------------

    def receive_mail(self, mail: Mail) -> bytes | None:
        """Act on a client's mail."""
        raise Rejected(f"{type(self).__name__} does not receive mail")

    def receive_from_host(self, data: bytes) -> bytes | None:
        """Act on a call by the host, who is not trusted and carries no evidence: treat ``data`` accordingly."""
        raise Rejected(f"{type(self).__name__} does not take calls from its host")

    def admit(self, client: str) -> bool:
        """Whether a client (public key in hex) that was never here before may use this enclave.

        It may look at everything that persists; what it writes or sends is undone.
        """
        return True

    # --- to be used by the enclave's author --------------------------------------------------------------

    @property
    def map(self) -> PersistentMap:
        """The persistent map. Raises :class:`InvalidInput` where the class does not ask for one."""
        if not self.persistent_map:
            raise InvalidInput(f"{type(self).__name__} has no map: set persistent_map = True in its class")
        return self._running().map

    @property
    def fs(self) -> FileSystem:
        """The files. Raises :class:`InvalidInput` where the class does not ask for any."""
        fs = self._running().fs
        if fs is None:
            raise InvalidInput(
                f"{type(self).__name__} has no files: set persistent_filesystem_size or in_memory_filesystem_size in"
                " its class"
            )
        return fs

    def send(self, recipient: str, body: bytes) -> None:
        """Send a mail to another client's inbox; it leaves with this commit, or not at all.

        Raises :class:`InvalidInput` for an unknown recipient and :class:`LimitExceeded` for a full inbox.
        """
        self._running().send(recipient, body)

    def _running(self) -> Platform:
        if self._platform is None:
            raise InvalidInput("the enclave is not running yet: its storage is there once a mail arrives")
        return self._platform


@dataclass(frozen=True, slots=True)
class EnclaveSettings:
    """The checked settings of one enclave class."""

    persistent: bool
    map_size: int
    files: FilesystemSettings
    roster: Roster
    log: LogSettings
    seal_to: SealPolicy = SIGNER
    security_version: int = 1
    successors: Constraint | None = None
    predecessors: Constraint | None = None
    vendor_roots: tuple[Certificate, ...] = ()
    least_amd_firmware: SnpTcb | None = None

    @classmethod
    def of(cls, enclave: type[Enclave]) -> EnclaveSettings:
        """Read and check a class's settings. Raises :class:`InvalidInput`."""
        if type(enclave.persistent_map) is not bool:
            raise InvalidInput(f"persistent_map is True or False, not {enclave.persistent_map!r}")
        map_size = parse_size(enclave.max_persistent_map_size) if enclave.persistent_map else 0
        if enclave.persistent_map and map_size == 0:
            raise InvalidInput("max_persistent_map_size is 0: set persistent_map = False to have no map")
        files = FilesystemSettings.parse(
            enclave.persistent_filesystem_size, enclave.in_memory_filesystem_size, enclave.persistent_filesystem_grows
        )
        if enclave.sweep == FULL and map_size + files.persistent > MAX_FULL_SWEEP_MAP_BYTES:
            raise InvalidInput(f'sweep = "full" allows maps and files of up to {MAX_FULL_SWEEP_MAP_BYTES} bytes')
        smallest = max(enclave.smallest_record, SMALLEST_RECORD_BYTES if files.persistent else 0)
        persistent = enclave.persistent_map or files.persistent > 0
        roster = Roster(dict(enclave.voters), enclave.quorum)
        version = enclave.security_version
        if type(version) is not int or not 0 < version <= _MAX_SECURITY_VERSION:
            raise InvalidInput(f"security_version is a number from 1 to {_MAX_SECURITY_VERSION}, not {version!r}")
        return cls(
            persistent,
            map_size,
            files,
            roster,
            LogSettings(enclave.sweep, smallest),
            check_seal_policy(enclave.seal_to),
            version,
            None if enclave.successors is None else Constraint.parse(enclave.successors),
            None if enclave.predecessors is None else Constraint.parse(enclave.predecessors),
            _roots(enclave.vendor_roots),
            _firmware(enclave.least_amd_firmware),
        )

    def measured(self) -> list[object]:
        """What of the settings goes into the enclave's measurement."""
        handover = [None if one is None else str(one) for one in (self.successors, self.predecessors)]
        return [
            self.persistent,
            self.map_size,
            self.files.persistent,
            self.files.memory,
            self.files.grow,
            self.roster.digest(),
            self.log.sweep,
            self.log.smallest_class,
            self.seal_to,
            self.security_version,
            *handover,
            [root.fingerprint for root in self.vendor_roots],
            None if self.least_amd_firmware is None else str(self.least_amd_firmware),
        ]


def _roots(pem: str) -> tuple[Certificate, ...]:
    try:
        return tuple(parse_pem(pem.encode("ascii"))) if pem else ()
    except (EvidenceMalformed, UnicodeEncodeError, AttributeError) as error:
        raise InvalidInput(f"vendor_roots holds certificates in PEM and nothing else: {error}") from error


def _firmware(parts: tuple[int, ...] | None) -> SnpTcb | None:
    if parts is None:
        return None
    if len(parts) not in (4, 5) or any(type(part) is not int or not 0 <= part <= 255 for part in parts):
        raise InvalidInput(f"least_amd_firmware has four or five numbers from 0 to 255, not {parts!r}")
    return SnpTcb(*parts)
