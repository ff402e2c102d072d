"""Each platform on a made-up file tree, with the recorded evidence where the hardware would put it."""

from __future__ import annotations

import ctypes
import hashlib
import json
import socketserver
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import cbor2
import pytest
from tee_authority import Issuer, nitro_document, snp_report
from tee_vectors import SGX, SNP, TDX

from pmap.tee import CODE, SIGNER, SealPolicy, Tee, configfs
from pmap.tee.configfs import TsmReports
from pmap.tee.files import read_file
from pmap.tee.gramine import GramineSgx
from pmap.tee.nitro import NitroEnclave
from pmap.tee.platform import open_platform, parse_key_source
from pmap.tee.provisioned import ProvisionedKey
from pmap.tee.snp import SevSnp
from pmap.tee.tdx import Tdx
from pmap.tee.vtpm import VtpmKey
from wire.errors import InvalidInput, TeeUnavailable
from wire.tee.choice import TEES, TeeChoice
from wire.tee.dstack import DstackEvidence
from wire.tee.intel_quote import Quote
from wire.tee.snp_report import SnpReport, SnpTcb

SGX_DATA = Quote.parse(SGX.evidence).body.report_data
TDX_DATA = Quote.parse(TDX.evidence).body.report_data
SNP_DATA = SnpReport.parse(SNP.evidence).report_data


class FixedKey:
    """A key source that a test can see through."""

    def key(self, policy: SealPolicy) -> bytes:
        return hashlib.sha256(policy.encode()).digest()


# --- Gramine ----------------------------------------------------------------------------------------------


def gramine_tree(root: Path, *, kind: str = "dcap", quote: bytes = SGX.evidence) -> Path:
    folder = root / "dev" / "attestation"
    (folder / "keys").mkdir(parents=True)
    (folder / "attestation_type").write_text(kind)
    (folder / "user_report_data").write_bytes(bytes(64))
    (folder / "quote").write_bytes(quote)
    (folder / "keys" / "_sgx_mrenclave").write_bytes(b"\x01" * 16)
    (folder / "keys" / "_sgx_mrsigner").write_bytes(b"\x02" * 16)
    return folder


def test_gramine_gives_a_quote_over_the_report_data(tmp_path: Path) -> None:
    folder = gramine_tree(tmp_path)
    tee = GramineSgx(tmp_path)
    assert tee.evidence(SGX_DATA) == SGX.evidence
    assert (folder / "user_report_data").read_bytes() == SGX_DATA


def test_gramines_two_keys_are_two_sealing_keys(tmp_path: Path) -> None:
    gramine_tree(tmp_path)
    tee = GramineSgx(tmp_path)
    assert len(tee.sealing_key(CODE)) == 32
    assert tee.sealing_key(CODE) != tee.sealing_key(SIGNER)
    assert tee.sealing_key(CODE) == GramineSgx(tmp_path).sealing_key(CODE)


def test_gramine_shows_its_own_identity(tmp_path: Path) -> None:
    gramine_tree(tmp_path)
    assert GramineSgx(tmp_path).identity().measurement.hex().startswith("33d8736db756ed49")


@pytest.mark.parametrize("kind", ["none", "epid", ""])
def test_gramine_without_dcap_is_unavailable(tmp_path: Path, kind: str) -> None:
    gramine_tree(tmp_path, kind=kind)
    with pytest.raises(TeeUnavailable, match="dcap"):
        GramineSgx(tmp_path)


def test_a_gramine_quote_over_other_report_data_is_not_passed_on(tmp_path: Path) -> None:
    gramine_tree(tmp_path)
    with pytest.raises(TeeUnavailable, match="other report data"):
        GramineSgx(tmp_path).evidence(bytes(64))


@pytest.mark.parametrize("key", [b"", bytes(16), b"\x01" * 15, b"\x01" * 17])
def test_a_gramine_key_of_zeros_or_of_another_length_is_not_used(tmp_path: Path, key: bytes) -> None:
    (gramine_tree(tmp_path) / "keys" / "_sgx_mrsigner").write_bytes(key)
    with pytest.raises(TeeUnavailable):
        GramineSgx(tmp_path).sealing_key(SIGNER)


