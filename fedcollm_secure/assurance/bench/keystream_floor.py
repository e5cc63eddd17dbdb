"""What no protocol of this kind can go below: one AES-256-CTR stream for each mask, added to the vector in chunks."""

import time

import numpy as np

from fedcollm_crypto.masking.masks import MaskKeys, masked_chunks
from fedcollm_secure.assurance.bench.bench_case import Case
from fedcollm_secure.assurance.bench.repeated_measurement import Attempt


def attempt(case: Case) -> Attempt:
    """Add n streams of d words to one silo's vector, and count it for each silo that stays."""
    vector = np.zeros(case.parameters, dtype=np.uint64)
    keys = MaskKeys(plus=[number.to_bytes(32) for number in range(case.silos)], minus=[])
    start = time.process_time()
    sent = sum(chunk.nbytes for chunk in masked_chunks(vector, case.ring_bits, keys))
    seconds = time.process_time() - start
    return Attempt(
        cpu_seconds={"silo_masks": seconds * (case.silos - case.dropouts)},
        silo_cpu_seconds=seconds,
        server_cpu_seconds=0.0,
        bytes_per_parameter=sent / case.parameters,
    )
