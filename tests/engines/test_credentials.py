"""TLS, passwords and keys on the real engines: the right ones work, and a wrong one is named in one clear sentence."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from aetcd import rpc
from engines.command_line import serve
from shared_engines import EVERY_ENGINE, authority, engine, need

from benchmarks.engine_servers import ACCESS_KEY, DATABASE_PASSWORD, S3, SECRET_KEY, Etcd, Postgresql
from host_store.stores.log_store import LogStore
from host_store.stores.url import StoreUrl, connect, open_store

PREFIX = "allowed"
"""Below it, and nowhere else, the users of etcd may write."""
USER, PASSWORD = "pmap", "100%41 of a/secret?"
TOKEN_SECONDS = 1
TOKENS_END = ["password", "time"] if EVERY_ENGINE else ["password"]


def works(url: str) -> None:
    """A store at this URL can be written, and read by who opens it next."""
    record = b"over TLS"
    with open_store(url) as store:
        store.create(b"keyring", b"first", bytes(32))
        store.append(2, record, hashlib.sha256(record).digest(), trim=0)
    with open_store(url) as store:
        assert list(store.read(1, 3)) == [b"first", record]


# --- PostgreSQL ---


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgresql]:
    need("postgresql")
    server = Postgresql(tls=authority("ours").server())
    yield server
    server.stop()


def verified(url: str, trusted: str = "ours") -> str:
    return f"{url}&sslmode=verify-full&sslrootcert={authority(trusted).certificate}"


def test_postgresql_over_tls(postgresql: Postgresql, tmp_path: Path) -> None:
    works(verified(postgresql.url(tmp_path.name)))


def test_a_postgresql_server_with_a_certificate_of_another_authority_is_refused(
    postgresql: Postgresql, tmp_path: Path
) -> None:
    line = serve(verified(postgresql.url(tmp_path.name), "another"), tmp_path)
    assert "cannot connect to the PostgreSQL database" in line and "certificate verify failed" in line


def test_a_postgresql_server_with_the_certificate_of_another_host_is_refused(
    postgresql: Postgresql, tmp_path: Path
) -> None:
    url = postgresql.url(tmp_path.name).replace("@127.0.0.1", "@localhost")
    assert 'does not match host name "localhost"' in serve(verified(url), tmp_path)


@pytest.mark.parametrize("tls", [True, False])
def test_a_wrong_password_for_postgresql_is_said_once(postgresql: Postgresql, tls: bool, tmp_path: Path) -> None:
    wrong = postgresql.url(tmp_path.name).replace(quote(DATABASE_PASSWORD), "guessed")
    line = serve(verified(wrong) if tls else wrong, tmp_path)
    assert line.count('password authentication failed for user "pmap"') == 1
    assert "guessed" not in line


# --- etcd ---


class Users:
    """An etcd cluster with users, who may write below :data:`PREFIX`."""

    def __init__(self, server: Etcd) -> None:
        self._server = server
        ours = authority("ours").certificate.read_bytes()
        self._channel = grpc.secure_channel(f"127.0.0.1:{server.ports[0]}", grpc.ssl_channel_credentials(ours))
        self._auth: Any = rpc.AuthStub(self._channel)
        self._enabled = False
        self._call("RoleAdd", rpc.AuthRoleAddRequest(name="writer"))
        below = {"permType": 2, "key": f"{PREFIX}/".encode(), "range_end": f"{PREFIX}0".encode()}
        self._call("RoleGrantPermission", rpc.AuthRoleGrantPermissionRequest(name="writer", perm=below))
        for name, password, role in ((USER, PASSWORD, "writer"), ("root", PASSWORD, "root")):
            self._call("UserAdd", rpc.AuthUserAddRequest(name=name, password=password))
            self._call("UserGrantRole", rpc.AuthUserGrantRoleRequest(user=name, role=role))
        self._call("AuthEnable", rpc.AuthEnableRequest())
        self._enabled = True

    def url(self, name: str, credentials: str = f"{USER}:{quote(PASSWORD, safe='')}@") -> str:
        url = self._server.url(f"{PREFIX}/{name}").replace("//", f"//{credentials}")
        return f"{url}?ca={authority('ours').certificate}"

    def end_tokens(self, how: str) -> None:
        if how == "password":
            self._call("UserChangePassword", rpc.AuthUserChangePasswordRequest(name=USER, password=PASSWORD))
        else:
            time.sleep(3 * TOKEN_SECONDS)  # nobody uses it meanwhile

    def close(self) -> None:
        self._channel.close()

    def _call(self, name: str, request: Any) -> None:
        metadata = []
        if self._enabled:
            root = rpc.AuthenticateRequest(name="root", password=PASSWORD)
            metadata = [("token", self._auth.Authenticate(root, timeout=20).token)]
        getattr(self._auth, name)(request, timeout=20, metadata=metadata)


@pytest.fixture(scope="module")
def users() -> Iterator[Users]:
    need("etcd")
    server = Etcd(tls=authority("ours").server(), token_seconds=TOKEN_SECONDS)
    try:
        made = Users(server)
        yield made
        made.close()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def mutual() -> Iterator[Etcd]:
    """Takes only clients with certificates."""
    need("etcd")
    server = Etcd(members=1, tls=authority("ours").server(mutual=True))
    yield server
    server.stop()


def shown(name: str) -> str:
    """The options with which a client shows a certificate of this authority."""
    certificate, key = authority(name).client("a client")
    return f"&cert={certificate}&key={key}"


def test_etcd_over_tls_with_a_user(users: Users, tmp_path: Path) -> None:
    works(users.url(tmp_path.name))


def test_a_user_of_etcd_from_the_environment(users: Users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_USER", f"{USER}:{PASSWORD}")
    monkeypatch.setenv("ETCDCTL_CACERT", str(authority("ours").certificate))
    works(users.url(tmp_path.name, "").partition("?")[0])


@pytest.mark.parametrize("how", TOKENS_END)
def test_a_token_of_etcd_that_has_ended_is_renewed_unnoticed(users: Users, how: str, tmp_path: Path) -> None:
    reached, _options = connect(StoreUrl.parse(users.url(tmp_path.name)))
    with LogStore.open(reached, "here") as store:
        store.create(b"keyring", b"first", bytes(32))
        before = reached._token  # type: ignore[attr-defined]
        users.end_tokens(how)
        store.append(2, b"with the next token", bytes(32), trim=0)
        assert list(store.read(1, 3)) == [b"first", b"with the next token"]
        assert reached._token != before  # type: ignore[attr-defined]


@pytest.mark.parametrize("credentials", [f"{USER}:guessed@", "nobody:guessed@"])
def test_a_wrong_password_for_etcd_is_named(users: Users, credentials: str, tmp_path: Path) -> None:
    line = serve(users.url(tmp_path.name, credentials), tmp_path)
    assert "etcd on 127.0.0.1" in line and "invalid user ID or password" in line
    assert "guessed" not in line


def test_a_user_whom_etcd_does_not_let_write_there_is_told_so(users: Users, tmp_path: Path) -> None:
    assert "permission denied" in serve(users.url("x").replace(f"/{PREFIX}/", "/elsewhere/"), tmp_path)
    assert "user name is empty" in serve(users.url(tmp_path.name, ""), tmp_path)


def test_an_etcd_with_a_certificate_of_another_authority_is_refused(users: Users, tmp_path: Path) -> None:
    ours, another = (str(authority(name).certificate) for name in ("ours", "another"))
    line = serve(f"{users.url(tmp_path.name)}&timeout=1".replace(ours, another), tmp_path)
    assert "cannot connect to etcd on 127.0.0.1" in line and "no authority that we trust has issued it" in line


def test_an_etcd_with_the_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    need("etcd")
    server = Etcd(members=1, tls=authority("ours").server("elsewhere.example"))
    try:
        line = serve(f"{server.url('x')}?ca={authority('ours').certificate}&timeout=1", tmp_path)
    finally:
        server.stop()
    assert "cannot connect to etcd on 127.0.0.1" in line and "it is for another host" in line


def test_etcd_over_tls_with_certificates_on_both_sides(mutual: Etcd, tmp_path: Path) -> None:
    works(f"{mutual.url(tmp_path.name)}?ca={authority('ours').certificate}{shown('ours')}")


@pytest.mark.parametrize("options", ["none", "another authority's", "no TLS"])
def test_an_etcd_that_does_not_take_our_certificate_is_named(mutual: Etcd, options: str, tmp_path: Path) -> None:
    url, ca = f"{mutual.url(tmp_path.name)}?timeout=1", f"&ca={authority('ours').certificate}"
    url += {"none": ca, "another authority's": ca + shown("another"), "no TLS": ""}[options]
    line = serve(url, tmp_path)
    assert "cannot connect to etcd on 127.0.0.1" in line
    assert ("may want TLS" if options == "no TLS" else "may want another certificate of ours") in line


def test_nothing_is_said_of_a_wrong_certificate_beside_the_sentence(users: Users, tmp_path: Path) -> None:
    ours, another = (str(authority(name).certificate) for name in ("ours", "another"))
    url = users.url(tmp_path.name).replace(ours, another)
    command = [sys.executable, "-c", "from host_store.cli import main; main()", "serve", "--store", f"{url}&timeout=1"]
    command += ["--simulated-key", str(tmp_path / "key")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1, done.stderr


# --- S3 ---


@pytest.fixture
def bucket(tmp_path: Path) -> Callable[[str], str]:
    """The shared server's URL over TLS, where the authority with this name is trusted."""
    server = engine("s3")
    assert isinstance(server, S3)
    url = server.url(tmp_path.name).replace(f"http://127.0.0.1:{server.port}", f"https://127.0.0.1:{server.tls_port}")
    return lambda trusted: f"{url}&ca={authority(trusted).certificate}"


def test_s3_over_tls(bucket: Callable[[str], str]) -> None:
    works(bucket("ours"))


@pytest.mark.parametrize("wrong", ["authority", "host"])
def test_an_s3_service_whose_certificate_is_wrong_is_refused(
    bucket: Callable[[str], str], wrong: str, tmp_path: Path
) -> None:
    url = bucket("another") if wrong == "authority" else bucket("ours").replace("//127.0.0.1", "//localhost")
    line = serve(url, tmp_path)
    assert "cannot connect to the S3 bucket" in line and "its certificate is refused" in line
    assert ("no authority that we trust" if wrong == "authority" else "it is for another host") in line


@pytest.mark.parametrize("wrong", [ACCESS_KEY, SECRET_KEY])
def test_wrong_keys_for_s3_are_named(bucket: Callable[[str], str], wrong: str, tmp_path: Path) -> None:
    line = serve(bucket("ours").replace(wrong, "guessed"), tmp_path)
    assert ("InvalidAccessKeyId" if wrong == ACCESS_KEY else "SignatureDoesNotMatch") in line
    assert "refuses, nothing was changed" in line
    assert "guessed" not in line and "<" not in line
