"""Which TEE an enclave process is to run in: the options of its command line, for the host that writes and the process
that reads them.

Whoever writes the command line chooses, and weakens nothing by it. Inside a TEE that measures its command line
(Gramine's manifest, a guest's unit file, dstack's compose file, a Nitro image) another choice is another measurement.
Anywhere else a choice gives no key that opens the store, and evidence that clients refuse.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wire.errors import InvalidInput
from wire.simulated import SIMULATED

TEES: Final = (SIMULATED, "gramine", "snp", "tdx", "dstack", "nitro")
"""The names by which a TEE is chosen. ``gramine`` runs SGX enclaves, whose evidence is of kind ``sgx``."""
_WITH_KEY_SOURCE: Final = frozenset({"snp", "tdx", "nitro"})


@dataclass(frozen=True, slots=True)
class TeeChoice:
    """One choice. Raises :class:`InvalidInput` for options that do not go together.

    ``root``: the folder that the platform's files are under. ``key_source``: ``vtpm``, ``vtpm:TCTI``, ``file:PATH`` or
    ``provider:MODULE:NAME``, for sealing keys that the TEE does not give itself. ``dstack_socket``: the guest agent's,
    if it is not in its usual place under ``root``. ``simulated_key`` (a file) and ``simulated_signer`` (any name): the
    simulated TEE's.
    """

    kind: str = SIMULATED
    root: Path = Path("/")
    key_source: str | None = None
    dstack_socket: Path | None = None
    simulated_key: Path | None = None
    simulated_signer: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in TEES:
            raise InvalidInput(f"there is no TEE {self.kind!r}: there are {', '.join(TEES)}")
        useless = {
            "a key source": self.key_source is not None and self.kind not in _WITH_KEY_SOURCE,
            "a dstack socket": self.dstack_socket is not None and self.kind != "dstack",
            "a simulated key": self.simulated_key is not None and self.kind != SIMULATED,
            "a simulated signer": self.simulated_signer is not None and self.kind != SIMULATED,
            "a root folder": self.root != Path("/") and self.kind == SIMULATED,
        }
        for what, given in useless.items():
            if given:
                raise InvalidInput(f"the TEE {self.kind!r} has no use for {what}")

    def arguments(self) -> list[str]:
        """The choice as arguments of ``python -m pmap``."""
        given: list[tuple[str, object]] = [
            ("--tee", None if self.kind == SIMULATED else self.kind),
            ("--tee-root", None if self.root == Path("/") else self.root),
            ("--key-source", self.key_source),
            ("--dstack-socket", self.dstack_socket),
            ("--simulated-key", self.simulated_key),
            ("--simulated-signer", self.simulated_signer),
        ]
        return [text for name, value in given if value is not None for text in (name, str(value))]


SIMULATED_TEE: Final = TeeChoice()
"""The simulated TEE without a key: for enclaves that keep no state."""
