"""Rows 59 to 62: what becomes of a client's own state."""

from __future__ import annotations

import pytest
from attack_steps import Attack, forget_state, put_state, save_state, send_unheard
from raw_client import RawClient

from client import ClientStale, EnclaveClient, Fate
from client.effects import Deliver, Effect, Save
from host_store.adversary import MaliciousHost
from wire.errors import Fault


def test_row_59_a_client_restored_from_a_backup(host: MaliciousHost, attack: Attack) -> None:
    with host.client("alice") as alice:
        alice.send(b"add x 1")
    backup = save_state(host, "alice")
    with host.client("alice") as alice:
        alice.send(b"add x 1")
    put_state(host, "alice", backup)
    bob = host.client("bob")
    bob.send(b"get x")
    alice = host.client("alice")
    error = attack.refused_by_enclave(host, lambda: alice.send(b"add x 10"), ClientStale, alice)
    assert error.fault is Fault.CLIENT
    host.restart()
    with host.refuses(ClientStale):
        alice.send(b"add x 10")
    assert bob.send(b"get x").payload == b"2" and bob.verdict is None


def test_row_60_a_client_that_lost_its_state(host: MaliciousHost, attack: Attack) -> None:
    # With its key and nothing else it is told so.
    raw = RawClient()
    raw.hello(host.attestation(), host.deliver)
    raw.mail(b"add x 1", host.deliver)
    forgetful = RawClient(key=raw.key, hellos=9)
    attack.rejected_by_enclave(host, lambda: forgetful.hello(host.attestation(), host.deliver), ClientStale)

    # With a new key it is somebody new, and can be shown an old state like any newcomer.
    bob = host.client("bob")
    with host.client("alice") as alice:
        alice.send(b"put x 2")
        name = alice.client_id
    old = host.snapshot()
    for _ in range(12):
        bob.send(b"put x 3")
    forget_state(host, "alice")
    host.restore(old)
    alice = host.client("alice")
    assert alice.client_id != name and alice.send(b"get x").payload == b"2"
    attack.found_when_caught_up(alice, bob)


def test_row_61_two_devices_with_one_state(host: MaliciousHost, attack: Attack) -> None:
    with host.client("phone") as phone:
        phone.send(b"add x 1")
    put_state(host, "laptop", save_state(host, "phone"))
    with host.client("phone") as phone:
        phone.send(b"add x 1")
    laptop = host.client("laptop")
    attack.refused_by_enclave(host, lambda: laptop.send(b"add x 10"), ClientStale, laptop)
    with host.client("phone") as phone:
        assert phone.send(b"get x").payload == b"2" and phone.verdict is None


def test_two_devices_that_send_equal_mails_are_found_out(host: MaliciousHost) -> None:
    with host.client("phone") as phone:
        phone.send(b"add x 1")
    put_state(host, "laptop", save_state(host, "phone"))
    with host.client("phone") as phone:
        phone.send(b"add x 1")
    with host.client("laptop") as laptop, host.refuses(ClientStale):
        laptop.send(b"add x 1")
    with host.client("phone") as phone:
        assert phone.send(b"get x").payload == b"2" and phone.verdict is None


def test_a_device_is_not_told_the_outcome_of_the_other_ones_equal_mail(host: MaliciousHost) -> None:
    with host.client("phone") as phone:
        phone.send(b"add x 1")
    put_state(host, "laptop", save_state(host, "phone"))
    with host.client("laptop") as laptop, host.dropping("request"):
        send_unheard(laptop, b"add x 1")
    with host.client("phone") as phone:
        phone.send(b"add x 1")
    host.restart()
    with host.client("laptop") as laptop, host.refuses(ClientStale):
        laptop.recover()


class Killed(BaseException):
    """The client's process ends here."""


def kill_at(client: EnclaveClient, effect_number: int, *, before: bool) -> None:
    """Let the client die before or after its n-th coming effect on the world."""
    driver = client._driver
    perform, count = driver._perform, 0

    def mortal(effect: Effect) -> object:
        nonlocal count
        here = isinstance(effect, Deliver | Save) and count == effect_number
        count += isinstance(effect, Deliver | Save)
        if here and before:
            raise Killed
        result = perform(effect)
        if here:
            raise Killed
        return result

    driver._perform = mortal  # type: ignore[method-assign]


@pytest.mark.parametrize("restart", [False, True])
def test_row_62_a_client_that_dies_around_a_send(host: MaliciousHost, attack: Attack, restart: bool) -> None:
    with host.client("alice") as alice:
        alice.send(b"add x 0")
    total, point = 0, 0
    while True:
        for before in (True, False):
            alice = host.client("alice")
            kill_at(alice, point, before=before)
            try:
                alice.send(b"add x 1")
            except Killed:
                died = True
            else:
                died = False
            assert alice._driver._file is not None
            alice._driver._file.close()  # what the end of the process does
            if restart:
                host.restart()
            with host.client("alice") as again:
                settled = again.recover()
                assert all(one.fate is Fate.EXECUTED for one in settled)
                now = int(again.send(b"get x").payload or b"")
                assert now - total in ((0, 1) if died else (1,)), "at most once"
                assert now - total == 1 or not settled, "what was settled was executed"
                assert again.verdict is None
                total = now
        if not died:
            break
        point += 1
    assert point >= 3
    attack.saw("ok")
