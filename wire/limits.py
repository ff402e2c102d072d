"""Every bound on bytes that come from somebody else, and on what we keep for them, with its unit."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- entries (bytes) ---------------------------------------------------------------------------------
MAX_KEY_BYTES: Final = 1024
"""Longest map key, in bytes of UTF-8."""
MAX_VALUE_BYTES: Final = 64 * MIB
"""Longest value of one entry."""
ENTRY_OVERHEAD_BYTES: Final = 12
"""What an entry costs in a record beside key and value: two length prefixes (<= 5 bytes each), rounded up."""
MAX_CONFIGURED_SIZE_BYTES: Final = 1024 * 1024 * MIB
"""Largest size that a setting can ask for: 1 TiB. All of it would have to be resident in the enclave."""

# --- records (bytes) ---------------------------------------------------------------------------------
LMDB_PAGE_BYTES: Final = 4096
LMDB_PAGE_HEADER_BYTES: Final = 16
"""A value of 4096*k - 16 bytes fills k LMDB overflow pages exactly."""
MAX_RECORD_BYTES: Final = 1024 * MIB
"""Largest record: a batch of the largest mails, doubled by the sweep."""

MAX_TRANSACTION_BYTES: Final = 192 * MIB
"""What one transaction may write: a commit of it, doubled by the sweep, still fits into a record."""
COMMIT_BYTES: Final = 32 * MIB
"""A batch whose changes have reached this is committed before its next mail is processed."""

MAX_FULL_SWEEP_MAP_BYTES: Final = 256 * MIB
"""Largest map whose every commit may re-encrypt all of it: it must fit into one record beside the changes."""
MAX_FULL_SWEEP_BYTES: Final = 384 * MIB
"""The most that a full sweep puts into one record, with the clients' entries and inboxes beside the map."""

# --- files (bytes unless said otherwise) --------------------------------------------------------------
BLOCK_BYTES: Final = 4096
"""A file's content stands in blocks of this size; each allocated block takes this much of the filesystem's size."""
MAX_NAME_BYTES: Final = 255
MAX_PATH_BYTES: Final = 4096
MAX_FILE_BYTES: Final = (1 << 63) - 1
"""Largest offset in a file: what a signed 64-bit integer can hold. Holes take no space."""
MAX_RAW_WRITE_BYTES: Final = 3968 * BLOCK_BYTES
"""One write call takes at most this much (15.5 MiB) and says so, as write(2) does; buffered files go on with the rest.
With what entries cost it just fits into half of a record of 32 MiB."""
MIN_INODES: Final = 64  # inodes
"""A filesystem has one inode for each block of its size, but never fewer than this."""

# --- mail (bytes unless said otherwise) ---------------------------------------------------------------
MAX_BODY_BYTES: Final = 50 * MIB
"""Largest body of a mail, and largest payload of a reply."""
MAX_ENVELOPE_BYTES: Final = 64 * MIB
"""Largest encrypted mail or reply: a body, its padding (Padmé, <= 12 %) and its header."""
MAX_TOPIC_BYTES: Final = 128
MAX_HELLO_BYTES: Final = 8 * KIB
MAX_STREAMS_PER_CLIENT: Final = 1024  # streams
MAX_CLIENTS: Final = 1_000_000  # clients
MAX_INBOX_MAILS: Final = 1024  # mails that one client has not acknowledged yet
MAX_INBOX_BODY_BYTES: Final = MIB
"""Largest mail that an enclave sends on its own: it stays in the map until it is acknowledged."""
MAX_INBOX_BYTES: Final = 8 * MIB  # of all mails that one client has not acknowledged yet
MAX_ERROR_TEXT_BYTES: Final = 1024
MAX_REFUSAL_TEXT_CHARACTERS: Final = 1024  # characters
MAX_REFUSAL_BYTES: Final = 8 * KIB

