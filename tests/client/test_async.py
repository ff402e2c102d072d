"""The asynchronous client: the same machine, so the same matrix in short, and what only asyncio does."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from adversarial_host import AdversarialHost, connect, executed
from small_servers import raw_server, serving

from client import (
    AsyncEnclaveClient,
    AsyncHttpTransport,
    AsyncInProcessTransport,
    AsyncKeyValueClient,
    AttestationError,
    ClientStale,
    Fate,
    ForkDetected,
    HostUnavailable,
    InboxMail,
    InvalidInput,
    MailFailed,
    Malformed,
    OutcomeUnknown,
    ReplyWithheld,
    RollbackDetected,
    StoreLocked,
    StoreUnavailable,
    SwapFailed,
)
from client.state_file import StateFile
from pmap.kv import KeyValueEnclave
from wire.limits import MAX_ATTESTATION_BYTES


async def connected(host: AdversarialHost, **settings: Any) -> AsyncEnclaveClient:
    settings = {"constraint": "SEC:INSECURE", "retry_delays": (0.0, 0.0), **settings}
    return await AsyncEnclaveClient.connect(AsyncInProcessTransport(host), **settings)


async def test_mails_receipts_failures_heartbeats_stability(host: AdversarialHost) -> None:
    async with await connected(host) as client:
        reply = await client.send(b"one")
        assert reply.payload == b"done one" and client.receipt == reply.receipt
        with pytest.raises(MailFailed, match="no"):
            await client.send(b"reject no")
        assert (await client.heartbeat()).commit > reply.receipt.commit
        await client.wait_stable(reply.receipt, timeout=10)
        assert client.checkpoint is not None and client.identity is not None and len(client.client_id) == 64


async def test_lost_requests_and_replies(host: AdversarialHost) -> None:
    async with await connected(host) as client:
        await client.send(b"before")
        host.lose_request()
        await client.send(b"one")
        host.lose_reply()
        await client.send(b"two")
        host.lose_reply(then=host.unreachable)
        with pytest.raises(OutcomeUnknown):
            await client.send(b"three")
        host.tamper = host.honest
        (resolved,) = await client.recover()
        assert resolved.fate is Fate.EXECUTED
    assert executed == [b"before", b"one", b"two", b"three"]


async def test_restarts_around_a_mail(host: AdversarialHost, tmp_path: Path) -> None:
    told: list[int] = []
    async with await connected(host, state=tmp_path / "s", on_restart=lambda: told.append(1)) as client:
        await client.send(b"before")
        host.lose_reply(then=host.restart)
        assert (await client.send(b"one")).payload == b"done one"
        host.restart()
        assert (await client.send(b"two")).payload == b"done two"
        host.tamper_poll = lambda messages: []
        host.lose_reply(then=host.restart)
        with pytest.raises(ReplyWithheld):
            await client.send(b"three")
        assert len(told) == 2
    assert executed == [b"before", b"one", b"two", b"three"]


async def test_a_rollback_is_refused_proved_and_remembered(host: AdversarialHost, tmp_path: Path) -> None:
    async with await connected(host, state=tmp_path / "s") as client:
        await client.send(b"one")
        copy = host.keep_copy()
        await client.send(b"two")
    host.roll_back(copy)
    executed.clear()
    for _ in range(2):
        async with await connected(host, state=tmp_path / "s") as client:
            with pytest.raises(RollbackDetected) as caught:
                await client.send(b"x")
            assert caught.value.alarm is not None and client.verdict is not None
    assert executed == []
    async with await connected(host, state=tmp_path / "s") as client:
        await client.accept_rollback()
        assert client.verdict is None


async def test_a_stale_state_is_refused(host: AdversarialHost, tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with await connected(host, state=path) as client:
        await client.send(b"one")
    backup = path.read_bytes()
    async with await connected(host, state=path) as client:
        await client.send(b"two")
    path.write_bytes(backup)
    async with await connected(host, state=path) as client:
        with pytest.raises(ClientStale):
            await client.send(b"three")


async def test_comparing_and_inviting(host: AdversarialHost) -> None:
    async with await connected(host) as alice:
        await alice.send(b"a")
        async with await connected(host, invite=await alice.invite()) as bob:
            await bob.send(b"b")
            assert bob.checkpoint is not None
            await alice.compare(bob.checkpoint)
            host.consistency = lambda size1, size2: []  # type: ignore[method-assign]
            await alice.send(b"c")
            with pytest.raises(ForkDetected):
                await alice.compare(bob.checkpoint)


async def test_inbox_mails(host: AdversarialHost) -> None:
    async with await connected(host) as alice, await connected(host) as bob:
        await bob.heartbeat()
        await alice.send(b"mail " + bob.client_id.encode() + b" hello")
        assert await bob.poll() == [InboxMail(0, b"hello")]
        assert await bob.poll() == []


async def test_one_state_file_has_one_client_of_either_kind(host: AdversarialHost, tmp_path: Path) -> None:
    async with await connected(host, state=tmp_path / "s") as client:
        name = client.client_id
        with pytest.raises(StoreLocked):
            await connected(host, state=tmp_path / "s")
        with pytest.raises(StoreLocked):
            connect(host, state=tmp_path / "s")
        await client.send(b"async")
    with connect(host, state=tmp_path / "s") as sync_client:
        assert sync_client.client_id == name
        assert sync_client.send(b"sync").payload == b"done sync"


async def test_many_tasks_share_one_client(host: AdversarialHost, tmp_path: Path) -> None:
    async with await connected(host, state=tmp_path / "s") as client:

        async def work(topic: str) -> list[bytes | None]:
            return [(await client.send(f"{topic}-{n}".encode(), topic=topic)).payload for n in range(5)]

        results = await asyncio.gather(*(work(f"t{n}") for n in range(12)))
        assert results == [[f"done t{t}-{n}".encode() for n in range(5)] for t in range(12)]
        same = await asyncio.gather(*(client.send(b"x%d" % n) for n in range(10)))
        assert [reply.payload for reply in same] == [b"done x%d" % n for n in range(10)]
    assert len(executed) == len(set(executed)) == 70


async def test_a_cancelled_send_stays_pending_and_is_settled(host: AdversarialHost, tmp_path: Path) -> None:
    async with await connected(host, state=tmp_path / "s") as client:
        await client.send(b"before")
        genuine, waiting = host.deliver, asyncio.Event()

        def swallow(envelope: bytes) -> Future[bytes]:
            genuine(envelope)
            waiting.set()
            return Future()

        host.deliver = swallow  # type: ignore[method-assign]
        task = asyncio.create_task(client.send(b"cancelled"))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        host.deliver = genuine  # type: ignore[method-assign]
    async with await connected(host, state=tmp_path / "s") as client:
        (resolved,) = await client.recover()
        assert (resolved.body, resolved.fate) == (b"cancelled", Fate.EXECUTED)
        await client.send(b"after")
    assert executed == [b"before", b"cancelled", b"after"]


async def test_a_client_that_cannot_write_its_state_sends_nothing(
    host: AdversarialHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: StateFile, state: bytes, *, durable: bool) -> None:
        raise StoreUnavailable("no space left on device")

    async with await connected(host, state=tmp_path / "s") as client:
        with monkeypatch.context() as patch:
            patch.setattr(StateFile, "write", full)
            with pytest.raises(StoreUnavailable):
                await client.send(b"one")
        assert host.sent == []
        assert (await client.send(b"two")).payload == b"done two"


async def test_a_connection_that_fails_lets_the_state_go(host: AdversarialHost, tmp_path: Path) -> None:
    with pytest.raises(AttestationError):
        await connected(host, state=tmp_path / "s", constraint="C:" + "0" * 64 + " SEC:INSECURE")
    with pytest.raises(ZeroDivisionError):
        async with await connected(host, state=tmp_path / "s"):
            raise ZeroDivisionError
    await (await connected(host, state=tmp_path / "s")).close()


async def test_errors_inside_a_host_in_the_same_process_are_translated(host: AdversarialHost) -> None:
    transport = AsyncInProcessTransport(host)
    host.tamper = lambda envelope: (_ for _ in ()).throw(StoreUnavailable("the disk is full"))
    with pytest.raises(HostUnavailable, match="the disk is full"):
        await transport.deliver(b"x")
    with pytest.raises(HostUnavailable):
        await transport.consistency(5, 1)
    with pytest.raises(Malformed):
        await transport.poll(b"too short")
    await transport.close()


async def test_a_host_that_does_not_answer_in_time(host: AdversarialHost) -> None:
    transport = AsyncInProcessTransport(host, timeout=0.02)
    late: Future[bytes] = Future()
    host.deliver = lambda envelope: late  # type: ignore[method-assign]
    with pytest.raises(HostUnavailable, match="in time"):
        await transport.deliver(b"x")
    assert not late.cancelled(), "the promise is the host's"
    late.set_result(b"too late")


async def test_over_http(host: AdversarialHost, tmp_path: Path) -> None:
    with serving(host, "/base") as url:
        async with await AsyncEnclaveClient.connect(url, constraint="SEC:INSECURE", state=tmp_path / "s") as client:
            early = (await client.send(b"one")).receipt.checkpoint
            host.restart()
            assert (await client.send(b"two")).payload == b"done two"
            assert await client.poll() == []
            assert early is not None
            await client.compare(early)


async def test_http_answers_are_bounded_in_bytes_and_time(host: AdversarialHost) -> None:
    def flood(connection: Any) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        for _ in range(100):
            connection.sendall(bytes(65536))

    with raw_server(flood) as url:
        transport = AsyncHttpTransport(url, timeout=10)
        with pytest.raises(Malformed, match=f"more than {MAX_ATTESTATION_BYTES}"):
            await transport.attestation()
        await transport.close()
    transport = AsyncHttpTransport(url, timeout=5)
    with pytest.raises(HostUnavailable):
        await transport.attestation()  # that server is gone
    await transport.close()
    await transport.close()

    def silent(connection: Any) -> None:
        while connection.recv(65536):
            pass

    with raw_server(silent) as url:
        transport = AsyncHttpTransport(url, timeout=0.1)
        with pytest.raises(HostUnavailable):
            await transport.deliver(b"x")
        await transport.close()


async def test_without_aiohttp_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(InvalidInput, match=r"needs aiohttp: install pmap\[client\]"):
        await AsyncEnclaveClient.connect("http://127.0.0.1:1", constraint="SEC:INSECURE")


async def test_a_closed_client_says_so(host: AdversarialHost) -> None:
    client = await connected(host)
    await client.close()
    await client.close()
    with pytest.raises(InvalidInput, match="closed"):
        await client.send(b"x")


async def test_the_key_value_client(tmp_path: Path) -> None:
    host = AdversarialHost(tmp_path / "store", KeyValueEnclave)
    async with AsyncKeyValueClient(await connected(host)) as kv:
        await kv.put("a", b"1")
        await kv.update({f"k{number}": b"v" for number in range(20)}, named=b"n")
        assert (await kv.get("a"), await kv.get("x", b"d"), await kv.contains("a"), await kv.get("\ud800")) == (
            b"1",
            b"d",
            True,
            None,
        )
        assert [key async for key, _ in kv.scan(prefix="k1", limit=3)] == ["k1", "k10", "k11"]
        assert await kv.compare_and_swap("a", b"1", b"2") and not await kv.compare_and_swap("a", b"1", b"3")
        assert await kv.pop("a") == b"2" and await kv.pop("a", None) is None
        with pytest.raises(KeyError):
            await kv.pop("a")
        assert await kv.delete("named") and not await kv.delete("named")
        async with kv.batch() as batch:
            batch.put("b", b"1").get("b")
        assert batch.results == [None, b"1"]
        with pytest.raises(SwapFailed):
            async with kv.batch() as batch:
                batch.put("c", b"1").compare_and_swap("b", b"x", None)
        assert await kv.size() == 21
        await kv.clear()
        assert (await kv.usage()).entries == 0
        assert kv.client.client_id[:16] in repr(kv)
    host.close()
