"""AWS Nitro Enclaves: documents from the security module ``/dev/nsm``; keys through the parent instance.

The enclave has no disk and no sealing key. AWS KMS decrypts a stored data key for whoever shows a document with the
right PCRs, which is a conversation over the parent's network: a :class:`pmap.tee.KeySource` that the enclave's author
writes with :meth:`NitroEnclave.document` (its ``public_key`` is where KMS encrypts the answer to). KMS' key policy
names PCR0 (policy "code") or PCR8 (policy "signer").

Source: the Nitro Secure Module's driver (include/uapi/linux/nsm.h) and its CBOR interface.
"""

from __future__ import annotations

import fcntl
import struct
from pathlib import Path
from typing import Final

from pmap.tee import SIGNER, KeySource, SealPolicy
from pmap.tee.device import Ioctl, call_device
from pmap.tee.files import check_report_data, check_seal_policy
from wire.cbor import pack_cbor, unpack_cbor
from wire.errors import InvalidInput, Malformed, TeeUnavailable
from wire.identity import Identity
from wire.tee.verify import show_evidence

_NSM_CALL: Final = 0xC020_0A00  # _IOWR(0x0A, 0, 32 bytes)
_ARGUMENT: Final = struct.Struct("<QQQQ")  # two iovecs: request and response, address and length
_RESPONSE_BYTES: Final = 0x3000
_MAX_PUBLIC_KEY_BYTES: Final = 1024


class NitroEnclave:
    """An enclave on an EC2 instance."""

    name = "nitro"

    def __init__(self, root: Path = Path("/"), key_source: KeySource | None = None, ioctl: Ioctl = fcntl.ioctl) -> None:
        """Raises :class:`TeeUnavailable` where there is no security module."""
        self._device = root / "dev" / "nsm"
        if not self._device.exists():
            raise TeeUnavailable(f"there is no {self._device}: this is no Nitro enclave")
        self._key_source = key_source
        self._ioctl = ioctl

    def sealing_key(self, policy: SealPolicy = SIGNER) -> bytes:
        """See :class:`pmap.tee.Tee`."""
        check_seal_policy(policy)
        if self._key_source is None:
            raise InvalidInput("a Nitro enclave has no sealing key of its own: give it a key source (KMS)")
        return self._key_source.key(policy)

    def evidence(self, report_data: bytes) -> bytes:
        """A document, which is valid for some hours."""
        return self.document(check_report_data(report_data))

    def document(self, user_data: bytes, public_key: bytes | None = None) -> bytes:
        """A document over ``user_data``, with a key (DER) for KMS to answer to. Raises :class:`TeeUnavailable`."""
        if public_key is not None and len(public_key) > _MAX_PUBLIC_KEY_BYTES:
            raise InvalidInput(f"a document's public key has at most {_MAX_PUBLIC_KEY_BYTES} bytes")
        request = pack_cbor({"Attestation": {"user_data": user_data, "nonce": None, "public_key": public_key}})
        argument, response = call_device(
            self._device,
            _NSM_CALL,
            request,
            _RESPONSE_BYTES,
            lambda asked, answer: _ARGUMENT.pack(asked, len(request), answer, _RESPONSE_BYTES),
            self._ioctl,
        )
        length = _ARGUMENT.unpack(argument)[3]
        try:
            if length > _RESPONSE_BYTES:
                raise Malformed("an answer that is longer than its place")
            answer = unpack_cbor(response[:length], _RESPONSE_BYTES)
        except Malformed as error:
            raise TeeUnavailable(f"the security module's answer is malformed: {error}") from error
        match answer:
            case {"Attestation": {"document": bytes(document)}}:
                return document
            case {"Error": str(reason)}:
                raise TeeUnavailable(f"the security module refused: {reason}")
        raise TeeUnavailable("the security module gave another answer than a document")

    def identity(self) -> Identity:
        """See :class:`pmap.tee.Tee`."""
        return show_evidence(self.name, self.evidence(bytes(64)))
