"""What ``pmap serve`` and ``pmap take-over`` have in common: which enclave runs where."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from wire.errors import InvalidInput

if TYPE_CHECKING:
    from wire.tee.choice import TeeChoice

_Command = TypeVar("_Command", bound=Callable[..., Any])

TEES: Final = ("simulated", "gramine", "snp", "tdx", "dstack", "nitro")
"""As in :mod:`wire.tee.choice`, which the start of the command line does not load."""
_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_NO_TEE: Final = (
    "Name the TEE that the enclave is to run in: --tee KIND, or --enclave-command for one that a program such as"
    " Gramine's loader starts. To run in the simulated one, which protects nothing and is for development, name a file"
    " for its key with --simulated-key FILE."
)


@dataclass(frozen=True, slots=True)
class Where:
    """Either a TEE, or the command that runs the enclave in one."""

    tee: TeeChoice | None
    command: list[str] | None


def tee_options(command: _Command) -> _Command:
    """Give a command the options that :func:`where` reads."""
    options = (
        click.option("--tee", type=click.Choice(TEES), help="The TEE to run in; never guessed."),
        click.option(
            "--simulated-key",
            metavar="FILE",
            type=_FILE,
            help="Run in the simulated TEE, with the sealing key in this file; made if store and file are new."
            " INSECURE: for development.",
        ),
        click.option("--simulated-signer", metavar="NAME", help="Who is said to have signed the code there."),
        click.option(
            "--key-source",
            metavar="SOURCE",
            help="Where the sealing key comes from if not from the TEE (TDX, Nitro, SEV-SNP): vtpm, vtpm:TCTI,"
            " file:PATH, provider:MODULE:NAME.",
        ),
        click.option("--dstack-socket", metavar="PATH", type=_FILE, help="The dstack agent's socket, if elsewhere."),
        click.option(
            "--tee-root", metavar="DIR", type=_FOLDER, help="The folder that the TEE's files are under, for tests. [/]"
        ),
        click.option(
            "--enclave-command",
            metavar="COMMAND",
            help="The program that runs the enclave, such as 'gramine-sgx build-sgx/pmap': which enclave, and in which"
            " TEE, is then written in what that program measures, not here.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def where(
    tee: str | None,
    simulated_key: Path | None,
    simulated_signer: str | None,
    key_source: str | None,
    dstack_socket: Path | None,
    tee_root: Path | None,
    enclave_command: str | None,
) -> Where:
    """What the options say. Raises :class:`click.UsageError` and :class:`InvalidInput`."""
    from wire.tee.choice import TeeChoice

    given = (tee, simulated_key, simulated_signer, key_source, dstack_socket, tee_root)
    if enclave_command is not None:
        if any(one is not None for one in given):
            raise click.UsageError("--enclave-command says by itself where the enclave runs: leave the others out")
        command = shlex.split(enclave_command)
        if not command:
            raise InvalidInput("--enclave-command is empty")
        return Where(None, command)
    if tee is None and simulated_key is None:
        raise click.UsageError(_NO_TEE)
    choice = TeeChoice(
        tee or TEES[0],
        Path("/") if tee_root is None else tee_root.absolute(),
        key_source,
        None if dstack_socket is None else dstack_socket.absolute(),
        None if simulated_key is None else simulated_key.absolute(),
        simulated_signer,
    )
    return Where(choice, None)


def endorsements_option(command: _Command) -> _Command:
    """Give a command the option ``endorsements``, for :func:`read_endorsements`."""
    return click.option(
        "--endorsements",
        metavar="DIR",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="What the vendor says of this machine, for the other side of a hand-over: collateral.json (Intel), .pem"
        " and .der files of the chain (AMD).",
    )(command)


def read_endorsements(folder: Path | None) -> bytes:
    """The folder's files, encoded for another host. Raises :class:`InvalidInput` and what is wrong with them."""
    from wire.limits import MAX_COLLATERAL_BYTES
    from wire.tee.endorsements import Endorsements

    files = {}
    for path in [] if folder is None else folder.iterdir():
        with path.open("rb") as file:
            files[path.name] = file.read(MAX_COLLATERAL_BYTES + 1)
    return Endorsements.of_files(files).encode()
