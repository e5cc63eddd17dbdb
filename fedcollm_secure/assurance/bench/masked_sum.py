"""Our masked sum, all parties in one process, with everybody's CPU time on an account of its own.

The server takes an upload in while the silo makes it, so the clock changes hands with every chunk.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Chunks, Exchange, PartyId, Sum, Vector, aggregate
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.manifest import Quantisation
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_secure.assurance.bench.bench_case import Case
from fedcollm_secure.assurance.bench.bench_consortium import assemble
from fedcollm_secure.assurance.bench.repeated_measurement import Attempt

Updates = Sequence[NDArray[np.float32]]
STAGES = (
    "silo_keys",
    "silo_shares",
    "silo_check",
    "silo_disclosure",
    "silo_masks",
    "silo_consent",
    "silo_reveal",
)
FIRST_STAGE_WITHOUT_THE_LOST = STAGES.index("silo_masks")


@dataclass(kw_only=True)
class Accounts:
    """CPU seconds by silo and stage, the part of them that encoding took, and the bytes that each silo sent."""

    silos: dict[PartyId, float]
    stages: dict[str, float]
    sent: dict[PartyId, int]
    encoding: float = 0.0
    last_reply: float = field(default=0.0)

    @classmethod
    def of(cls, names: Sequence[PartyId]) -> "Accounts":
        """Open an account for each silo."""
        return cls(silos=dict.fromkeys(names, 0.0), stages=dict.fromkeys(STAGES, 0.0), sent=dict.fromkeys(names, 0))

    def charge(self, name: PartyId, stage: str, since: float) -> None:
        """Put the CPU time since then on a silo's account."""
        seconds = time.process_time() - since
        self.silos[name] += seconds
        self.stages[stage] += seconds


def encoding_of(case: Case) -> FixedPoint:
    """Return the encoding: exact weights up to 100 in 64 bits; equal weights and Flower's 22 bits in 32."""
    bits, max_weight = (24, 100) if case.ring_bits == 64 else (22, 1)
    return FixedPoint(
        clip=1.0, bits=bits, ring_bits=case.ring_bits, max_weight=max_weight, max_silos=max(case.silos, 1)
    )


def attempt(case: Case, updates: Updates) -> Attempt:
    """Run one attempt; silo i sends update i mod 2. Raises: RuntimeError when the mean is wrong."""
    names = tuple(f"silo-{number:03}" for number in range(case.silos))
    encoding, accounts = encoding_of(case), Accounts.of(names)
    encoded = [encoding.encode(update, encoding.max_weight) for update in updates]

    def vector_of(name: PartyId) -> Vector:
        number, start = names.index(name) % len(updates), time.process_time()
        encoding.encode(updates[number], encoding.max_weight)
        accounts.encoding += time.process_time() - start
        return encoded[number]  # one array for many silos, which would not share a machine, let alone memory

    consortium = assemble(names, Quantisation.of(encoding, case.parameters), vector_of)
    staying = names[: case.silos - case.dropouts]
    start = time.process_time()
    result = aggregate(consortium.server, _exchange(consortium.silos, staying, accounts), names)
    mean = encoding.decode(result).mean
    end = time.process_time()
    _check(mean, result, [updates[number % len(updates)] for number in range(len(staying))], encoding.grid)
    server_s, unmask_s = end - start - sum(accounts.silos.values()), end - accounts.last_reply
    stages = accounts.stages | {"silo_masks": accounts.stages["silo_masks"] - accounts.encoding}
    server = {"server_relay": server_s - unmask_s, "server_unmask": unmask_s}
    return Attempt(
        cpu_seconds={"silo_encode": accounts.encoding} | stages | server,
        silo_cpu_seconds=median(accounts.silos[name] for name in staying),
        server_cpu_seconds=server_s,
        bytes_per_parameter=median(accounts.sent[name] for name in staying) / case.parameters,
    )


def _exchange(silos: Mapping[PartyId, MaskedSilo], staying: Sequence[PartyId], accounts: Accounts) -> Exchange:
    """Carry requests in memory; those who don't stay are lost after they dealt shares, which costs most."""
    stages = iter(enumerate(STAGES))

    def exchange(requests: Mapping[PartyId, bytes]) -> Iterator[tuple[PartyId, Chunks]]:
        number, stage = next(stages)
        for name, request in requests.items():
            if number < FIRST_STAGE_WITHOUT_THE_LOST or name in staying:
                yield name, _timed(silos[name], name, stage, request, accounts)
        accounts.last_reply = time.process_time()

    return exchange


def _timed(silo: MaskedSilo, name: PartyId, stage: str, request: bytes, accounts: Accounts) -> Iterator[bytes]:
    start = time.process_time()
    chunks = iter(silo.handle(request))
    accounts.charge(name, stage, start)
    while True:
        start = time.process_time()
        chunk = next(chunks, None)
        accounts.charge(name, stage, start)
        if chunk is None:
            return
        accounts.sent[name] += len(chunk)
        yield chunk


def _check(mean: NDArray[np.float64], result: Sum, sent: Updates, grid: float) -> None:
    expected = np.zeros_like(mean)
    for update in sent:
        expected += update
    worst = float(np.abs(mean - expected / len(sent)).max())
    if len(result.contributors) != len(sent) or worst > 0.51 * grid:
        raise RuntimeError(f"the mean over {len(result.contributors)} silos is off by {worst:g}: not the sum")
