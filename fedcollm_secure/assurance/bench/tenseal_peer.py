"""TenSEAL with others' settings: what NVFlare's homomorphic aggregation does with each layer, and the tutorial's way.

One secret key for all, one vector a layer; a silo encrypts and serialises, the server loads and adds, one party
decrypts. Nothing is signed or checked. NVFlare's silos all decrypt; here one decryption is counted.
"""

import time

import numpy as np
import tenseal as ts
from numpy.typing import NDArray

LAYERS = 24
SETTINGS = {"nvflare": [60, 40, 60], "tutorial": [60, 40, 40, 60]}
"""NVFlare 2.x `HEProvision` and TenSEAL's first tutorial: degree 8192, scale 2^40."""


def attempt(system: str, silos: int, updates: list[NDArray[np.float32]]) -> tuple[dict[str, float], int]:
    """Return CPU seconds by phase, all parties together, and the bytes that a silo sends. Raises: RuntimeError."""
    context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=SETTINGS[system], n_threads=1)
    context.global_scale = 2.0**40
    seconds: dict[str, float] = {"encrypt": 0.0, "add": 0.0, "decrypt": 0.0}
    total: list[ts.CKKSVector] = []
    sent = 0
    for number in range(silos):
        layers = np.array_split(updates[number % 2], LAYERS)
        start = time.process_time()
        upload = [ts.ckks_vector(context, layer).serialize() for layer in layers]
        seconds["encrypt"] += time.process_time() - start
        sent = sum(len(data) for data in upload)
        start = time.process_time()
        loaded = [_loaded(context, data) for data in upload]
        for one, other in zip(total, loaded, strict=True) if total else ():
            one.add_(other)
        total = total or loaded
        seconds["add"] += time.process_time() - start
    start = time.process_time()
    mean = np.concatenate([np.array(vector.decrypt()) for vector in total]) / silos
    seconds["decrypt"] = time.process_time() - start
    expected = np.mean([updates[i % 2].astype(np.float64) for i in range(silos)], axis=0)
    if np.abs(mean - expected).max() > 1e-5:
        raise RuntimeError("the mean is wrong: that is no measurement")
    return seconds, sent


def _loaded(context: ts.Context, data: bytes) -> ts.CKKSVector:
    vector: ts.CKKSVector = ts.ckks_vector_from(context, data)
    return vector
