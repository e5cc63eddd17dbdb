"""TenSEAL as examples use it: one key for all rounds, every message loaded as it comes, whatever it holds decrypted.

python -m …attacks.twins.foreign_decryptor_child {opened|missing_sizes|sizes_overflow|…} → a JSON line
"""

import json
import sys
from pathlib import Path

import numpy as np
import tenseal as ts
import tenseal.sealapi as sealapi
from numpy.typing import NDArray

from fedcollm_crypto.homomorphic import seal_format
from fedcollm_crypto.homomorphic.parameters import PLAIN_MODULI

DEGREE, MODULUS = 8192, PLAIN_MODULI[44]
SCALE_BITS = 40


def opened() -> dict[str, float]:
    """Open one silo's ciphertext, then one with the others cancelled, then the key in disguise."""
    generator = np.random.default_rng(1)
    updates = generator.normal(0.0, 0.05, (3, 1000))
    context = _ckks()
    victim, *others = [ts.ckks_vector(context, update) for update in updates]
    alone = np.array(_loaded(context, victim.serialize()).decrypt())
    total, cancelling = _loaded(context, victim.serialize()), ts.ckks_vector(context, [0.0] * 1000)
    for other in others:
        cancelling.sub_(other)
        total.add_(other)
    total.add_(cancelling)
    cancelled = np.array(total.decrypt())
    return {
        "error_alone": float(np.abs(alone - updates[0]).max()),
        "error_cancelled": float(np.abs(cancelled - updates[0]).max()),
        "key_coefficients_ternary": float(_key_in_disguise()),
        "degree": float(DEGREE),
    }


def _key_in_disguise() -> int:
    """Decrypt (0, round(q/t)) and count the coefficients in −1, 0, 1: a random polynomial has none."""
    context = ts.context(ts.SCHEME_TYPE.BFV, DEGREE, MODULUS, coeff_mod_bit_sizes=[60, 60], n_threads=1)
    form, residues = _stripped(ts.bfv_vector(context, [0] * DEGREE).serialize())
    crafted = np.zeros_like(residues)
    crafted[DEGREE] = round((1 << 60) / MODULUS)
    message = seal_format.vector_bytes([seal_format.wrap_ciphertext(form, crafted)], DEGREE, None)
    slots = ts.bfv_vector_from(context, message).decrypt()
    return sum(coefficient in (0, 1, MODULUS - 1) for coefficient in _coefficients(slots))


def _coefficients(slots: list[int]) -> list[int]:
    parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(DEGREE)
    parameters.set_coeff_modulus(sealapi.CoeffModulus.Create(DEGREE, [60, 60]))
    parameters.set_plain_modulus(sealapi.Modulus(MODULUS))
    encoder = sealapi.BatchEncoder(sealapi.SEALContext(parameters, True, sealapi.SEC_LEVEL_TYPE.TC128))
    plain = sealapi.Plaintext()
    encoder.encode([slot % MODULUS for slot in slots], plain)
    return [int(plain[index]) for index in range(plain.coeff_count())]


def missing_sizes() -> dict[str, float]:
    """Load and decrypt a message without the field of sizes: the process ends here."""
    return {"values": float(len(ts.ckks_vector_from(_ckks(), bytes_without_sizes()).decrypt()))}


def bytes_without_sizes() -> bytes:
    """Return a message of one ciphertext without the field of sizes."""
    vector = ts.ckks_vector(_ckks(), [1.0])
    (ciphertext,) = seal_format.vector_ciphertexts(vector.serialize())
    message = seal_format.vector_bytes([ciphertext], 1, 2.0**SCALE_BITS)
    return message[3:]


def sizes_overflow() -> dict[str, float]:
    """Decrypt a message that claims more values than a ciphertext has slots."""
    context = _ckks()
    (ciphertext,) = seal_format.vector_ciphertexts(ts.ckks_vector(context, [1.0]).serialize())
    message = seal_format.vector_bytes([ciphertext], DEGREE // 2 + 4096, 2.0**SCALE_BITS)
    values = np.array(_loaded(context, message).decrypt())
    return {"values_beyond_the_slots": float(np.count_nonzero(values[DEGREE // 2 :]))}


def leaks(path: str) -> dict[str, float]:
    """Release two decryptions of one key, unrounded, and put a third ciphertext beside them: what A8 gets to see."""
    generator, context = np.random.default_rng(2), _ckks()
    updates = generator.normal(0.0, 0.05, (3, DEGREE // 2))
    vectors = [ts.ckks_vector(context, update) for update in updates]
    ciphertexts = [_stripped(vector.serialize())[1] for vector in vectors]
    released = [np.array(vector.decrypt()) for vector in vectors[:2]]
    prime = int(sealapi.CoeffModulus.Create(DEGREE, [60, 60])[0].value())
    np.savez(Path(path), ciphertexts=ciphertexts, released=released, victim=updates[2])
    return {"prime": float(prime), "distance": float((1 << 60) - prime)}


def _loaded(context: ts.Context, message: bytes) -> ts.CKKSVector:
    vector: ts.CKKSVector = ts.ckks_vector_from(context, message)
    return vector


def _ckks() -> ts.Context:
    context = ts.context(ts.SCHEME_TYPE.CKKS, DEGREE, coeff_mod_bit_sizes=[60, 60], n_threads=1)
    context.global_scale = 2.0**SCALE_BITS
    return context


def _stripped(message: bytes) -> tuple[seal_format.Form, NDArray[np.uint64]]:
    (ciphertext,) = seal_format.vector_ciphertexts(message)
    return seal_format.strip_ciphertext(ciphertext)


def main() -> None:
    """Do what the command line says, and print it."""
    what, *arguments = sys.argv[1:]
    data, figures = b"", dict[str, float]()
    match what:
        case "opened":
            figures = opened()
        case "missing_sizes":
            figures = missing_sizes()
        case "sizes_overflow":
            figures = sizes_overflow()
        case "bytes_without_sizes":
            data = bytes_without_sizes()
        case "leaks":
            figures = leaks(arguments[0])
        case _:
            raise ValueError(f"the twin does not know {what}")
    sys.stdout.write("\n" + json.dumps({"figures": figures, "data": data.hex()}) + "\n")


if __name__ == "__main__":
    main()
