"""The command line ``pmap``.

The commands of who runs a store are here. Those of who uses one come from elsewhere, through the entry-point group
``pmap.commands``: the host side does not import the client's. Each command's module is loaded when the command is
asked for, so ``pmap`` starts quickly; and each error of ours ends here, as a sentence (:mod:`host_store.cli.failure`).
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, distributions
from typing import Any, Final

import click

from host_store.cli.failure import Failure
from wire.errors import PmapError

COMMANDS_GROUP: Final = "pmap.commands"
"""Entry points of this group are commands: the name is the command's, the object a :class:`click.Command`."""
_HOST_COMMANDS: Final = {
    "serve": "host_store.cli.serve",
    "status": "host_store.cli.status",
    "backup": "host_store.cli.backup",
    "restore": "host_store.cli.backup",
    "take-over": "host_store.cli.take_over",
}
"""Name -> module with a command of that name."""


class Commands(click.Group):
    """The root group: commands of the host side and from entry points, loaded late."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, the host side's first."""
        return [*_HOST_COMMANDS, *sorted(_from_elsewhere())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command; None if there is none of this name. Raises :class:`click.ClickException`."""
        if cmd_name in _HOST_COMMANDS:
            return _checked(cmd_name, getattr(import_module(_HOST_COMMANDS[cmd_name]), cmd_name.replace("-", "_")))
        found = _from_elsewhere().get(cmd_name)
        if found is None:
            return None
        try:
            return _checked(cmd_name, found.load())
        except (ImportError, AttributeError) as error:
            raise click.ClickException(f"the command '{cmd_name}' ({found.value}) cannot be loaded: {error}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Two sections, by who needs a command."""
        elsewhere = sorted(_from_elsewhere())
        for title, names in (("Running a store", list(_HOST_COMMANDS)), ("Using one", elsewhere)):
            if names:
                with formatter.section(title):
                    formatter.write_dl([(name, self._short_help(ctx, name)) for name in names])

    def _short_help(self, ctx: click.Context, name: str) -> str:
        try:
            command = self.get_command(ctx, name)
        except click.ClickException as error:
            return f"({error.message})"  # one that is broken must not keep the help from being shown
        return "" if command is None else command.get_short_help_str(limit=90)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it raises of ours becomes a sentence and an exit code."""
        try:
            return super().invoke(ctx)
        except PmapError as error:
            raise Failure.of(error) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise  # click ends quietly: whoever read our output has had enough
            raise click.ClickException(_sentence(error)) from error


def _from_elsewhere() -> dict[str, EntryPoint]:
    # Not entry_points(), which asks one distribution of each name: old metadata of a build in the current folder would
    # hide that of the installed package.
    found: dict[str, EntryPoint] = {}
    for distribution in distributions():
        for entry_point in distribution.entry_points.select(group=COMMANDS_GROUP):
            if entry_point.name not in _HOST_COMMANDS:
                found.setdefault(entry_point.name, entry_point)
    return found


def _checked(name: str, command: object) -> click.Command:
    if not isinstance(command, click.Command):
        raise click.ClickException(f"the command '{name}' cannot be loaded: {command!r} is no command")
    return command


def _sentence(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"cannot use '{error.filename}': {reason}" if error.filename is not None else f"the system refuses: {reason}"


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="pmap", message="%(prog)s %(version)s")
def main() -> None:
    """An encrypted key-value store that an untrusted host keeps for you, and cannot take back in time unnoticed.

    An enclave holds the data; the host runs it, owns the disk, and sees ciphertext only. Each client keeps evidence
    of what it was told, so a host that restores an old copy of the store is caught at the next mail.

    \b
    See all of it at work, in about a minute:
      pmap demo

    \b
    Run a store for development, and use it from another terminal:
      pmap serve --store ./store --simulated-key ./dev.key
      export PMAP_CONSTRAINT=SEC:INSECURE    # accept the simulated TEE
      pmap put greeting 'hello world'
      pmap get greeting

    \b
    Exit codes: 0 done; 1 failed, or a value makes no sense; 2 no such command or option;
                3 the host was caught: a rollback or fork, with the proof on standard error.
    """
