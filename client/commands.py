"""The command line of who uses a key-value enclave: ``pmap put``, ``get``, ``delete``, ``scan``, ``evidence``.

``pmap`` finds these commands, and those of :mod:`client.transfer_commands`, by the entry-point group ``pmap.commands``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from client.connection import Connection, connection_options
from client.output_file import STDOUT, output_file
from wire.errors import InvalidInput, PmapError

if TYPE_CHECKING:
    from client.sync import EnclaveClient
    from client.transfer import Entry

_Command = TypeVar("_Command", bound=Callable[..., Any])


def wait_stable_options(command: _Command) -> _Command:
    """Give a command that writes the options ``wait_stable`` and ``stable_timeout``, for :func:`report_write`."""
    command = click.option(
        "--stable-timeout",
        type=click.FloatRange(min=0),
        default=10.0,
        show_default=True,
        help="Seconds to wait for that.",
    )(command)
    return click.option(
        "--wait-stable",
        is_flag=True,
        help="Wait until a quorum of the clients holds evidence of the write: then it cannot be undone unnoticed.",
    )(command)


@click.command()
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", "file", type=click.File("rb"), help="Take the value from a file; - is standard input.")
@wait_stable_options
@connection_options
def put(
    key: str, value: str | None, file: IO[bytes] | None, wait_stable: bool, stable_timeout: float, **options: Any
) -> None:
    """Write VALUE, a text or the bytes of a file, under KEY.

    \b
    Examples:
      pmap put greeting 'hello world'
      pmap put logo --file logo.png
      date | pmap put now --file -
    """
    if (value is None) == (file is None):
        raise click.UsageError("Give the value either as an argument or with --file.")
    data = file.read() if file is not None else _encoded(value or "", "value")
    with Connection(**options).map() as entries:
        entries.put(_checked_key(key), data)
        report_write(entries.client, f"stored {key!r}", wait_stable, stable_timeout)


@click.command()
@click.argument("key")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, allow_dash=True),
    default=STDOUT,
    help="Write the value there; - is standard output, and the default.",
)
@connection_options
def get(key: str, output: str, **options: Any) -> None:
    """Print the value of KEY, byte for byte. Exits with 1 if there is none.

    \b
    Examples:
      pmap get greeting
      pmap get logo -o logo.png
    """
    with Connection(**options).map() as entries:
        value = entries.get(_checked_key(key))
    if value is None:
        raise click.ClickException(f"there is no entry {key!r}")
    with output_file(output) as file:
        file.write(value)
    if output == STDOUT and sys.stdout.isatty() and not value.endswith(b"\n"):
        click.echo()


@click.command()
@click.argument("key")
@wait_stable_options
@connection_options
def delete(key: str, wait_stable: bool, stable_timeout: float, **options: Any) -> None:
    """Remove KEY and its value. Exits with 1 if there is none.

    \b
    Example:
      pmap delete greeting
    """
    with Connection(**options).map() as entries:
        if not entries.delete(_checked_key(key)):
            raise click.ClickException(f"there is no entry {key!r}")
        report_write(entries.client, f"deleted {key!r}", wait_stable, stable_timeout)


@click.command()
@click.option("--prefix", help="Only keys that start with this.")
@click.option("--start", help="The first key.")
@click.option("--stop", help="The key to stop before.")
@click.option("--limit", type=click.IntRange(0), help="At most so many entries.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines, as 'pmap import' reads them.")
@connection_options
def scan(
    prefix: str | None, start: str | None, stop: str | None, limit: int | None, as_json: bool, **options: Any
) -> None:
    """Print entries in the order of their keys: the key, a tab, and the value.

    Control characters are shown as escapes, and values that are no text in base64.
    What others change while a long scan runs may or may not be in it.

    \b
    Examples:
      pmap scan --prefix user/
      pmap scan --start b --stop d --limit 100 --json
    """
    from client.transfer import Entry, json_line

    show = json_line if as_json else _line
    with Connection(**options).map() as entries:
        for key, value in entries.scan(start, stop, prefix=prefix, limit=limit):
            click.echo(show(Entry(key, value)))


@click.command()
@click.option(
    "--compare",
    "other",
    metavar="FILE",
    type=click.File("r", "utf-8", "replace"),
    help="Compare with another client's checkpoint in this file.",
)
@click.option("--invite", "make_invite", is_flag=True, help="Print an invite for a new client instead.")
@click.option("--accept-invite", metavar="TEXT", help="Start as a new client from this invite.")
@connection_options
def evidence(other: IO[str] | None, make_invite: bool, accept_invite: str | None, **options: Any) -> None:
    """Print the newest signed checkpoint that this client holds, or compare it with another client's.

    A host can show two groups of clients two histories as long as they never compare. So compare now and then:
    the checkpoint is a short signed text that may travel by any way at all.

    \b
    Examples:
      pmap evidence > mine.checkpoint
      pmap evidence --compare theirs.checkpoint
      pmap evidence --invite                                (for a new client ...)
      pmap evidence --state new.state --accept-invite TEXT  (... who starts from this client's evidence)
    """
    with Connection(**options).client(accept_invite) as client:
        if other is not None:
            client.compare(other.read())
            click.echo("the two checkpoints are of one history")
            return
        invite = client.invite()  # makes sure of a session first, and so of a checkpoint
        checkpoint = client.checkpoint
        assert checkpoint is not None, "there is no invite without one"
        click.echo(invite if make_invite else checkpoint.note(client.checkpoint_key), nl=make_invite)


def report_write(client: EnclaveClient, done: str, wait_stable: bool, stable_timeout: float) -> None:
    """Say what was done and in which commit, and wait for it to become stable if that was asked for."""
    receipt = client.receipt
    assert receipt is not None, "every write has a receipt"
    click.echo(f"{done} in commit {receipt.commit}")
    if wait_stable:
        try:
            client.wait_stable(receipt, stable_timeout)
        except PmapError as error:
            error.add_note("The write itself is done and durable.")
            raise
        click.echo(f"commit {receipt.commit} is stable")


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        # How Python hands over arguments that are no UTF-8.
        raise InvalidInput(f"the {what} is not UTF-8 text: bytes can be stored with --file") from error


def _checked_key(key: str) -> str:
    _encoded(key, "key")
    return key


def _line(entry: Entry) -> str:
    return f"{_printable(entry.key)}\t{_shown(entry.value)}"


def _shown(value: bytes) -> str:
    import base64

    try:
        return _printable(value.decode())
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def _printable(text: str) -> str:
    """What an entry holds must not move the cursor, nor look like two lines."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\\]", lambda found: found[0].encode("unicode_escape").decode(), text)
