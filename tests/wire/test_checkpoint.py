"""Checkpoints: the signed text, the compact form, and notes by us, by witnesses and by attackers."""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.checkpoint import (
    CHECKPOINT_BYTES,
    Checkpoint,
    decode_evidence,
    encode_evidence,
    key_id,
    parse_note,
    position,
    sign_checkpoint,
    verify_checkpoint,
)
from wire.crypto import SigningKey, verify
from wire.errors import EvidenceInvalid, Malformed
from wire.limits import MAX_NOTE_BYTES, MAX_TREE_SIZE

KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(32))
STORE_ID = bytes(range(16))
NAME = "pmap.store/000102030405060708090a0b0c0d0e0f"
ROOT = sha256(b"root").digest()
CHECKPOINT = sign_checkpoint(KEY, STORE_ID, 20852163, ROOT)
NOTE = CHECKPOINT.note(KEY.public)
WITNESS_LINE = "— witness.example/w1 " + b64encode(b"\x00\x00\x00\x01" + bytes(72)).decode() + "\n"


def sign_text(body: str) -> str:
    """A note over any text, correctly signed by our key: only the checkpoint format can refuse it."""
    signed = key_id(NAME, KEY.public) + KEY.sign(body.encode())
    return f"{body}\n— {NAME} {b64encode(signed).decode()}\n"


def test_the_signed_text_is_the_three_lines_of_a_tlog_checkpoint() -> None:
    assert CHECKPOINT.origin == NAME
    assert CHECKPOINT.body() == f"{NAME}\n20852163\n{b64encode(ROOT).decode()}\n".encode()
    verify(KEY.public, CHECKPOINT.signature, CHECKPOINT.body())


def test_the_note_is_the_text_an_empty_line_and_one_signature_line() -> None:
    text, signature = NOTE.split("\n\n")
    assert text + "\n" == CHECKPOINT.body().decode()
    dash, name, encoded = signature.removesuffix("\n").split(" ")
    assert (dash, name) == ("\u2014", NAME)
    assert b64decode(encoded) == sha256(NAME.encode() + b"\n\x01" + KEY.public).digest()[:4] + CHECKPOINT.signature
    assert NOTE.endswith("\n")


@pytest.mark.parametrize(
    ("name", "expected", "typed_key"),
    [
        ("PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"),
        ("sum.golang.org", "033de0ae", "Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"),
    ],
)
def test_well_known_note_keys_have_their_published_ids(name: str, expected: str, typed_key: str) -> None:
    assert key_id(name, b64decode(typed_key)[1:]).hex() == expected


@given(size=st.integers(0, MAX_TREE_SIZE), root=st.binary(min_size=32, max_size=32))
def test_both_forms_of_a_checkpoint_read_back_as_the_same(size: int, root: bytes) -> None:
    checkpoint = sign_checkpoint(KEY, STORE_ID, size, root)
    verify_checkpoint(checkpoint, KEY.public)
    encoded = checkpoint.encode()
    assert encoded == size.to_bytes(8, "big") + root + checkpoint.signature
    assert len(encoded) == CHECKPOINT_BYTES == 104
    assert Checkpoint.decode(STORE_ID, encoded) == checkpoint
    assert parse_note(checkpoint.note(KEY.public), KEY.public) == checkpoint


@pytest.mark.parametrize("position", range(CHECKPOINT_BYTES))
def test_a_checkpoint_with_any_altered_byte_does_not_verify(position: int) -> None:
    altered = bytearray(CHECKPOINT.encode())
    altered[position] ^= 0x01
    checkpoint = Checkpoint.decode(STORE_ID, bytes(altered))
    with pytest.raises(EvidenceInvalid):
        verify_checkpoint(checkpoint, KEY.public)


def test_a_checkpoint_of_another_store_or_by_another_key_does_not_verify() -> None:
    with pytest.raises(EvidenceInvalid):
        verify_checkpoint(Checkpoint.decode(bytes(16), CHECKPOINT.encode()), KEY.public)
    for key in (OTHER_KEY.public, b"", bytes(31), b"\xff" * 32):
        with pytest.raises(EvidenceInvalid):
            verify_checkpoint(CHECKPOINT, key)


@pytest.mark.parametrize("data", [b"", CHECKPOINT.encode()[:-1], CHECKPOINT.encode() + b"\x00", b"\xff" * 104])
def test_bytes_that_are_no_checkpoint_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Checkpoint.decode(STORE_ID, data)


