"""Our sum inside ciphertexts, all parties in one process, with the child's CPU time on the account of who asked it.

Signatures, checks, masks, a fresh key for the attempt: all of it is on the clock.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Chunks, Exchange, PartyEnd, PartyId, ServerEnd, Vector, aggregate
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.homomorphic.custody import DecryptorSetup, no_log
from fedcollm_crypto.homomorphic.decryptor import Decryptor
from fedcollm_crypto.homomorphic.masked_server import EncryptedServer
from fedcollm_crypto.homomorphic.masked_silo import EncryptedSilo
from fedcollm_crypto.homomorphic.packing import Packing, bfv_packing, ckks_packing
from fedcollm_crypto.homomorphic.parameters import Bfv
from fedcollm_crypto.homomorphic.trustee import Trustee
from fedcollm_crypto.homomorphic.trusting_server import TrustingServer
from fedcollm_crypto.homomorphic.trusting_silo import TrustingSilo
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import Quantisation
from fedcollm_crypto.masking.policy import Part, always
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import MemoryStages
from fedcollm_crypto.roster import Member
from fedcollm_secure.assurance.bench.bench_consortium import POLICY, SERVER, expected_of, manifest_of, roster_of

Mode = Literal["bfv-packed", "bfv", "ckks"]
MODES: tuple[Mode, ...] = ("bfv-packed", "bfv", "ckks")
DECRYPTOR: PartyId = "decryptor"


def encoding_of(mode: Mode, silos: int) -> FixedPoint:
    """Return equal weights at the width that two values a slot leave room for, and at 24 bits where one has it all."""
    bits = 24 if mode != "bfv-packed" else min(16, 19 - (silos - 1).bit_length())
    return FixedPoint.smallest_ring(clip=1.0, bits=bits, max_weight=1, max_silos=silos)


def packing_of(mode: Mode, encoding: FixedPoint) -> Packing:
    """Return how the mode packs these sums."""
    pack = ckks_packing if mode == "ckks" else bfv_packing
    return pack(largest=encoding.largest_sum, silos=encoding.max_silos)


@dataclass(kw_only=True)
class Accounts:
    """CPU seconds by phase and the bytes that each silo sent, its child's time included."""

    worker: Worker
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("key", "encrypt", "open", "other"), 0.0))
    sent: dict[PartyId, int] = field(default_factory=dict[PartyId, int])

    def clock(self) -> float:
        """Return the CPU seconds of this process and of the child."""
        return time.process_time() + child_seconds(self.worker)


def child_seconds(worker: Worker) -> float:
    """Return the CPU seconds of the child so far, by the clock that Linux keeps of every process."""
    process = worker._process  # pyright: ignore[reportPrivateUsage] # the bench alone asks
    if process is None:
        return 0.0
    return time.clock_gettime(~process.pid << 3 | 2)  # clock_getcpuclockid(3), which Python has not


def attempt(mode: Mode, silos: int, updates: list[NDArray[np.float32]], worker: Worker) -> Accounts:
    """Run one attempt; silo i sends update i mod 2. Raises: RuntimeError when the mean is wrong."""
    names = tuple(f"silo-{number:03}" for number in range(silos))
    encoding, accounts = encoding_of(mode, silos), Accounts(worker=worker)
    encoded = [encoding.encode(update, 1) for update in updates]
    server, parties = assemble(mode, names, encoding, len(updates[0]), encoded, worker)
    start = accounts.clock()
    result = aggregate(server, _exchange(parties, accounts), names)
    mean = encoding.decode(result).mean
    accounts.seconds["add"] = accounts.clock() - start - sum(accounts.seconds.values())
    expected = np.mean([updates[i % 2].astype(np.float64) for i in range(silos)], axis=0)
    if np.abs(mean - expected).max() > 0.51 * encoding.grid:
        raise RuntimeError("the mean is wrong: that is no measurement")
    return accounts


def assemble(
    mode: Mode, names: tuple[PartyId, ...], encoding: FixedPoint, d: int, encoded: list[Vector], worker: Worker
) -> tuple[ServerEnd, dict[PartyId, PartyEnd]]:
    """Give everybody a key and a roster."""
    identities = {name: Identity.generate(name) for name in (*names, SERVER, DECRYPTOR)}
    roster = roster_of(names, identities)
    decryptor = Member(id=DECRYPTOR, role="decryptor", ed25519=identities[DECRYPTOR].public_key)
    roster = replace(roster, members=(*roster.members, decryptor))
    manifest, packing = manifest_of(names, roster, Quantisation.of(encoding, d)), packing_of(mode, encoding)
    expected = always(replace(expected_of(manifest), decryptor=DECRYPTOR, parameters_hash=packing.scheme.hash))
    scheme, signer = packing.scheme, identities[SERVER]
    setup = DecryptorSetup(
        identity=identities[DECRYPTOR],
        roster=roster,
        policy=POLICY,
        scheme=scheme,
        stages=MemoryStages(),
        worker=worker,
        require_logged=no_log,
    )
    brought = {
        name: SiloSetup(identity=identities[name], roster=roster, policy=POLICY, stages=MemoryStages())
        for name in names
    }
    parts = {
        name: Part(expected=expected, vector=partial(_vector, encoded, number)) for number, name in enumerate(names)
    }
    if not isinstance(scheme, Bfv):
        trusting = partial(TrustingSilo, packing=packing, worker=worker)
        silos: dict[PartyId, PartyEnd] = {name: trusting(setup=brought[name], part=parts[name]) for name in names}
        server = TrustingServer(manifest=manifest, roster=roster, signer=signer, trustee=DECRYPTOR, packing=packing)
        return server, {**silos, DECRYPTOR: Trustee(setup=setup, packing=packing)}
    masked = partial(EncryptedSilo, packing=packing, scheme=scheme, worker=worker)
    silos = {name: masked(setup=brought[name], part=parts[name]) for name in names}
    server_end = EncryptedServer(
        manifest=manifest, roster=roster, signer=signer, decryptor=DECRYPTOR, packing=packing, scheme=scheme
    )
    return server_end, {**silos, DECRYPTOR: Decryptor(setup=setup, packing=packing, scheme=scheme)}


def _vector(encoded: list[Vector], number: int) -> Vector:
    return encoded[number % len(encoded)]


def _exchange(parties: Mapping[PartyId, PartyEnd], accounts: Accounts) -> Exchange:
    stage = 0

    def exchange(requests: Mapping[PartyId, bytes]) -> Iterator[tuple[PartyId, Chunks]]:
        nonlocal stage
        stage += 1
        for name, request in requests.items():
            phase = ("key" if stage == 1 else "open") if name == DECRYPTOR else "other"
            yield name, _timed(parties[name], name, phase, request, accounts)

    return exchange


def _timed(end: PartyEnd, name: PartyId, phase: str, request: bytes, accounts: Accounts) -> Iterator[bytes]:
    start, size, spent = accounts.clock(), 0, 0.0
    chunks = iter(end.handle(request))
    spent += accounts.clock() - start
    while True:
        start = accounts.clock()
        chunk = next(chunks, None)
        spent += accounts.clock() - start
        if chunk is None:
            break
        size += len(chunk)
        yield chunk
    if name != DECRYPTOR:
        accounts.sent[name] = accounts.sent.get(name, 0) + size
    # A silo's vector is encrypted in the one request that takes longest by far: that with, or before, its ciphertexts.
    accounts.seconds["encrypt" if phase == "other" and _encrypts(request) else phase] += spent


def _encrypts(request: bytes) -> bool:
    return b'"ask-vector"' in request[-300:] or b'"he-commit-request"' in request[-300:]