# --- configfs-tsm, SEV-SNP, TDX ---------------------------------------------------------------------------


def tsm_tree(root: Path, provider: str, outblob: bytes, auxblob: bytes | None = None) -> Path:
    """The entry as the kernel makes it. (It fills a new folder by itself; here it is there before.)"""
    entry = root / "sys" / "kernel" / "config" / "tsm" / "report" / "pmap"
    entry.mkdir(parents=True)
    (entry / "provider").write_text(provider + "\n")
    (entry / "generation").write_text("7\n")
    (entry / "outblob").write_bytes(outblob)
    if auxblob is not None:
        (entry / "auxblob").write_bytes(auxblob)
    return entry


def test_an_snp_guest_gives_its_report_and_the_hosts_certificates(tmp_path: Path) -> None:
    entry = tsm_tree(tmp_path, "sev_guest", SNP.evidence, bytes(24))
    assert SevSnp(tmp_path).evidence(SNP_DATA) == SNP.evidence + bytes(24)
    assert (entry / "inblob").read_bytes() == SNP_DATA


def test_a_tdx_guest_gives_its_quote_without_the_padding(tmp_path: Path) -> None:
    tsm_tree(tmp_path, "tdx_guest", TDX.evidence)
    evidence = Tdx(tmp_path).evidence(TDX_DATA)
    assert evidence == TDX.evidence.rstrip(b"\0") + b"\0", "the PEM chain ends with one zero byte"


def test_a_report_over_other_report_data_is_not_passed_on(tmp_path: Path) -> None:
    tsm_tree(tmp_path / "snp", "sev_guest", SNP.evidence)
    tsm_tree(tmp_path / "tdx", "tdx_guest", TDX.evidence)
    tees: list[Tee] = [SevSnp(tmp_path / "snp"), Tdx(tmp_path / "tdx")]
    for tee in tees:
        with pytest.raises(TeeUnavailable, match="other report data"):
            tee.evidence(bytes(64))


def test_a_malformed_report_is_not_passed_on(tmp_path: Path) -> None:
    tsm_tree(tmp_path / "snp", "sev_guest", SNP.evidence[:-1])
    tsm_tree(tmp_path / "tdx", "tdx_guest", b"quote")
    with pytest.raises(TeeUnavailable, match="malformed"):
        SevSnp(tmp_path / "snp").evidence(SNP_DATA)
    with pytest.raises(TeeUnavailable, match="malformed"):
        Tdx(tmp_path / "tdx").evidence(TDX_DATA)


def test_a_report_of_another_driver_is_refused(tmp_path: Path) -> None:
    tsm_tree(tmp_path, "tdx_guest", TDX.evidence)
    with pytest.raises(TeeUnavailable, match="tdx_guest"):
        SevSnp(tmp_path).evidence(SNP_DATA)


