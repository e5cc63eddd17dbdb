"""The decryptor's key as a silo gets it: behind a manifest, signed by the decryptor, for one attempt, checked twice."""

from dataclasses import dataclass

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.custody import check_key
from fedcollm_crypto.homomorphic.messages import KEY_COEFFICIENTS, FreshKey
from fedcollm_crypto.homomorphic.parameters import Scheme
from fedcollm_crypto.homomorphic.residues import from_wire
from fedcollm_crypto.homomorphic.worker import Box, Worker, WorkerFailed, crashed, opened
from fedcollm_crypto.masking import rules
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.stages import Where
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed


@dataclass(frozen=True, kw_only=True)
class _Key:
    """A public key that came with a request."""

    message: FreshKey
    sender: PartyId
    wire: bytes


class SiloKey:
    """Hold the key of the attempt under way.

    Guarantee: vectors are encrypted under a key that the decryptor of the roster signed for this very attempt, that
    the manifest names, and that every other silo of the manifest therefore encrypts under as well.
    """

    def __init__(self, roster: Roster, scheme: Scheme, worker: Worker) -> None:
        """Start without a key."""
        self._roster = roster
        self._scheme = scheme
        self._worker = worker
        self._came: _Key | None = None  # with the request under way; nothing is done with it before `check`
        self._key: _Key | None = None
        self._box: Box | None = None
        self._used: dict[bytes, Where] = {}

    @property
    def box(self) -> Box:
        """Return the key, ready to encrypt under. Raises: RuntimeError before `check`."""
        if self._box is None:
            raise RuntimeError("no key was checked for this attempt")
        return self._box

    @property
    def message(self) -> FreshKey:
        """Return what the decryptor said of the key. Raises: RuntimeError before `check`."""
        if self._key is None:
            raise RuntimeError("no key was checked for this attempt")
        return self._key.message

    def take(self, request: bytes) -> bytes:
        """Take the key off a request and return the rest. Raises: ProtocolError unless a decryptor signed it.

        What came with an earlier request does not count for this one, and a key that comes later than the manifest
        takes no other's place: it would be one that nobody checked.
        """
        self._came = None
        if request[:1] != messages.ATTACHED:
            return request
        head, rest = messages.detach(request)
        signed_key, wire = messages.detach(head)
        signed = Signed.decode(signed_key)
        if signed.kind != FreshKey.KIND or self._roster.member(signed.sender).role != "decryptor":
            raise ProtocolError("a key that a decryptor of the roster signed was expected")
        rules.verify_sender(signed, self._roster)
        self._came = _Key(message=FreshKey.from_body(signed.body), sender=signed.sender, wire=bytes(wire))
        return bytes(rest)

    def check(self, manifest: RoundManifest) -> None:
        """Raise Refused unless the key is the manifest's, for its attempt, and of no attempt before.

        Raises: ProtocolError unless it is a key.
        """
        key, named = self._came, manifest.encryption
        if key is None or named is None or named.decryptor != key.sender:
            raise Refused("other_encryption", "the manifest came without the key of the decryptor that it names")
        if named.key_hash != key.message.key_hash.hex() or key.message.where != Where.of(manifest):
            raise Refused("other_encryption", "the key that came is not the manifest's, or for another attempt")
        if self._used.setdefault(key.message.key_hash, key.message.where) != key.message.where:
            raise Refused("old_key", "this silo encrypted under that key in another attempt")
        check_key(key.message, key.wire, self._scheme)
        if self._box is not None:
            with opened(self._box):
                self._box = None
        residues = from_wire(key.wire, 1 << 60, KEY_COEFFICIENTS * self._scheme.lattice.degree)
        try:
            self._box = self._worker.encryptor(self._scheme, residues)
        except WorkerFailed:
            raise crashed() from None
        self._key = key
