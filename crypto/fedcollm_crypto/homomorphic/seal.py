"""The one place that calls TenSEAL: keys, encryption, decryption. It runs in a child process (`child`), see `worker`.

keygen → public key as residues           encrypt: int64[k, slots] → k ciphertexts as residues
with_key: a decryptor's public residues   decrypt: k ciphertexts → int64[k, slots] or float64[k, slots]
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tenseal as ts
import tenseal.sealapi as sealapi
from numpy.typing import NDArray

from fedcollm_crypto.homomorphic import seal_format
from fedcollm_crypto.homomorphic.parameters import Bfv, Ckks, Scheme
from fedcollm_crypto.homomorphic.residues import Residues, require_reduced


class Seal:
    """One context: of a decryptor, with its secret key, or of a silo, with a decryptor's public key alone."""

    def __init__(self, scheme: Scheme, public_key: Residues | None = None) -> None:
        """Draw a fresh key pair, or take a public key as residues: data prime and special prime, two polynomials.

        Raises: ProtocolError for residues that are not below their primes; FormatError for another library.
        """
        self._scheme = scheme
        template = _template(scheme)
        self._form = template.ciphertext
        self.primes, self.slots, self.coefficients = template.primes, scheme.slots, self._form.words
        if public_key is None:
            self._context = _new_context(scheme)
            self.public_key = seal_format.strip_ciphertext(seal_format.context_key(_serialised(self._context)))[1]
        else:
            self._context = _foreign(template, scheme, public_key)
            self.public_key = public_key

    def encrypt(self, slots: NDArray[np.int64]) -> Residues:
        """Return uint64[k · coefficients] from signed int64[k, slots]."""
        return np.concatenate([seal_format.strip_ciphertext(self._encrypt_one(row))[1] for row in slots])

    def decrypt(self, ciphertexts: Residues) -> NDArray[np.int64] | NDArray[np.float64]:
        """Return [k, slots]: for BFV int64 in (−t/2, t/2], for CKKS float64 as the library decoded it."""
        rows = ciphertexts.reshape(-1, self._form.words)
        if isinstance(self._scheme, Bfv):
            return np.array([self._decrypt_one(row) for row in rows], dtype=np.int64)
        return np.array([self._decrypt_one(row) for row in rows], dtype=np.float64)

    def _encrypt_one(self, row: NDArray[np.int64]) -> bytes:
        return _encrypted(self._context, self._scheme, row)

    def _decrypt_one(self, row: Residues) -> list[int] | list[float]:
        wrapped = [seal_format.wrap_ciphertext(self._form, row)]
        if isinstance(self._scheme, Bfv):
            message = seal_format.vector_bytes(wrapped, self.slots, None)
            integers: list[int] = ts.bfv_vector_from(self._context, message).decrypt()
            return integers
        message = seal_format.vector_bytes(wrapped, self.slots, 2.0**self._scheme.scale_bits)
        reals: list[float] = ts.ckks_vector_from(self._context, message).decrypt()
        return reals


@dataclass(frozen=True, kw_only=True)
class _Template:
    """What all contexts of one scheme share; `context` is serialised and holds no secret, its key belongs to nobody."""

    context: bytes
    key: seal_format.Form
    ciphertext: seal_format.Form
    primes: tuple[int, ...]


@lru_cache(maxsize=4)
def _template(scheme: Scheme) -> _Template:
    context = _new_context(scheme)
    serialised = _serialised(context)
    zero = _encrypted(context, scheme, np.zeros(scheme.slots, dtype=np.int64))
    return _Template(
        context=serialised,
        key=seal_format.strip_ciphertext(seal_format.context_key(serialised))[0],
        ciphertext=seal_format.strip_ciphertext(zero)[0],
        primes=_primes(scheme),
    )


def _foreign(template: _Template, scheme: Scheme, public_key: Residues) -> ts.Context:
    """Return a context of our own parameters with a foreign public key, and no secret one."""
    form = template.key
    if len(public_key) != form.words:
        raise ValueError(f"a public key has {form.words} coefficients, got {len(public_key)}")
    by_prime = public_key.reshape(form.polynomials, form.primes, form.degree)
    for index, prime in enumerate(template.primes):
        require_reduced(by_prime[:, index].reshape(-1), prime)
    message = seal_format.with_public_key(template.context, seal_format.wrap_ciphertext(form, public_key))
    return _scaled(ts.context_from(message, n_threads=1), scheme)


def _encrypted(context: ts.Context, scheme: Scheme, row: NDArray[np.int64]) -> bytes:
    """Return one ciphertext as SEAL serialises it."""
    is_bfv = isinstance(scheme, Bfv)
    vector = ts.bfv_vector(context, row) if is_bfv else ts.ckks_vector(context, row.astype(np.float64))
    (ciphertext,) = seal_format.vector_ciphertexts(vector.serialize())
    return ciphertext


def _new_context(scheme: Scheme) -> ts.Context:
    degree, primes = scheme.lattice.degree, list(scheme.lattice.primes)
    if isinstance(scheme, Bfv):
        modulus = scheme.modulus
        return ts.context(ts.SCHEME_TYPE.BFV, degree, modulus, coeff_mod_bit_sizes=primes, n_threads=1)
    context = ts.context(ts.SCHEME_TYPE.CKKS, degree, coeff_mod_bit_sizes=primes, n_threads=1)
    return _scaled(context, scheme)


def _scaled(context: ts.Context, scheme: Scheme) -> ts.Context:
    """Set the scale, which TenSEAL does not serialise."""
    if isinstance(scheme, Ckks):
        context.global_scale = 2.0**scheme.scale_bits
    return context


def _serialised(context: ts.Context) -> bytes:
    """Return the context without any secret and without evaluation keys."""
    message: bytes = context.serialize(
        save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    return message


def _primes(scheme: Scheme) -> tuple[int, ...]:
    moduli = sealapi.CoeffModulus.Create(scheme.lattice.degree, list(scheme.lattice.primes))
    return tuple(int(modulus.value()) for modulus in moduli)
