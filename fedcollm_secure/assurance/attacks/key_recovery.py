"""A8: whoever sees what CKKS decrypted, and the ciphertexts, computes the secret key (Li and Micciancio 2021).

A decryption is the message and the noise, m + e, and both are linear in the key: c₀ + c₁·s = m + e modulo q. TenSEAL
releases the real parts of the slots, which are the half of that equation that X → 1/X leaves in place:

    p(ψ) + p(1/ψ) = c₀(ψ) + c₁(ψ)·s(ψ) + c₀(1/ψ) + c₁(1/ψ)·s(1/ψ)

Two releases under one key make two such equations for each pair ψ, 1/ψ, in two unknowns. Rounded to integers, a release
says nothing of e, and the equations have no solution of this kind.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.homomorphic.parameters import Ckks
from fedcollm_crypto.homomorphic.residues import Residues
from fedcollm_crypto.homomorphic.trustee import exact_integers
from fedcollm_crypto.homomorphic.worker import Worker, opened
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.twins.foreign_decryptor import run_twin
from fedcollm_secure.assurance.attacks.twins.ring_polynomials import Ring, coefficients_to_slots, slots_to_coefficients

TWIN_SCALE_BITS = 40
_DEGREE = 8192
Reals = NDArray[np.float64]


def recover_key(ring: Ring, scale: float, ciphertexts: Sequence[Residues], released: Sequence[Reals]) -> list[int]:
    """Return the key's values in the library's order, from two ciphertexts and what their decryption released."""
    n, q = ring.degree, ring.prime
    doubled = [_values(ring, 2 * scale * slots_to_coefficients(slots)) for slots in released[:2]]
    first, second = ([int(x) for x in ciphertext] for ciphertext in ciphertexts[:2])
    key = [0] * n
    for i in range(n // 2):
        j = n - 1 - i  # the place of the inverse: rev(N − 1 − i) = N − 1 − rev(i)
        a, b, right = first[n + i], first[n + j], doubled[0][i] - first[i] - first[j]
        c, d, below = second[n + i], second[n + j], doubled[1][i] - second[i] - second[j]
        inverse = pow(a * d - b * c, -1, q)
        key[i], key[j] = (right * d - below * b) * inverse % q, (a * below - c * right) * inverse % q
    return key


def decrypt_with(ring: Ring, scale: float, key: Sequence[int], ciphertext: Residues) -> Reals:
    """Return the slots of a ciphertext under a key that was recovered."""
    n, q, residues = ring.degree, ring.prime, [int(x) for x in ciphertext]
    values = [(residues[i] + residues[n + i] * key[i]) % q for i in range(n)]
    return coefficients_to_slots(np.array(ring.backward(values), dtype=np.float64) / scale)


def ternary(ring: Ring, key: Sequence[int]) -> int:
    """Return how many coefficients are −1, 0 or 1: all of a secret key's, none of a random polynomial's."""
    return sum(abs(coefficient) <= 1 for coefficient in ring.backward(key))


def _values(ring: Ring, coefficients: Reals) -> list[int]:
    return ring.forward([int(x) % ring.prime for x in np.rint(coefficients)])


def against_twin() -> Outcome:
    """Take two unrounded releases of one key, compute it, and open a third ciphertext."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "leaks.npz"
        distance = run_twin("leaks", str(path)).figures["distance"]
        with np.load(path) as seen:
            ciphertexts, released, update = list(seen["ciphertexts"]), list(seen["released"]), seen["victim"]
    ring, scale = Ring(_DEGREE, (1 << 60) - int(distance)), 2.0**TWIN_SCALE_BITS
    key = recover_key(ring, scale, ciphertexts, released)
    right, error = ternary(ring, key), float(np.abs(decrypt_with(ring, scale, key, ciphertexts[2]) - update).max())
    return Outcome(
        succeeded=right == _DEGREE and error < 1e-6,
        told=(
            f"two decryptions give away the key: {right:,} of {_DEGREE:,} coefficients are -1, 0 or 1; with it a third "
            f"silo's ciphertext opens, to {error:.1e}"
        ),
        figures={"key_coefficients_ternary": right, "degree": _DEGREE, "max_abs_error": error, "releases_seen": 2},
    )


def against_us() -> Outcome:
    """Do the same with what our trustee releases; the attacker even gets two releases of one key, which never are."""
    scheme, generator = Ckks(), np.random.default_rng(2)
    updates = generator.integers(-(1 << 20), 1 << 20, (3, scheme.slots))
    with (
        Worker() as worker,
        opened(worker.decryptor(scheme)) as box,
        opened(worker.encryptor(scheme, box.public_key)) as public,
    ):
        ciphertexts = public.encrypt(updates).reshape(3, -1)
        decoded = box.decrypt(ciphertexts[:2].reshape(-1))
        ring, scale = Ring(_DEGREE, box.prime), 2.0**scheme.scale_bits
    released, noise = exact_integers(decoded), float(np.abs(decoded - updates[:2]).max())
    key = recover_key(ring, scale, list(ciphertexts), list(released.astype(np.float64)))
    right, error = ternary(ring, key), float(np.abs(decrypt_with(ring, scale, key, ciphertexts[2]) - updates[2]).max())
    through = right > _DEGREE // 2 or error < 1 << 19
    return Outcome(
        succeeded=through,
        reason="" if through else "rounded",
        told=(
            f"the integers come out exact and the noise (up to {noise:.3f} of a step) stays inside: {right:,} of "
            f"{_DEGREE:,} coefficients of what is computed could be a key's, and a third ciphertext opens to noise, "
            f"{error:.1e} off"
        ),
        figures={
            "key_coefficients_ternary": right,
            "degree": _DEGREE,
            "max_abs_error": error,
            "largest_noise": noise,
            "wrong_integers": int((released != updates[:2]).sum()),
        },
    )


ATTACK = Attack(
    id="A8",
    title="the key out of decryptions",
    does="Whoever sees two decrypted sums of CKKS, and their ciphertexts, solves for the secret key",
    unprotected=against_twin,
    protected=against_us,
)
