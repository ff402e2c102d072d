"""The web interface as bytes: which request is made, which addresses there are, and what an answer means."""

from __future__ import annotations

import json

import pytest

from client.http_interface import (
    Call,
    attestation_call,
    check_status,
    consistency_call,
    decode_list,
    deliver_call,
    parse_url,
    poll_call,
)
from wire.codec import pack
from wire.errors import (
    HostUnavailable,
    InvalidInput,
    MailTooLarge,
    Malformed,
    PmapError,
    ReplyWithheld,
    SessionUnknown,
    Undecryptable,
)
from wire.limits import (
    MAX_ATTESTATION_BYTES,
    MAX_CONSISTENCY_BYTES,
    MAX_ENVELOPE_BYTES,
    MAX_HTTP_ERROR_BYTES,
    MAX_POLL_BYTES,
)


def test_each_request_has_its_method_path_body_and_bound() -> None:
    assert attestation_call() == Call("GET", "/attestation", None, MAX_ATTESTATION_BYTES)
    assert deliver_call(b"envelope") == Call("POST", "/deliver-mail", b"envelope", MAX_ENVELOPE_BYTES)
    assert poll_call(b"session") == Call("POST", "/poll-mail", b"session", MAX_POLL_BYTES)
    assert consistency_call(3, 7) == Call("GET", "/consistency?from=3&to=7", None, MAX_CONSISTENCY_BYTES)


def test_an_error_may_be_as_long_as_an_error_and_an_answer_as_long_as_its_kind() -> None:
    call = poll_call(b"session")
    assert call.allowed(200) == MAX_POLL_BYTES
    assert {call.allowed(status) for status in (201, 204, 301, 400, 500)} == {MAX_HTTP_ERROR_BYTES}


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "path"),
    [
        ("http://127.0.0.1:8080", "http", "127.0.0.1", 8080, ""),
        ("https://host", "https", "host", None, ""),
        ("http://[::1]:80/store/", "http", "::1", 80, "/store/"),
        ("http://host:1", "http", "host", 1, ""),
    ],
)
def test_an_address_is_read(url: str, scheme: str, host: str, port: int | None, path: str) -> None:
    parts = parse_url(url)
    assert (parts.scheme, parts.hostname, parts.port, parts.path) == (scheme, host, port, path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "ftp://host",
        "http://",
        "http://:80",
        "http://host:0",
        "http://host:65536",
        "http://host:x",
        "http://user@host",
        "http://@host",
        "http://host/?query",
        "http://host/#fragment",
        "http://[::1",
        None,
        b"http://host",
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        parse_url(url)


def test_a_refused_address_is_shown_to_its_first_200_characters() -> None:
    with pytest.raises(InvalidInput, match="like http://127.0.0.1:8080, not '" + "x" * 200 + "'$"):
        parse_url("x" * 201)


def answer(**fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (409, answer(error="session_unknown", message="who?"), SessionUnknown, "who?"),
        (413, answer(error="too_large", message="m"), MailTooLarge, "m"),
        (400, answer(error="malformed", message="m"), Malformed, "m"),
        (400, answer(error="undecryptable", message="m"), Undecryptable, "m"),
        (503, answer(error="reply_withheld", message="m"), ReplyWithheld, "m"),
        (503, answer(error="another", message="m"), HostUnavailable, "m"),
        # Where the host gives no code the status speaks, and where it gives one the status does not.
        (400, answer(error="session_unknown", message="m"), SessionUnknown, "m"),
        (413, answer(message="m"), MailTooLarge, "m"),
        (400, answer(error="another"), Malformed, ""),
        (500, answer(), HostUnavailable, ""),
        (413, b"<html>a proxy</html>", MailTooLarge, "<html>a proxy</html>"),
        (204, b"", HostUnavailable, ""),
        # The text is for people: one line, printable, and not too much of it.
        (500, answer(message="\x1b[31mred\nline"), HostUnavailable, " [31mred line"),
        (500, answer(message="ж" * 201), HostUnavailable, "ж" * 200),
        (500, b"x" * 201, HostUnavailable, "x" * 200),
        (500, b"\xffx", HostUnavailable, "\N{REPLACEMENT CHARACTER}x"),
        (500, b"[1]", HostUnavailable, "[1]"),
        (500, answer(error=["session_unknown"], message={"a": 1}), HostUnavailable, "{'a': 1}"),
        (500, b"[" * 16_000, HostUnavailable, "[" * 200),
    ],
)
def test_an_answer_that_is_not_good_is_the_error_that_it_tells(
    status: int, body: bytes, error: type[PmapError], text: str
) -> None:
    with pytest.raises(PmapError) as raised:
        check_status(status, body)
    assert type(raised.value) is error
    assert str(raised.value) == f"the host answered {status}: {text}"


def test_a_good_answer_is_no_error_whatever_it_says() -> None:
    check_status(200, answer(error="malformed", message="m"))


def test_a_list_is_byte_strings_up_to_its_bound() -> None:
    assert decode_list(pack([]), 1) == []
    encoded = pack([b"one", b""])
    assert decode_list(encoded, len(encoded)) == [b"one", b""]
    for data, most in ((encoded, len(encoded) - 1), (pack(["text"]), 99), (pack([b"", 1]), 99), (pack(b"one"), 99)):
        with pytest.raises(Malformed):
            decode_list(data, most)
    with pytest.raises(Malformed):
        decode_list(pack([[]]), 99)
