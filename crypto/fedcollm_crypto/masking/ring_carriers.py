"""How a vector travels under its masks: as ring words here, in ciphertexts in `homomorphic.ciphertext_carriers`.

The protocol around it is the same: which masks, over whom, who consents and what is revealed.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from fedcollm_crypto.aggregation import Vector
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys, masked_chunks, remove_masks
from fedcollm_crypto.wire import Octets, words


class SiloCarrier(Protocol):
    """The side that masks. One object serves one attempt."""

    def chunks(self, vector: Vector, masks: MaskKeys) -> Iterator[bytes]:
        """Yield the masked vector for the wire; the same bytes each time."""
        ...


class ServerCarrier(Protocol):
    """The side that adds up. One object serves one attempt; an upload is read into `scratch`, then added."""

    @property
    def scratch(self) -> Octets:
        """Return where an upload's bytes go, exactly as many as it has."""
        ...

    def add(self) -> None:
        """Add what is in `scratch`. Raises: ProtocolError when it can't be an upload; nothing is added then."""
        ...

    def open(self, masks: MaskKeys) -> Vector:
        """Return the sum without these masks, as uint64 words of the ring. Raises: ProtocolError."""
        ...


class RingSilo:
    """Words of Z_2^m, masked and sent as they are."""

    def __init__(self, manifest: RoundManifest) -> None:
        """Take the ring from the manifest."""
        self._ring_bits = manifest.quantisation.ring_bits

    def chunks(self, vector: Vector, masks: MaskKeys) -> Iterator[bytes]:
        """Yield the masked words."""
        return (chunk.tobytes() for chunk in masked_chunks(vector, self._ring_bits, masks))


class RingServer:
    """A running total in Z_2^m: one vector beside it, however many silos."""

    def __init__(self, manifest: RoundManifest) -> None:
        """Start at zero."""
        quantisation = manifest.quantisation
        self._ring_bits = quantisation.ring_bits
        self._total = words(quantisation.length, quantisation.ring_bits)
        self._words = words(quantisation.length, quantisation.ring_bits)
        self.scratch: Octets = self._words.view(np.uint8)

    def add(self) -> None:
        """Add word by word, modulo 2^m."""
        np.add(self._total, self._words, out=self._total)

    def open(self, masks: MaskKeys) -> Vector:
        """Take the masks off."""
        remove_masks(self._total, self._ring_bits, masks)
        return self._total.astype(np.uint64, copy=False)
