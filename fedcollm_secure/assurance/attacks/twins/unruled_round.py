"""One round among known-bad silos, and what its server can open."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from fedcollm_crypto import shamir
from fedcollm_crypto.aggregation import PartyId, Vector
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.masks import MaskKeys, remove_masks
from fedcollm_secure.assurance.attacks.twins.unruled_silo import (
    RING_BITS,
    TwinHello,
    TwinShares,
    TwinSilo,
    twin_pair_masks,
    twin_self_mask,
)


def twin_silos(names: Sequence[PartyId], *, signed: bool = False) -> dict[PartyId, TwinSilo]:
    """Make a cohort with t = ⌊2n/3⌋ + 1; `signed`: they check signatures under hellos."""
    identities = {name: Identity.generate(name) for name in names}
    points = {name: index + 1 for index, name in enumerate(names)}
    trusted = {name: identity.key.public_key() for name, identity in identities.items()} if signed else None
    threshold = 2 * len(names) // 3 + 1
    return {name: TwinSilo(identity, points, threshold, trusted) for name, identity in identities.items()}


class TwinRound:
    """M1 to M3, relayed by a server that keeps everything."""

    def __init__(
        self,
        silos: Mapping[PartyId, TwinSilo],
        vectors: Mapping[PartyId, Vector],
        replaced: Mapping[PartyId, Mapping[PartyId, TwinHello]] | None = None,
    ) -> None:
        """Play it. `replaced`: what a silo is shown instead of some hellos."""
        self.silos, self.names = silos, tuple(silos)
        self.hellos = {name: silo.hello() for name, silo in silos.items()}
        self.shown = {name: self.hellos | dict((replaced or {}).get(name, {})) for name in self.names}
        self.boxes = {name: silo.deal(self.shown[name]) for name, silo in silos.items()}
        self.words = {
            name: silo.upload({dealer: self.boxes[dealer][name] for dealer in self.names}, vectors[name])
            for name, silo in silos.items()
        }

    def ask(self, active: Collection[PartyId], dead: Collection[PartyId]) -> dict[PartyId, TwinShares]:
        """(M5) Ask everyone who is not dead, or who is both."""
        return {n: silo.unmask(active, dead) for n, silo in self.silos.items() if n in active}

    def seed(self, owner: PartyId, shares: Mapping[PartyId, TwinShares]) -> bytes:
        """Put b of a silo together."""
        return self._combine({who: each.seeds[owner] for who, each in shares.items()})

    def private_key(self, owner: PartyId, shares: Mapping[PartyId, TwinShares]) -> bytes:
        """Put s of a silo together."""
        return self._combine({who: each.keys[owner] for who, each in shares.items()})

    def open_sum(self, survivors: Sequence[PartyId]) -> Vector:
        """Return the sum over the survivors, the others being declared dead."""
        lost = [name for name in self.names if name not in survivors]
        shares = self.ask(survivors, lost)
        plus, minus = [twin_self_mask(self.seed(name, shares)) for name in survivors], list[bytes]()
        for name in lost:
            added, subtracted = twin_pair_masks(
                name, self.private_key(name, shares), {each: self.hellos[each] for each in survivors}
            )
            plus, minus = plus + subtracted, minus + added
        total = np.zeros_like(self.words[self.names[0]])
        for name in survivors:
            total += self.words[name]
        return without(total, plus, minus)

    def _combine(self, shares: Mapping[PartyId, bytes]) -> bytes:
        points = {self.names.index(name) + 1: share for name, share in shares.items()}
        return shamir.combine(points, 2 * len(self.names) // 3 + 1)


def without(words: Vector, plus: Sequence[bytes], minus: Sequence[bytes]) -> Vector:
    """Return a copy of the words without these masks."""
    opened = words.copy()
    remove_masks(opened, RING_BITS, MaskKeys(plus=plus, minus=minus))
    return opened
