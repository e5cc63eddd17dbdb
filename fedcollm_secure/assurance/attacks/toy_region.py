"""The region in which toy sessions take place: what each silo keeps for good, and a model of eight numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from fedcollm_crypto.aggregation import PartyId, Vector
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.homomorphic.packing import bfv_packing, ckks_packing
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.stages import MemoryStages
from fedcollm_secure.assurance.attacks.attack_consortium import SERVER, silo_names
from fedcollm_secure.assurance.attacks.colluding_silo import Deal
from fedcollm_secure.assurance.attacks.encrypted_consortium import DECRYPTOR
from fedcollm_secure.assurance.attacks.protection import CLASSICAL, Protection
from fedcollm_secure.learning.adapter import Schema
from fedcollm_secure.learning.factors import make_rule
from fedcollm_secure.learning.vectors import Float32

SCHEMA = Schema(shapes={"m.lora_A.weight": (1, 4), "m.lora_B.weight": (4, 1)})
RULE = make_rule("fedavg", SCHEMA, silos=2, seed=0)
DIGEST = "ab" * 32
NOTHING = np.zeros(0, dtype=np.float32)
"""No reference, and no basis."""
NOBODY: Mapping[PartyId, str] = MappingProxyType({})
"""No silo is deaf."""
NO_PUPPETS: Mapping[PartyId, Deal | None] = MappingProxyType({})
"""No silo is in league with the server."""


def version(number: int) -> Float32:
    """Return an adapter, float32[8], that differs from those of other numbers."""
    return np.full(SCHEMA.length, 1.0 + number, dtype=np.float32)


@dataclass(kw_only=True)
class House:
    """What one party keeps over all sessions. A decryptor adds nothing to any sum."""

    identity: Identity
    change: Float32 = field(default_factory=lambda: NOTHING)
    stages: MemoryStages = field(default_factory=MemoryStages)


class Neighbourhood:
    """The silos of a region. A session's roster lists some of them, or all."""

    def __init__(
        self, silos: int, folder: Path, *, policy: SiloPolicy | None = None, protection: Protection = CLASSICAL
    ) -> None:
        """Give everybody the keys that the protection takes, and an update that is unlike any other silo's."""
        hybrid = protection.post_quantum
        self.folder, self.protection = folder, protection
        self.policy = replace(policy or SiloPolicy(), post_quantum=hybrid)
        self.server = Identity.generate(SERVER, post_quantum=hybrid)
        self.houses = {
            name: House(
                identity=Identity.generate(name, post_quantum=hybrid),
                change=np.linspace(0.01, 0.08, SCHEMA.length, dtype=np.float32) * np.float32(1 + place),
            )
            for place, name in enumerate(silo_names(silos))
        }
        self.encoding = FixedPoint(clip=2.0, bits=24, ring_bits=64, max_weight=1, max_silos=silos)
        self.decryptor = House(identity=Identity.generate(DECRYPTOR, post_quantum=hybrid))
        pack = ckks_packing if protection.trusting else bfv_packing
        self.packing = pack(largest=self.encoding.largest_sum, silos=silos)
        """Of no use where nothing is encrypted, as is the decryptor."""
        self.sessions = 0

    def vector(self, party: PartyId) -> Vector:
        """Return what a silo encodes, whatever the round."""
        return self.encoding.encode(self.houses[party].change, 1)

    def next_session(self) -> str:
        """Name one more session."""
        self.sessions += 1
        return f"session-{self.sessions}"


def drift(one: Float32, other: Float32) -> float:
    """Return how far two adapters of the toy model are apart, relative to the first."""
    return float(np.linalg.norm(other - one) / np.linalg.norm(one))
