"""The server's end of a sum that a trustee computes: it carries and counts, and learns the sum from the trustee.

    K1  S → D    he-key-request                           D → S   pk and a box key, signed: for this attempt alone
    C1  S → i    manifest, pk                             i → S   commitment to the ciphertexts: after training
    C2  S → i    all commitments                          i → S   ciphertexts, sealed to D; which commitments it saw
    C3  S → D    one silo's sealed ciphertexts at a time  D → S   received: they open, fit the commitment, are added
    C4  S → D    all commitments                          D → S   Σ x, rounded, in range, signed; the key is gone

Sealed uploads wait in a file, so memory does not grow with the number of silos.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from fedcollm_crypto import hpke
from fedcollm_crypto.aggregation import Ask, Chunks, Decryption, PartyId, Sum
from fedcollm_crypto.errors import CryptoError, ProtocolError, TooFewSilos
from fedcollm_crypto.fixedpoint import ring_words
from fedcollm_crypto.homomorphic import commitments as said
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.ciphertext_buffer import Spool
from fedcollm_crypto.homomorphic.commitments import (
    COMMIT_REQUEST,
    SEND_REQUEST,
    Commitment,
    Deposit,
    Received,
    Sent,
)
from fedcollm_crypto.homomorphic.decryptor_client import DecryptorLine, ask_key, take_key, take_opened
from fedcollm_crypto.homomorphic.messages import Opened, OpenRequest
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.residues import wire_bytes
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.replies import split_frame
from fedcollm_crypto.masking.requests import VECTOR_FRAME, Refusal, Relay
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed, sign
from fedcollm_crypto.wire import fill, join

Upload = tuple[Signed, Spool]


class TrustingServer:
    """Learn the sum that the trustee opens, or nothing. One object serves one attempt.

    Guarantee: as `Trustee`: it rests on that party's honesty, not on this one's.
    """

    def __init__(
        self, *, manifest: RoundManifest, roster: Roster, signer: Identity, trustee: PartyId, packing: Packing
    ) -> None:
        """Serve the attempt that the manifest describes; the encryption is written into it when the key is there."""
        self._manifest = manifest
        self._roster = roster
        self._signer = signer
        self._packing = packing
        self._line = DecryptorLine(decryptor=trustee, roster=roster, signer=signer)
        self._stage = ""
        self._waiting: set[PartyId] = set()
        self._commitments: dict[PartyId, Signed] = {}
        self._uploads: dict[PartyId, Upload] = {}
        self._deposited: list[PartyId] = []
        self._depositing: PartyId = ""
        self._dropped: dict[PartyId, str] = {}
        self._refused: dict[PartyId, str] = {}

    @property
    def dropped(self) -> Mapping[PartyId, str]:
        """Return who was dropped, and why; the trustee too."""
        return MappingProxyType({**self._dropped, **self._line.failed})

    @property
    def refused(self) -> Mapping[PartyId, str]:
        """Return the reason code of each signed refusal."""
        return MappingProxyType({**self._refused, **self._line.refused})

    @property
    def survivors(self) -> frozenset[PartyId]:
        """Return whose sum the trustee is asked to open; empty before."""
        return frozenset(self._deposited) if self._stage in ("open", "over") else frozenset()

    @property
    def convictions(self) -> Mapping[PartyId, bytes]:
        """Return nobody: no shares are dealt."""
        return MappingProxyType({})

    @property
    def decryption(self) -> Decryption | None:
        """Return the decryptor's statement of the sum that it opened; None before."""
        return self._line.decryption

    @property
    def manifest(self) -> RoundManifest:
        """Return the manifest, with the encryption once the key is there."""
        return self._manifest

    def start(self, cohort: Sequence[PartyId]) -> Ask:
        """(K1) Ask the trustee for the key of this attempt."""
        if self._stage:
            raise RuntimeError("one server end serves one attempt: make a new one")
        if sorted(cohort) != list(self._manifest.cohort):
            raise ValueError("the cohort must be the manifest's: silos agree to that one and to no other")
        self._stage = "key"
        return ask_key(self._line, self._manifest, self._packing.scheme)

    def absorb(self, party: PartyId, reply: Chunks) -> None:
        """Take in one reply; a bad one drops its sender and nobody else."""
        if party == self._line.decryptor:
            self._line.absorb(reply)
        elif party in self._waiting:
            self._waiting.remove(party)
            try:
                self._take(party, reply)
            except (CryptoError, OSError) as error:
                self._dropped[party] = str(error)

    def step(self) -> Ask | Sum:
        """Go on with those who answered. Raises: TooFewSilos, also for a lost trustee."""
        self._dropped.update(dict.fromkeys(self._waiting, "did not answer"))
        self._waiting = set()
        match self._stage:
            case "key":
                return self._ask_commitments()
            case "commit":
                self._require_floor(self._commitments)
                return self._ask_ciphertexts()
            case "send":
                self._require_floor(self._uploads)
                return self._deposit_next()
            case "deposit":
                self._take_received()
                return self._deposit_next()
            case "open":
                return self._take_sum()
            case _:
                raise RuntimeError("the attempt has not started, or is over")

    def _ask_commitments(self) -> Ask:
        """(C1) Send manifest and key."""
        self._stage = "commit"
        self._manifest, _, head = take_key(self._line, self._manifest, self._packing.scheme)
        request = sign(self._signer, COMMIT_REQUEST, self._manifest.to_body()).encode()
        return self._ask(dict.fromkeys(self._manifest.cohort, messages.attach(head, request)))

    def _ask_ciphertexts(self) -> Ask:
        """(C2) Show everybody all commitments."""
        self._stage = "send"
        relay = Relay(manifest_hash=self._manifest.hash, messages=self._ordered()).to_body()
        return self._ask(dict.fromkeys(self._commitments, sign(self._signer, SEND_REQUEST, relay).encode()))

    def _deposit_next(self) -> Ask:
        """(C3) Bring the trustee the next silo's ciphertexts; (C4) after the last, ask for the sum."""
        if not self._uploads:
            return self._ask_opening()
        self._stage = "deposit"
        self._depositing = min(self._uploads)
        sent, sealed = self._uploads.pop(self._depositing)
        sealed.rewind()
        question = Deposit(manifest=self._manifest, commitment=self._commitments[self._depositing], sent=sent)
        return self._line.ask(question, sealed.read(), answer=Received.KIND, size=0)

    def _take_received(self) -> None:
        """Count the silo whose ciphertexts the trustee took; drop the one whose it refused."""
        if self._line.take() is not None:
            self._deposited.append(self._depositing)
        elif self._line.refused:
            self._dropped[self._depositing] = f"the trustee {self._line.failed[self._line.decryptor]}"
        else:
            raise self._line.lost(self._line.failed[self._line.decryptor], self._dropped)

    def _ask_opening(self) -> Ask:
        """(C4) Ask for the sum over those whose ciphertexts the trustee has."""
        self._require_floor(self._deposited)
        self._stage = "open"
        question = OpenRequest(manifest=self._manifest, messages=self._ordered(), sum_hash=self._sum_hash())
        return self._line.ask(question, b"", answer=Opened.KIND, size=8 * self._manifest.quantisation.length)

    def _take_sum(self) -> Sum:
        self._stage = "over"
        words = take_opened(self._line, self._manifest, self._sum_hash(), self._dropped)
        total = ring_words(words.view(np.int64), self._manifest.quantisation.ring_bits)
        return Sum(total=total, contributors=frozenset(self._deposited))

    def _sum_hash(self) -> bytes:
        """Name the sum by those who are in it: the trustee alone has its ciphertexts."""
        return said.commitments_hash({party: self._commitments[party] for party in self._deposited})

    def _take(self, party: PartyId, reply: Chunks) -> None:
        frame, rest = split_frame(reply)
        sealed = np.empty(self._sealed_bytes() if frame == VECTOR_FRAME else 0, dtype=np.uint8)
        message = Signed.decode(fill(sealed, rest) if frame == VECTOR_FRAME else join(rest))
        if message.sender != party:
            raise ProtocolError("the reply names another sender than the party that it came from")
        message.verify(self._roster.key(party))
        if message.kind == Refusal.KIND:
            refusal = Refusal.from_body(message.body)
            self._refused[party] = refusal.reason_code
            raise ProtocolError(f"refused ({refusal.reason_code}): {refusal.reason}")
        if self._stage == "commit" and message.kind == Commitment.KIND:
            if Commitment.from_body(message.body).manifest_hash != self._manifest.hash:
                raise ProtocolError("the commitment is to another manifest")
            self._commitments[party] = message
        elif self._stage == "send" and message.kind == Sent.KIND and frame == VECTOR_FRAME:
            kept = Spool()
            kept.write(sealed.data)
            self._uploads[party] = message, kept
        else:
            raise ProtocolError("a reply of another stage")

    def _sealed_bytes(self) -> int:
        each = wire_bytes(2 * self._packing.scheme.lattice.degree) + hpke.CLASSICAL_OVERHEAD_BYTES
        return each * self._packing.ciphertexts(self._manifest.quantisation.length)

    def _ordered(self) -> tuple[Signed, ...]:
        return tuple(self._commitments[party] for party in sorted(self._commitments))

    def _ask(self, requests: Mapping[PartyId, bytes]) -> Ask:
        self._waiting = set(requests)
        return Ask(requests=requests)

    def _require_floor(self, silos: Sequence[PartyId] | Mapping[PartyId, object]) -> None:
        if len(silos) < self._manifest.floor:
            stage, self._stage = self._stage, "over"
            raise TooFewSilos(
                f"stage {stage}", needed=self._manifest.floor, left=len(silos), dropped=dict(self._dropped)
            )
