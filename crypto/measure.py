"""Measure the masked sum beside the bare keystream: `python crypto/measure.py SILOS LENGTH RING_BITS [DROPOUTS]`.

`--post-quantum` anywhere measures that profile.

CPU time of every party in one process, bytes both ways, and the peak of the process's memory. "bare" is one AES-256-CTR
stream for each mask, added to a vector in chunks: what no protocol of this kind can go below.
"""

import resource
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from unittest.mock import patch

import numpy as np

from fedcollm_crypto.aggregation import Chunks, PartyId, Vector, aggregate
from fedcollm_crypto.keys import Identity, verify_signature
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest, threshold
from fedcollm_crypto.masking.masks import MaskKeys, masked_chunks
from fedcollm_crypto.masking.policy import Expected, Part, SiloPolicy, always
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import MemoryStages
from fedcollm_crypto.roster import Member, Role, Roster


def measure(n: int, length: int, ring_bits: int, dropouts: int, *, post_quantum: bool = False) -> str:
    """Run one attempt in which the last silos are lost after they dealt shares; return a line of figures."""
    names = [f"silo-{i:03}" for i in range(n)]
    identities = {name: Identity.generate(name, post_quantum=post_quantum) for name in [*names, "server"]}
    members = [member(identities[name], "silo") for name in names]
    server_member = member(identities["server"], "server")
    roster = Roster(consortium_id="measure", epoch=1, members=(*members, server_member), policy={})
    quantisation = Quantisation(ring_bits=ring_bits, bits=16, clip=1.0, max_weight=100, length=length)
    manifest = RoundManifest(
        consortium_id="measure",
        epoch=1,
        round=1,
        attempt=0,
        server="server",
        cohort=tuple(names),
        roster_hash=roster.hash,
        policy_hash=roster.policy_hash,
        quantisation=quantisation,
        adversary="malicious",
        colluding=1,
        k_min=3,
        threshold=threshold(n, 1, "malicious"),
        session_id="measure",
        base_model_hash="aa" * 32,
        adapter_hash="bb" * 32,
        lora_schema_hash="cc" * 32,
        train_cfg_hash="dd" * 32,
        dp_plan_hash="",
        profile="post_quantum" if post_quantum else "classical",
    )
    expected = Expected(
        session_id=manifest.session_id,
        base_model_hash=manifest.base_model_hash,
        adapter_hash=manifest.adapter_hash,
        lora_schema_hash=manifest.lora_schema_hash,
        train_cfg_hash=manifest.train_cfg_hash,
        dp_plan_hash=manifest.dp_plan_hash,
        quantisation=quantisation,
    )
    vector = np.arange(length, dtype=np.uint64)  # one array for all, so that memory is the protocol's
    silos = {
        name: MaskedSilo(
            setup=SiloSetup(
                identity=identities[name],
                roster=roster,
                policy=SiloPolicy(post_quantum=post_quantum),
                stages=MemoryStages(),
            ),
            part=Part(expected=always(expected), vector=lambda: vector),
        )
        for name in names
    }
    seconds, sent, received = dict.fromkeys(names, 0.0), [0], [0]
    lost, stage = set(names[n - dropouts :]), [0]

    def timed(name: PartyId, request: bytes) -> Iterator[bytes]:
        chunks = None
        while True:
            start = time.process_time()
            chunks = iter(silos[name].handle(request)) if chunks is None else chunks
            chunk = next(chunks, b"")
            seconds[name] += time.process_time() - start
            received[0] += len(chunk)
            if not chunk:
                return
            yield chunk

    def exchange(requests: Mapping[PartyId, bytes]) -> Iterator[tuple[PartyId, Chunks]]:
        stage[0] += 1
        for name, request in requests.items():
            sent[0] += len(request)
            if stage[0] < 5 or name not in lost:  # the fifth exchange brings the vectors
                yield name, timed(name, request)

    start = time.process_time()
    server = MaskedServer(manifest=manifest, roster=roster, signer=identities["server"])
    with signatures_timed() as signatures:
        result = aggregate(server, exchange, names)
    all_s = time.process_time() - start
    server_s = all_s - sum(seconds.values())
    survivors = np.uint64(len(result.contributors))
    if not np.array_equal(result.total, (vector * survivors) & np.uint64((1 << ring_bits) - 1)):
        raise RuntimeError("the sum is wrong")
    silo_s = median([seconds[name] for name in names if name not in lost])
    bare_s = median([bare(vector, ring_bits, n) for _ in range(3)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"{manifest.profile} n={n} length={length} ring={ring_bits} lost={dropouts}: silo {silo_s * 1e3:.1f} ms "
        f"({silo_s / bare_s:.2f} of bare {bare_s * 1e3:.1f} ms), server {server_s * 1e3:.0f} ms, "
        f"all CPU {all_s:.2f} s, {signatures[0] / all_s:.0%} of "
        f"it for {int(signatures[1])} signatures made or checked, up {received[0] / n / 1e6:.2f} MB and down "
        f"{sent[0] / n / 1e6:.2f} MB a silo, process peak {peak:.0f} MB"
    )


@contextmanager
def signatures_timed() -> Generator[list[float]]:
    """Sum up the CPU seconds of all signing and verifying, and count both."""
    spent = [0.0, 0.0]

    def timed(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            start = time.process_time()
            try:
                return call(*arguments)
            finally:
                spent[0] += time.process_time() - start
                spent[1] += 1

        return wrapped

    with (
        patch.object(Identity, "sign", timed(Identity.sign)),
        patch("fedcollm_crypto.signed.verify_signature", timed(verify_signature)),
    ):
        yield spent


def member(identity: Identity, role: Role) -> Member:
    """Return what the roster lists of a party."""
    return Member(id=identity.party, role=role, ed25519=identity.public_key, mldsa44=identity.mldsa44_key)


def bare(vector: Vector, ring_bits: int, masks: int) -> float:
    """Return the CPU seconds of adding this many keystreams to a vector."""
    keys = MaskKeys(plus=[bytes([i % 256]) * 32 for i in range(masks)], minus=[])
    start = time.process_time()
    for _chunk in masked_chunks(vector, ring_bits, keys):
        pass
    return time.process_time() - start


if __name__ == "__main__":
    flag = "--post-quantum"
    given = [int(argument) for argument in sys.argv[1:] if argument != flag]
    dropouts = given[3] if len(given) > 3 else 0
    print(measure(given[0], given[1], given[2], dropouts, post_quantum=flag in sys.argv))  # noqa: T201