@pytest.mark.parametrize(
    "fields",
    [
        (bytes(15), 1, ROOT, bytes(64)),
        (STORE_ID, -1, ROOT, bytes(64)),
        (STORE_ID, MAX_TREE_SIZE + 1, ROOT, bytes(64)),
        (STORE_ID, 1, bytes(31), bytes(64)),
        (STORE_ID, 1, ROOT, bytes(63)),
    ],
)
def test_a_checkpoint_with_a_field_of_the_wrong_size_cannot_be_made(fields: tuple[bytes, int, bytes, bytes]) -> None:
    with pytest.raises(Malformed):
        Checkpoint(*fields)


@pytest.mark.parametrize("size", [0, 1, MAX_TREE_SIZE])
def test_a_checkpoint_of_any_size_is_signed_and_read_back(size: int) -> None:
    checkpoint = sign_checkpoint(KEY, STORE_ID, size, ROOT)
    assert checkpoint == Checkpoint(STORE_ID, size, ROOT, KEY.sign(checkpoint.body()))
    assert checkpoint.encode() == position(size, ROOT) + checkpoint.signature == encode_evidence(checkpoint)
    assert decode_evidence(STORE_ID, checkpoint.encode()) == checkpoint
    verify_checkpoint(checkpoint, KEY.public)


def test_no_evidence_travels_as_no_bytes() -> None:
    assert encode_evidence(None) == b""
    assert decode_evidence(STORE_ID, b"") is None
    with pytest.raises(Malformed):
        decode_evidence(STORE_ID, b"\x00")


# --- notes --------------------------------------------------------------------------------------------


def test_signatures_by_witnesses_are_ignored_before_and_after_ours() -> None:
    text, ours = NOTE.split("\n\n")
    many = WITNESS_LINE * 16
    for signatures in (many + ours, ours + many, WITNESS_LINE + ours + WITNESS_LINE):
        assert parse_note(f"{text}\n\n{signatures}", KEY.public) == CHECKPOINT


def test_sixteen_post_quantum_witnesses_fit_into_a_note() -> None:
    ml_dsa_44 = "— witness.example/pq " + b64encode(bytes(4 + 8 + 2420)).decode() + "\n"
    assert parse_note(NOTE + ml_dsa_44 * 16, KEY.public) == CHECKPOINT


def test_a_line_with_our_name_and_another_key_id_is_a_signature_by_an_unknown_key() -> None:
    line = f"— {NAME} " + b64encode(b"\x00\x00\x00\x01" + bytes(64)).decode() + "\n"
    assert parse_note(NOTE + line, KEY.public) == CHECKPOINT


def test_a_line_with_our_key_id_and_another_name_is_a_signature_by_an_unknown_key() -> None:
    line = "— other.example/log " + b64encode(key_id(NAME, KEY.public) + bytes(64)).decode() + "\n"
    assert parse_note(NOTE + line, KEY.public) == CHECKPOINT


def test_a_note_without_a_signature_by_our_key_is_no_evidence() -> None:
    text = NOTE.split("\n\n")[0]
    for note in (f"{text}\n\n{WITNESS_LINE}", CHECKPOINT.note(OTHER_KEY.public)):
        with pytest.raises(EvidenceInvalid):
            parse_note(note, KEY.public)


def test_a_note_whose_signature_was_made_for_another_text_is_no_evidence() -> None:
    longer = Checkpoint(STORE_ID, CHECKPOINT.size + 1, ROOT, CHECKPOINT.signature)
    with pytest.raises(EvidenceInvalid):
        parse_note(longer.note(KEY.public), KEY.public)


def test_two_signatures_by_our_key_are_malformed() -> None:
    with pytest.raises(Malformed):
        parse_note(NOTE + NOTE.split("\n\n")[1], KEY.public)


