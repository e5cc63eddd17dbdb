"""Integers of a sum in the slots of ciphertexts: one to a slot, or two where there is room for both and their guards.

    int64[length]  → one a slot:   s = x            → two a slot: s = x₀ + x₁·2^h,  |x| < 2^(h−1−GUARD_BITS)

A sum of packed slots is the packed sum, as long as no half leaves its range; `unpack` refuses one that did. Guard bits
do a second thing: a ciphertext that was not made by these rules decrypts to noise, which falls outside the legitimate
range but with probability 2^−GUARD_BITS a value, and nothing is released.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.parameters import PLAIN_MODULI, Bfv, Ckks, Lattice, Scheme

GUARD_BITS = 4
"""Bits between the largest honest sum and the end of its half of a slot."""

MIN_SCALE_BITS, MAX_SCALE_BITS = 20, 24
"""20 are enough for 94 silos; each bit more quadruples how many, and halves the largest sum."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """`largest`: the greatest magnitude of an honest sum. `half_bits`: h, or 0 where each slot holds one value."""

    scheme: Scheme
    largest: int
    half_bits: int = 0

    def __post_init__(self) -> None:
        """Refuse a range without guard bits."""
        room = self._room()
        if self.largest >= room >> GUARD_BITS:
            raise ValueError(
                f"a sum of magnitude {self.largest} leaves less than {GUARD_BITS} guard bits below {room}: lower bits "
                "or max_weight, or let fewer silos add up"
            )

    @property
    def per_slot(self) -> int:
        """Return how many values a slot holds."""
        return 2 if self.half_bits else 1

    def ciphertexts(self, length: int) -> int:
        """Return how many ciphertexts carry a vector of this length."""
        return -(-length // (self.scheme.slots * self.per_slot))

    def pack(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return int64[ciphertexts, slots], signed; what is left over is zero."""
        slots = np.zeros((self.ciphertexts(len(values)), self.scheme.slots), dtype=np.int64)
        flat = slots.reshape(-1)
        if not self.half_bits:
            flat[: len(values)] = values
            return slots
        low, high = values[0::2], values[1::2]
        flat[: len(low)] = low
        flat[: len(high)] += high << self.half_bits
        return slots

    def unpack(self, slots: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Return int64[length] from signed slots.

        Raises: ProtocolError for a value outside the honest range, without saying which: an ill-formed ciphertext
        would learn about the key from that.
        """
        flat = slots.reshape(-1)
        if self.half_bits:
            half = np.int64(1) << (self.half_bits - 1)
            low = ((flat + half) & ((1 << self.half_bits) - 1)) - half
            values = np.stack([low, (flat - low) >> self.half_bits], axis=1).reshape(-1)
        else:
            values = flat
        if values.max(initial=0) > self.largest or values.min(initial=0) < -self.largest or values[length:].any():
            raise ProtocolError("the opened sum is outside the range of honest sums: nothing is released")
        return values[:length].copy()

    def _room(self) -> int:
        if self.half_bits:
            return 1 << (self.half_bits - 1)
        match self.scheme:
            case Bfv():
                return self.scheme.modulus // 2
            case Ckks():
                return self.scheme.largest << GUARD_BITS  # `largest` keeps its own two bits; noise needs no guard here


def bfv_packing(*, largest: int, silos: int, lattice: Lattice | None = None) -> Packing:
    """Return the packing with the fewest bytes: two values a slot at the smallest t that has room, else one at 2^44.

    Raises: ValueError when not even one value a slot has room, or the noise has none.
    """
    lattice = lattice or Lattice()
    for plain_bits in PLAIN_MODULI:
        half_bits = plain_bits // 2
        if largest < 1 << (half_bits - 1 - GUARD_BITS):
            scheme = Bfv(lattice=lattice, plain_bits=plain_bits)
            try:
                scheme.require_exact(silos)
            except ValueError:
                break
            return Packing(scheme=scheme, largest=largest, half_bits=half_bits)
    scheme = Bfv(lattice=lattice)
    scheme.require_exact(silos)
    return Packing(scheme=scheme, largest=largest)


def ckks_packing(*, largest: int, silos: int, lattice: Lattice | None = None) -> Packing:
    """Return one value a slot in exact-integer mode, at the smallest scale whose noise stays far from half a step.

    Raises: ValueError when there is no room.
    """
    for scale_bits in range(MIN_SCALE_BITS, MAX_SCALE_BITS):
        try:
            return _ckks_at(scale_bits, largest, silos, lattice or Lattice())
        except ValueError:
            continue
    return _ckks_at(MAX_SCALE_BITS, largest, silos, lattice or Lattice())


def _ckks_at(scale_bits: int, largest: int, silos: int, lattice: Lattice) -> Packing:
    scheme = Ckks(lattice=lattice, scale_bits=scale_bits)
    scheme.require_exact(silos)
    return Packing(scheme=scheme, largest=largest)
