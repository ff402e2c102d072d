"""Checkpoints: what a store's enclave signs once per commit, "my history has ``size`` records and this root".

The signed text is a C2SP ``tlog-checkpoint`` without extension lines, so that any transparency-log witness can
cosign it; inside our own messages a checkpoint travels as 104 bytes, because the store id follows from the context.

Sources: C2SP tlog-checkpoint; C2SP signed-note (signature type 0x01, Ed25519); RFC 4648 section 4 (base64).
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass
from typing import Final

from wire.crypto import HASH_BYTES, SIGNATURE_BYTES, SigningKey, Unauthentic, sha256, verify
from wire.errors import EvidenceInvalid, Malformed
from wire.limits import MAX_NOTE_BYTES, MAX_TREE_SIZE

STORE_ID_BYTES: Final = 16
POSITION_BYTES: Final = 8 + HASH_BYTES
CHECKPOINT_BYTES: Final = POSITION_BYTES + SIGNATURE_BYTES
ORIGIN_PREFIX: Final = "pmap.store/"

_KEY_ID_BYTES: Final = 4
_ED25519_TYPE: Final = b"\x01"
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_BODY = re.compile(re.escape(ORIGIN_PREFIX) + r"([0-9a-f]{32})\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n")
_SIGNATURE_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")


def checkpoint_body(store_id: bytes, size: int, root: bytes) -> bytes:
    """The text that is signed: origin, decimal size and base64 root, each line ended by a newline."""
    # b2a_base64 ends its line itself.
    return f"{ORIGIN_PREFIX}{store_id.hex()}\n{size}\n".encode() + b2a_base64(root)


def position(size: int, root: bytes) -> bytes:
    """A point of a history, 40 bytes: ``size(8, big-endian) ‖ root(32)``."""
    return size.to_bytes(8, "big") + root


def encode_evidence(checkpoint: Checkpoint | None) -> bytes:
    """Evidence as messages carry it: 104 bytes, or none at all."""
    return b"" if checkpoint is None else checkpoint.encode()


def decode_evidence(store_id: bytes, data: bytes) -> Checkpoint | None:
    """Undo :func:`encode_evidence`; the signature is not checked. Raises :class:`Malformed`."""
    return Checkpoint.decode(store_id, data) if data else None


def key_id(name: str, public_key: bytes) -> bytes:
    """The 4 bytes that a signed note names an Ed25519 key by, beside its ``name``."""
    return sha256(name.encode() + b"\n" + _ED25519_TYPE + public_key)[:_KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A claim about one history, with its signature; holding one does not mean that it was verified.

    ``store_id``: 16 bytes. ``size``: records since genesis, at most ``MAX_TREE_SIZE``. ``root``: 32 bytes, of the
    Merkle tree over them. ``signature``: 64 bytes, Ed25519 over :meth:`body`.

    Raises:
        Malformed: a field is not of this length or range.
    """

    store_id: bytes
    size: int
    root: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if (
            len(self.store_id) != STORE_ID_BYTES
            or len(self.root) != HASH_BYTES
            or len(self.signature) != SIGNATURE_BYTES
            or not 0 <= self.size <= MAX_TREE_SIZE
        ):
            raise Malformed("a checkpoint has a field of the wrong length or range")

    @property
    def origin(self) -> str:
        """The history's name, which is also the name of the key that signs it."""
        return ORIGIN_PREFIX + self.store_id.hex()

    def body(self) -> bytes:
        """The text that is signed."""
        return checkpoint_body(self.store_id, self.size, self.root)

    def encode(self) -> bytes:
        """``size(8, big-endian) ‖ root(32) ‖ signature(64)``: what travels as evidence. It starts with its position."""
        return position(self.size, self.root) + self.signature

    @classmethod
    def decode(cls, store_id: bytes, data: bytes) -> Checkpoint:
        """Undo :meth:`encode`; the signature is not checked. Raises :class:`Malformed`."""
        if len(data) != CHECKPOINT_BYTES:
            raise Malformed(f"a checkpoint is {CHECKPOINT_BYTES} bytes long, not {len(data)}")
        size = int.from_bytes(data[:8], "big")
        return cls(store_id, size, data[8:POSITION_BYTES], data[POSITION_BYTES:])

    def note(self, public_key: bytes) -> str:
        """The C2SP signed note with our one signature line, for people, auditors and witnesses."""
        signed = key_id(self.origin, public_key) + self.signature
        return f"{self.body().decode()}\n— {self.origin} {b2a_base64(signed).decode()}"


