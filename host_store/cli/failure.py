"""How an error of ours looks at the command line: what happened, whose fault it is, what to do."""

from __future__ import annotations

import re
from typing import IO, Any, Final

import click

from wire.errors import (
    AttestationError,
    ClientStale,
    Fault,
    ForkDetected,
    HandlerFailed,
    IdentityMismatch,
    InvalidInput,
    OutcomeUnknown,
    PmapError,
    ReplyWithheld,
    RollbackDetected,
    StoreReplaced,
    WrongShard,
)

EXIT_FAILED: Final = 1
EXIT_HOST_CAUGHT: Final = 3
"""A rollback or fork verdict: what a script must not take for a passing failure."""

_AT_FAULT: Final = {
    Fault.CLIENT: "this client's fault",
    Fault.HOST: "the host's fault",
    Fault.NETWORK: "the network's fault, or the host's",
}
"""Nothing is said of the caller's own mistakes (the sentence says what to change), nor where it is not known."""

_OTHER_WORDS: Final[dict[type[PmapError], str]] = {
    HandlerFailed: "refused by the enclave",
    IdentityMismatch: "not the enclave you asked for",
}
"""Where the class's name says it less well."""

_CAUGHT: Final = "Nothing was executed, and nothing will be: this verdict stays. Do not trust this host with the data."
_WHAT_TO_DO: Final[tuple[tuple[type[PmapError], str], ...]] = (
    (RollbackDetected, _CAUGHT),
    (ForkDetected, _CAUGHT),
    (StoreReplaced, "If you meant to begin anew with another store, name a new file with --state."),
    (
        ClientStale,
        "Use the newest state file, and use each one on one device only; or begin anew with another --state.",
    ),
    (
        OutcomeUnknown,
        "The next command of this client settles first what became of it, and sees to it that it is executed.",
    ),
    (
        WrongShard,
        "The keys are spread over several stores (docs/sharding.md): use client.sharded, which asks the right one.",
    ),
    (ReplyWithheld, "The operation was executed; only its answer is missing. Read the entry to see it."),
)


class Failure(click.ClickException):
    """A :class:`PmapError` on its way to the terminal. ``__notes__`` of the error are shown below it."""

    exit_code = EXIT_FAILED

    def __init__(self, error: PmapError) -> None:
        super().__init__(str(error))
        self.error = error

    @classmethod
    def of(cls, error: PmapError) -> Failure:
        """The failure with the exit code that fits the error."""
        return HostCaught(error) if isinstance(error, RollbackDetected | ForkDetected) else cls(error)

    def show(self, file: IO[Any] | None = None) -> None:
        """One red sentence, then what is known beyond it."""
        click.secho(f"Error: {describe(self.error)}", fg="red", err=True, file=file)
        for note in getattr(self.error, "__notes__", ()):
            click.echo(f"\n{note}", err=True, file=file)
        for kind, advice in _WHAT_TO_DO:
            if isinstance(self.error, kind):
                click.echo(advice, err=True, file=file)
                break


class HostCaught(Failure):
    """A rollback or fork verdict."""

    exit_code = EXIT_HOST_CAUGHT


def describe(error: PmapError) -> str:
    """The error in one line: verdict, whose fault, what happened."""
    # A message may carry text from elsewhere: it stays on one line and moves no cursor.
    message = re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", str(error)).strip()
    if type(error) is InvalidInput:
        return message
    verdict = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    for kind, words in _OTHER_WORDS.items():
        if isinstance(error, kind):
            verdict = words
    if type(error) is AttestationError:
        verdict = _OTHER_WORDS[IdentityMismatch]
    at_fault = _AT_FAULT.get(error.fault)
    return f"{verdict}: {message}" if at_fault is None else f"{verdict} ({at_fault}): {message}"
