"""A consortium in memory for the attacks: real identities, a real roster, real silo ends, and updates that we know.

Keys and masks are drawn from the operating system as in any run; the updates alone come from a fixed seed, so that an
attack can be judged by how well it recovers them.
"""

import secrets
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import PartyId, Vector
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.keys import Identity, Randomness
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest, threshold
from fedcollm_crypto.masking.policy import Expected, Part, SiloPolicy, always
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import MemoryStages
from fedcollm_crypto.roster import Member, Role, Roster

SERVER: PartyId = "server"
PARAMETERS = 1000
Updates = Mapping[PartyId, NDArray[np.float32]]
Silos = Mapping[PartyId, MaskedSilo]


def silo_names(silos: int) -> tuple[PartyId, ...]:
    """Return the names of a cohort, in order."""
    return tuple(f"silo-{number:02}" for number in range(1, silos + 1))


def random_updates(silos: int, *, seed: int = 1) -> dict[PartyId, NDArray[np.float32]]:
    """Return float32[1000] for each silo, of the size that an adapter's entries have."""
    generator = np.random.default_rng(seed)
    return {name: generator.normal(0.0, 0.05, PARAMETERS).astype(np.float32) for name in silo_names(silos)}


def equal_weights(silos: int, *, clip: float = 1.0) -> FixedPoint:
    """Return the encoding of the attacks: 24 bits, each silo counts once."""
    return FixedPoint(clip=clip, bits=24, ring_bits=64, max_weight=1, max_silos=silos)


def as_update(words: Vector, encoding: FixedPoint) -> NDArray[np.float64]:
    """Read one silo's encoded vector back; words that are still masked come out as huge numbers."""
    return words[:-2].view(np.int64).astype(np.float64) * encoding.grid


def largest_error(recovered: NDArray[np.float64], update: NDArray[np.float32]) -> float:
    """Return max |recovered − update|; half a grid step is perfect recovery."""
    return float(np.abs(recovered - update).max())


def is_recovered(error: float, encoding: FixedPoint) -> bool:
    """Whether an error is what rounding alone leaves."""
    return error <= 0.51 * encoding.grid


class Consortium:
    """Silos that know each other, each with its update and its own policy; journals outlive a silo's restart."""

    def __init__(self, updates: Updates, *, policy: SiloPolicy | None = None, clip: float = 1.0) -> None:
        """Give everybody the keys of the policy's profile, and sign nothing yet; `policy` is every silo's own."""
        self.names = tuple(sorted(updates))
        self.updates = dict(updates)
        self.policy = policy or SiloPolicy()
        self.encoding = equal_weights(len(self.names), clip=clip)
        hybrid = self.policy.post_quantum
        self.identities = {name: Identity.generate(name, post_quantum=hybrid) for name in (*self.names, SERVER)}
        self.roster = self._roster()
        self._stages = {name: MemoryStages() for name in self.names}

    def manifest(self) -> RoundManifest:
        """Return the honest manifest of round 1."""
        n, policy = len(self.names), self.policy
        return RoundManifest(
            consortium_id=self.roster.consortium_id,
            epoch=self.roster.epoch,
            session_id="attack",
            round=1,
            attempt=0,
            server=SERVER,
            cohort=self.names,
            roster_hash=self.roster.hash,
            policy_hash=self.roster.policy_hash,
            base_model_hash="aa" * 32,
            adapter_hash="bb" * 32,
            lora_schema_hash="cc" * 32,
            train_cfg_hash="dd" * 32,
            dp_plan_hash="",
            quantisation=Quantisation.of(self.encoding, len(self.updates[self.names[0]])),
            adversary="malicious",
            colluding=policy.colluding,
            k_min=policy.min_cohort,
            threshold=threshold(n, policy.colluding, "malicious"),
            profile="post_quantum" if policy.post_quantum else "classical",
        )

    def silo(self, party: PartyId, manifest: RoundManifest, randomness: Randomness = secrets.token_bytes) -> MaskedSilo:
        """Start, or restart, a silo that received the adapter of this manifest and holds everything else itself."""
        own = replace(self.manifest(), adapter_hash=manifest.adapter_hash)
        setup = SiloSetup(
            identity=self.identities[party],
            roster=self.roster,
            policy=self.policy,
            stages=self._stages[party],
            randomness=randomness,
        )
        part = Part(expected=always(expected_of(own)), vector=lambda: self.vector(party))
        return MaskedSilo(setup=setup, part=part)

    def silos(self, manifest: RoundManifest) -> dict[PartyId, MaskedSilo]:
        """Start all silos of the manifest's cohort."""
        return {party: self.silo(party, manifest) for party in manifest.cohort}

    def vector(self, party: PartyId) -> Vector:
        """Return what a silo encodes."""
        return self.encoding.encode(self.updates[party], 1)

    def _roster(self) -> Roster:
        members = [as_member(self.identities[name], "silo") for name in self.names]
        server = as_member(self.identities[SERVER], "server")
        return Roster(consortium_id="attacked", epoch=1, members=(*members, server), policy={})


def as_member(identity: Identity, role: Role) -> Member:
    """Return what a roster says of a party."""
    ed25519, mldsa44 = identity.public_keys
    return Member(id=identity.party, role=role, ed25519=ed25519, mldsa44=mldsa44)


def expected_of(own: RoundManifest) -> Expected:
    """Return what a silo that computes everything itself expects of a round."""
    return Expected(
        session_id=own.session_id,
        base_model_hash=own.base_model_hash,
        adapter_hash=own.adapter_hash,
        lora_schema_hash=own.lora_schema_hash,
        train_cfg_hash=own.train_cfg_hash,
        dp_plan_hash=own.dp_plan_hash,
        quantisation=own.quantisation,
    )
