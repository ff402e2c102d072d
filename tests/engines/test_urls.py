"""What is wrong with a store's URL, its credentials or its engine is said in one sentence, at the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from engines.command_line import said, serve
from shared_engines import engine

from benchmarks.engine_servers import KINDS, free_port
from host_store.stores import url as urls
from host_store.stores.engine import Patience
from host_store.stores.loading import FORMAT_NAME, INDEX
from host_store.stores.url import StoreUrl, connect
from wire.errors import InvalidInput


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("redis://x/y", "no kind of store 'redis'"),
        ("etcd:x", "begins with etcd://"),
        ("etcd:///prefix", "names no member"),
        ("etcd://127.0.0.1:2379/p?colour=red", "no option colour"),
        ("etcd://127.0.0.1:2379/p?tls=perhaps", "tls=perhaps"),
        ("etcd://127.0.0.1:2379/p?ca=/no/such/file", "cannot read /no/such/file"),
        ("s3:///prefix", "names no bucket"),
        ("s3://bucket/prefix?colour=red", "make no sense"),
        ("postgresql://127.0.0.1/d?colour=red", "libpq does not take"),
        ("postgresql://127.0.0.1/d?store=", "needs a name"),
        ("postgresql://127.0.0.1/d?timeout=soon", "timeout=soon"),
        ("postgresql://127.0.0.1/d?lease=0", "lease=0"),
        ("postgresql://[127.0.0.1/d", "cannot be read"),
    ],
)
def test_a_bad_url_is_refused_in_a_sentence(url: str, sentence: str, tmp_path: Path) -> None:
    assert sentence in serve(url, tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "postgressql://user:hidden@h/d",
        "postgresql:user:hidden@h/d",
        "postgresql://user:hidden%zz@h/d",
        "postgresql://user:hidden@[::1]x/d",
        "postgresql://user:hidden/x@h/d",
        "postgresql://user:hidden#x@h/d",
        "postgresql://user:hidden?x@h/d",
        "postgresql://u\u2100:hidden@h/d",
        "postgresql://h/d?passwordhidden",
        "etcd://user:hidden/x@127.0.0.1:1/p?timeout=0.3",
        "etcd://127.0.0.1:1/p?password=hidden",
        "s3://key:hidden@bucket/p",
        "s3://bucket/p?endpoint=http://user:hidden@127.0.0.1:1",
        "s3://bucket/p?aws_skip_signature=hidden",
    ],
)
def test_a_password_in_a_url_that_is_wrong_is_in_no_error(url: str, tmp_path: Path) -> None:
    assert "hidden" not in serve(url, tmp_path)
    with pytest.raises(InvalidInput) as caught:
        connect(StoreUrl.parse(url))
    error: BaseException | None = caught.value
    while error is not None:  # nor in what a traceback would show
        assert "hidden" not in str(error)
        error = error.__cause__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://user:hidden@h/d?sslkey=x", "postgresql://h/d"),
        ("postgresql://user:hidden/x@h/d", "postgresql://h/d"),
        ("postgresql://user:hidden?x@h/d", "postgresql://h/d"),
        ("s3://bucket/p?secret_access_key=hidden", "s3://bucket/p"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert StoreUrl.parse(url).shown == shown


def test_a_certificate_without_its_key_is_refused_and_does_not_abort_the_process(tmp_path: Path) -> None:
    certificate = tmp_path / "certificate"
    certificate.write_bytes(b"none")
    assert "two files, cert= and key=" in serve(f"etcd://127.0.0.1:1/p?cert={certificate}", tmp_path)


def test_a_port_that_is_none_is_refused_in_a_sentence(tmp_path: Path) -> None:
    assert "port" in serve("postgresql://127.0.0.1:many/d", tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_that_is_down_is_named_and_the_password_is_not(kind: str, tmp_path: Path) -> None:
    port = free_port()
    url = {
        "postgresql": f"postgresql://user:hidden@127.0.0.1:{port}/d?timeout=0.3",
        "etcd": f"etcd://user:hidden@127.0.0.1:{port}/p?timeout=0.3",
        "s3": f"s3://bucket/p?endpoint=http://127.0.0.1:{port}&access_key_id=x&secret_access_key=hidden&timeout=0.3",
    }[kind]
    line = serve(url, tmp_path)
    assert line.startswith("Error: store unavailable")
    assert "127.0.0.1" in line
    assert "hidden" not in line


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("etcd://user:secret@etcd.internal:2379/p", True),
        ("etcd://user:secret@127.0.0.1:2379,etcd.internal:2379/p", True),
        ("etcd://user:secret@etcd.internal:2379/p?tls=true", False),
        ("etcd://user:secret@127.0.0.1:2379/p", False),
        ("etcd://etcd.internal:2379/p", False),
    ],
)
def test_a_password_for_etcd_in_the_clear_is_warned_of(
    url: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    reached, _options = connect(StoreUrl.parse(url))
    reached.close()
    assert ("in the clear" in caplog.text) == warned
    assert "secret" not in caplog.text


def test_an_s3_store_without_any_credentials_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    line = serve(f"s3://bucket/p?metadata_endpoint=http://127.0.0.1:{free_port()}&timeout=0.3", tmp_path)
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in line


def test_a_database_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert "nowhere" in serve(engine("postgresql").url("x").replace("/stores?", "/nowhere?"), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_extra_is_named_with_what_to_do(kind: str, tmp_path: Path) -> None:
    library = {"postgresql": "psycopg", "etcd": "aetcd", "s3": "obstore"}[kind]
    program = f"import sys; sys.modules[{library!r}] = None\nfrom host_store.cli import main\nmain()"
    arguments = ["serve", "--store", f"{kind}://127.0.0.1/x", "--simulated-key", str(tmp_path / "key")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.strip().startswith("Error: ")
    assert f"pip install 'pmap[{kind}]'" in done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_of_a_newer_version_is_refused(kind: str, tmp_path: Path) -> None:
    url = engine(kind).url("newer")
    reached, _options = connect(StoreUrl.parse(url))

    def put(name: str, value: bytes) -> None:
        Patience()(lambda seconds: reached.put(name, value, seconds))

    put(FORMAT_NAME, b"\x00pmap-log/2")
    assert "a newer version of pmap has written it" in serve(url, tmp_path)
    put(FORMAT_NAME, b"\x00pmap-log/1")
    put(INDEX + "00000000000000000007", b"\x00\x91\x02")
    assert "version 2" in serve(url, tmp_path)
    reached.close()


@pytest.mark.parametrize("kind", KINDS)
def test_status_of_a_store_that_is_not_there_makes_none(kind: str) -> None:
    url = engine(kind).url("none")
    for _ in range(2):
        assert "there is no store" in said("status", "--store", url)


def test_to_stand_by_needs_a_shared_store(tmp_path: Path) -> None:
    line = said("serve", "--store", tmp_path / "s", "--simulated-key", tmp_path / "key", "--standby")
    assert "needs a store that two machines reach" in line


def test_an_engine_that_overwrites_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from memory_engine import MemoryEngine

    class Careless(MemoryEngine):
        def create(self, name: str, value: bytes, seconds: float) -> bool:
            self.objects[name] = value
            return True

    monkeypatch.setattr(urls, "connect", lambda url: (Careless({}), urls.Options()))
    with pytest.raises(InvalidInput, match="does not refuse to create an object that exists"):
        urls.open_store("s3://bucket/prefix")


def test_where_credentials_come_from_beside_the_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server = engine("postgresql")
    known = server.url("environment")
    passwords = tmp_path / "pgpass"
    port = known.rpartition(":")[2].partition("/")[0]
    passwords.write_text(f"127.0.0.1:{port}:stores:pmap:not a secret\n")
    passwords.chmod(0o600)
    for name, value in {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "pmap", "PGDATABASE": "stores"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    reached, _options = connect(StoreUrl.parse("postgresql://?store=environment"))
    assert Patience()(lambda seconds: reached.get("x", seconds)) is None
    reached.close()
