"""The enclave's core, without I/O: a batch of untrusted bytes in, ordered effects out.

Every mail takes the same way: bounds, decryption (which binds it to session and epoch), evidence, sequence, and only
then the handler, in its own transaction. All mails of a batch share one commit (group commit); replies are made
after it, because they carry its checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pmap.clients import resolve_all
from pmap.enclave import Enclave
from pmap.entries import META
from pmap.handler import run
from pmap.hello import Greeter
from pmap.keyring import Keyring
from pmap.log import CommitLog
from pmap.mailroom import Mailroom
from pmap.map import PersistentMap
from pmap.quarantine import Quarantine
from pmap.refusals import Refusals
from pmap.runtime import Runtime
from pmap.tee import Tee
from wire.alarm import Alarm
from wire.attestation import Attestation
from wire.boundary import Answer, AnswerKind, Delivery, Incoming, IncomingKind, Rejection
from wire.checkpoint import Checkpoint
from wire.crypto import Randomness, Unauthentic
from wire.errors import FreshnessError, Malformed
from wire.hpke import MailKey
from wire.limits import COMMIT_BYTES
from wire.mail import EnvelopeKind, Outcome, envelope_kind

if TYPE_CHECKING:
    from pmap.filesystem.filesystem import FileSystem


class EnclaveCore:
    """One epoch of one enclave, as its host drives it."""

    def __init__(self, enclave: Enclave, log: CommitLog, tee: Tee, randomness: Randomness) -> None:
        """Take over a new or replayed log. Raises :class:`InvalidInput` for settings that make no sense."""
        resolve_all(log.entries, log.history)
        mail_key = MailKey(enclave.mail_key, randomness)
        self._runtime = runtime = Runtime(enclave, log, randomness)
        self._quarantine = Quarantine(log)
        self._refusals = Refusals(runtime, self._quarantine)
        self._greeter = Greeter(runtime, mail_key, self._quarantine, self._refusals)
        self._mailroom = Mailroom(runtime, self._quarantine, self._refusals)
        self.settings = runtime.settings
        self._mail_key = mail_key.public
        self.tee = tee
        self.attest()

    def attest(self) -> Attestation:
        """Make new evidence of this epoch, and the document with it: also :attr:`attestation` from now on.

        Raises :class:`wire.errors.TeeUnavailable`.
        """
        runtime, log = self._runtime, self._runtime.log
        bare = Attestation(
            log.store_id,
            log.epoch,
            self._mail_key,
            log.public_key,
            runtime.persistent,
            runtime.settings.roster.digest(),
            self.tee.name,
            b"",
        )
        self.attestation = replace(bare, evidence=self.tee.evidence(bare.report_data()))
        return self.attestation

    @property
    def keyring(self) -> Keyring:
        """The store's secrets: to be handed to nobody but an attested successor."""
        return self._runtime.log.keyring

    @property
    def head(self) -> tuple[int, bytes]:
        """The newest commit's number, and the history's root with it (32 bytes)."""
        log = self._runtime.log
        return log.n, log.history.root

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint of the newest commit."""
        return self._runtime.log.checkpoint

    @property
    def public_key(self) -> bytes:
        """The key that signs the checkpoints."""
        return self._runtime.log.public_key

    @property
    def alarm(self) -> Alarm | None:
        """Why the store is quarantined, if it is."""
        return self._quarantine.alarm

    @property
    def map(self) -> PersistentMap:
        """The persistent map, for whoever runs the core in their own process."""
        return self._runtime.map

    @property
    def fs(self) -> FileSystem | None:
        """The files, likewise."""
        return self._runtime.fs

    def deliver(self, untrusted_batch: Sequence[Incoming]) -> Iterator[Delivery]:
        """Process items in order. Almost always one delivery; more where changes or replies would grow too large.

        They are made as they are asked for, so that not all of a batch's replies need be in memory at once.
        An exception leaves the core unusable: a part of the batch is done. The host restarts it from the store.
        """
        runtime = self._runtime
        for position, item in enumerate(untrusted_batch):
            if item.kind is IncomingKind.CALL:
                self._call(position, item.data)
            else:
                self._envelope(position, item.data)
            if runtime.entries.pending_bytes + runtime.turn.payload_bytes >= COMMIT_BYTES:
                yield runtime.commit()
        yield runtime.commit()

    def genesis(self) -> Delivery:
        """The first record of a new store."""
        runtime = self._runtime
        with runtime.entries.transaction():
            runtime.entries.put(META + b"created", b"\x01")
        runtime.turn.commits = True
        return runtime.commit()

    def learn(self, size: int, untrusted_root: bytes, to_size: int, untrusted_proof: list[bytes]) -> None:
        """The host answers a :class:`wire.boundary.ProofWanted`: this history's root at ``size``, and the consistency
        proof from there to ``to_size``, a recent commit.

        Raises :class:`wire.errors.ProofInvalid`; sizes that nobody asked for are ignored.
        """
        if size in self._refusals.unproven:
            self._runtime.log.history.learn(size, untrusted_root, to_size, untrusted_proof)
            self._refusals.unproven.discard(size)

    def _envelope(self, position: int, untrusted: bytes) -> None:
        try:
            kind = envelope_kind(untrusted)
            if kind is EnvelopeKind.MAIL:
                self._mailroom.receive(position, untrusted)
            elif kind is EnvelopeKind.HELLO:
                self._greeter.receive(position, untrusted)
            else:
                self._runtime.turn.reject(position, Rejection.MALFORMED)
        except Malformed:
            self._runtime.turn.reject(position, Rejection.MALFORMED)
        except Unauthentic:
            self._runtime.turn.reject(position, Rejection.UNDECRYPTABLE)

    def _call(self, position: int, data: bytes) -> None:
        runtime = self._runtime
        try:
            self._quarantine.check()
        except FreshnessError as error:
            answer = Answer(position, AnswerKind.CALL_FAILED, data=str(error).encode())
        else:
            outcome, payload = run(runtime.enclave.receive_from_host, data, runtime.entries, runtime.turn)
            kind = AnswerKind.CALL_DONE if outcome is Outcome.EXECUTED else AnswerKind.CALL_FAILED
            answer = Answer(position, kind, data=payload)
            runtime.turn.commits = True
        runtime.turn.answers.append(answer)
