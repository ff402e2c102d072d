"""``pmap attest show|verify FILE``: evidence in human words, and whether it holds.

FILE is what a TEE gave out (a quote, a report, a document), as bytes or in hexadecimal digits, or the attestation
document that an enclave's host serves. Loaded through the entry-point group ``pmap.commands``.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from wire.attestation import Attestation
from wire.constraint import Constraint
from wire.errors import EvidenceMalformed, InvalidInput, Malformed
from wire.identity import Identity
from wire.limits import MAX_ATTESTATION_BYTES, MAX_COLLATERAL_BYTES, MAX_EVIDENCE_BYTES
from wire.tee.endorsements import Endorsements, order_chain, parse_certificates, parse_snp_tcb
from wire.tee.verify import KINDS, guess_kind, show_evidence, verify_evidence
from wire.tee.x509 import Certificate

_HEX: Final = re.compile(rb"[0-9A-Fa-f\s]+")
_DIGITS: Final = re.compile(r"(?:[0-9a-f]{2}){16,}", re.ASCII)
_SHORTEST_TEXT: Final = 8  # characters
_REPORT_DATA_DIGITS: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_kind_option = click.option(
    "--kind", type=click.Choice(KINDS), help="The kind of evidence; seen from FILE unless said."
)


@click.group()
def attest() -> None:
    """Look at an enclave's evidence, and verify it."""


def register(group: click.Group) -> None:
    """Add the commands of this module to ``group``."""
    group.add_command(attest)


@attest.command()
@click.argument("file", type=_FILE)
@_kind_option
def show(file: Path, kind: str | None) -> None:
    """Print what evidence says of itself. Nothing is verified: use it to learn a measurement, never to trust one."""
    kind, evidence, _ = _read_evidence(file, kind)
    click.echo("NOT VERIFIED: anybody can write such a file.")
    _print(show_evidence(kind, evidence), verified=False)


@attest.command()
@click.argument("file", type=_FILE)
@_kind_option
@click.option("--constraint", metavar="TEXT", help="Also check a constraint, such as 'S:... PROD:1 SEC:SECURE'.")
@click.option("--collateral", type=_FILE, help="Intel's collateral in JSON (SGX, TDX, dstack).")
@click.option(
    "--certificate",
    "certificates",
    type=_FILE,
    multiple=True,
    help="A certificate of AMD's chain (VCEK or VLEK, ASK, ARK), PEM or DER; repeat.",
)
@click.option(
    "--root", "roots", type=_FILE, multiple=True, help="A vendor's root to trust beside those built in; repeat."
)
@click.option("--least-tcb", metavar="N,N,N,N[,N]", help="AMD firmware: boot loader, TEE, SNP, microcode[, FMC].")
@click.option("--report-data", metavar="HEX", help="What the evidence must bind (64 bytes); known for a document.")
@click.option(
    "--at", metavar="TIME", help="Verify as of this time: Unix seconds, or 2026-01-31T12:00:00Z. Now unless said."
)
def verify(
    file: Path,
    kind: str | None,
    constraint: str | None,
    collateral: Path | None,
    certificates: tuple[Path, ...],
    roots: tuple[Path, ...],
    least_tcb: str | None,
    report_data: str | None,
    at: str | None,
) -> None:
    """Verify evidence against its vendor's root, and print whose it is."""
    kind, evidence, bound = _read_evidence(file, kind)
    if report_data is not None:
        bound = _report_data(report_data)
    moment = _time(at)
    endorsements = Endorsements(
        collateral=None if collateral is None else _read(collateral, MAX_COLLATERAL_BYTES).decode("utf-8", "replace"),
        snp_chain=order_chain([one for path in certificates for one in _certificates(path)]),
        roots=tuple(one for path in roots for one in _certificates(path)),
        snp_least_tcb=None if least_tcb is None else parse_snp_tcb(least_tcb),
    )
    chosen = None if constraint is None else Constraint.parse(constraint)
    identity = verify_evidence(kind, evidence, bound, moment, endorsements)
    if chosen is not None:
        chosen.check(identity, moment)
    click.echo("GENUINE" if identity.tee != "simulated" else "SIMULATED: anybody could have made this.")
    click.echo(
        "It meets the constraint." if chosen else "Whether it is the enclave that you want, only --constraint tells."
    )
    if bound is None:
        click.echo("What it binds (report data) was not checked.")
    _print(identity, verified=True)


def _print(identity: Identity, *, verified: bool) -> None:
    rows = [
        (name, "not verified" if name == "security" and not verified else _in_words(value))
        for name, value in identity.describe()
    ]
    rows.append(("to accept this very code", f"C:{identity.measurement.hex()}"))
    if identity.signer is not None:
        rows.append(("or all of its signer", f"S:{identity.signer.hex()} PROD:{identity.product}"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        # Some of it was written by strangers: nothing that a terminal would obey.
        shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in value)
        click.echo(f"  {name.ljust(width)}  {shown}")


def _in_words(value: str) -> str:
    """Zeros as such, and bytes that are a text as that."""
    if _DIGITS.fullmatch(value) is None:
        return value
    data = bytes.fromhex(value)
    if not any(data):
        return f"zeros ({len(data)} bytes)"
    text = data.rstrip(b"\0")
    if len(text) >= _SHORTEST_TEXT and text.isascii() and text.decode("ascii").isprintable():
        return f"{value} (the text {text.decode('ascii')!r})"
    return value


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise InvalidInput(f"{path} has more than {most} bytes")
    return data


def _read_evidence(path: Path, kind: str | None) -> tuple[str, bytes, bytes | None]:
    """Kind, evidence, and what it must bind, where the file is a whole attestation document."""
    data = _read(path, max(MAX_ATTESTATION_BYTES, 2 * MAX_EVIDENCE_BYTES))
    if _HEX.fullmatch(data):
        digits = b"".join(data.split())
        data = bytes.fromhex(digits.decode("ascii")) if len(digits) % 2 == 0 else data
    try:
        document = Attestation.decode(data)
    except Malformed:
        return (kind or guess_kind(data)), data, None
    if kind not in (None, document.tee):
        raise EvidenceMalformed(f"the document's evidence is of kind {document.tee!r}, not {kind}")
    return document.tee, document.evidence, document.report_data()


def _certificates(path: Path) -> list[Certificate]:
    data = _read(path, MAX_EVIDENCE_BYTES)
    try:
        return parse_certificates(data)
    except EvidenceMalformed as error:
        raise InvalidInput(f"{path} holds no certificate in PEM or DER ({error})") from error


def _report_data(text: str) -> bytes:
    if _REPORT_DATA_DIGITS.fullmatch(text) is None:
        raise InvalidInput("--report-data takes pairs of hexadecimal digits: 128 for 64 bytes")
    return bytes.fromhex(text)


def _time(text: str | None) -> int:
    if text is None:
        return int(time.time())
    if re.fullmatch(r"[0-9]{1,11}", text):
        return int(text)
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise InvalidInput("--at takes Unix seconds, or a time such as 2026-01-31T12:00:00Z") from error
