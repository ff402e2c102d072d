"""dstack: the guest agent's Unix socket, through ``dstack-sdk`` (extra ``dstack``, which the enclave's image holds).

The key is derived for the application's id by whoever dstack's key management trusts to say which code the
application is: the policy "signer". Any code of the application can ask for any of its keys, so "code" is refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from pmap.tee import SIGNER, SealPolicy
from pmap.tee.files import check_report_data, check_seal_policy
from wire.crypto import derive_key
from wire.errors import AttestationError, InvalidInput, TeeUnavailable
from wire.identity import Identity
from wire.limits import MAX_EVIDENCE_BYTES
from wire.tee.dstack import EVENT_TYPE, DstackEvidence, read_dstack
from wire.tee.verify import show_evidence

_SOCKETS: Final = ("var/run/dstack.sock", "run/dstack.sock", "var/run/dstack/dstack.sock", "run/dstack/dstack.sock")
_KEY_PATH: Final = "pmap/sealing"
_TIMEOUT: Final = 30.0  # seconds for one answer: a quote may wait for others
_RTMR3: Final = 3


class Dstack:
    """A container in dstack's TDX guest."""

    name = "dstack"

    def __init__(self, root: Path = Path("/"), socket: Path | None = None) -> None:
        """``socket``: the agent's, if it is in none of its usual places.

        Raises :class:`TeeUnavailable` where there is no agent, or the SDK is not installed.
        """
        try:
            from dstack_sdk import DstackClient
        except ImportError as error:
            raise TeeUnavailable("dstack needs the package dstack-sdk: install pmap[dstack]") from error
        places = [root / name for name in _SOCKETS] if socket is None else [socket]
        socket = next((place for place in places if place.exists()), None)
        if socket is None:
            raise TeeUnavailable(f"there is no dstack agent: mount its socket to {places[0]}")
        # The address is always given: without one the SDK would take it from an environment variable.
        self._agent = DstackClient(str(socket), timeout=_TIMEOUT)

    def sealing_key(self, policy: SealPolicy = SIGNER) -> bytes:
        """See :class:`pmap.tee.Tee`."""
        if check_seal_policy(policy) != SIGNER:
            raise InvalidInput('dstack seals to the application: set seal_to = "signer"')
        try:
            key: bytes = self._agent.get_key(_KEY_PATH, "sealing").decode_key()
        except Exception as error:  # the SDK names none of what its transport and its parser raise
            raise TeeUnavailable(f"the dstack agent gives no key: {error}") from error
        if len(key) < 32 or not any(key):
            raise TeeUnavailable("the dstack agent gives no key of 32 bytes")
        return derive_key(key, b"", b"dstack sealing")

    def evidence(self, report_data: bytes) -> bytes:
        """A quote with the events behind RTMR3."""
        check_report_data(report_data)
        try:
            response = self._agent.get_quote(report_data)
            quote = bytes.fromhex(response.quote.removeprefix("0x"))
            evidence = DstackEvidence(quote, _events(json.loads(response.event_log))).encode()
        except Exception as error:  # see above
            raise TeeUnavailable(f"the dstack agent gives no quote: {error}") from error
        if len(evidence) > MAX_EVIDENCE_BYTES:
            raise TeeUnavailable(f"the dstack agent's event log is longer than {MAX_EVIDENCE_BYTES} bytes")
        try:
            _, _, body = read_dstack(evidence)
        except AttestationError as error:
            raise TeeUnavailable(f"the dstack agent's quote is malformed: {error}") from error
        if body.report_data != report_data:
            raise TeeUnavailable("the dstack agent's quote is over other report data than was asked for")
        return evidence

    def identity(self) -> Identity:
        """See :class:`pmap.tee.Tee`."""
        return show_evidence(self.name, self.evidence(bytes(64)))


def _events(log: list[dict[str, Any]]) -> tuple[tuple[str, bytes], ...]:
    """RTMR3's events. The firmware's own, in the other registers, are in the code digest as registers."""
    found = []
    for event in log:
        if event["imr"] == _RTMR3:
            if event["event_type"] != EVENT_TYPE:
                raise ValueError(f"an event of type {event['event_type']:#x} in RTMR3")
            found.append((str(event["event"]), bytes.fromhex(event["event_payload"])))
    return tuple(found)