def disturb(entry: Path, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has another process write to the entry, so many times, just when its report is read."""
    left = iter(range(times))

    def read(path: Path, max_bytes: int) -> bytes:
        if path.name == "outblob" and next(left, None) is not None:
            (entry / "generation").write_text(f"{int((entry / 'generation').read_text()) + 1}\n")
        return read_file(path, max_bytes)

    monkeypatch.setattr(configfs, "read_file", read)


def test_a_report_that_another_process_disturbed_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(tsm_tree(tmp_path, "sev_guest", SNP.evidence), 2, monkeypatch)
    assert TsmReports(tmp_path).report("sev_guest", SNP_DATA).outblob == SNP.evidence
    assert (tmp_path / "sys/kernel/config/tsm/report/pmap/generation").read_text() == "9\n"


def test_a_report_that_is_disturbed_each_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disturb(tsm_tree(tmp_path, "sev_guest", SNP.evidence), 100, monkeypatch)
    with pytest.raises(TeeUnavailable, match="at the same time"):
        TsmReports(tmp_path).report("sev_guest", SNP_DATA)


def test_a_machine_without_configfs_reports_is_no_confidential_vm(tmp_path: Path) -> None:
    for kind in ("snp", "tdx"):
        with pytest.raises(TeeUnavailable, match="confidential VM"):
            open_platform(TeeChoice(kind, tmp_path))


class SnpFirmware:
    """Answers MSG_KEY_REQ as the driver does: through the addresses in its argument."""

    def __init__(self, measurement: bytes, *, status: int = 0, error: int = 0) -> None:
        self.measurement, self.status, self.error = measurement, status, error
        self.requests: list[tuple[Any, ...]] = []

    def __call__(self, fd: int, number: int, argument: bytearray) -> int:
        assert number == 0xC0205301
        version, request, response, _ = struct.unpack("<B7xQQQ", argument)
        assert version == 1
        fields = struct.unpack("<IIQIIQ", ctypes.string_at(request, 32))
        self.requests.append(fields)
        key = hashlib.sha256(self.measurement + struct.pack("<Q", fields[2])).digest()
        ctypes.memmove(response, struct.pack("<I28x", self.status) + key, 64)
        argument[24:32] = struct.pack("<Q", self.error)
        return 0


def snp_tree(root: Path) -> Path:
    tsm_tree(root, "sev_guest", SNP.evidence)
    (root / "dev").mkdir()
    (root / "dev" / "sev-guest").touch()
    return root


def test_the_snp_key_is_derived_with_measurement_and_policy(tmp_path: Path) -> None:
    firmware = SnpFirmware(b"code 1")
    key = SevSnp(snp_tree(tmp_path), ioctl=firmware).sealing_key(CODE)
    assert len(key) == 32
    assert firmware.requests == [(0, 0, 0b1001, 0, 0, 0)], "guest policy and measurement"
    assert SevSnp(tmp_path, ioctl=SnpFirmware(b"code 1")).sealing_key(CODE) == key
    assert SevSnp(tmp_path, ioctl=SnpFirmware(b"code 2")).sealing_key(CODE) != key


@pytest.mark.parametrize("firmware", [SnpFirmware(b"", status=0x16), SnpFirmware(b"", error=1 << 32)])
def test_an_snp_firmware_that_refuses_gives_no_key(tmp_path: Path, firmware: SnpFirmware) -> None:
    with pytest.raises(TeeUnavailable, match="gives no key"):
        SevSnp(snp_tree(tmp_path), ioctl=firmware).sealing_key(CODE)


def test_a_device_that_is_no_device_refuses(tmp_path: Path) -> None:
    with pytest.raises(TeeUnavailable, match="refused"):
        SevSnp(snp_tree(tmp_path)).sealing_key(CODE)


def test_a_policy_that_a_platform_cannot_enforce_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="seals to the code"):
        SevSnp(snp_tree(tmp_path / "snp"), ioctl=SnpFirmware(b"")).sealing_key(SIGNER)
    tsm_tree(tmp_path / "tdx", "tdx_guest", TDX.evidence)
    for policy in (CODE, SIGNER):
        with pytest.raises(InvalidInput, match="key source"):
            Tdx(tmp_path / "tdx").sealing_key(policy)


def test_a_key_source_gives_the_key_where_the_cpu_has_none(tmp_path: Path) -> None:
    tsm_tree(tmp_path, "tdx_guest", TDX.evidence)
    assert Tdx(tmp_path, FixedKey()).sealing_key(CODE) == FixedKey().key(CODE)


def test_a_provisioned_key_is_kept_apart_by_policy(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\x05" * 32)
    source = ProvisionedKey(tmp_path / "key")
    assert len({source.key(CODE), source.key(SIGNER), b"\x05" * 32}) == 3
    for bad in (b"", bytes(32), b"\x05" * 31, b"\x05" * 33):
        (tmp_path / "key").write_bytes(bad)
        with pytest.raises(TeeUnavailable):
            source.key(CODE)


# --- Nitro ------------------------------------------------------------------------------------------------

ROOT = Issuer("root")
CHAIN = [Issuer("enclave", ROOT, ca=False), ROOT]


class SecurityModule:
    """Answers the one call of /dev/nsm: two iovecs in, the response's length out."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.request: Any = None

    def __call__(self, fd: int, number: int, argument: bytearray) -> int:
        assert number == 0xC0200A00
        request, request_bytes, response, space = struct.unpack("<QQQQ", argument)
        self.request = cbor2.loads(ctypes.string_at(request, request_bytes))
        answer = self.answer
        if answer is None:
            document = nitro_document(CHAIN, user_data=self.request["Attestation"]["user_data"])
            answer = {"Attestation": {"document": document}}
        encoded = answer if isinstance(answer, bytes) else cbor2.dumps(answer)
        assert len(encoded) <= space
        ctypes.memmove(response, encoded, len(encoded))
        argument[24:32] = struct.pack("<Q", len(encoded))
        return 0


def nitro_tree(root: Path) -> Path:
    (root / "dev").mkdir()
    (root / "dev" / "nsm").touch()
    return root


def test_a_nitro_enclave_gets_a_document_over_the_report_data(tmp_path: Path) -> None:
    module = SecurityModule()
    tee = NitroEnclave(nitro_tree(tmp_path), ioctl=module)
    document = tee.evidence(b"\x09" * 64)
    assert module.request == {"Attestation": {"user_data": b"\x09" * 64, "nonce": None, "public_key": None}}
    assert cbor2.loads(cbor2.loads(document)[2])["user_data"] == b"\x09" * 64
    assert tee.identity().measurement == b"\x33" * 48


def test_a_nitro_document_carries_the_key_for_kms(tmp_path: Path) -> None:
    module = SecurityModule()
    NitroEnclave(nitro_tree(tmp_path), ioctl=module).document(b"", b"key")
    assert module.request["Attestation"]["public_key"] == b"key"


@pytest.mark.parametrize(
    "answer", [{"Error": "InternalError"}, {"Attestation": {}}, {"Attestation": {"document": "text"}}, [], b"\xff", b""]
)
def test_a_security_module_that_refuses_gives_no_document(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(TeeUnavailable):
        NitroEnclave(nitro_tree(tmp_path), ioctl=SecurityModule(answer)).evidence(bytes(64))


def test_nitro_keys_come_from_a_key_source_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="KMS"):
        NitroEnclave(nitro_tree(tmp_path)).sealing_key(CODE)
    assert NitroEnclave(tmp_path, FixedKey()).sealing_key(CODE) == FixedKey().key(CODE)


# --- dstack -----------------------------------------------------------------------------------------------

EVENTS = [
    ("app-id", b"\xaa" * 20),
    ("compose-hash", b"\xbb" * 32),
    ("key-provider", b'{"name":"kms"}'),
    ("system-ready", b""),
]


def quote_with(rtmr3: bytes) -> bytes:
    """The recorded TDX quote with another RTMR3: its signature no longer holds, which the guest does not check."""
    at = 48 + 136 + 7 * 48
    return TDX.evidence[:at] + rtmr3 + TDX.evidence[at + 48 :]


class Agent(socketserver.ThreadingUnixStreamServer):
    """A dstack guest agent on a real Unix socket."""

    def __init__(self, path: Path, events: list[dict[str, Any]], quote: bytes, key: bytes) -> None:
        super().__init__(str(path), _Answers)
        self.events, self.quote, self.key = events, quote, key
        self.asked: list[tuple[str, Any]] = []


class _Answers(BaseHTTPRequestHandler):
    server: Agent

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, asked))
        answers = {
            "/GetKey": {"key": self.server.key.hex(), "signature_chain": []},
            "/GetQuote": {"quote": self.server.quote.hex(), "event_log": json.dumps(self.server.events)},
        }
        body = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "agent"

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def agent(root: Path, events: list[tuple[str, bytes]] | None = None, *, key: bytes = b"\x0c" * 32) -> Iterator[Agent]:
    chosen = EVENTS if events is None else events
    log = [{"imr": 0, "event_type": 1, "digest": "00", "event": "", "event_payload": ""}]
    log += [
        {"imr": 3, "event_type": 0x08000001, "digest": "", "event": name, "event_payload": payload.hex()}
        for name, payload in chosen
    ]
    quote = quote_with(DstackEvidence(b"", tuple(EVENTS)).replay())
    (root / "run" / "dstack").mkdir(parents=True)
    with Agent(root / "run" / "dstack" / "dstack.sock", log, quote, key) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_dstack_gives_a_quote_with_the_events_behind_it(tmp_path: Path) -> None:
    pytest.importorskip("dstack_sdk", reason="needs pmap[dstack]")
    with agent(tmp_path) as server:
        tee = open_platform(TeeChoice("dstack", tmp_path))
        evidence = DstackEvidence.decode(tee.evidence(TDX_DATA))
        assert server.asked == [("/GetQuote", {"report_data": TDX_DATA.hex()})]
        assert evidence.events == tuple(EVENTS)


