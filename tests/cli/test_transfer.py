"""Entries in files: what is written is read back, and what is not an entry is refused with its line."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.transfer import Entry, Format, format_of, read_entries, write_entries
from wire.errors import InvalidInput

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["", "\r", "\n", "\r\n", '"', ",", "\x00", "\ufeff", " a ", "\u2028", "\x85", 'a"b\r\n,c']
)


def read(data: bytes, form: Format) -> list[Entry]:
    return list(read_entries(io.BytesIO(data), form))


def written(entries: list[Entry], form: Format) -> bytes:
    target = io.StringIO(newline="")
    assert list(write_entries(target, form, entries)) == entries
    return target.getvalue().encode()


@given(st.lists(st.builds(Entry, TEXTS, TEXTS.map(str.encode))))
def test_csv_gives_back_every_text(entries: list[Entry]) -> None:
    assert read(written(entries, Format.CSV), Format.CSV) == entries


@given(st.lists(st.builds(Entry, TEXTS, TEXTS.map(str.encode) | st.binary(max_size=40))))
def test_json_lines_give_back_every_value(entries: list[Entry]) -> None:
    assert read(written(entries, Format.JSON_LINES), Format.JSON_LINES) == entries


@given(st.binary(max_size=200), st.sampled_from(Format))
def test_any_file_is_read_or_refused_as_invalid_input(data: bytes, form: Format) -> None:
    try:
        entries = read(data, form)
    except InvalidInput:
        return
    assert read(written(entries, Format.JSON_LINES), Format.JSON_LINES) == entries


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "an entry is"),
        ("{", "line 2"),
        ('{"key": "a"}', "an entry is"),
        ('{"key": "a", "value": "b", "value_base64": "Yg=="}', "an entry is"),
        ('{"key": "a", "value": 1}', "texts"),
        ('{"key": "a", "value": "b", "value": "c"}', "twice"),
        ('{"key": "a", "value": "\\ud800"}', "surrogate"),
        ('{"key": "\\ud800", "value_base64": ""}', "surrogate"),
        ('{"key": "a", "value_base64": "Yg"}', "base64"),
        ('{"key": "a", "value_base64": "Y g=="}', "base64"),
        ('{"key": "a", "value_base64": "é"}', "base64"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_json_line_that_is_no_entry_is_refused_with_its_number(line: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"line 2.*{reason}"):
        read(f'{{"key": "good", "value": ""}}\n{line}\n'.encode(), Format.JSON_LINES)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "header"),
        ("a,b\n", "header"),
        ("key,value,more\n", "header"),
        ("key,value\na\n", "line 2 has 1 columns"),
        ("key,value\na,b,c\n", "line 2 has 3 columns"),
        ('key,value\na,"b\n', "line 2"),
        ('key,value\na,"b"c\n', "line 2"),
        ("key,value\ra,b\r", "line 1"),
    ],
)
def test_csv_that_is_no_table_of_entries_is_refused_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read(text.encode(), Format.CSV)


def test_text_that_is_not_utf_8_is_refused_with_its_line() -> None:
    for form, head in ((Format.CSV, b"key,value\n"), (Format.JSON_LINES, b"\n")):
        with pytest.raises(InvalidInput, match="line 2 is not UTF-8"):
            read(head + b"a,\xff\n", form)


def test_csv_columns_stand_in_either_order_and_a_byte_order_mark_is_no_part_of_them() -> None:
    assert read("\ufeffvalue,key\n1,a\n\n2,b\n".encode(), Format.CSV) == [Entry("a", b"1"), Entry("b", b"2")]


def test_bytes_that_are_no_text_cannot_be_written_as_csv() -> None:
    with pytest.raises(InvalidInput, match=r"'k' is not text.*\.jsonl"):
        written([Entry("k", b"\xff")], Format.CSV)


def test_the_reader_tells_how_many_bytes_it_has_consumed() -> None:
    data = "key,value\r\nä,ö\r\n".encode()
    counted: list[int] = []
    list(read_entries(io.BytesIO(data), Format.CSV, counted.append))
    assert sum(counted) == len(data)


@pytest.mark.parametrize("path", ["x.csv", "a/b.CSV", "x.jsonl"])
def test_a_name_tells_the_format(path: str) -> None:
    assert format_of(path).value == path.lower().rpartition(".")[2]


@pytest.mark.parametrize("path", ["-", "x", "x.json", ".csv", "csv"])
def test_a_name_that_tells_no_format_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="--format"):
        format_of(path)
