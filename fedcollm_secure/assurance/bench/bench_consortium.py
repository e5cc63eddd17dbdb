"""A consortium in memory: real keys, roster, manifest and both ends, for as many silos as asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fedcollm_crypto.aggregation import PartyId, Vector
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest, threshold
from fedcollm_crypto.masking.policy import Expected, Part, SiloPolicy, always
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import MemoryStages
from fedcollm_crypto.roster import Member, Roster

SERVER: PartyId = "server"
POLICY = SiloPolicy()


@dataclass(frozen=True, kw_only=True)
class Consortium:
    """Both ends of one attempt, not yet started."""

    server: MaskedServer
    silos: dict[PartyId, MaskedSilo]


def least_threshold(silos: int) -> int:
    """Return t for this many silos, one of whom may collude with a malicious server."""
    return threshold(silos, POLICY.colluding, POLICY.adversary)


def assemble(
    names: tuple[PartyId, ...], quantisation: Quantisation, vector_of: Callable[[PartyId], Vector]
) -> Consortium:
    """Give everybody a key and a roster; a silo asks for its vector when it is about to mask it."""
    identities = {name: Identity.generate(name) for name in (*names, SERVER)}
    roster = roster_of(names, identities)
    manifest = manifest_of(names, roster, quantisation)
    silos = {
        name: MaskedSilo(
            setup=SiloSetup(identity=identities[name], roster=roster, policy=POLICY, stages=MemoryStages()),
            part=Part(expected=always(expected_of(manifest)), vector=partial(vector_of, name)),
        )
        for name in names
    }
    server = MaskedServer(manifest=manifest, roster=roster, signer=identities[SERVER])
    return Consortium(server=server, silos=silos)


def roster_of(names: Sequence[PartyId], identities: dict[PartyId, Identity]) -> Roster:
    """Return a roster of these silos and the server."""
    members = [Member(id=name, role="silo", ed25519=identities[name].public_key) for name in names]
    server = Member(id=SERVER, role="server", ed25519=identities[SERVER].public_key)
    return Roster(consortium_id="bench", epoch=1, members=(*members, server), policy={})


def manifest_of(names: tuple[PartyId, ...], roster: Roster, quantisation: Quantisation) -> RoundManifest:
    """Return the manifest of the one attempt."""
    return RoundManifest(
        consortium_id=roster.consortium_id,
        epoch=roster.epoch,
        session_id="bench",
        round=1,
        attempt=0,
        server=SERVER,
        cohort=names,
        roster_hash=roster.hash,
        policy_hash=roster.policy_hash,
        base_model_hash="aa" * 32,
        adapter_hash="bb" * 32,
        lora_schema_hash="cc" * 32,
        train_cfg_hash="dd" * 32,
        dp_plan_hash="",
        quantisation=quantisation,
        adversary=POLICY.adversary,
        colluding=POLICY.colluding,
        k_min=POLICY.min_cohort,
        threshold=least_threshold(len(names)),
    )


def expected_of(manifest: RoundManifest) -> Expected:
    """Return what a silo that computes everything itself expects of it."""
    return Expected(
        session_id=manifest.session_id,
        base_model_hash=manifest.base_model_hash,
        adapter_hash=manifest.adapter_hash,
        lora_schema_hash=manifest.lora_schema_hash,
        train_cfg_hash=manifest.train_cfg_hash,
        dp_plan_hash=manifest.dp_plan_hash,
        quantisation=manifest.quantisation,
    )