def test_dstacks_key_is_the_applications(tmp_path: Path) -> None:
    pytest.importorskip("dstack_sdk", reason="needs pmap[dstack]")
    with agent(tmp_path) as server:
        tee = open_platform(TeeChoice("dstack", tmp_path))
        assert len(tee.sealing_key(SIGNER)) == 32
        assert server.asked[0][1]["path"] == "pmap/sealing"
        with pytest.raises(InvalidInput, match="application"):
            tee.sealing_key(CODE)


def test_a_dstack_event_log_that_is_not_the_quotes_is_not_passed_on(tmp_path: Path) -> None:
    pytest.importorskip("dstack_sdk", reason="needs pmap[dstack]")
    with agent(tmp_path, [("app-id", b"\xab" * 20), *EVENTS[1:]]), pytest.raises(TeeUnavailable, match="RTMR3"):
        open_platform(TeeChoice("dstack", tmp_path)).evidence(TDX_DATA)


def test_a_dstack_agent_without_a_key_is_unavailable(tmp_path: Path) -> None:
    pytest.importorskip("dstack_sdk", reason="needs pmap[dstack]")
    with agent(tmp_path, key=b""), pytest.raises(TeeUnavailable):
        open_platform(TeeChoice("dstack", tmp_path)).sealing_key(SIGNER)


