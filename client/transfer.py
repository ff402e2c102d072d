"""Entries in files, one at a time: CSV with the header ``key,value``, and JSON lines.

A JSON line is ``{"key": "...", "value": "..."}``, or with ``value_base64`` where the value is not UTF-8 text. CSV
holds text only. Both are read strictly: what is not understood is refused with its line's number, never skipped.
"""

from __future__ import annotations

import base64
import csv
import json
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import PurePath
from typing import IO, Any, Final, NamedTuple

from wire.errors import InvalidInput
from wire.limits import MAX_TRANSFER_LINE_BYTES

_COLUMNS: Final = ("key", "value")


class Entry(NamedTuple):
    """One entry of a map."""

    key: str
    value: bytes


class Format(Enum):
    """How entries stand in a file; the value is the name's ending."""

    CSV = "csv"
    JSON_LINES = "jsonl"


def format_of(path: str) -> Format:
    """The format that a file's name tells. Raises :class:`InvalidInput` for a name that tells none."""
    ending = PurePath(path).suffix.lower().removeprefix(".")
    try:
        return Format(ending)
    except ValueError as error:
        raise InvalidInput(
            f"'{path}' ends neither in .csv nor in .jsonl: name the format with --format csv or --format jsonl"
        ) from error


def read_entries(
    source: IO[bytes], form: Format, consumed: Callable[[int], object] = lambda _bytes: None
) -> Iterator[Entry]:
    """The entries of an open file, in order.

    ``consumed`` is told the length of each line that was read, in bytes.

    Raises:
        InvalidInput: (while iterating) not of this format; the text names the line.
    """
    lines = _lines(source, consumed)
    return _read_csv(lines) if form is Format.CSV else _read_json_lines(lines)


def write_entries(target: IO[str], form: Format, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Write each entry and yield it, so that the caller can count. ``target`` must not translate line ends.

    Raises:
        InvalidInput: a value is not text, and the format is CSV.
    """
    return _write_csv(target, entries) if form is Format.CSV else _write_json_lines(target, entries)


def json_line(entry: Entry) -> str:
    """An entry as one JSON line, without its end."""
    try:
        fields = {"key": entry.key, "value": entry.value.decode()}
    except UnicodeDecodeError:
        fields = {"key": entry.key, "value_base64": base64.b64encode(entry.value).decode()}
    return json.dumps(fields, ensure_ascii=False)


def _lines(source: IO[bytes], consumed: Callable[[int], object]) -> Iterator[str]:
    number = 0
    while line := source.readline(MAX_TRANSFER_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_TRANSFER_LINE_BYTES:
            raise InvalidInput(f"line {number} is longer than {MAX_TRANSFER_LINE_BYTES} bytes")
        consumed(len(line))
        try:
            # A byte order mark is what spreadsheet programs put before the first line.
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"line {number} is not UTF-8 text") from error


def _read_csv(lines: Iterator[str]) -> Iterator[Entry]:
    # Process-wide in the csv module; its default of 128 KiB is less than a value may have.
    csv.field_size_limit(MAX_TRANSFER_LINE_BYTES)
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, None)
        if header is None or sorted(header) != sorted(_COLUMNS):
            raise InvalidInput("the first line of a CSV file has to be the header 'key,value'")
        key_column = header.index("key")
        for row in reader:
            if not row:
                continue  # an empty line
            if len(row) != len(_COLUMNS):
                raise InvalidInput(f"line {reader.line_num} has {len(row)} columns instead of {len(_COLUMNS)}")
            yield Entry(row[key_column], row[1 - key_column].encode())
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num} is not valid CSV: {error}") from error


def _read_json_lines(lines: Iterator[str]) -> Iterator[Entry]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _entry_of(json.loads(line, object_pairs_hook=_fields_once))
        except (ValueError, RecursionError) as error:  # InvalidInput and JSON's own error are ValueErrors
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise InvalidInput(f"line {number} is not an entry: {reason}") from error


def _fields_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise InvalidInput("a field stands there twice")
    return fields


def _entry_of(untrusted: object) -> Entry:
    if not isinstance(untrusted, dict) or set(untrusted) not in ({"key", "value"}, {"key", "value_base64"}):
        raise InvalidInput('an entry is {"key": "...", "value": "..."}, or with "value_base64" for bytes')
    if not all(isinstance(field, str) for field in untrusted.values()):
        raise InvalidInput("key and value are texts, in quotes")
    try:
        # JSON can spell half of a surrogate pair, which is no text.
        untrusted["key"].encode()
        if "value" in untrusted:
            return Entry(untrusted["key"], untrusted["value"].encode())
    except UnicodeEncodeError as error:
        raise InvalidInput("half of a surrogate pair is no text") from error
    try:
        return Entry(untrusted["key"], base64.b64decode(untrusted["value_base64"], validate=True))
    except (Base64Error, ValueError) as error:
        raise InvalidInput("value_base64 is not base64") from error


def _write_csv(target: IO[str], entries: Iterable[Entry]) -> Iterator[Entry]:
    writer = csv.writer(target)  # with CR LF, as RFC 4180 says; so both are quoted inside values
    writer.writerow(_COLUMNS)
    for entry in entries:
        try:
            writer.writerow((entry.key, entry.value.decode()))
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"the value of {entry.key!r} is not text, which CSV cannot hold: export to .jsonl"
            ) from error
        yield entry


def _write_json_lines(target: IO[str], entries: Iterable[Entry]) -> Iterator[Entry]:
    for entry in entries:
        target.write(json_line(entry) + "\n")
        yield entry
