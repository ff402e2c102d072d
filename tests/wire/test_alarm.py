"""Alarms: what convinces a third party, and every way in which a liar could try to."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.alarm import ALARM_BYTES, Alarm, Verdict, proves_fork, sign_alarm, verify_alarm
from wire.checkpoint import Checkpoint, parse_note, sign_checkpoint, verify_checkpoint
from wire.crypto import SigningKey
from wire.errors import EvidenceInvalid, InvalidInput, Malformed

KEY = SigningKey(bytes(range(32)))
OTHER_KEY = SigningKey(bytes(32))
STORE_ID = bytes(range(16))
EPOCH = sha256(b"epoch").digest()


def checkpoint(size: int, content: bytes = b"", key: SigningKey = KEY, store_id: bytes = STORE_ID) -> Checkpoint:
    return sign_checkpoint(key, store_id, size, sha256(content).digest())


ROLLBACK = sign_alarm(KEY, Verdict.ROLLBACK, checkpoint(5), checkpoint(9, b"later"), EPOCH)
FORK = sign_alarm(KEY, Verdict.FORK, checkpoint(9), checkpoint(5, b"elsewhere"), EPOCH)
FORK_AT_ONE_SIZE = sign_alarm(KEY, Verdict.FORK, checkpoint(9), checkpoint(9, b"elsewhere"), EPOCH)
ALARMS = [ROLLBACK, FORK, FORK_AT_ONE_SIZE]


def signed_regardless(verdict: Verdict, enclave: Checkpoint, client: Checkpoint, key: SigningKey = KEY) -> Alarm:
    """A statement that our own signing function would refuse to make."""
    draft = Alarm(verdict, enclave, client, EPOCH, bytes(64))
    return replace(draft, signature=key.sign(draft.statement()))


@pytest.mark.parametrize("alarm", ALARMS)
def test_a_true_alarm_verifies_and_survives_its_encoding(alarm: Alarm) -> None:
    verify_alarm(alarm, KEY.public)
    encoded = alarm.encode()
    assert len(encoded) == ALARM_BYTES == 305
    assert Alarm.decode(STORE_ID, encoded) == alarm


def test_the_signed_statement_names_store_verdict_epoch_and_both_checkpoints() -> None:
    head = f"pmap.alarm/1\n{STORE_ID.hex()}\nROLLBACK\n{EPOCH.hex()}\n".encode()
    assert ROLLBACK.statement() == head + ROLLBACK.enclave.body() + ROLLBACK.client.body()


@pytest.mark.parametrize("alarm", ALARMS)
def test_an_alarm_with_any_altered_byte_convinces_nobody(alarm: Alarm) -> None:
    encoded = alarm.encode()
    for position in range(ALARM_BYTES):
        altered = bytearray(encoded)
        altered[position] ^= 0x01
        with pytest.raises((Malformed, EvidenceInvalid)):
            verify_alarm(Alarm.decode(STORE_ID, bytes(altered)), KEY.public)


def test_a_verdict_cannot_be_exchanged_for_the_other() -> None:
    for alarm, other in ((ROLLBACK, Verdict.FORK), (FORK, Verdict.ROLLBACK)):
        with pytest.raises(EvidenceInvalid):
            verify_alarm(replace(alarm, verdict=other), KEY.public)


def test_an_alarm_cannot_be_moved_to_another_store_key_or_epoch() -> None:
    for alarm, key in (
        (Alarm.decode(bytes(16), ROLLBACK.encode()), KEY),
        (ROLLBACK, OTHER_KEY),
        (replace(ROLLBACK, epoch=bytes(32)), KEY),
    ):
        with pytest.raises(EvidenceInvalid):
            verify_alarm(alarm, key.public)


EARLIER = "a rollback needs a client's checkpoint that is later than the enclave's"
LATER = "a fork needs a client's checkpoint that is not later than the enclave's"
MISFITS = [
    pytest.param(Verdict.ROLLBACK, checkpoint(9), checkpoint(5, b"x"), EARLIER, id="rollback to a later state"),
    pytest.param(Verdict.ROLLBACK, checkpoint(9), checkpoint(9, b"x"), EARLIER, id="rollback to the same size"),
    pytest.param(Verdict.FORK, checkpoint(5), checkpoint(9, b"x"), LATER, id="fork seen from a later checkpoint"),
    pytest.param(
        Verdict.FORK, checkpoint(9), checkpoint(9), "the checkpoints are equal", id="fork of equal checkpoints"
    ),
    pytest.param(
        Verdict.ROLLBACK,
        checkpoint(5),
        checkpoint(9, store_id=bytes(16)),
        "the checkpoints are of two stores",
        id="the client's is of another store",
    ),
]


@pytest.mark.parametrize(("verdict", "enclave", "client", "why"), MISFITS)
def test_checkpoints_that_do_not_support_the_verdict_are_refused(
    verdict: Verdict, enclave: Checkpoint, client: Checkpoint, why: str
) -> None:
    with pytest.raises(EvidenceInvalid, match=f"^{why}$"):
        verify_alarm(signed_regardless(verdict, enclave, client), KEY.public)
    with pytest.raises(InvalidInput, match=f"^{why}$"):
        sign_alarm(KEY, verdict, enclave, client, EPOCH)


def test_what_is_signed_is_the_verdict_the_two_checkpoints_and_the_epoch() -> None:
    for verdict, enclave, client in (
        (Verdict.ROLLBACK, checkpoint(5), checkpoint(9, b"later")),
        (Verdict.FORK, checkpoint(9), checkpoint(9, b"elsewhere")),
    ):
        alarm = sign_alarm(KEY, verdict, enclave, client, EPOCH)
        assert alarm == signed_regardless(verdict, enclave, client)
        verify_alarm(alarm, KEY.public)


def test_a_client_cannot_frame_the_host_with_a_checkpoint_that_it_signed_itself() -> None:
    with pytest.raises(EvidenceInvalid):
        verify_alarm(signed_regardless(Verdict.ROLLBACK, checkpoint(5), checkpoint(9, key=OTHER_KEY)), KEY.public)


def test_an_enclave_checkpoint_by_another_key_is_refused() -> None:
    with pytest.raises(EvidenceInvalid):
        verify_alarm(signed_regardless(Verdict.ROLLBACK, checkpoint(5, key=OTHER_KEY), checkpoint(9)), KEY.public)


def test_two_honest_checkpoints_without_the_enclaves_own_statement_are_no_alarm() -> None:
    with pytest.raises(EvidenceInvalid):
        verify_alarm(signed_regardless(Verdict.ROLLBACK, checkpoint(5), checkpoint(9), key=OTHER_KEY), KEY.public)


def test_a_signature_of_an_alarm_and_one_of_a_checkpoint_cannot_stand_for_each_other() -> None:
    with pytest.raises(EvidenceInvalid):
        verify_alarm(replace(ROLLBACK, signature=ROLLBACK.enclave.signature), KEY.public)
    with pytest.raises(EvidenceInvalid):
        verify_checkpoint(replace(ROLLBACK.enclave, signature=ROLLBACK.signature), KEY.public)
    assert not ROLLBACK.statement().startswith(b"pmap.store/")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ROLLBACK.encode()[:-1],
        ROLLBACK.encode() + b"\x00",
        b"\x00" + ROLLBACK.encode()[1:],
        b"\x03" + ROLLBACK.encode()[1:],
        b"\x01" + b"\xff" * (ALARM_BYTES - 1),
    ],
)
def test_bytes_that_are_no_alarm_are_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Alarm.decode(STORE_ID, data)


@given(data=st.binary(min_size=ALARM_BYTES, max_size=ALARM_BYTES), verdict=st.sampled_from([1, 2]))
def test_random_alarms_are_refused_with_a_documented_error(data: bytes, verdict: int) -> None:
    with pytest.raises((Malformed, EvidenceInvalid)):
        verify_alarm(Alarm.decode(STORE_ID, bytes((verdict,)) + data[1:]), KEY.public)


@pytest.mark.parametrize(("epoch", "signature"), [(bytes(31), bytes(64)), (bytes(32), bytes(65))])
def test_an_alarm_with_a_field_of_the_wrong_length_cannot_be_made(epoch: bytes, signature: bytes) -> None:
    with pytest.raises(Malformed):
        Alarm(Verdict.FORK, checkpoint(9), checkpoint(5), epoch, signature)


@pytest.mark.parametrize("alarm", ALARMS)
def test_the_description_holds_both_notes_so_that_standard_tools_can_check_them(alarm: Alarm) -> None:
    text = alarm.describe(KEY.public)
    assert text.startswith(f"{alarm.verdict.name} of {alarm.enclave.origin}\n")
    _, _, after = text.partition("The enclave's checkpoint:\n\n")
    enclave, _, client = after.partition("\nThe client's checkpoint:\n\n")
    assert parse_note(enclave, KEY.public) == alarm.enclave
    assert parse_note(client, KEY.public) == alarm.client
    assert EPOCH.hex() in text
    assert KEY.public.hex() in text


def test_two_signed_checkpoints_of_one_size_with_different_roots_prove_a_fork() -> None:
    proves_fork(checkpoint(9, b"a"), checkpoint(9, b"b"), KEY.public)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param(checkpoint(9), checkpoint(9), id="the same"),
        pytest.param(checkpoint(9), checkpoint(10, b"x"), id="two sizes"),
        pytest.param(checkpoint(9), checkpoint(9, b"x", store_id=bytes(16)), id="two stores"),
        pytest.param(checkpoint(9), checkpoint(9, b"x", key=OTHER_KEY), id="second not ours"),
        pytest.param(checkpoint(9, key=OTHER_KEY), checkpoint(9, b"x"), id="first not ours"),
    ],
)
def test_checkpoints_that_an_honest_store_could_sign_or_never_signed_prove_no_fork(
    a: Checkpoint, b: Checkpoint
) -> None:
    with pytest.raises(EvidenceInvalid):
        proves_fork(a, b, KEY.public)
