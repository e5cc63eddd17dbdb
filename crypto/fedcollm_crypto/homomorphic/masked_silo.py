"""The masking protocol with every vector inside ciphertexts: the silo's end. `masked_server` has the steps."""

from dataclasses import replace

from fedcollm_crypto.aggregation import Chunks
from fedcollm_crypto.homomorphic.ciphertext_carriers import CiphertextSilo
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.parameters import Bfv
from fedcollm_crypto.homomorphic.silo_key import SiloKey
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import Part, Pledge
from fedcollm_crypto.masking.ring_carriers import SiloCarrier
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_crypto.masking.silo_state import Evidence, SiloSetup


class EncryptedSilo:
    """Give a vector to a sum under two locks: the masks of `MaskedSilo`, and the decryptor's key around them.

    Guarantee: as `MaskedSilo` against every server, the decryptor in league or not. On top of that, against one that
    follows the protocol, and against whoever records the traffic, an update stays hidden where every mask is known, if
    BFV at these parameters is secure. A malicious server can spend its one opening on a ciphertext of its own making
    and learn the attempt's key from it instead of a sum: then the masks alone hide.
    """

    def __init__(self, *, setup: SiloSetup, part: Part, packing: Packing, scheme: Bfv, worker: Worker) -> None:
        """Take part in one round; what it expects names the decryptor and the hash of `scheme`."""
        if packing.scheme != scheme:
            raise ValueError("the silo's packing must have these parameters")
        self._packing = packing
        self._modulus = scheme.modulus
        self._admit = part.admit
        self._told = worker.progress
        self._key = SiloKey(setup.roster, scheme, worker)
        self._inner = MaskedSilo(setup=setup, part=replace(part, admit=self._check_key), carrier=self._new_carrier)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Return what was refused in this attempt."""
        return self._inner.evidence

    def convict(self, proof: bytes) -> None:
        """Take in proof that a silo dealt bad shares. Raises: ProtocolError."""
        self._inner.convict(proof)

    def handle(self, request: bytes) -> Chunks:
        """Answer one request; a manifest comes behind the decryptor's key. Raises: ProtocolError as `MaskedSilo`."""
        return self._inner.handle(self._key.take(request))

    def _check_key(self, manifest: RoundManifest) -> Pledge:
        """Check the key first; then the ledger and the log have their say."""
        self._key.check(manifest)
        return self._admit(manifest)

    def _new_carrier(self, manifest: RoundManifest) -> SiloCarrier:
        return CiphertextSilo(manifest.quantisation, self._packing, self._key.box, self._modulus, self._told)
