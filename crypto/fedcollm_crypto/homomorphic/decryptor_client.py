"""The server's talk with a decryptor: one question at a time, one signed answer, or a signed refusal."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Ask, Chunks, Decryption, PartyId
from fedcollm_crypto.errors import CryptoError, ProtocolError, Refused, TooFewSilos
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.custody import check_key
from fedcollm_crypto.homomorphic.messages import KEY_COEFFICIENTS, FreshKey, KeyRequest, Opened
from fedcollm_crypto.homomorphic.parameters import Scheme
from fedcollm_crypto.homomorphic.residues import wire_bytes
from fedcollm_crypto.keys import Identity, VerificationKey
from fedcollm_crypto.masking.manifest import Encryption, RoundManifest
from fedcollm_crypto.masking.replies import split_frame
from fedcollm_crypto.masking.requests import VECTOR_FRAME, Message, Refusal, sign_message
from fedcollm_crypto.masking.stages import Where
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed
from fedcollm_crypto.wire import fill, join


class DecryptorLine:
    """Ask the decryptor of the roster; nothing it says is believed unless it signed it."""

    def __init__(self, *, decryptor: PartyId, roster: Roster, signer: Identity) -> None:
        """Take the decryptor's key from the roster. Raises: ValueError for a member of another role."""
        if roster.member(decryptor).role != "decryptor":
            raise ValueError(f"{decryptor} must be a decryptor of the roster")
        self.decryptor = decryptor
        self._key: VerificationKey = roster.key(decryptor)
        self._signer = signer
        self._waiting: tuple[str, int] | None = None  # the kind of answer, and the bytes before it
        self._answer: tuple[Signed, bytes] | None = None
        self._decryption: Decryption | None = None
        self._failed: dict[PartyId, str] = {}
        self._refused: dict[PartyId, str] = {}

    @property
    def open(self) -> bool:
        """Say whether a question is out."""
        return self._waiting is not None

    @property
    def failed(self) -> Mapping[PartyId, str]:
        """Return why the decryptor did not answer, if so."""
        return MappingProxyType(self._failed)

    @property
    def refused(self) -> Mapping[PartyId, str]:
        """Return the reason code of its refusal, if it refused."""
        return MappingProxyType(self._refused)

    @property
    def decryption(self) -> Decryption | None:
        """Return what it said of the sum that it opened, once that was found to be so."""
        return self._decryption

    def opened(self, manifest: RoundManifest, statement: Signed) -> None:
        """Keep a statement that was found to be about this attempt's sum."""
        if manifest.encryption is None:
            raise RuntimeError("nothing is encrypted under this manifest")
        named = manifest.encryption
        self._decryption = Decryption(
            decryptor=self.decryptor,
            parameters_hash=named.parameters_hash,
            key_hash=named.key_hash,
            statement=statement.encode(),
        )

    def ask(self, question: Message, attachment: bytes, *, answer: str, size: int) -> Ask:
        """Ask, and expect a message of the kind `answer` behind `size` bytes."""
        self._waiting, self._answer = (answer, size), None
        self._failed, self._refused = {}, {}
        message = sign_message(self._signer, question).encode()
        return Ask(requests={self.decryptor: messages.attach(message, attachment)})

    def absorb(self, reply: Chunks) -> None:
        """Take in its reply; a bad one counts as none."""
        if self._waiting is None or self._answer is not None:
            return
        try:
            self._answer = self._read(reply, *self._waiting)
        except Refused as refused:
            self._refused[self.decryptor], self._failed[self.decryptor] = refused.reason_code, str(refused)
        except (CryptoError, OSError) as error:
            self._failed[self.decryptor] = str(error)

    def take(self) -> tuple[Signed, bytes] | None:
        """Return the answer and the bytes before it; None where there is none. The question is closed."""
        self._waiting = None
        if self._answer is None:
            self._failed.setdefault(self.decryptor, "did not answer")
        return self._answer

    def lost(self, reason: str, dropped: Mapping[PartyId, str]) -> TooFewSilos:
        """Return the error of an attempt whose decryptor is lost; no silo has revealed anything."""
        self._failed[self.decryptor] = reason
        return TooFewSilos("decryption", needed=1, left=0, dropped={**dropped, **self._failed})

    def _read(self, reply: Chunks, kind: str, size: int) -> tuple[Signed, bytes]:
        frame, rest = split_frame(reply)
        data = np.empty(size if frame == VECTOR_FRAME else 0, dtype=np.uint8)
        message = Signed.decode(fill(data, rest) if frame == VECTOR_FRAME else join(rest))
        if message.sender != self.decryptor:
            raise ProtocolError("the reply names another sender than the party that it came from")
        message.verify(self._key)
        if message.kind == Refusal.KIND:
            refusal = Refusal.from_body(message.body)
            raise Refused(refusal.reason_code, f"refused ({refusal.reason_code}): {refusal.reason}")
        if message.kind != kind or (frame == VECTOR_FRAME) != bool(size):
            raise ProtocolError(f"a message of kind {kind} behind {size} bytes was expected")
        return message, data.tobytes()


def ask_key(line: DecryptorLine, manifest: RoundManifest, scheme: Scheme) -> Ask:
    """(K1) Ask for a fresh key for the manifest's attempt."""
    question = KeyRequest(where=Where.of(manifest), parameters_hash=scheme.hash)
    return line.ask(question, b"", answer=FreshKey.KIND, size=wire_bytes(KEY_COEFFICIENTS * scheme.lattice.degree))


def take_key(line: DecryptorLine, manifest: RoundManifest, scheme: Scheme) -> tuple[RoundManifest, int, bytes]:
    """Return the manifest with the key's hash in it, q, and the key for the silos. Raises: TooFewSilos."""
    answer = line.take()
    if answer is None:
        raise line.lost(line.failed[line.decryptor], {})
    message, wire = answer
    try:
        key = FreshKey.from_body(message.body)
        check_key(key, wire, scheme)
    except ProtocolError as error:
        raise line.lost(str(error), {}) from None
    if key.where != Where.of(manifest):
        raise line.lost("its key is for another attempt", {})
    named = Encryption(decryptor=line.decryptor, parameters_hash=scheme.hash, key_hash=key.key_hash.hex())
    return replace(manifest, encryption=named), key.prime, messages.attach(message.encode(), wire)


def take_opened(
    line: DecryptorLine, manifest: RoundManifest, sum_hash: bytes, dropped: Mapping[PartyId, str]
) -> NDArray[np.uint64]:
    """Return the words of an opened sum, which the decryptor says are this one's. Raises: TooFewSilos."""
    answer = line.take()
    if answer is None:
        raise line.lost(line.failed[line.decryptor], dropped)
    message, data = answer
    said = Opened.from_body(message.body)
    if (said.manifest_hash, said.sum_hash, said.opened_hash) != (manifest.hash, sum_hash, messages.opened_hash(data)):
        raise line.lost("its statement is not about this sum", dropped)
    line.opened(manifest, message)
    return np.frombuffer(data, dtype="<u8").astype(np.uint64)
