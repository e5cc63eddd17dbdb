"""The two ends of the aggregation for one run, and what both hold every manifest to."""

from collections.abc import Callable

from fedcollm_crypto.aggregation import ServerEnd
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.custody import DecryptorSetup, RequireLogged
from fedcollm_crypto.homomorphic.decryptor import Decryptor
from fedcollm_crypto.homomorphic.masked_server import EncryptedServer
from fedcollm_crypto.homomorphic.masked_silo import EncryptedSilo
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.parameters import Bfv as BfvScheme
from fedcollm_crypto.homomorphic.trustee import Trustee
from fedcollm_crypto.homomorphic.trusting_server import TrustingServer
from fedcollm_crypto.homomorphic.trusting_silo import TrustingSilo
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import requests, rules
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest, threshold
from fedcollm_crypto.masking.policy import Expected, Part, SiloPolicy
from fedcollm_crypto.masking.server import MaskedServer
from fedcollm_crypto.masking.silo import MaskedSilo
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import StageJournal
from fedcollm_crypto.plain import UnsafePlainServer, UnsafePlainSilo
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed, sign
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble.cohort_size import SERVER, least_cohort
from fedcollm_secure.assemble.common import Common
from fedcollm_secure.config.protection import Bfv, Ckks, Masked, UnsafePlain
from fedcollm_secure.federation.silo import MakeEnd
from fedcollm_secure.learning.factors import Pass


def first_manifest(common: Common, roster: Roster, session: str) -> RoundManifest:
    """Return the manifest's constant part: round 0, attempt 0, no adapter yet."""
    security, colluding = common.config.security, colluding_of(common)
    return RoundManifest(
        consortium_id=roster.consortium_id,
        epoch=roster.epoch,
        session_id=session,
        round=0,
        attempt=0,
        server=SERVER,
        cohort=common.silos,
        roster_hash=roster.hash,
        policy_hash=roster.policy_hash,
        base_model_hash=common.base_digest,
        adapter_hash="",
        lora_schema_hash=common.schema_digest,
        train_cfg_hash=common.training_digest,
        dp_plan_hash=common.plan.digest() if common.plan else "",
        quantisation=Quantisation.of(common.encoding, common.rule.length(Pass(round=1))),
        adversary=security.adversary,
        colluding=colluding,
        k_min=least_cohort(common.config),
        threshold=threshold(len(common.silos), colluding, security.adversary),
        profile="post_quantum" if security.post_quantum else "classical",
    )


def server_end(common: Common, roster: Roster, signer: Identity) -> Callable[[RoundManifest], ServerEnd]:
    """Return how the coordinator makes its end of one attempt."""
    match common.config.aggregation:
        case Masked():
            return lambda manifest: MaskedServer(manifest=manifest, roster=roster, signer=signer)
        case Bfv(decryptor=decryptor):
            packing, scheme = _bfv(common)
            return lambda manifest: EncryptedServer(
                manifest=manifest, roster=roster, signer=signer, decryptor=decryptor, packing=packing, scheme=scheme
            )
        case Ckks(decryptor=trustee):
            packing = _packing(common)
            return lambda manifest: TrustingServer(
                manifest=manifest, roster=roster, signer=signer, trustee=trustee, packing=packing
            )
        case UnsafePlain():
            return lambda manifest: UnsafePlainServer(
                manifest.quantisation.length,
                manifest.k_min,
                sign(signer, requests.MANIFEST, manifest.to_body()).encode(),
            )


def silo_end(common: Common, roster: Roster, identity: Identity, stages: StageJournal, worker: Worker) -> MakeEnd:
    """Return how a silo makes its end of one attempt, under its own policy."""
    aggregation = common.config.aggregation
    if isinstance(aggregation, UnsafePlain):
        return lambda part: _plain_end(roster, identity.party, part)
    setup = SiloSetup(identity=identity, roster=roster, policy=policy_of(common), stages=stages)
    match aggregation:
        case Masked():
            return lambda part: MaskedSilo(setup=setup, part=part)
        case Bfv():
            packing, scheme = _bfv(common)
            return lambda part: EncryptedSilo(setup=setup, part=part, packing=packing, scheme=scheme, worker=worker)
        case Ckks():
            packing = _packing(common)
            return lambda part: TrustingSilo(setup=setup, part=part, packing=packing, worker=worker)


def _plain_end(roster: Roster, name: str, part: Part) -> UnsafePlainSilo:
    """Return an end that hides nothing, and still trains only for a round that the server signed."""

    def admit_note(note: bytes) -> None:
        signed = Signed.decode(note)
        if signed.kind != requests.MANIFEST or roster.member(signed.sender).role != "server":
            raise ProtocolError("a manifest from the server of the roster was expected")
        rules.verify_sender(signed, roster)
        manifest = RoundManifest.from_body(signed.body)
        if manifest.server != signed.sender or name not in manifest.cohort:
            raise ProtocolError("the manifest names another server, or a cohort without this silo")
        rules.require_my_roster(manifest, roster)
        rules.require_my_plan(manifest, part.expected(manifest))
        part.admit(manifest)

    return UnsafePlainSilo(part.vector, admit_note)


def decryptor_end(
    common: Common,
    roster: Roster,
    identity: Identity,
    stages: StageJournal,
    worker: Worker,
    require_logged: RequireLogged,
) -> Decryptor | Trustee:
    """Return the decryptor of a run, under its own policy."""
    packing = _packing(common)
    setup = DecryptorSetup(
        identity=identity,
        roster=roster,
        policy=policy_of(common),
        scheme=packing.scheme,
        stages=stages,
        worker=worker,
        require_logged=require_logged,
    )
    if isinstance(packing.scheme, BfvScheme):
        return Decryptor(setup=setup, packing=packing, scheme=packing.scheme)
    return Trustee(setup=setup, packing=packing)


def _packing(common: Common) -> Packing:
    if common.packing is None:
        raise RuntimeError("nothing is encrypted in this run")
    return common.packing


def _bfv(common: Common) -> tuple[Packing, BfvScheme]:
    packing = _packing(common)
    if not isinstance(packing.scheme, BfvScheme):
        raise RuntimeError("this run's packing is not BFV's")
    return packing, packing.scheme


def expected_of(common: Common, own: RoundManifest) -> Expected:
    """Return what a silo computed itself of all rounds; the adapter and the pass are each round's."""
    return Expected(
        session_id=own.session_id,
        base_model_hash=own.base_model_hash,
        adapter_hash="",
        lora_schema_hash=own.lora_schema_hash,
        train_cfg_hash=own.train_cfg_hash,
        dp_plan_hash=own.dp_plan_hash,
        quantisation=own.quantisation,
        decryptor=common.decryptor,
        parameters_hash="" if common.packing is None else common.packing.scheme.hash,
        noise_shares=common.plan.honest if isinstance(common.plan, SharedPlan) else 0,
    )


def policy_of(common: Common) -> SiloPolicy:
    """Return the limits that the common terms ask every party to keep."""
    security = common.config.security
    return SiloPolicy(
        min_cohort=least_cohort(common.config),
        colluding=colluding_of(common),
        adversary=security.adversary,
        allow_two_party=security.allow_two_party,
        post_quantum=security.post_quantum,
    )


def colluding_of(common: Common) -> int:
    """Return n_c; of two parties neither can be guarded against."""
    security = common.config.security
    if isinstance(common.config.aggregation, UnsafePlain):
        return 0
    return min(security.colluding, len(common.silos) - 2) if security.allow_two_party else security.colluding