def sign_checkpoint(key: SigningKey, store_id: bytes, size: int, root: bytes) -> Checkpoint:
    """Sign that the history of ``store_id`` has ``size`` records and this ``root``."""
    return Checkpoint(store_id, size, root, key.sign(checkpoint_body(store_id, size, root)))


def verify_checkpoint(checkpoint: Checkpoint, public_key: bytes) -> None:
    """Check the signature. Raises :class:`EvidenceInvalid`."""
    try:
        verify(public_key, checkpoint.signature, checkpoint.body())
    except Unauthentic as error:
        raise EvidenceInvalid("the checkpoint was not signed by this store's key") from error


def parse_note(text: str, public_key: bytes) -> Checkpoint:
    """Read a signed note and verify its one signature by ``public_key``.

    Signature lines by other keys (witnesses) must be well-formed and are otherwise ignored. The store id is the
    one that the note names: compare it with the one you expect.

    Raises:
        Malformed: over ``MAX_NOTE_BYTES``, not a signed note, not a checkpoint of a pmap store (extension lines
            included: a store signs none), not the canonical form, or two signatures by this key.
        EvidenceInvalid: no signature by this key, or one that does not hold.
    """
    body, signature_lines = _split_note(text)
    fields = _BODY.fullmatch(body)
    if fields is None:
        raise Malformed("the text of the note is not the checkpoint of a pmap store")
    store_id, size, root = bytes.fromhex(fields[1]), int(fields[2]), _base64(fields[3])
    name = ORIGIN_PREFIX + fields[1]
    known = key_id(name, public_key)
    ours = []
    for line in signature_lines:
        signer, signed = _signature_line(line)
        if signer == name and signed[:_KEY_ID_BYTES] == known:
            ours.append(signed[_KEY_ID_BYTES:])
    if not ours:
        raise EvidenceInvalid("the note has no signature by this store's key")
    if len(ours) > 1:
        raise Malformed("the note has two signatures by one key")
    checkpoint = Checkpoint(store_id, size, root, ours[0])
    verify_checkpoint(checkpoint, public_key)
    return checkpoint


def _split_note(text: str) -> tuple[str, list[str]]:
    """Bound a note and split it at its last empty line into the signed text and the signature lines."""
    try:
        # Counted in characters first: encoding is work too.
        if len(text) > MAX_NOTE_BYTES or len(text.encode()) > MAX_NOTE_BYTES:
            raise Malformed(f"a note is at most {MAX_NOTE_BYTES} bytes long")
    except UnicodeEncodeError as error:
        raise Malformed("the note is not valid UTF-8") from error
    if _CONTROL.search(text):
        raise Malformed("the note has a control character")
    body, separator, signatures = text.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise Malformed("the note is not a text, an empty line and signature lines")
    return body + "\n", signatures[:-1].split("\n")


def _signature_line(line: str) -> tuple[str, bytes]:
    """The key name, and key id ‖ signature, of one signature line."""
    fields = _SIGNATURE_LINE.fullmatch(line)
    if fields is None:
        raise Malformed("a signature line is not an em dash, a key name and base64")
    signed = _base64(fields[2])
    if len(signed) <= _KEY_ID_BYTES:
        raise Malformed("a signature line has no signature")
    return fields[1], signed


def _base64(text: str) -> bytes:
    """Decode standard base64 in its one canonical form."""
    try:
        data = a2b_base64(text, strict_mode=True)
    except Base64Error as error:
        raise Malformed("not valid base64") from error
    if b2a_base64(data, newline=False).decode() != text:  # bits that no byte needs, set to 1
        raise Malformed("not canonical base64")
    return data
