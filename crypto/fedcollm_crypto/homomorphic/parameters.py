"""Which lattice, which plaintext: fixed before the run, hashed into every manifest, refused below 128 bits.

One prime carries the data and one is SEAL's special prime, which is in no ciphertext: sums need no more. `Bfv` counts
in Z_t with t a prime ≡ 1 mod 2N, so that N integers ride in one ciphertext; `Ckks` holds N/2 integers at a scale of
2^20 and is rounded before anything is released.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar, Literal, TypeAlias

from fedcollm_crypto import canonical
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.declared import FLAT, Called, Declared
from fedcollm_crypto.derivation import digest
from fedcollm_crypto.kinds import Choice, Whole, mistyped, unexpected

PARAMETERS_LABEL = b"fedcollm/v1/he-parameters"

STANDARD_128 = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
"""Most bits of all primes together for 128 bits of classical security, ternary secret (HomomorphicEncryption.org)."""
STANDARD_192 = {1024: 19, 2048: 37, 4096: 75, 8192: 152, 16384: 305, 32768: 611}
QUANTUM_128 = {1024: 25, 2048: 51, 4096: 101, 8192: 202, 16384: 411, 32768: 827}

PRIME_BITS = 60
"""Bits of each prime: SEAL's limit, and what a coefficient takes on the wire. Residues of shorter primes would take as
much, and SEAL would compress them, which `seal_format` does not read."""

MARGIN_SIGMAS = 14.0
"""How many standard deviations of noise a decryption must be away from a wrong result: below 2^-140 a coefficient."""

PLAIN_MODULI = {44: 17592186028033, 46: 70368743669761, 48: 281474976694273}
"""The largest primes below 2^44, 2^46 and 2^48 that are 1 mod 16384, as SEAL's `PlainModulus.Batching(8192, …)`."""


@dataclass(frozen=True, kw_only=True)
class Lattice(Declared):
    """The ring's degree N and the bits of its two primes: data, special.

    Guarantee: at least 128 bits against classical attacks by the standard's table, for a ternary secret.

    Raises: ValueError for a degree that is not in the table, another number of primes, or less than 128 bits.
    """

    degree: Annotated[int, Whole(1024, 32768)] = 8192
    primes: tuple[Annotated[int, Whole(1, PRIME_BITS)], ...] = (60, 60)

    def __post_init__(self) -> None:
        """Refuse weak lattices and those this code has no use for."""
        if self.degree not in STANDARD_128:
            raise ValueError(f"degree must be one of {list(STANDARD_128)}, got {self.degree}")
        if len(self.primes) != 2:
            raise ValueError(f"primes must be two, data and special, got {self.primes}")
        if sum(self.primes) > STANDARD_128[self.degree]:
            raise ValueError(
                f"{sum(self.primes)} bits of primes at degree {self.degree} give less than 128 bits of security: at "
                f"most {STANDARD_128[self.degree]} are allowed. Raise the degree"
            )
        if self.primes != (PRIME_BITS, PRIME_BITS):
            raise ValueError(f"primes must be two of {PRIME_BITS} bits, data and special, got {self.primes}")

    @property
    def security(self) -> str:
        """Say what the standard's tables promise."""
        bits = sum(self.primes)
        classical = 192 if bits <= STANDARD_192[self.degree] else 128
        quantum = ", 128 against quantum computers" if bits <= QUANTUM_128[self.degree] else ""
        return f"{classical} bits classical{quantum}"

    def noise_sigma(self, silos: int) -> float:
        """Return the standard deviation of one coefficient's noise in a sum of `silos` fresh ciphertexts.

        SEAL encrypts at both primes and drops the special one, which leaves the rounding error u·s + v of that step,
        uniform in ±1/2 times a ternary secret: variance (1 + 2N/3)/12 each.
        """
        return math.sqrt(silos * (1 + 2 * self.degree / 3) / 12)


class _PlainModulus:
    """The bits of t in Python, t itself on the wire: as text, since another build's prime might not fit JSON."""

    def read(self, where: str, value: Json) -> int:
        for bits, modulus in PLAIN_MODULI.items():
            if str(modulus) == value:
                return bits
        raise unexpected(where, f"the largest prime of {', '.join(map(str, PLAIN_MODULI))} bits, as text, was", value)

    def write(self, value: object) -> str:
        if not isinstance(value, int):
            raise mistyped("a number of bits", value)
        return str(PLAIN_MODULI[value])


