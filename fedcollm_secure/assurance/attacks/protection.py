"""How a toy federation protects its sums: masks of either profile, BFV around them, or CKKS alone."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.masking.manifest import Profile


@dataclass(frozen=True, kw_only=True)
class Protection:
    """One way to protect a sum.

    `profile`: which keys agree on the masks, and who signs. `worker`: the child in which BFV computes, where masked
    vectors travel inside ciphertexts that a decryptor opens; or CKKS, where `trusting`: vectors without masks, which
    the decryptor could read. None where masked vectors travel as they are.
    """

    name: str
    profile: Profile = "classical"
    worker: Worker | None = field(default=None, repr=False)
    trusting: bool = False

    @property
    def post_quantum(self) -> bool:
        """Whether ML-KEM-768 and ML-DSA-44 stand beside the classical keys."""
        return self.profile == "post_quantum"


CLASSICAL = Protection(name="masked_classical")
POST_QUANTUM = Protection(name="masked_post_quantum", profile="post_quantum")


def bfv(worker: Worker) -> Protection:
    """Return masks of the classical profile inside BFV, whose decryptor opens what the log names."""
    return Protection(name="bfv", worker=worker)


def ckks(worker: Worker) -> Protection:
    """Return CKKS without masks, whose decryptor is honest: it opens what the log names, and remembers it."""
    return Protection(name="ckks", worker=worker, trusting=True)


@contextmanager
def each_protection() -> Generator[tuple[Protection, ...]]:
    """Lend all four; one child computes for everybody, and ends with the loan."""
    with Worker() as worker:
        yield CLASSICAL, POST_QUANTUM, bfv(worker), ckks(worker)