ENCODED_ROOT = b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(f"{NAME}\n01\n{ENCODED_ROOT}\n", id="leading zero"),
        pytest.param(f"{NAME}\n00\n{ENCODED_ROOT}\n", id="two zeros"),
        pytest.param(f"{NAME}\n+1\n{ENCODED_ROOT}\n", id="sign"),
        pytest.param(f"{NAME}\n-1\n{ENCODED_ROOT}\n", id="negative"),
        pytest.param(f"{NAME}\n1_0\n{ENCODED_ROOT}\n", id="underscore"),
        pytest.param(f"{NAME}\n 1\n{ENCODED_ROOT}\n", id="space"),
        pytest.param(f"{NAME}\n\u0661\n{ENCODED_ROOT}\n", id="digit of another script"),
        pytest.param(f"{NAME}\n\n{ENCODED_ROOT}\n", id="no size"),
        pytest.param(f"{NAME}\n{MAX_TREE_SIZE + 1}\n{ENCODED_ROOT}\n", id="size over the bound"),
        pytest.param(f"{NAME}\n{'9' * 5000}\n{ENCODED_ROOT}\n", id="size of thousands of digits"),
        pytest.param(f"{NAME}\n1\n{b64encode(bytes(31)).decode()}\n", id="root of 31 bytes"),
        pytest.param(f"{NAME}\n1\n{b64encode(bytes(33)).decode()}\n", id="root of 33 bytes"),
        pytest.param(f"{NAME}\n1\n{ENCODED_ROOT[:-2]}{chr(ord(ENCODED_ROOT[-2]) + 1)}=\n", id="root not canonical"),
        pytest.param(f"{NAME}\n1\n{ENCODED_ROOT.rstrip('=')}\n", id="root without padding"),
        pytest.param(f"{NAME}\n1\n{ENCODED_ROOT}\nextension\n", id="extension line"),
        pytest.param(f"{NAME}\n1\n{ENCODED_ROOT}\n\n", id="empty line in the text"),
        pytest.param(f"{NAME}\n1\n", id="two lines"),
        pytest.param(f"{NAME.upper()}\n1\n{ENCODED_ROOT}\n", id="upper case"),
        pytest.param(f"{NAME}00\n1\n{ENCODED_ROOT}\n", id="store id of 17 bytes"),
        pytest.param(f"example.com/log\n1\n{ENCODED_ROOT}\n", id="another log"),
        pytest.param(f"\n{NAME}\n1\n{ENCODED_ROOT}\n", id="empty first line"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_text_that_is_not_exactly_our_checkpoint_is_malformed_though_signed(body: str) -> None:
    assert parse_note(sign_text(f"{NAME}\n1\n{ENCODED_ROOT}\n"), KEY.public).size == 1
    with pytest.raises(Malformed):
        parse_note(sign_text(body), KEY.public)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("\n", id="empty"),
        pytest.param("- w.example AAAAAAAA\n", id="hyphen for the dash"),
        pytest.param("— w.example\n", id="no signature"),
        pytest.param("—  AAAAAAAA\n", id="no name"),
        pytest.param("— w+x AAAAAAAA\n", id="plus in the name"),
        pytest.param("— w\u00a0x AAAAAAAA\n", id="Unicode space in the name"),
        pytest.param("— w.example AAAA AAAA\n", id="space in the signature"),
        pytest.param("— w.example AAAAAA==\n", id="key id without a signature"),
        pytest.param("— w.example AAAAAAA\n", id="no padding"),
        pytest.param("— w.example AAAAAAB=\n", id="not canonical"),
        pytest.param("— w.example AAAA_AAA\n", id="another alphabet"),
        pytest.param("— w.example AAAAAAAA", id="no newline"),
        pytest.param("— w.example AAAAAAAAA", id="another character for the newline"),
        pytest.param("— w.example AAAAAAAA\r\n", id="carriage return"),
        pytest.param("— w.example\tAAAAAAAA\n", id="tab"),
        pytest.param("— w.exam\x00ple AAAAAAAA\n", id="control character in the name"),
        pytest.param("— w.example AAAAAAAA\n\n", id="empty line after it"),
        pytest.param("— \ud800 AAAAAAAA\n", id="lone surrogate"),
    ],
)
def test_a_signature_line_that_is_not_well_formed_spoils_the_note(line: str) -> None:
    assert parse_note(NOTE + "— w.example AAAAAAAA\n", KEY.public) == CHECKPOINT
    with pytest.raises(Malformed):
        parse_note(NOTE + line, KEY.public)


def test_a_signature_by_our_key_of_another_length_is_malformed() -> None:
    line = f"— {NAME} " + b64encode(key_id(NAME, KEY.public) + bytes(63)).decode() + "\n"
    with pytest.raises(Malformed):
        parse_note(f"{CHECKPOINT.body().decode()}\n{line}", KEY.public)


@pytest.mark.parametrize("character", ["a", "é"])
def test_a_note_over_its_bound_is_malformed(character: str) -> None:
    room = MAX_NOTE_BYTES - len(NOTE.encode()) - len("—  AAAAAAAA\n".encode())
    name = character * (room // len(character.encode()))
    assert parse_note(f"{NOTE}— {name} AAAAAAAA\n", KEY.public) == CHECKPOINT
    with pytest.raises(Malformed):
        parse_note(f"{NOTE}— {name}{character} AAAAAAAA\n", KEY.public)


@given(position=st.integers(0, len(NOTE) - 1), character=st.characters())
def test_a_note_with_any_changed_character_is_refused(position: int, character: str) -> None:
    changed = NOTE[:position] + character + NOTE[position + 1 :]
    if changed != NOTE:
        with pytest.raises((Malformed, EvidenceInvalid)):
            parse_note(changed, KEY.public)


@given(text=st.text())
def test_arbitrary_text_is_refused_with_a_documented_error(text: str) -> None:
    with pytest.raises((Malformed, EvidenceInvalid)):
        parse_note(text, KEY.public)
