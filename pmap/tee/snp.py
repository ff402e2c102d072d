"""SEV-SNP: reports through configfs-tsm, sealing keys derived by the firmware through ``/dev/sev-guest``.

The derived key mixes in the launch measurement and the guest's policy, so a guest with other code, or one that the
host may debug, gets another. It depends on the chip. A store that shall outlive its code is handed over by
:mod:`pmap.handover`; a policy "signer" needs a key source, since the firmware does not promise to mix the signer in.

Sources: AMD document 56860 (MSG_KEY_REQ); Linux, Documentation/virt/coco/sev-guest.rst.
"""

from __future__ import annotations

import fcntl
import struct
from pathlib import Path
from typing import Final

from pmap.tee import CODE, SIGNER, KeySource, SealPolicy
from pmap.tee.configfs import TsmReports
from pmap.tee.device import Ioctl, call_device
from pmap.tee.files import check_seal_policy
from wire.crypto import derive_key
from wire.errors import EvidenceMalformed, InvalidInput, TeeUnavailable
from wire.identity import Identity
from wire.tee.snp import split_evidence
from wire.tee.verify import show_evidence

_GET_DERIVED_KEY: Final = 0xC020_5301  # _IOWR('S', 0x1, 32 bytes)
_REQUEST: Final = struct.Struct("<IIQIIQ")  # root key, reserved, guest fields, VMPL, guest SVN, TCB version
_ARGUMENT: Final = struct.Struct("<B7xQQQ")  # message version, request, response, errors
_RESPONSE_BYTES: Final = 64
_KEY_AT: Final = 32
_ROOT_VCEK: Final = 0
_FIELD_POLICY: Final = 1 << 0
_FIELD_MEASUREMENT: Final = 1 << 3


class SevSnp:
    """A SEV-SNP guest, all of which is the enclave."""

    name = "snp"

    def __init__(self, root: Path = Path("/"), key_source: KeySource | None = None, ioctl: Ioctl = fcntl.ioctl) -> None:
        """``key_source``: where keys come from if not from the firmware. Raises :class:`TeeUnavailable`."""
        self._reports = TsmReports(root)
        self._device = root / "dev" / "sev-guest"
        self._key_source = key_source
        self._ioctl = ioctl

    def sealing_key(self, policy: SealPolicy = SIGNER) -> bytes:
        """See :class:`pmap.tee.Tee`."""
        check_seal_policy(policy)
        if self._key_source is not None:
            return self._key_source.key(policy)
        if policy != CODE:
            raise InvalidInput('SEV-SNP seals to the code: set seal_to = "code", or give it a key source')
        request = _REQUEST.pack(_ROOT_VCEK, 0, _FIELD_POLICY | _FIELD_MEASUREMENT, 0, 0, 0)
        argument, response = call_device(
            self._device,
            _GET_DERIVED_KEY,
            request,
            _RESPONSE_BYTES,
            lambda asked, answer: _ARGUMENT.pack(1, asked, answer, 0),
            self._ioctl,
        )
        *_, errors = _ARGUMENT.unpack(argument)
        status = int.from_bytes(response[:4], "little")
        key = response[_KEY_AT:]
        if errors or status or not any(key):
            raise TeeUnavailable(f"the SNP firmware gives no key (status {status:#x}, error {errors:#x})")
        return derive_key(key, b"", b"sev-snp sealing", policy.encode())

    def evidence(self, report_data: bytes) -> bytes:
        """The report and, where the host provides them, its certificates."""
        report = self._reports.report("sev_guest", report_data)
        evidence = report.outblob + report.auxblob
        try:
            made, _ = split_evidence(evidence)
        except EvidenceMalformed as error:
            raise TeeUnavailable(f"the kernel's SNP report is malformed: {error}") from error
        if made.report_data != report_data:
            raise TeeUnavailable("the SNP report is over other report data than was asked for")
        return evidence

    def identity(self) -> Identity:
        """See :class:`pmap.tee.Tee`."""
        return show_evidence(self.name, self._reports.report("sev_guest", bytes(64)).outblob)