@dataclass(frozen=True, kw_only=True)
class Bfv(Declared):
    """Exact integers modulo a prime t of `plain_bits` bits, N to a ciphertext."""

    NAME: ClassVar[str] = "he-parameters"
    name: ClassVar[Annotated[Literal["bfv"], Called("scheme")]] = "bfv"
    lattice: Annotated[Lattice, FLAT] = Lattice()
    plain_bits: Annotated[int, Called("plain_modulus"), _PlainModulus()] = 44

    def __post_init__(self) -> None:
        """Refuse a plaintext modulus without batching at this degree."""
        if self.plain_bits not in PLAIN_MODULI or (self.modulus - 1) % (2 * self.lattice.degree):
            raise ValueError(
                f"plain_bits must be one of {list(PLAIN_MODULI)} and the degree at most 8192, got {self.plain_bits} "
                f"and {self.lattice.degree}"
            )

    @property
    def modulus(self) -> int:
        """Return t."""
        return PLAIN_MODULI[self.plain_bits]

    @property
    def slots(self) -> int:
        """Return how many integers one ciphertext holds."""
        return self.lattice.degree

    def require_exact(self, silos: int) -> None:
        """Raise ValueError unless a sum of so many ciphertexts decrypts exactly but with negligible probability.

        An exact scheme leaks its key through wrong decryptions alone (eprint 2024/116, 2024/127): there must be none.
        """
        room = 2.0 ** (self.lattice.primes[0] - 1) / self.modulus
        if room < MARGIN_SIGMAS * self.lattice.noise_sigma(silos):
            raise ValueError(
                f"a sum of {silos} silos at plain_bits {self.plain_bits} and a data prime of {self.lattice.primes[0]} "
                "bits could decrypt wrongly: use fewer plain_bits, a larger prime or fewer silos"
            )

    @cached_property
    def hash(self) -> str:
        """Return the hash that manifests name, in hex."""
        return _hash(self)


@dataclass(frozen=True, kw_only=True)
class Ckks(Declared):
    """Integers of magnitude `largest` at most, at a scale of 2^`scale_bits`, N/2 to a ciphertext, then rounded."""

    NAME: ClassVar[str] = "he-parameters"
    name: ClassVar[Annotated[Literal["ckks"], Called("scheme")]] = "ckks"
    lattice: Annotated[Lattice, FLAT] = Lattice()
    scale_bits: Annotated[int, Whole(1, PRIME_BITS)] = 20

    def __post_init__(self) -> None:
        """Refuse a scale that leaves no room below, for the noise, or above, for the value."""
        if not 18 <= self.scale_bits <= self.lattice.primes[0] - 2 - 20:
            raise ValueError(f"scale_bits must be in [18, {self.lattice.primes[0] - 22}], got {self.scale_bits}")

    @property
    def slots(self) -> int:
        """Return how many integers one ciphertext holds."""
        return self.lattice.degree // 2

    @property
    def largest(self) -> int:
        """Return the largest magnitude of a sum that fits under the data prime, with two bits to spare."""
        return 1 << (self.lattice.primes[0] - 3 - self.scale_bits)

    def require_exact(self, silos: int) -> None:
        """Raise ValueError unless the noise of so many ciphertexts stays far from half a step.

        A slot's noise is a sum of N coefficients' noise over the scale: σ·√N / 2^scale_bits, and the encoder rounds
        each coefficient once more. Release is refused at 0.25; the margin is counted to that.
        """
        per_coefficient = math.hypot(self.lattice.noise_sigma(silos), math.sqrt(silos / 12))
        sigma = per_coefficient * math.sqrt(self.lattice.degree) / 2.0**self.scale_bits
        if MARGIN_SIGMAS * sigma > 0.25:
            raise ValueError(
                f"a sum of {silos} silos at scale_bits {self.scale_bits} could be rounded wrongly (σ = {sigma:.3f} of "
                "a step): use more scale_bits or fewer silos"
            )

    @cached_property
    def hash(self) -> str:
        """Return the hash that manifests name, in hex."""
        return _hash(self)


Scheme: TypeAlias = Bfv | Ckks


def read_scheme(body: Json) -> Scheme:
    """Return the parameters in a JSON object. Raises: ProtocolError."""
    stated = body.get("scheme") if isinstance(body, Mapping) else None
    name = Choice(Bfv.name, Ckks.name).read("he-parameters.scheme", stated)
    return Bfv.from_body(body) if name == Bfv.name else Ckks.from_body(body)


def _hash(scheme: Scheme) -> str:
    return digest(PARAMETERS_LABEL, canonical.encode(scheme.to_body())).hex()