# --- choosing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TEES[1:])
def test_a_platform_that_is_not_there_says_so(tmp_path: Path, kind: str) -> None:
    with pytest.raises(TeeUnavailable):
        open_platform(TeeChoice(kind, tmp_path))


def test_no_platform_is_guessed(tmp_path: Path) -> None:
    for kind in ("", "auto", "simulated", "SGX"):
        with pytest.raises(InvalidInput):
            open_platform(TeeChoice(kind, tmp_path))


def test_report_data_of_another_length_is_refused(tmp_path: Path) -> None:
    gramine_tree(tmp_path)
    for length in (0, 63, 65):
        with pytest.raises(InvalidInput, match="64 bytes"):
            GramineSgx(tmp_path).evidence(bytes(length))


def test_an_snp_guests_certificates_reach_the_verifier(tmp_path: Path) -> None:
    leaf = Issuer("leaf")
    report = snp_report(leaf, SnpTcb(1, 1, 1, 1), report_data=b"\x0f" * 64)
    tsm_tree(tmp_path, "sev_guest", report, b"")
    assert SevSnp(tmp_path).evidence(b"\x0f" * 64) == report


def test_a_key_source_is_named_in_one_word(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\x05" * 32)
    source = parse_key_source(f"file:{tmp_path}/key")
    assert source.key(CODE) == ProvisionedKey(tmp_path / "key").key(CODE)
    assert isinstance(parse_key_source("vtpm"), VtpmKey)
    assert isinstance(parse_key_source("vtpm:swtpm:path=/nowhere"), VtpmKey)
    for text in ("", "file", "file:", "vtpm:", "tpm", "vault:key"):
        with pytest.raises(InvalidInput, match="key source"):
            parse_key_source(text)


class Provider:
    """A key source of an author's own."""

    def key(self, policy: SealPolicy) -> bytes:
        return hashlib.sha256(b"mine" + policy.encode()).digest()


def test_a_key_source_of_the_authors_own_is_named_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_keys", sys.modules[__name__])
    assert parse_key_source("provider:my_keys:Provider").key(CODE) == Provider().key(CODE)
    for text in ("provider:my_keys:Nothing", "provider:no_such_module:Provider", "provider:my_keys:SnpTcb"):
        with pytest.raises(InvalidInput, match="key source"):
            parse_key_source(text)
