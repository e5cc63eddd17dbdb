"""The masking protocol with every vector inside ciphertexts: the server's end, round `masking`'s.

    K1  S → D   he-key-request                        D → S   pk, signed: for this attempt alone
    M0 – M3     as in masking; M0 brings pk, and the manifest its hash; M3's vector is Enc_pk(x + masks mod t)
    M4          as in masking: consent to U3
    K2  S → D   Σ ciphertexts, U3's uploads, t consents     D → S   Σ (x + masks) mod t, signed; the key is gone
    M5, R       as in masking: shares, masks off, range checked

K2 comes before M5: a decryptor that is lost costs an attempt and no silo's secret.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from fedcollm_crypto.aggregation import Ask, Chunks, Decryption, PartyId, Sum
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.ciphertext_carriers import CiphertextServer
from fedcollm_crypto.homomorphic.decryptor_client import DecryptorLine, ask_key, take_key, take_opened
from fedcollm_crypto.homomorphic.messages import Opened, OpenRequest
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.parameters import Bfv
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import requests
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.roster import Roster


class EncryptedServer:
    """Learn the sum over the silos that stay, with a decryptor's help, or nothing. One object serves one attempt.

    Guarantee: as `MaskedServer`; it holds no key, and no homomorphic library runs in it.
    """

    def __init__(
        self,
        *,
        manifest: RoundManifest,
        roster: Roster,
        signer: Identity,
        decryptor: PartyId,
        packing: Packing,
        scheme: Bfv,
    ) -> None:
        """Serve the attempt that the manifest describes; the encryption is written into it when the key is there."""
        if scheme != packing.scheme:
            raise ValueError("the packing must be for these parameters")
        if roster.member(decryptor).role != "decryptor":
            raise ValueError(f"{decryptor} must be a decryptor of the roster")
        self._manifest = manifest
        self._roster = roster
        self._signer = signer
        self._line = DecryptorLine(decryptor=decryptor, roster=roster, signer=signer)
        self._packing = packing
        self._scheme = scheme
        self._inner: MaskedServer | None = None
        self._carrier: CiphertextServer | None = None
        self._next: Ask | None = None  # M5's requests, while the decryptor is at work
        self._sum_hash = b""

    @property
    def dropped(self) -> Mapping[PartyId, str]:
        """Return who was dropped, and why; the decryptor too."""
        return MappingProxyType({**({} if self._inner is None else self._inner.dropped), **self._line.failed})

    @property
    def refused(self) -> Mapping[PartyId, str]:
        """Return the reason code of each signed refusal."""
        return MappingProxyType({**({} if self._inner is None else self._inner.refused), **self._line.refused})

    @property
    def survivors(self) -> frozenset[PartyId]:
        """Return U3 once t silos have agreed to open the sum over it; empty before."""
        return frozenset() if self._inner is None else self._inner.survivors

    @property
    def convictions(self) -> Mapping[PartyId, bytes]:
        """Return whom this attempt proved to have dealt badly, with the proof of each."""
        return MappingProxyType({}) if self._inner is None else self._inner.convictions

    @property
    def decryption(self) -> Decryption | None:
        """Return the decryptor's statement of the sum that it opened; None before."""
        return self._line.decryption

    @property
    def manifest(self) -> RoundManifest:
        """Return the manifest, with the encryption once the key is there."""
        return self._manifest

    def start(self, cohort: Sequence[PartyId]) -> Ask:
        """(K1) Ask the decryptor for the key of this attempt."""
        if self._line.open or self._inner is not None:
            raise RuntimeError("one server end serves one attempt: make a new one")
        if sorted(cohort) != list(self._manifest.cohort):
            raise ValueError("the cohort must be the manifest's: silos agree to that one and to no other")
        return ask_key(self._line, self._manifest, self._scheme)

    def absorb(self, party: PartyId, reply: Chunks) -> None:
        """Take in one reply; a bad one drops its sender and nobody else."""
        if party == self._line.decryptor:
            self._line.absorb(reply)
        elif self._inner is not None:
            self._inner.absorb(party, reply)

    def step(self) -> Ask | Sum:
        """Go on with those who answered. Raises: TooFewSilos, also for a lost decryptor; ProtocolError."""
        if self._inner is None:
            return self._begin()
        if self._line.open:
            return self._proceed(self._inner)
        result = self._inner.step()
        if isinstance(result, Ask) and self._inner.stage == requests.ASK_REVEAL:
            return self._ask_opening(self._inner, result)
        return result

    def _begin(self) -> Ask:
        """(M0) Write the key into the manifest and send both to the silos."""
        if not self._line.open:
            raise RuntimeError("the attempt has not started")
        self._manifest, prime, head = take_key(self._line, self._manifest, self._scheme)
        self._carrier = CiphertextServer(self._manifest.quantisation, self._packing, prime, self._scheme.modulus)
        self._inner = MaskedServer(
            manifest=self._manifest, roster=self._roster, signer=self._signer, carrier=self._carrier
        )
        ask = self._inner.start(list(self._manifest.cohort))
        return Ask(requests={party: messages.attach(head, request) for party, request in ask.requests.items()})

    def _ask_opening(self, inner: MaskedServer, following: Ask) -> Ask:
        """(K2) Hand the sum to the decryptor, with what the silos signed."""
        if self._carrier is None:
            raise RuntimeError("there is no sum yet")
        self._next = following
        wire = self._carrier.total.to_wire()
        self._sum_hash = messages.sum_hash(wire)
        uploads = tuple(inner.uploads[party] for party in sorted(inner.uploads))
        question = OpenRequest(manifest=self._manifest, messages=(*uploads, *inner.quorum), sum_hash=self._sum_hash)
        slots = self._packing.ciphertexts(self._manifest.quantisation.length) * self._scheme.slots
        return self._line.ask(question, wire, answer=Opened.KIND, size=8 * slots)

    def _proceed(self, inner: MaskedServer) -> Ask:
        """(M5) Take what was opened, and go on where the silos were left."""
        if self._carrier is None or self._next is None:
            raise RuntimeError("nothing was to be opened")
        words = take_opened(self._line, self._manifest, self._sum_hash, inner.dropped)
        try:
            self._carrier.take_opened(words)
        except ProtocolError as error:
            raise self._line.lost(str(error), inner.dropped) from None
        following, self._next = self._next, None
        return following
