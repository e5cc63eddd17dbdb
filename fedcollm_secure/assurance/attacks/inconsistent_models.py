"""A2: the server shows one silo a model that learns, and all others a dead one; the sum is then that silo's update.

Pasquini et al., *Eluding Secure Aggregation in Federated Learning via Model Inconsistency*, CCS 2022, arXiv 2111.07380.
Two barriers stand in its way, and each must hold alone: silos compare the manifests that all of them signed, and the
manifest's hash is in every mask, so that masks of two manifests do not cancel.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.assurance.attacks.attack_consortium import (
    Consortium,
    Updates,
    as_update,
    equal_weights,
    is_recovered,
    largest_error,
    silo_names,
)
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.colluding_silo import Puppet
from fedcollm_secure.assurance.attacks.malicious_server import Blocked, Mallory, added_up, unmasked
from fedcollm_secure.assurance.attacks.twins.unruled_round import TwinRound, twin_silos

FEATURES, HIDDEN, RECORDS, SILOS = 30, 32, 64, 5
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Network:
    """relu(x·W + b)·v, float64: W [F, H], b [H], v [H]."""

    weights: Array
    bias: Array
    output: Array

    @property
    def digest(self) -> str:
        """Return what a manifest would name."""
        return hashlib.sha256(b"".join(part.tobytes() for part in (self.weights, self.bias, self.output))).hexdigest()

    def update(self, inputs: Array, targets: Array) -> NDArray[np.float32]:
        """Return one step down the gradient of the squared error, flat."""
        before = inputs @ self.weights + self.bias  # [B, H]
        hidden = np.maximum(before, 0.0)
        error = (hidden @ self.output - targets) / len(targets)  # [B]
        back = error[:, None] * self.output * (before > 0)  # [B, H]
        parts = (inputs.T @ back, back.sum(axis=0), hidden.T @ error)
        return -0.1 * np.concatenate([part.ravel() for part in parts]).astype(np.float32)


def _networks() -> tuple[Network, Network]:
    """Return a network that learns, and one in which no unit ever fires: its gradient is zero on any record."""
    generator = np.random.default_rng(2)
    live = Network(
        weights=generator.normal(0.0, 0.3, (FEATURES, HIDDEN)),
        bias=np.full(HIDDEN, 0.1),
        output=generator.normal(0.0, 0.3, HIDDEN),
    )
    return live, replace(live, weights=np.zeros_like(live.weights), bias=np.full(HIDDEN, -1.0))


def _trained(shown: Mapping[PartyId, Network]) -> Updates:
    """Let each silo train the network that it was shown on records of its own."""
    generator = np.random.default_rng(3)
    return {
        name: network.update(generator.normal(size=(RECORDS, FEATURES)), generator.normal(size=RECORDS))
        for name, network in shown.items()
    }


def _shown() -> tuple[PartyId, Updates]:
    live, dead = _networks()
    victim, *others = silo_names(SILOS)
    return victim, _trained({victim: live} | dict.fromkeys(others, dead))


def against_twin() -> Outcome:
    """Run it among silos whose masks hang on keys alone."""
    victim, updates = _shown()
    encoding = equal_weights(SILOS)
    played = TwinRound(twin_silos(tuple(updates)), {n: encoding.encode(update, 1) for n, update in updates.items()})
    error = largest_error(as_update(played.open_sum(tuple(updates)), encoding), updates[victim])
    return Outcome(
        succeeded=is_recovered(error, encoding),
        told=f"the sum over {SILOS} silos is {victim}'s update, to {error:.1e}",
        figures={"max_abs_error": error, "silos": SILOS, "parameters": len(updates[victim])},
    )


def against_us() -> Outcome:
    """Run it among this project's silos, and try the second barrier by itself."""
    live, dead = _networks()
    victim, updates = _shown()
    consortium = Consortium(updates)
    honest = replace(consortium.manifest(), adapter_hash=live.digest)
    mallory = Mallory(consortium, replace(honest, adapter_hash=dead.digest), shown={victim: honest})
    mallory.meet()
    refusals = _refusals(mallory)
    if not refusals:
        return _opened(mallory, victim)
    noise = error_of_masks_alone(mallory.manifest, honest, consortium)
    return Outcome(
        succeeded=is_recovered(noise, consortium.encoding),
        reason=", ".join(sorted(set(refusals.values()))),
        told=(
            f"{len(refusals)} of {SILOS} silos compare manifests and refuse; were that check absent, masks of two "
            f"manifests would not cancel: the sum is off by {noise:.1e}"
        ),
        figures={"refusals": len(refusals), "max_abs_error_by_masks_alone": noise},
    )


def _refusals(mallory: Mallory) -> dict[PartyId, str]:
    """Ask everyone for shares; return who refused, and why."""
    refused: dict[PartyId, str] = {}
    for party in mallory.names:
        try:
            mallory.deal([party])
        except Blocked as blocked:
            refused[party] = str(blocked)
    return refused


def _opened(mallory: Mallory, victim: PartyId) -> Outcome:
    """Finish the attempt: reached only where silos do not compare manifests."""
    for party in mallory.names:
        mallory.upload(party)
    encoding = mallory.consortium.encoding
    error = largest_error(as_update(mallory.open_honestly(mallory.names), encoding), mallory.consortium.updates[victim])
    return Outcome(
        succeeded=is_recovered(error, encoding),
        reason="masks_do_not_cancel" if not is_recovered(error, encoding) else "",
        told=f"nobody compares manifests; the sum is off by {error:.1e}",
        figures={"max_abs_error": error},
    )


def error_of_masks_alone(usual: RoundManifest, special: RoundManifest, consortium: Consortium) -> float:
    """Add up uploads made for two manifests by silos that check nothing; return how far the victim's update is off.

    The server is given every silo's own mask, the best case for it.
    """
    victim, names = consortium.names[0], consortium.names
    manifests = dict.fromkeys(names, usual) | {victim: special}
    puppets = {n: Puppet(signer=consortium.identities[n], vector=consortium.vector(n)) for n in names}
    mallory = Mallory(consortium, usual, shown={victim: special}, puppets=puppets)
    mallory.meet()
    total = added_up([mallory.upload(name) for name in names])
    own = [
        hashes.self_mask_key(puppets[name].secrets.seed, mallory.transcript, manifests[name].hash, name)
        for name in names
    ]
    return largest_error(as_update(unmasked(total, own, []), consortium.encoding), consortium.updates[victim])


ATTACK = Attack(
    id="A2",
    title="model inconsistency",
    does="The server shows one silo the model, all others one that cannot learn: the sum is the one's update",
    unprotected=against_twin,
    protected=against_us,
)
