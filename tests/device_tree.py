"""A machine with a TEE, as far as its files show: pseudo-files that answer, and devices that take calls, through FUSE.

    python device_tree.py KIND FOLDER MOUNT

What the machine's vendor says of it is written to FOLDER, as a client takes it (root.pem is *our* vendor's root: nobody
trusts it who was not told to). The evidence is freshly signed over whatever report data is asked for.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import hashlib
import json
import os
import socketserver
import stat
import struct
import sys
import threading
import time
import uuid
from collections.abc import Callable
from ctypes.util import find_library
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import cbor2
from intel_authority import Platform
from tee_authority import Issuer, chip_extensions, nitro_document, snp_report

from wire.tee.dstack import DstackEvidence
from wire.tee.snp_report import SnpTcb

if (_FUSE3 := find_library("fuse3")) is not None:
    os.environ.setdefault("FUSE_LIBRARY_PATH", _FUSE3)

REPORTS = "/sys/kernel/config/tsm/report"
TCB = SnpTcb(4, 1, 20, 209)
RTMR3 = 136 + 7 * 48
EVENTS = (
    ("app-id", b"\xaa" * 20),
    ("compose-hash", b"\xbb" * 32),
    ("key-provider", b'{"name":"kms"}'),
    ("system-ready", b""),
)
Make = Callable[[bytes], bytes]
"""From report data to evidence."""


def pem(der: bytes) -> bytes:
    body = base64.b64encode(der)
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def intel(kind: str, folder: Path, *, status: str = "UpToDate") -> tuple[Platform, Make]:
    platform = Platform(kind)
    (folder / "root.pem").write_bytes(platform.root.pem)
    (folder / "collateral.json").write_text(platform.collateral(status=status, now=int(time.time())))
    at = 320 if kind == "sgx" else 520
    return platform, lambda data: platform.quote(change={at: data})


def certificate_table(*entries: tuple[str, bytes]) -> bytes:
    offset = 24 * (len(entries) + 1)
    heads, bodies = b"", b""
    for guid, body in entries:
        heads += struct.pack("<16sII", uuid.UUID(guid).bytes, offset + len(bodies), len(body))
        bodies += body
    table = heads + bytes(24) + bodies
    return table.ljust(-(-len(table) // 4096) * 4096, b"\0")  # the kernel's buffer is made of pages


def amd(folder: Path) -> tuple[Make, bytes]:
    ark = Issuer("ARK-Test")
    ask = Issuer("SEV-Test", ark, path_length=0)
    vcek = Issuer("SEV-VCEK", ask, ca=False, extensions=chip_extensions(TCB, b"\x11" * 64))
    (folder / "root.pem").write_bytes(pem(ark.certificate.der))
    (folder / "least-amd-firmware").write_text("4,1,20,209\n")
    table = certificate_table(
        ("63da758d-e664-4564-adc5-f4b93be8accd", vcek.certificate.der),
        ("4ab7b379-bbac-4fe4-a02f-05aef327c782", ask.certificate.der),
        ("c0b406a4-a803-4952-9743-3fb6014cd0ae", ark.certificate.der),
    )
    return (lambda data: snp_report(vcek, TCB, report_data=data)), table


class Tree:
    """Folders and files by path; what is written to some of them makes others anew; some take calls."""

    def __init__(self) -> None:
        self.folders = {"/"}
        self.files: dict[str, bytes] = {}
        self.on_write: dict[str, Callable[[bytes], None]] = {}
        self.on_mkdir: dict[str, Callable[[str], None]] = {}
        self.devices: dict[str, Callable[[int, bytes, Memory], bytes]] = {}

    def add(self, path: str, content: bytes = b"") -> None:
        self.files[path] = content
        self.add_folder(str(Path(path).parent))

    def add_folder(self, path: str) -> None:
        self.folders.update(str(one) for one in [Path(path), *Path(path).parents])


def gramine(folder: Path) -> Tree:
    tree = Tree()
    _, quote = intel("sgx", folder)
    attestation = "/dev/attestation"

    def ask(data: bytes) -> None:
        tree.files[f"{attestation}/quote"] = quote(data)

    tree.add(f"{attestation}/attestation_type", b"dcap")
    tree.add(f"{attestation}/user_report_data")
    tree.add(f"{attestation}/quote")
    tree.add(f"{attestation}/keys/_sgx_mrenclave", b"\x01" * 16)
    tree.add(f"{attestation}/keys/_sgx_mrsigner", b"\x02" * 16)
    tree.on_write[f"{attestation}/user_report_data"] = ask
    return tree


def tsm(provider: bytes, make: Make, auxblob: bytes = b"") -> Tree:
    """configfs-tsm: a folder that is made there comes with its files."""
    tree = Tree()
    tree.add_folder(REPORTS)
    count = 0

    def entry(path: str) -> None:
        for name, content in (("inblob", b""), ("outblob", b""), ("auxblob", auxblob), ("provider", provider)):
            tree.add(f"{path}/{name}", content)
        tree.add(f"{path}/generation", b"0\n")

        def ask(data: bytes) -> None:
            nonlocal count
            count += 1
            tree.files[f"{path}/outblob"] = make(data)
            tree.files[f"{path}/generation"] = b"%d\n" % count

        tree.on_write[f"{path}/inblob"] = ask

    tree.on_mkdir[REPORTS] = entry
    return tree


class Memory:
    """The memory of the process that called a device, as its driver sees it."""

    def __init__(self, pid: int) -> None:
        self._path = f"/proc/{pid}/mem"

    def read(self, address: int, length: int) -> bytes:
        with open(self._path, "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(length)

    def write(self, address: int, data: bytes) -> None:
        with open(self._path, "r+b", buffering=0) as memory:
            memory.seek(address)
            memory.write(data)


def snp(folder: Path) -> Tree:
    make, table = amd(folder)
    tree = tsm(b"sev_guest\n", make, table)

    def derive(number: int, argument: bytes, memory: Memory) -> bytes:
        assert number == 0xC0205301
        version, request, response, _ = struct.unpack("<B7xQQQ", argument)
        assert version == 1
        fields = memory.read(request, 32)
        memory.write(response, bytes(32) + hashlib.sha256(b"chip" + fields).digest())
        return argument

    tree.add("/dev/sev-guest")
    tree.devices["/dev/sev-guest"] = derive
    return tree


def nitro(folder: Path) -> Tree:
    root = Issuer("aws.nitro-enclaves.test")
    leaf = Issuer("enclave", root, ca=False)
    (folder / "root.pem").write_bytes(pem(root.certificate.der))
    tree = Tree()

    def call(number: int, argument: bytes, memory: Memory) -> bytes:
        assert number == 0xC0200A00
        request, request_bytes, response, space = struct.unpack("<QQQQ", argument)
        asked = cbor2.loads(memory.read(request, request_bytes))["Attestation"]
        document = nitro_document([leaf, root], timestamp=int(time.time() * 1000), **asked)
        answer = cbor2.dumps({"Attestation": {"document": document}})
        assert len(answer) <= space
        memory.write(response, answer)
        return struct.pack("<QQQQ", request, request_bytes, response, len(answer))

    tree.add("/dev/nsm")
    tree.devices["/dev/nsm"] = call
    return tree


def mount(tree: Tree, place: Path) -> None:
    """Serve the tree until it is unmounted."""
    import mfusepy

    class Operations(mfusepy.Operations):  # type: ignore[misc]
        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
            if path in tree.folders:
                return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2, "st_uid": os.getuid(), "st_gid": os.getgid()}
            if path not in tree.files:
                raise mfusepy.FuseOSError(errno.ENOENT)
            size = len(tree.files[path])
            owner = {"st_uid": os.getuid(), "st_gid": os.getgid()}
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size, **owner}

        def readdir(self, path: str, fh: int) -> list[str]:
            inside = [Path(one) for one in {*tree.folders, *tree.files} if one != "/"]
            return [".", "..", *(one.name for one in inside if str(one.parent) == path)]

        def open(self, path: str, flags: int) -> int:
            return 0

        def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
            return tree.files[path][offset : offset + size]

        def truncate(self, path: str, length: int, fh: int | None = None) -> int:
            return 0

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            if path not in tree.on_write:
                raise mfusepy.FuseOSError(errno.EACCES)
            tree.files[path] = data
            tree.on_write[path](data)
            return len(data)

        def mkdir(self, path: str, mode: int) -> int:
            if (made := tree.on_mkdir.get(str(Path(path).parent))) is None:
                raise mfusepy.FuseOSError(errno.EPERM)
            tree.add_folder(path)
            made(path)
            return 0

        def ioctl(self, path: str, cmd: int, arg: Any, fh: int, flags: int, data: int) -> int:
            if path not in tree.devices:
                raise mfusepy.FuseOSError(errno.ENOTTY)
            argument = ctypes.string_at(data, 32)
            changed = tree.devices[path](cmd & 0xFFFFFFFF, argument, Memory(mfusepy.fuse_get_context()[2]))
            ctypes.memmove(data, changed, 32)
            return 0

    mfusepy.FUSE(Operations(), str(place), foreground=True, nothreads=True, attr_timeout=0, entry_timeout=0)


# --- dstack's agent, which is a socket -----------------------------------------------------------------------


class Agent(socketserver.ThreadingUnixStreamServer):
    """A dstack guest agent."""

    def __init__(self, path: Path, quote: Make) -> None:
        super().__init__(str(path), _Answers)
        self.quote = quote


class _Answers(BaseHTTPRequestHandler):
    server: Agent

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer: dict[str, Any]
        if self.path == "/GetKey":
            answer = {"key": hashlib.sha256(b"kms" + asked["path"].encode()).hexdigest(), "signature_chain": []}
        else:
            log = [
                {"imr": 3, "event_type": 0x08000001, "digest": "", "event": name, "event_payload": payload.hex()}
                for name, payload in EVENTS
            ]
            quote = self.server.quote(bytes.fromhex(asked["report_data"]))
            answer = {"quote": quote.hex(), "event_log": json.dumps(log)}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "agent"

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve_agent(folder: Path, place: Path) -> None:
    platform, _ = intel("tdx", folder)
    measured = DstackEvidence(b"", EVENTS).replay()
    (place / "var" / "run").mkdir(parents=True)
    with Agent(place / "var/run/dstack.sock", lambda data: platform.quote(change={RTMR3: measured, 520: data})) as one:
        threading.Thread(target=one.serve_forever, daemon=True).start()
        sys.stdin.read()  # until the test is through with it


def main() -> None:
    kind, folder, place = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if kind == "dstack":
        serve_agent(folder, place)
    elif kind == "tdx":
        mount(tsm(b"tdx_guest\n", intel("tdx", folder)[1]), place)
    else:
        mount({"gramine": gramine, "snp": snp, "nitro": nitro}[kind](folder), place)


if __name__ == "__main__":
    main()
