"""What every client command needs: the options that say where and as whom, and a client made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from wire.errors import FreshnessError, HostUnavailable

if TYPE_CHECKING:
    from client.kv import KeyValueClient
    from client.sync import EnclaveClient

_Command = TypeVar("_Command", bound=Callable[..., Any])

_DEFAULT_STATE: Final = Path("~", ".pmap", "client.state")
_NO_CONSTRAINT: Final = (
    "Say which enclaves you accept, with --constraint or in PMAP_CONSTRAINT. A server that was started with"
    " --simulated-key protects nothing and is accepted only by: --constraint SEC:INSECURE (for development)."
    " A real one is named by its code or its signer, such as: --constraint 'S:<64 hexadecimal digits>'."
)


@dataclass(frozen=True, slots=True)
class Connection:
    """Where and as whom to talk."""

    url: str
    state: Path | None
    constraint: str | None
    endorsements: Path | None = None

    @contextmanager
    def client(self, invite: str | None = None) -> Iterator[EnclaveClient]:
        """A connected client. A verdict leaves with the evidence behind it as a note."""
        if self.constraint is None:
            raise click.UsageError(_NO_CONSTRAINT)
        with self._connect(self.constraint, invite) as client:
            try:
                yield client
            except FreshnessError as error:
                _add_evidence(error, client)
                raise

    @contextmanager
    def map(self) -> Iterator[KeyValueClient]:
        """A connected client of the key-value enclave."""
        from client.kv import KeyValueClient

        with self.client() as client:
            yield KeyValueClient(client)

    def _connect(self, constraint: str, invite: str | None) -> EnclaveClient:
        from client.endorsements import NO_ENDORSEMENTS
        from client.sync import EnclaveClient
        from client.transport import HttpTransport

        state = self.state
        if state is None:
            state = _DEFAULT_STATE.expanduser()
            state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        transport = HttpTransport(self.url)
        try:
            transport.attestation()  # whoever mistypes an address shall not wait until the client's patience ends
            return EnclaveClient.connect(
                transport,
                constraint=constraint,
                state=state,
                invite=invite,
                endorsements=NO_ENDORSEMENTS if self.endorsements is None else self.endorsements,
            )
        except BaseException as error:
            transport.close()
            if isinstance(error, HostUnavailable) and error.__cause__ is not None:  # nobody answered at all
                error.add_note(f"Is the server running at {self.url}? Start one with 'pmap serve', or name another.")
            raise


def connection_options(command: _Command) -> _Command:
    """Give a command the options that are the fields of a :class:`Connection`."""
    options = (
        click.option(
            "--url",
            metavar="URL",
            envvar="PMAP_URL",
            default="http://127.0.0.1:8080",
            show_default=True,
            show_envvar=True,
            help="The server.",
        ),
        click.option(
            "--state",
            metavar="FILE",
            envvar="PMAP_STATE",
            type=click.Path(dir_okay=False, path_type=Path),
            show_default=str(_DEFAULT_STATE),
            show_envvar=True,
            help="This client's keys and evidence; made if it is missing. Each client needs its own.",
        ),
        click.option(
            "--constraint",
            metavar="TEXT",
            envvar="PMAP_CONSTRAINT",
            show_envvar=True,
            help="Which enclaves to accept; SEC:INSECURE accepts the simulated TEE.",
        ),
        click.option(
            "--endorsements",
            metavar="DIR",
            envvar="PMAP_ENDORSEMENTS",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            show_envvar=True,
            help="What the TEE's vendor says of the server's platform: collateral.json (Intel), .pem and .der files of"
            " the chain and least-amd-firmware (AMD), root*.pem to trust beside the vendors' own.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _add_evidence(error: FreshnessError, client: EnclaveClient) -> None:
    """Attach the signed evidence behind a verdict to the error, as text to keep."""
    if error.alarm is not None:
        error.add_note(error.alarm.describe(client.checkpoint_key))
    elif error.checkpoint is not None:
        error.add_note(f"The checkpoint that it is about:\n\n{error.checkpoint.note(client.checkpoint_key)}")