# --- batches and frames -------------------------------------------------------------------------------
MAX_BATCH_MAILS: Final = 1024  # mails
MAX_BATCH_BYTES: Final = 96 * MIB
MAX_FRAME_BYTES: Final = MAX_RECORD_BYTES + 256 * MIB
"""Largest frame between host and enclave: a record with the replies of its commit."""
MAX_WAITING_MAILS: Final = 16 * 1024  # mails that wait for the enclave in a host's memory
MAX_WAITING_BYTES: Final = 256 * MIB
"""What the mails that wait for the enclave may hold; as much again may be on its way in over the network."""
MAX_MEMORY_OUTBOX_BYTES: Final = 256 * MIB
"""What a host keeps in memory of the replies of an enclave that has no store."""
RECORDS_PER_READ_BYTES: Final = 4 * MIB
"""How many bytes of records cross the boundary at once while the enclave starts."""
OUTBOX_READ_BYTES: Final = MAX_BATCH_BYTES
"""How many bytes of waiting messages a store gives out at once, unless the first alone has more."""

# --- history ------------------------------------------------------------------------------------------
RECENT_ROOTS: Final = 16_384  # commits whose root the enclave remembers without asking the host
MAX_TREE_SIZE: Final = (1 << 63) - 1  # leaves: what a signed 64-bit integer of any witness can hold
MAX_PROOF_HASHES: Final = 64  # hashes: a tree of 2**63 leaves is as deep as a proof gets
MAX_UNPROVEN_CLAIMS: Final = 1024  # sizes of which the enclave waits for a proof
MAX_NOTE_BYTES: Final = 64 * KIB
MAX_ATTESTATION_BYTES: Final = 256 * KIB
MAX_KEYRING_BYTES: Final = 4 * KIB

# --- files of entries ---------------------------------------------------------------------------------
MAX_TRANSFER_LINE_BYTES: Final = 96 * MIB
"""Longest line of a CSV or JSON lines file: the largest value in base64, its key, and room to spell both."""

# --- the ready-made key-value enclave -----------------------------------------------------------------
MAX_OPERATIONS: Final = 10_000  # operations in one mail
MAX_STORED_VALUE_BYTES: Final = 49 * MIB
"""Largest value that goes through a mail: body or payload, with room for the longest key beside it, twice."""
MAX_PAGE_ENTRIES: Final = 10_000  # entries in one answer to a scan
PAGE_BYTES: Final = MIB
"""What a client asks for in one page of a scan, unless it says otherwise: bytes of keys and values."""

# --- shards -------------------------------------------------------------------------------------------
MAX_SHARDS: Final = 1024  # stores in a shard map
MAX_PARTITIONS: Final = 65_536  # partitions
MAX_SHARD_URL_BYTES: Final = 256
MAX_SHARD_MAP_BYTES: Final = 512 * KIB
"""Largest signed shard map: that many stores and partitions."""
MAX_EXAMINED_KEYS: Final = 50_000  # keys
"""So many keys one mail looks at where it leaves some out: those of other shards, or those to be removed."""

# --- the client ---------------------------------------------------------------------------------------
MAX_STATE_BYTES: Final = 512 * MIB
"""Largest client state: it holds the pending mail of each stream."""
MAX_INVITE_CHARACTERS: Final = 4 * KIB  # characters
MAX_POLL_BYTES: Final = OUTBOX_READ_BYTES + MIB
"""Largest answer of a host to a poll: what a store gives out at once, and its framing."""
MAX_CONSISTENCY_BYTES: Final = 4 * KIB
"""Largest consistency proof on the wire: 64 hashes and their framing."""
MAX_HTTP_ERROR_BYTES: Final = 16 * KIB
# --- the TEE's evidence (bytes) -----------------------------------------------------------------------
MAX_EVIDENCE_BYTES: Final = 64 * KIB
"""A quote (5 KiB), a report with its certificates (8 KiB), a Nitro document (5 KiB), a quote with its event log."""
MAX_COLLATERAL_BYTES: Final = MIB
"""Intel's collateral in JSON: the revocation list of PCK certificates is most of it."""
MAX_CERTIFICATE_BYTES: Final = 8 * KIB
MAX_CHAIN_CERTIFICATES: Final = 8  # certificates
MAX_CONSTRAINT_CHARACTERS: Final = 16 * KIB  # characters
MAX_HANDOVER_BYTES: Final = 128 * KIB
MAX_ENDORSEMENTS_BYTES: Final = MIB + 128 * KIB
"""What a host says of its platform in a hand-over: collateral, and one chain of certificates."""

# --- keys ---------------------------------------------------------------------------------------------
MAX_KEY_GENERATIONS: Final = 8  # generations of a store's record key that a keyring can hold
