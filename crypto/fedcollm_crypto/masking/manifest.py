"""M0, the round manifest: everything a round depends on, in one canonical object that all sign and all masks hang on.

Its hash is in every hello and in the derivation of every mask, so silos that were shown different rounds neither share
keys nor cancel each other's masks.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Final, Literal, get_args

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import MAX_INTEGER
from fedcollm_crypto.declared import SPARSE, Declared
from fedcollm_crypto.derivation import HASH_BYTES, digest
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.kinds import Natural, Real, Whole

VERSION: Final = 1
MANIFEST_LABEL = b"fedcollm/v1/manifest-hash"

Adversary = Literal["malicious", "semi_honest"]
"""What the server may do: anything at all, or only look."""


Profile = Literal["classical", "post_quantum"]
"""What keys and masks rest on: X25519 and Ed25519, or ML-KEM-768 and ML-DSA-44 beside them."""


def threshold(n: int, colluding: int, adversary: Adversary) -> int:
    """Return t, the number of silos that must stay to the end, for a cohort of n with `colluding` silos at most.

    malicious: two quorums must share an honest silo, 2t > n + n_c, and t ≥ ⌊2n/3⌋ + 1 (Bonawitz et al. 2017).
    semi_honest: t ≥ ⌊n/2⌋ + 1, and colluding silos alone must not reach it.

    Raises: ValueError when fewer than two honest silos would remain.
    """
    if colluding < 0 or n < colluding + 2:
        raise ValueError(f"of {n} silos with {colluding} colluding fewer than two are honest: nothing to hide among")
    if adversary == "malicious":
        return max(2 * n // 3, (n + colluding) // 2) + 1
    return max(n // 2, colluding) + 1


@dataclass(frozen=True, kw_only=True)
class Quantisation(Declared):
    """How vectors are encoded: `FixedPoint`'s numbers, and the length of the encoded vector."""

    ring_bits: Annotated[int, Whole(32, 64)]
    bits: Annotated[int, Whole(2, 64)]
    clip: Annotated[float, Real()]
    max_weight: Annotated[int, Whole(1)]
    length: Annotated[int, Whole(1)]

    def __post_init__(self) -> None:
        """Refuse a ring that does not exist and a vector without entries."""
        if self.ring_bits not in (32, 64) or self.length < 1:
            raise ValueError(f"ring_bits 32 or 64 and length >= 1 are needed, got {self.ring_bits}, {self.length}")
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise ValueError(f"clip must be finite and above 0, got {self.clip}")

    @classmethod
    def of(cls, encoding: FixedPoint, d: int) -> "Quantisation":
        """Describe an encoding of updates with d entries."""
        return cls(
            ring_bits=encoding.ring_bits,
            bits=encoding.bits,
            clip=encoding.clip,
            max_weight=encoding.max_weight,
            length=encoding.length(d),
        )


@dataclass(frozen=True, kw_only=True)
class Encryption(Declared):
    """Under whose fresh key vectors are encrypted, by which parameters; hashes of 64 hex letters."""

    decryptor: PartyId
    parameters_hash: str
    key_hash: str

    def __post_init__(self) -> None:
        """Refuse an encryption that nobody could name."""
        _check_hash("parameters_hash", self.parameters_hash)
        _check_hash("key_hash", self.key_hash)
        if not (self.decryptor and self.parameters_hash and self.key_hash):
            raise ValueError("an encryption names a decryptor, parameters and a key")


@dataclass(frozen=True, kw_only=True)
class RoundManifest(Declared):
    """One attempt of one round, as the server proposes it and every silo checks it.

    Hashes are 64 hex letters; those that do not apply are empty. `dp_plan_hash` is empty in a job without differential
    privacy. `linear_pass` counts the releases of one model version, from 0. `threshold` is t, `k_min` the smallest
    cohort whose sum may be released, `colluding` n_c. `profile` is written only where it isn't the classical one,
    `encryption` only where vectors travel encrypted.
    """

    KIND: ClassVar[str] = "manifest"
    v: ClassVar[Literal[1]] = VERSION
    consortium_id: str
    epoch: Natural
    session_id: str
    round: Natural
    attempt: Natural
    linear_pass: Natural = 0
    server: PartyId
    cohort: tuple[PartyId, ...]
    roster_hash: str
    policy_hash: str
    base_model_hash: str
    adapter_hash: str
    lora_schema_hash: str
    train_cfg_hash: str
    dp_plan_hash: str
    quantisation: Quantisation
    adversary: Adversary
    colluding: Natural
    k_min: Natural
    threshold: Natural
    prev_result_hash: str = ""
    log_checkpoint: str = ""
    profile: Annotated[Profile, SPARSE] = "classical"
    encryption: Encryption | None = None

    def __post_init__(self) -> None:
        """Refuse a manifest that could not be canonical or that no silo would accept."""
        if list(self.cohort) != sorted(set(self.cohort)) or len(self.cohort) < 2:
            raise ValueError("the cohort must list two or more distinct silos in alphabetical order")
        for name in _HASHES:
            _check_hash(name, getattr(self, name))
        least = threshold(len(self.cohort), self.colluding, self.adversary)
        if not least <= self.threshold <= len(self.cohort):
            raise ValueError(f"threshold must be in [{least}, {len(self.cohort)}], got {self.threshold}")
        if not self.colluding + 2 <= self.k_min <= len(self.cohort):
            raise ValueError(f"k_min must be in [n_c + 2, n] = [{self.colluding + 2}, {len(self.cohort)}]")
        if self.profile not in get_args(Profile):
            raise ValueError(f"profile must be one of {get_args(Profile)}, got {self.profile!r}")
        for number in (self.epoch, self.round, self.attempt, self.linear_pass):
            if not 0 <= number <= MAX_INTEGER:
                raise ValueError("epoch, round, attempt and linear_pass count from 0")

    @property
    def floor(self) -> int:
        """Return max(t, k_min): how many silos every stage needs."""
        return max(self.threshold, self.k_min)

    @property
    def order(self) -> tuple[int, int]:
        """Return (round, attempt), which only ever grows within a session."""
        return self.round, self.attempt

    @property
    def post_quantum(self) -> bool:
        """Say whether ML-KEM-768 stands beside X25519 in every key of this attempt."""
        return self.profile == "post_quantum"

    @cached_property
    def hash(self) -> bytes:
        """Return the 32 bytes that bind every later message and mask to this manifest."""
        return digest(MANIFEST_LABEL, canonical.encode(self.to_body()))

    @property
    def terms_hash(self) -> bytes:
        """Return the hash without the key of an encryption, which is drawn after the log has named the attempt."""
        return (self if self.encryption is None else replace(self, encryption=None)).hash


_HASHES = (
    "roster_hash",
    "policy_hash",
    "base_model_hash",
    "adapter_hash",
    "lora_schema_hash",
    "train_cfg_hash",
    "dp_plan_hash",
    "prev_result_hash",
)


def _check_hash(name: str, value: str) -> None:
    if value and (len(value) != 2 * HASH_BYTES or any(letter not in "0123456789abcdef" for letter in value)):
        raise ValueError(f"{name} must be {2 * HASH_BYTES} lower-case hex letters, or empty")
