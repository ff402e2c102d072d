"""Invites as text: what comes back, what is none, and what a client does with one."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import replace
from typing import Any

import pytest

from client.invite import Invite
from client.state import ClientState, Pin
from wire.checkpoint import Checkpoint, sign_checkpoint
from wire.codec import pack
from wire.crypto import SigningKey, sha256
from wire.errors import AttestationError, EvidenceInvalid, ForkDetected, InvalidInput, StoreReplaced
from wire.limits import MAX_INVITE_CHARACTERS

KEY, OTHER_KEY = SigningKey(bytes(range(32))), SigningKey(bytes(32))
STORE_ID = bytes(range(16))
PIN = Pin(STORE_ID, KEY.public, b"r" * 32, True)


def checkpoint(size: int, content: bytes = b"c", key: SigningKey = KEY, store_id: bytes = STORE_ID) -> Checkpoint:
    return sign_checkpoint(key, store_id, size, sha256(content))


INVITE = Invite(PIN, checkpoint(5))
FIELDS = [STORE_ID, KEY.public, b"r" * 32, checkpoint(5).encode()]


def text_of(data: bytes, *, check: bytes | None = None) -> str:
    """An invite's text around any bytes."""
    encoded = urlsafe_b64encode(data + (sha256(data)[:4] if check is None else check))
    return "pmap-invite:1:" + encoded.decode().rstrip("=")


def test_an_invite_is_its_fields_with_their_check_and_comes_back() -> None:
    assert INVITE.encode() == text_of(pack(FIELDS))
    assert Invite.parse(INVITE.encode()) == Invite.parse(f" \n{INVITE.encode()}\t\n") == INVITE


def test_invites_whose_bytes_fill_their_last_characters_or_not_come_back() -> None:
    texts = [Invite(replace(PIN, roster=sha256(b"%d" % number)), checkpoint(5)).encode() for number in range(60)]
    # The same length for all, but many last characters, and both that are special in this alphabet.
    assert any("-" in text for text in texts) and any("_" in text for text in texts)
    for text in texts:
        assert Invite.parse(text).encode() == text


def test_a_client_without_a_checkpoint_invites_nobody_and_one_with_it_to_its_store() -> None:
    state = ClientState(bytes(32), pin=PIN)
    with pytest.raises(InvalidInput, match="no evidence"):
        Invite.of(state)
    state.highest = checkpoint(5)
    assert Invite.of(state) == INVITE


@pytest.mark.parametrize(
    "fields",
    [
        [],
        FIELDS[:-1],
        [*FIELDS, b""],
        [STORE_ID[1:], *FIELDS[1:]],
        [bytes(16), *FIELDS[1:]],
        [STORE_ID, KEY.public[1:], *FIELDS[2:]],
        [STORE_ID, OTHER_KEY.public, *FIELDS[2:]],
        [*FIELDS[:2], b"r" * 31, FIELDS[3]],
        [*FIELDS[:2], "r" * 32, FIELDS[3]],
        [*FIELDS[:3], b""],
        [*FIELDS[:3], FIELDS[3][:-1] + b"\x00"],
        [*FIELDS[:3], checkpoint(5, key=OTHER_KEY).encode()],
        b"text",
    ],
)
def test_what_makes_no_sense_or_is_not_signed_is_no_invite(fields: Any) -> None:
    with pytest.raises(InvalidInput, match="no invite"):
        Invite.parse(text_of(pack(fields)))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("pmap-invite:1:", id="only the head"),
        pytest.param(INVITE.encode().replace("1", "2", 1), id="another version"),
        pytest.param(INVITE.encode()[:-1], id="the last character is missing"),
        pytest.param(INVITE.encode() + "A", id="a character too much"),
        pytest.param(INVITE.encode() + "=", id="padding"),
        pytest.param(INVITE.encode() + "!", id="what is no base64"),
        pytest.param(INVITE.encode() + "é", id="what is no ASCII"),
        pytest.param(INVITE.encode()[:20] + "\n" + INVITE.encode()[20:], id="a line's end inside"),
        pytest.param(text_of(pack(FIELDS), check=bytes(4)), id="another check"),
        pytest.param(text_of(pack(FIELDS), check=b""), id="no check"),
        pytest.param(text_of(pack(FIELDS), check=sha256(pack(FIELDS))[:5]), id="a longer check"),
    ],
)
def test_any_other_text_is_no_invite(text: str) -> None:
    with pytest.raises(InvalidInput, match="no invite"):
        Invite.parse(text)


def test_the_longest_text_is_looked_at_and_none_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    text = INVITE.encode()
    assert len(text) < MAX_INVITE_CHARACTERS
    monkeypatch.setattr("client.invite.MAX_INVITE_CHARACTERS", len(text))
    assert Invite.parse(text) == INVITE
    monkeypatch.setattr("client.invite.MAX_INVITE_CHARACTERS", len(text) - 1)
    with pytest.raises(InvalidInput):
        Invite.parse(text)


# --- accepting one ---------------------------------------------------------------------------------------


def test_a_new_client_starts_from_the_invite() -> None:
    state = ClientState(bytes(32))
    INVITE.accept(state)
    assert (state.pin, state.highest) == (PIN, checkpoint(5))


def test_a_client_of_the_store_takes_over_the_roster_and_keeps_the_higher_checkpoint() -> None:
    for known, higher in ((3, 5), (5, 5), (9, 9)):
        state = ClientState(bytes(32), pin=replace(PIN, roster=bytes(32)), highest=checkpoint(known))
        INVITE.accept(state)
        assert (state.pin, state.highest) == (PIN, checkpoint(higher))


@pytest.mark.parametrize(
    ("pin", "highest", "refused"),
    [
        (replace(PIN, store_id=bytes(16)), None, StoreReplaced),
        (replace(PIN, checkpoint_key=OTHER_KEY.public), None, AttestationError),
        (PIN, checkpoint(5, b"another"), ForkDetected),
        (PIN, checkpoint(5, b"another", key=OTHER_KEY), EvidenceInvalid),
    ],
)
def test_an_invite_that_contradicts_what_the_client_knows_is_refused_and_changes_nothing(
    pin: Pin, highest: Checkpoint | None, refused: type[Exception]
) -> None:
    state = ClientState(bytes(32), pin=pin, highest=highest)
    with pytest.raises(refused) as caught:
        INVITE.accept(state)
    assert (state.pin, state.highest) == (pin, highest)
    if isinstance(caught.value, ForkDetected):
        assert caught.value.checkpoint == INVITE.checkpoint
